"""A training at one moment, as plain tensors and a JSON object: nothing in it needs to be unpickled."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Snapshot:
    """What a training needs to go on.

    Args:
        tensors: by part (`model`, `ema`, `optimizer`, `loss`) and name.
        record: numbers and generators' states, as a JSON object.
    """

    tensors: Mapping[str, Tensors]
    record: Mapping[str, Any]


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state: its tensors, named `parameter.key`, and the rest as a JSON object."""
    state = optimizer.state_dict()
    tensors, rest = {}, {}
    for number, values in state["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{number}.{key}"] = value
            else:
                rest[f"{number}.{key}"] = value
    return tensors, {"groups": state["param_groups"], "values": rest}


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors, record: Mapping[str, Any]) -> None:
    """Puts a packed state into an optimiser of the same parameters.

    Tensors of a parameter's shape get its memory format too: kernels of another format round differently.
    """
    params = [param for group in optimizer.param_groups for param in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for name, value in (*tensors.items(), *record["values"].items()):
        number, _, key = name.partition(".")
        if isinstance(value, Tensor) and value.shape == params[int(number)].shape:
            value = torch.empty_like(params[int(number)]).copy_(value)  # noqa: PLW2901
        state.setdefault(int(number), {})[key] = value
    groups = [{key: tuple(v) if isinstance(v, list) and key != "params" else v for key, v in group.items()}
              for group in record["groups"]]  # fmt: skip
    optimizer.load_state_dict({"state": state, "param_groups": groups})
