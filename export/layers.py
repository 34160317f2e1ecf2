"""What each part of a network costs, counted on its layers; a second way beside `gemnet.cost`."""

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

COUNTED = (nn.Conv2d, nn.Linear)


@dataclass(frozen=True)
class Part:
    """A node of a cell, or a layer around the cells.

    Args:
        name: such as `stages.0.1.nodes.3`; `stages.0.1` itself stands for the cell's sums and concatenations,
            `stages.pool1` for the pooling in front of stage 1.
        op: of the node, or what the layer is for.
        macs, params, acts: as `gemnet.cost.Cost` has them, at batch 1.
    """

    name: str
    op: str
    macs: int
    params: int
    acts: int


def part_of(name: str) -> str:
    """The part that a layer, weight or ONNX node belongs to by its name."""
    words = name.partition("/")[0].split(".")
    if words[0] != "stages":
        return words[0]
    if words[1].startswith("pool"):
        return f"stages.{words[1]}"
    return ".".join(words[: 5 if words[3:4] == ["nodes"] else 4])


def parts(model: Any, image: tuple[int, int, int]) -> list[Part]:
    """The parts of a GemNet in the order they run.

    Args:
        model: a `gemnet.network.GemNet`; it is not changed.
        image: C, H and W.
    """
    ghost = copy.deepcopy(model).eval().to("meta")
    counts: dict[str, list[int]] = {}

    def count(name: str, layer: nn.Module, output: Tensor) -> None:
        row = counts.setdefault(part_of(name), [0, 0])
        if isinstance(layer, COUNTED):
            per_output = math.prod(layer.weight.shape[1:])
            row[0] += per_output * output.numel()
            row[1] += output.numel()

    for name, layer in ghost.named_modules():
        if name and not list(layer.children()):
            layer.register_forward_hook(lambda layer, _, output, name=name: count(name, layer, output))
    with torch.no_grad():
        ghost(torch.empty(1, *image, device="meta"))
    params: dict[str, int] = {}
    for name, value in ghost.named_parameters():
        params[part_of(name)] = params.get(part_of(name), 0) + value.numel()
    return [
        Part(name, _op(model, name), macs, params.get(name, 0), acts) for name, (macs, acts) in counts.items()
        if macs or params.get(name) or ".nodes." in name or _is_pool(model, name)
    ]  # fmt: skip


def count_flops(model: nn.Module, image: tuple[int, int, int]) -> int:
    """Multiplications and additions of one image by torch's own counter: 2 for a MAC."""
    ghost = copy.deepcopy(model).eval().to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ghost(torch.empty(1, *image, device="meta"))
    return int(counter.get_total_flops())


def _is_pool(model: nn.Module, name: str) -> bool:
    """Whether a part is the pooling in front of a stage; a stage that keeps its resolution has none."""
    return name.startswith("stages.pool") and not isinstance(model.get_submodule(name), nn.Identity)


def _op(model: Any, name: str) -> str:
    words = name.split(".")
    if words[0] != "stages":
        return {"stem": "3x3 stem", "conv_head": "1x1 head", "head": "classifier"}.get(name, name)
    if len(words) == 2:
        return "max-pool"
    if words[3] == "nodes":
        op: str = model.cells[int(words[1])].ops[int(words[4]) + 1]
        return op
    return words[3]
