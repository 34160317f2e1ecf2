"""Limits on what a config from elsewhere (`hf-hub:`, `local-dir:`) may make this package build."""

from collections.abc import Mapping
from typing import Any

from .catalog import find_cell
from .config import NetConfig
from .cost import cost
from .errors import ConfigError

SOURCES = ("hf-hub", "local-dir")
MAX_CLASSES = 100_000
MAX_IN_CHANS = 1024
MAX_PARAMS = 10**9
SIDE = 4096  # pixels, large enough for the strides of any network; parameters do not depend on it


def check_foreign(cell: object, net: object, arguments: Mapping[str, Any]) -> None:
    """Lets a config from elsewhere describe a network, but not name a file, nor one of any size.

    Nodes, widths and depths have limits of their own, see `gemnet.cell` and `gemnet.config`.

    Args:
        cell, net: as the config gives them.
        arguments: everything else `timm.create_model` hands on; its `pretrained_cfg` says where the config is from.

    Raises:
        ConfigError: a cell or network that is no JSON object, or more classes, channels or parameters than allowed.
    """
    cfg = arguments.get("pretrained_cfg")
    source = cfg.get("source") if isinstance(cfg, Mapping) else getattr(cfg, "source", None)
    if source not in SOURCES:
        return
    cells = cell if isinstance(cell, (list, tuple)) else [cell]
    for name, values in (("cell", cells), ("net", [net])):
        for value in values:
            if not isinstance(value, Mapping):
                raise ConfigError(f"{name} in a config from {source} must be a JSON object, got {value!r:.60}")
    for name, most in (("num_classes", MAX_CLASSES), ("in_chans", MAX_IN_CHANS)):
        value = arguments.get(name, 0)
        if not isinstance(value, int) or not 0 <= value <= most:
            raise ConfigError(f"{name} in a config from {source} must be 0 to {most}, got {value!r:.60}")
    params = cost([find_cell(item) for item in cells], NetConfig.from_dict(net), SIDE).params  # type: ignore[arg-type]
    if params > MAX_PARAMS:
        raise ConfigError(f"a network from {source} may have {MAX_PARAMS:.1g} parameters, got {params:.1g}")
