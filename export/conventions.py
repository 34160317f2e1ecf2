"""What other tools would count for the same network, by their own definitions of an operation.

All count the multiply-adds of convolutions and the classifier; they differ in what they add to them:

| tool          | counted besides                                                                              |
|---------------|----------------------------------------------------------------------------------------------|
| gemnet        | nothing                                                                                      |
| thop 0.1.1    | average pooling: its inputs and its outputs                                                  |
| torchinfo 1.8 | biases, one for each output                                                                  |
| ptflops 0.7   | biases; activations and pooling by their inputs, each twice: as layer and as function        |
| fvcore 0.1.5  | batch norm: 2 for each input; average pooling: its inputs                                    |

thop, torchinfo and ptflops would count batch norms too, but look for torch's own class, or for layers without
layers inside, and timm's holds its activation. thop and fvcore call what they count MACs and flops; both are 1 for a
multiply-add.
"""

import copy
from collections import Counter
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

CONVENTIONS: dict[str, dict[str, int]] = {
    "gemnet": {"multiply-adds": 1},
    "thop": {"multiply-adds": 1, "average pooling, inputs": 1, "average pooling, outputs": 1},
    "torchinfo": {"multiply-adds": 1, "biases": 1},
    "ptflops": {
        "multiply-adds": 1, "biases": 1, "activations": 2, "max pooling, inputs": 2, "average pooling, inputs": 2,
    },
    "fvcore": {"multiply-adds": 1, "batch norms": 2, "average pooling, inputs": 1},
}  # fmt: skip


def by_convention(model: nn.Module, image: tuple[int, int, int]) -> dict[str, dict[str, int]]:
    """For each tool what it counts for one image, by kind of operation, and the `total`.

    Args:
        model: it is not changed.
        image: C, H and W.
    """
    found = count_operations(model, image)
    rows = {}
    for tool, counted in CONVENTIONS.items():
        row = {kind: times * found[kind] for kind, times in counted.items()}
        rows[tool] = {**row, "total": sum(row.values())}
    return rows


def count_operations(model: nn.Module, image: tuple[int, int, int]) -> Mapping[str, int]:
    """Elements that each kind of operation goes over for one image, by the kinds of `CONVENTIONS`."""
    ghost = copy.deepcopy(model).eval().to("meta")
    found: Counter[str] = Counter()
    for layer in ghost.modules():
        count = next((count for kind, count in COUNTS.items() if isinstance(layer, kind)), None)
        if count is not None:
            layer.register_forward_hook(lambda layer, x, out, count=count: found.update(count(layer, x[0], out)))
    with torch.no_grad():
        ghost(torch.empty(1, *image, device="meta"))
    return found


def _weighted(layer: nn.Module, _: Tensor, out: Tensor) -> dict[str, int]:
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    return {"multiply-adds": weight[0].numel() * out.numel(), "biases": 0 if bias is None else out.numel()}


COUNTS: dict[type[nn.Module], Callable[[nn.Module, Tensor, Tensor], dict[str, int]]] = {
    nn.Conv2d: _weighted,
    nn.Linear: _weighted,
    nn.BatchNorm2d: lambda _, x, out: {"batch norms": x.numel()},
    nn.ReLU: lambda _, x, out: {"activations": x.numel()},
    nn.MaxPool2d: lambda _, x, out: {"max pooling, inputs": x.numel()},
    nn.AdaptiveAvgPool2d: lambda _, x, out: {
        "average pooling, inputs": x.numel(), "average pooling, outputs": out.numel(),
    },
}  # fmt: skip
