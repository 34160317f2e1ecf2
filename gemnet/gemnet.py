"""GEMNet's entry points in timm's registry.

Cells are found by NASGEM (Cheng et al., "NASGEM: Neural Architecture Search via Graph Embedding
Method", AAAI 2021, arXiv:2007.04452); depths and widths are solved for a number of MACs.
"""

import inspect
import warnings
from collections.abc import Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._builder import resolve_pretrained_cfg

from . import zoo
from .catalog import DEFAULT_MACS, FAMILY, Reference, find_cell
from .config import NetConfig
from .errors import ConfigError, NoWeightsError, UnknownArgumentError
from .foreign import check_foreign
from .pretrained import LIST, Weights, load_weights_list, read_weights_list
from .release import verify_source
from .scale import solve

if TYPE_CHECKING:
    from .network import GemNet

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)
BUILD_ARGUMENTS = (
    "features_only", "out_indices", "feature_cls", "feature_cfg",
    "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "scriptable", "exportable", "no_jit",
)  # fmt: skip
NUMBERS = {  # arguments with the least of each
    "num_classes": (Integral, 0), "in_chans": (Integral, 1), "drop_rate": (Real, 0), "drop_path_rate": (Real, 0),
}  # fmt: skip


def _load_weights() -> dict[str, Weights]:
    """All weights; the package's alone, with a warning, when the user's own list is malformed."""
    try:
        return load_weights_list()
    except ConfigError as error:
        packaged = read_weights_list(zoo.path(LIST))  # malformed itself it ends the registration
        warnings.warn(f"{error}; until then timm knows the package's weights alone", RuntimeWarning, stacklevel=2)
        return packaged


WEIGHTS = _load_weights()


def _build(cell: Reference | list[Mapping[str, Any]], net: Mapping[str, Any], **kwargs: Any) -> "GemNet":
    from .network import GemNet  # imports timm, whose import may be what runs this module

    cells = [find_cell(item) for item in (cell if isinstance(cell, (list, tuple)) else [cell])]
    known = known_arguments()
    for name in kwargs:
        if name not in known or name in BUILD_ARGUMENTS:
            raise UnknownArgumentError("argument", name, known)
    for name, (kind, least) in NUMBERS.items():
        value = kwargs.get(name, least)
        if not isinstance(value, kind) or not float(value) >= least:
            what = "a whole number" if kind is Integral else "a number"
            raise ConfigError(f"{name} must be {what} from {least} on, got {value!r:.60}")
    return GemNet(cells, NetConfig.from_dict(net), **kwargs)


def known_arguments() -> set[str]:
    """Names of the arguments of a model: those of `GemNet` but for cells and net, and those that timm takes itself."""
    from .network import GemNet

    return {*inspect.signature(GemNet).parameters, *BUILD_ARGUMENTS} - {"cells", "net"}


def _create(variant: str, pretrained: bool, feature_cfg: Mapping[str, Any] | None = None, **kwargs: Any) -> "GemNet":
    stages = len(kwargs["net"]["stages"])
    features = {"flatten_sequential": True, "out_indices": tuple(range(stages + 1)), **(feature_cfg or {})}
    try:
        model: Any = build_model_with_cfg(_build, variant, pretrained, feature_cfg=features, **kwargs)
    except RuntimeError as error:
        if "No pretrained weights exist" not in str(error):
            raise
        have = f"weights exist for {', '.join(sorted(WEIGHTS))}" if WEIGHTS else "no GEMNet has weights yet"
        raise NoWeightsError(f"{error} ({have})") from None
    # what is saved names the architecture that takes any cell, so that it loads whatever becomes of this name's cell
    model.pretrained_cfg["architecture"] = "gemnet"
    return model  # type: ignore[no-any-return]


def _create_family(variant: str, pretrained: bool, **kwargs: Any) -> "GemNet":
    for name in ("cell", "net"):
        if name in kwargs:
            raise ConfigError(f"{variant} has its own {name}; timm.create_model('gemnet', {name}=...) takes another")
    form = FAMILY[variant]
    parts = {"cell": form.load().to_dict(), "net": form.net().to_dict()}
    cfg = resolve_pretrained_cfg(variant, kwargs.get("pretrained_cfg"), kwargs.get("pretrained_cfg_overlay"))
    weights = WEIGHTS.get(f"{variant}.{cfg.tag}")
    if pretrained and weights is not None and cfg.file == str(weights.path):
        weights.check()
        parts = weights.model_args
    return _create(variant, pretrained, **parts, **kwargs)


