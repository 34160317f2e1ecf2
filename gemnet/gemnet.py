"""GEMNet's entry points in timm's registry.

Cells are found by NASGEM (Cheng et al., "NASGEM: Neural Architecture Search via Graph Embedding
Method", AAAI 2021, arXiv:2007.04452); depths and widths are solved for a number of MACs.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

from .catalog import DEFAULT_MACS, FAMILY, Reference, find_cell
from .config import NetConfig
from .errors import ConfigError
from .scale import solve

if TYPE_CHECKING:
    from .network import GemNet

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)


def _build(cell: Reference | list[Mapping[str, Any]], net: Mapping[str, Any] | NetConfig, **kwargs: Any) -> "GemNet":
    from .network import GemNet  # imports timm, whose import may be what runs this module

    cells = [find_cell(item) for item in (cell if isinstance(cell, (list, tuple)) else [cell])]
    return GemNet(cells, net if isinstance(net, NetConfig) else NetConfig.from_dict(net), **kwargs)


def _create(variant: str, pretrained: bool, **kwargs: Any) -> "GemNet":
    stages = len(kwargs["net"]["stages"])
    feature_cfg = {"flatten_sequential": True, "out_indices": tuple(range(stages + 1))}
    model: GemNet = build_model_with_cfg(_build, variant, pretrained, feature_cfg=feature_cfg, **kwargs)
    return model


def _create_family(variant: str, pretrained: bool, **kwargs: Any) -> "GemNet":
    for name in ("cell", "net"):
        if name in kwargs:
            raise ConfigError(f"{variant} has its own {name}; timm.create_model('gemnet', {name}=...) takes another")
    form = FAMILY[variant]
    return _create(variant, pretrained, cell=form.load().to_dict(), net=form.net().to_dict(), **kwargs)


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


default_cfgs = generate_default_cfgs(
    {
        "gemnet": _cfg(),
        "gemnet_a": _cfg(),
        "gemnet_b": _cfg(),
        "gemnet_a_cifar": _cifar_cfg(),
        "gemnet_b_cifar": _cifar_cfg(),
    }
)


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
