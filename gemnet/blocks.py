"""The modules a GemNet is stacked from: one cell, and the cells of one stage.

| symbol     | meaning                                                                   |
|------------|---------------------------------------------------------------------------|
| F          | `node_chs`: channels of every node in a stage                             |
| in_chs     | channels a cell receives; `out_chs` channels it hands on                  |
| node j     | op of what `merge` makes of its predecessors: [N, F, H, W]                |

A cell computes `shortcut(x) + project(concat(leaves))`, where x is its input. In front of a stage with stride 2
stands a max-pool, outside of the cell so that what it read can be freed.
"""

from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import ConvNormAct, DropPath
from timm.models._manipulate import checkpoint
from torch import Tensor, nn

from .cell import Cell
from .config import NetConfig, Stage
from .ops import create_op


class GemCell(nn.Module):
    """One cell as a module: [N, in_chs, H, W] to [N, out_chs, H, W].

    Args:
        cell: the graph; node j becomes `nodes[j - 1]`, leaves are concatenated in stored order.
        in_chs, node_chs, out_chs: channels received, per node, handed on.
        merge, project: as in `NetConfig`.
        dilation: of the windows of its ops; a stage that gave up its stride makes up for it so.
        drop_path: probability of dropping the cell's own branch for a sample, in training.
        layers: `norm_layer`, `act_layer`, `device`, `dtype`.
    """

    predecessors: list[list[int]]
    spent: list[list[int]]
    leaves: list[int]

    def __init__(
        self, cell: Cell, in_chs: int, node_chs: int, out_chs: int, merge: str = "sum", project: bool = True,
        dilation: int = 1, drop_path: float = 0.0, **layers: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        self.predecessors, self.leaves = [list(preds) for preds in cell.predecessors], list(cell.leaves)
        self.merge = merge
        last_read = dict(cell.edges)  # edges are sorted by reader
        self.spent = [[i for i, j in last_read.items() if j == node] for node in range(len(cell.ops))]
        widths = [node_chs if merge == "sum" else in_chs] + [node_chs] * (len(cell.ops) - 1)
        linear = {"apply_act": False, **layers}
        self.entry = ConvNormAct(in_chs, node_chs, 1, **linear) if merge == "sum" else nn.Identity()
        self.nodes = nn.ModuleList(
            create_op(op, node_chs if merge == "sum" else sum(widths[i] for i in preds), node_chs, dilation, **layers)
            for op, preds in zip(cell.ops[1:], cell.predecessors[1:])
        )
        leaf_chs = sum(widths[leaf] for leaf in cell.leaves)
        self.project = ConvNormAct(leaf_chs, out_chs, 1, **linear) if project else nn.Identity()
        self.shortcut = nn.Identity() if in_chs == out_chs else ConvNormAct(in_chs, out_chs, 1, **linear)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        states: dict[int, Tensor] = {0: self.entry(x)}
        for j, node in enumerate(self.nodes, start=1):
            states[j] = node(self._merge([states[i] for i in self.predecessors[j]]))
            for i in self.spent[j]:  # free what no later node reads
                del states[i]
        leaves = [states[leaf] for leaf in self.leaves]
        out = leaves[0] if len(leaves) == 1 else torch.cat(leaves, dim=1)
        states.clear()
        leaves.clear()
        out = self.project(out)
        result: Tensor = self.shortcut(x) + self.drop_path(out)
        return result

    def _merge(self, inputs: list[Tensor]) -> Tensor:
        if len(inputs) == 1:
            return inputs[0]
        if self.merge == "concat":
            return torch.cat(inputs, dim=1)
        total = inputs[0] + inputs[1]
        for value in inputs[2:]:
            total = total + value
        return total


class GemStage(nn.Sequential):
    """The cells of one stage, in order; with `grad_checkpointing` they are computed anew in the backward pass.

    Args:
        cell, stage: the graph and the shape.
        in_chs: channels the stage receives.
        net: for `merge` and `project`.
        drop_paths: one probability per cell.
        dilation: of the windows of its ops.
        layers: as for `GemCell`.
    """

    def __init__(
        self, cell: Cell, stage: Stage, in_chs: int, net: NetConfig, drop_paths: Sequence[float],
        dilation: int = 1, **layers: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            *(
                GemCell(
                    cell, in_chs if k == 0 else stage.out_chs, stage.node_chs, stage.out_chs,
                    net.merge, net.project, dilation, drop_path, **layers,
                )
                for k, drop_path in enumerate(drop_paths)
            )
        )  # fmt: skip
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        for cell in self:
            # an if statement, since the script compiler skips a branch of that form only
            if self.grad_checkpointing and not torch.jit.is_scripting():  # type: ignore[attr-defined]
                x = checkpoint(cell, x)
            else:
                x = cell(x)
        return x


def create_pool(stride: int, dense: bool, dilation: int) -> nn.Module:
    """What stands in front of a stage: a 2x2 max-pool at stride 2, nothing at stride 1.

    Args:
        stride: of the stage.
        dense: whether to pool at every position instead of every second one; the even positions of the result are
            those of the strided pool.
        dilation: what earlier stages gave up of their strides.
    """
    if stride == 1:
        return nn.Identity()
    if not dense:
        return nn.MaxPool2d(2, dilation=dilation)
    return nn.Sequential(nn.ReplicationPad2d((0, dilation, 0, dilation)), nn.MaxPool2d(2, 1, dilation=dilation))