def _cfg(**kwargs: Any) -> dict[str, Any]:
    return {
        "url": "", "num_classes": 1000, "input_size": (3, 224, 224), "pool_size": (7, 7),
        "crop_pct": 0.875, "interpolation": "bicubic", "mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD,
        "first_conv": "stem.conv", "classifier": "head.fc", "license": "apache-2.0",
        "paper_ids": "arXiv:2007.04452",
        "paper_name": "NASGEM: Neural Architecture Search via Graph Embedding Method", **kwargs,
    }  # fmt: skip


def _cifar_cfg(**kwargs: Any) -> dict[str, Any]:
    return _cfg(
        num_classes=10, input_size=(3, 32, 32), pool_size=(8, 8), crop_pct=1.0, mean=CIFAR10_MEAN, std=CIFAR10_STD,
        **kwargs,
    )  # fmt: skip


def _with_weights(cfgs: dict[str, Any]) -> dict[str, Any]:
    """The cfgs of models without weights, untagged, and one under `arch.tag` for each of the weights there are."""
    tagged = {
        name: {**cfgs[name.partition(".")[0]], "file": str(weights.path), **weights.cfg}
        for name, weights in WEIGHTS.items()
        if name.partition(".")[0] in cfgs  # a list may be of a later version, which has more models
    }
    trained = {name.partition(".")[0] for name in tagged}
    return {**tagged, **{name: cfg for name, cfg in cfgs.items() if name not in trained}}


CFGS = {
    "gemnet": _cfg(),
    "gemnet_a": _cfg(),
    "gemnet_b": _cfg(),
    "gemnet_a_cifar": _cifar_cfg(),
    "gemnet_b_cifar": _cifar_cfg(),
}
default_cfgs = generate_default_cfgs(_with_weights(CFGS))


@register_model
def gemnet(
    pretrained: bool = False, cell: Any = "gemnet_a", net: Mapping[str, Any] | None = None, **kwargs: Any
) -> "GemNet":
    """A GEMNet of any cell.

    Args:
        pretrained: there are no weights for this name.
        cell: a zoo name, the path of a cell file, a JSON object, or a list with one object per stage.
        net: a network as a JSON object; solved for 240 M MACs at 224 px when None.
        kwargs: as `GemNet` takes them, and timm's own.

    Raises:
        GemnetError: the cell or network is none.
    """
    check_foreign(cell, net, kwargs)
    if pretrained:
        verify_source(kwargs.get("pretrained_cfg"), kwargs.get("cache_dir"))
    if net is None:
        if isinstance(cell, (list, tuple)):
            raise ConfigError("one cell per stage needs a network: pass net={...}")
        net = solve(find_cell(cell), "imagenet", DEFAULT_MACS["imagenet"]).to_dict()
    many = isinstance(cell, (list, tuple))
    plain = [find_cell(item).to_dict() for item in cell] if many else find_cell(cell).to_dict()
    return _create("gemnet", pretrained, cell=plain, net=NetConfig.from_dict(net).to_dict(), **kwargs)


@register_model
def gemnet_a(pretrained: bool = False, **kwargs: Any) -> "GemNet":
    """GEMNet-A for 224 px: 240 M MACs."""
    return _create_family("gemnet_a", pretrained, **kwargs)


@register_model
def gemnet_b(pretrained: bool = False, **kwargs: Any) -> "GemNet":
    """GEMNet-B for 224 px: 455 M MACs."""
    return _create_family("gemnet_b", pretrained, **kwargs)


@register_model
def gemnet_a_cifar(pretrained: bool = False, **kwargs: Any) -> "GemNet":
    """GEMNet-A for 32 px: 40 M MACs."""
    return _create_family("gemnet_a_cifar", pretrained, **kwargs)


@register_model
def gemnet_b_cifar(pretrained: bool = False, **kwargs: Any) -> "GemNet":
    """GEMNet-B for 32 px: 300 M MACs."""
    return _create_family("gemnet_b_cifar", pretrained, **kwargs)
