"""Limits on what a config from elsewhere (`hf-hub:`, `local-dir:`) may make this package build."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .catalog import find_cell
from .config import MAX_PARAMS, NetConfig
from .cost import cost
from .errors import ConfigError
from .settings import from_dict

SOURCES = ("hf-hub", "local-dir")
MAX_CLASSES = 100_000
MAX_IN_CHANS = 1024
SIDE = 4096  # pixels, large enough for the strides of any network; parameters do not depend on it
MAX_SIDE = 8192  # pixels of an image


@dataclass(frozen=True)
class Arguments:
    """`model_args` of a config; what is None is not given, and taken from the preprocessing."""

    cell: Any
    net: Any
    num_classes: int | None = None
    in_chans: int | None = None
    global_pool: str | None = None
    output_stride: int | None = None
    drop_rate: float | None = None
    drop_path_rate: float | None = None
    act_layer: str | None = None
    norm_layer: str | None = None


@dataclass(frozen=True)
class Preprocessing:
    """What is taken of a config's `pretrained_cfg`; whatever else it holds, such as places of files, is not."""

    num_classes: int
    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    test_input_size: tuple[int, int, int] | None = None
    min_input_size: tuple[int, int, int] | None = None
    interpolation: str = "bicubic"
    crop_pct: float = 0.875
    test_crop_pct: float | None = None
    crop_mode: str = "center"
    pool_size: tuple[int, int] | None = None
    label_names: tuple[str, ...] | None = None
    label_descriptions: dict[str, str] | None = None
    tag: str | None = None
    license: str | None = None
    description: str | None = None
    origin_url: str | None = None
    paper_name: str | None = None
    paper_ids: str | None = None

    def __post_init__(self) -> None:
        chans, labels = self.input_size[0], self.label_names
        sizes = (self.input_size, self.test_input_size or self.input_size, self.min_input_size or self.input_size)
        for name, allowed, holds in (
            ("input_size", f"1 to {MAX_SIDE} each", all(1 <= side <= MAX_SIDE for size in sizes for side in size)),
            ("mean", f"{chans} numbers", len(self.mean) == chans),
            ("std", f"{chans} numbers above 0", len(self.std) == chans and min(self.std) > 0),
            ("crop_pct", "above 0, at most 10", 0 < self.crop_pct <= 10),
            ("label_names", f"{self.num_classes} names", labels is None or len(labels) == self.num_classes),
        ):
            if not holds:
                raise ConfigError(f"pretrained_cfg.{name} must be {allowed}, got {getattr(self, name)!r:.60}")


def parse_config(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A saved model's `config.json` as arguments of `timm.create_model('gemnet')` and as its `pretrained_cfg`.

    Raises:
        GemnetError: it is of another architecture, or describes no model within the limits.
    """
    if config.get("architecture") != "gemnet":
        raise ConfigError(f"the config is of the architecture {config.get('architecture')!r:.60}, not 'gemnet'")
    arguments = from_dict(Arguments, config.get("model_args", {}), "model_args")
    given = config.get("pretrained_cfg")
    if not isinstance(given, Mapping):
        raise ConfigError("the config has no object pretrained_cfg")
    top = {name: config[name] for name in ("num_classes", "label_names", "label_descriptions") if name in config}
    known = {name: value for name, value in {**given, **top}.items() if name in Preprocessing.__annotations__}
    fields = asdict(from_dict(Preprocessing, known, "pretrained_cfg"))
    cfg = {name: value for name, value in fields.items() if value is not None}
    plain = {name: value for name, value in vars(arguments).items() if value is not None}
    for name, has in (("num_classes", cfg["num_classes"]), ("in_chans", cfg["input_size"][0])):
        if plain.get(name, has) != has:
            raise ConfigError(f"the config contradicts itself: {name} is {plain[name]} and {has}")
    check_foreign(arguments.cell, arguments.net, {**plain, "pretrained_cfg": {**cfg, "source": "hf-hub"}})
    return plain, {**cfg, "first_conv": "stem.conv", "classifier": "head.fc"}


def check_foreign(cell: object, net: object, arguments: Mapping[str, Any]) -> None:
    """Lets a config from elsewhere describe a network, but not name a file, nor one of any size.

    Nodes, widths and depths have limits of their own, see `gemnet.cell` and `gemnet.config`.

    Args:
        cell, net: as the config gives them.
        arguments: everything else `timm.create_model` hands on; its `pretrained_cfg` says where the config is from.

    Raises:
        ConfigError: a cell or network that is no JSON object, or more classes, channels or parameters than allowed.
    """
    cfg = as_mapping(arguments.get("pretrained_cfg"))
    source = cfg.get("source")
    if source not in SOURCES:
        return
    cells = cell if isinstance(cell, (list, tuple)) else [cell]
    for name, values in (("cell", cells), ("net", [net])):
        for value in values:
            if not isinstance(value, Mapping):
                raise ConfigError(f"{name} in a config from {source} must be a JSON object, got {value!r:.60}")
    size = cfg.get("input_size") or (3,)
    for name, most, default in (
        ("num_classes", MAX_CLASSES, cfg.get("num_classes", 0)),
        ("in_chans", MAX_IN_CHANS, size[0] if isinstance(size, (list, tuple)) else size),
    ):
        value = arguments.get(name, default)
        if not isinstance(value, int) or not 0 <= value <= most:
            raise ConfigError(f"{name} in a config from {source} must be 0 to {most}, got {value!r:.60}")
    params = cost([find_cell(item) for item in cells], NetConfig.from_dict(net), SIDE).params  # type: ignore[arg-type]
    if params > MAX_PARAMS:
        raise ConfigError(f"a network from {source} may have {MAX_PARAMS:.1g} parameters, got {params:.1g}")


def as_mapping(cfg: Any) -> Mapping[str, Any]:
    """A pretrained cfg as timm hands it on: an object, its fields, or none."""
    return cfg if isinstance(cfg, Mapping) else vars(cfg) if cfg is not None and hasattr(cfg, "__dict__") else {}
