"""A training at one moment, as plain tensors and a JSON object: nothing in it needs to be unpickled."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]
GROUP = "group"  # begins the names of tensors that belong to a group of parameters, not to one parameter
PLAIN = (bool, int, float, str, list, tuple, type(None))  # what JSON has a form for
UNPACKABLE = ("kron", "kronc", "kronw")  # of timm's list; these hold lists of tensors and a generator of their own


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
    """An optimiser's state: its tensors, named `parameter.key` or `groupN.key`, and the rest as a JSON object.

    Settings of a group that JSON has no form for, such as a dtype, are left out.
    """
    state = optimizer.state_dict()
    held = {**state["state"], **{f"{GROUP}{number}": group for number, group in enumerate(state["param_groups"])}}
    tensors = {f"{owner}.{key}": value for owner, values in held.items() for key, value in values.items()
               if isinstance(value, Tensor)}  # fmt: skip
    values = {f"{number}.{key}": value for number, values in state["state"].items() for key, value in values.items()
              if not isinstance(value, Tensor)}  # fmt: skip
    groups = [{key: value for key, value in group.items() if isinstance(value, PLAIN)}
              for group in state["param_groups"]]  # fmt: skip
    return tensors, {"groups": groups, "values": values}


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors, record: Mapping[str, Any]) -> None:
    """Puts a packed state into an optimiser of the same parameters; what was left out stays as it is there.

    Tensors of a parameter's shape get its memory format too: kernels of another format round differently.
    """
    params = [param for group in optimizer.param_groups for param in group["params"]]
    groups = [
        {**own, **{key: tuple(v) if isinstance(v, list) and key != "params" else v for key, v in group.items()}}
        for own, group in zip(optimizer.param_groups, record["groups"], strict=True)
    ]
    state: dict[int, dict[str, Any]] = {}
    for name, value in (*tensors.items(), *record["values"].items()):
        owner, _, key = name.partition(".")
        if owner.startswith(GROUP):
            groups[int(owner.removeprefix(GROUP))][key] = value
            continue
        if isinstance(value, Tensor) and value.shape == params[int(owner)].shape:
            value = torch.empty_like(params[int(owner)]).copy_(value)  # noqa: PLW2901
        state.setdefault(int(owner), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": groups})
