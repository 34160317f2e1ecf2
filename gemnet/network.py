"""GemNet: an image network made of one cell, stacked.

| symbol     | meaning                                                                   |
|------------|---------------------------------------------------------------------------|
| F          | `node_chs`: channels of every node in a stage                             |
| in_chs     | channels a cell receives; `out_chs` channels it hands on                  |
| node j     | op of what `merge` makes of its predecessors: [N, F, H, W]                |

A cell computes `shortcut(x) + project(concat(leaves))`, where x is its input, max-pooled first in
the first cell of a stage with stride 2.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import ClassifierHead, ConvNormAct, DropPath, calculate_drop_path_rates
from timm.models._features import feature_take_indices
from timm.models._manipulate import checkpoint_seq
from torch import Tensor, nn

from .cell import Cell
from .config import NetConfig, Stage, resolve_cells
from .ops import create_op


class GemCell(nn.Module):
    """One cell as a module: [N, in_chs, H, W] to [N, out_chs, H / stride, W / stride].

    Args:
        cell: the graph; node j becomes `nodes[j - 1]`, leaves are concatenated in stored order.
        in_chs, node_chs, out_chs: channels received, per node, handed on.
        stride: 2 for a 2x2 max-pool at the input.
        merge, project: as in `NetConfig`.
        drop_path: probability of dropping the cell's own branch for a sample, in training.
        layers: `norm_layer`, `act_layer`, `device`, `dtype`.
    """

    def __init__(
        self, cell: Cell, in_chs: int, node_chs: int, out_chs: int, stride: int = 1,
        merge: str = "sum", project: bool = True, drop_path: float = 0.0, **layers: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        self.predecessors, self.leaves, self.merge = cell.predecessors, cell.leaves, merge
        last_read = dict(cell.edges)  # edges are sorted by reader
        self.spent = [[i for i, j in last_read.items() if j == node] for node in range(len(cell.ops))]
        self.pool = nn.MaxPool2d(2) if stride == 2 else nn.Identity()
        widths = [node_chs if merge == "sum" else in_chs] + [node_chs] * (len(cell.ops) - 1)
        linear = {"apply_act": False, **layers}
        self.entry = ConvNormAct(in_chs, node_chs, 1, **linear) if merge == "sum" else nn.Identity()
        self.nodes = nn.ModuleList(
            create_op(op, node_chs if merge == "sum" else sum(widths[i] for i in preds), node_chs, **layers)
            for op, preds in zip(cell.ops[1:], cell.predecessors[1:])
        )
        leaf_chs = sum(widths[leaf] for leaf in cell.leaves)
        self.project = ConvNormAct(leaf_chs, out_chs, 1, **linear) if project else nn.Identity()
        self.shortcut = nn.Identity() if in_chs == out_chs else ConvNormAct(in_chs, out_chs, 1, **linear)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(x)
        states: dict[int, Tensor] = {0: self.entry(x)}
        for j, node in enumerate(self.nodes, start=1):
            states[j] = node(self._merge([states[i] for i in self.predecessors[j]]))
            for i in self.spent[j]:  # free what no later node reads
                del states[i]
        leaves = [states[leaf] for leaf in self.leaves]
        out = self.project(leaves[0] if len(leaves) == 1 else torch.cat(leaves, dim=1))
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
    """The cells of one stage, in order."""

    def __init__(
        self, cell: Cell, stage: Stage, in_chs: int, net: NetConfig, drop_paths: Sequence[float], **layers: Any
    ) -> None:
        cells = []
        for k in range(stage.depth):
            cells.append(
                GemCell(
                    cell, in_chs if k == 0 else stage.out_chs, stage.node_chs, stage.out_chs,
                    stage.stride if k == 0 else 1, net.merge, net.project, drop_paths[k], **layers,
                )
            )  # fmt: skip
        super().__init__(*cells)


class GemNet(nn.Module):
    """Image classifier built from cells.

    Args:
        cells: one cell for all stages, or one per stage.
        net: depths, widths, strides, merge.
        num_classes: size of the classifier; 0 leaves it out.
        in_chans: channels of the images.
        global_pool: timm pooling name (`avg`, `max`, ..., `""` for none).
        drop_rate: dropout in front of the classifier.
        drop_path_rate: stochastic depth at the last cell, rising linearly from 0 at the first.
        act_layer, norm_layer, device, dtype: as in timm.

    Raises:
        GemnetError: cells and net do not fit (see `gemnet.config.resolve_cells`).
    """

    def __init__(
        self, cells: Cell | Sequence[Cell], net: NetConfig, num_classes: int = 1000, in_chans: int = 3,
        global_pool: str = "avg", drop_rate: float = 0.0, drop_path_rate: float = 0.0,
        act_layer: Any = nn.ReLU, norm_layer: Any = nn.BatchNorm2d, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        layers = {"act_layer": act_layer, "norm_layer": norm_layer, **factory}
        self.cells, self.net = resolve_cells(cells, net), net
        self.num_classes, self.in_chans, self.drop_rate = num_classes, in_chans, drop_rate
        self.grad_checkpointing = False
        self.stem = ConvNormAct(in_chans, net.stem_chs, 3, stride=net.stem_stride, **layers)
        reduction, chs = net.stem_stride, net.stem_chs
        self.feature_info: list[dict[str, Any]] = [{"num_chs": chs, "reduction": reduction, "module": "stem"}]
        depths = [stage.depth for stage in net.stages]
        rates: Any = calculate_drop_path_rates(drop_path_rate, depths, stagewise=True)
        stages = []
        for k, (cell, stage) in enumerate(zip(self.cells, net.stages)):
            stages.append(GemStage(cell, stage, chs, net, rates[k], **layers))
            reduction, chs = reduction * stage.stride, stage.out_chs
            self.feature_info.append({"num_chs": chs, "reduction": reduction, "module": f"stages.{k}"})
        self.stages = nn.Sequential(*stages)
        self.conv_head: nn.Module = ConvNormAct(chs, net.head_chs, 1, **layers)
        self.num_features = self.head_hidden_size = net.head_chs
        self.head = ClassifierHead(net.head_chs, num_classes, pool_type=global_pool, drop_rate=drop_rate, **factory)
        self.init_weights()

    def init_weights(self) -> None:
        """Draws all weights: He normal over the fan-out per group for convolutions, N(0, 0.01) for the classifier."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Patterns that put parameters into layer groups, by stage or (fine) by cell."""
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.(\d+)"}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Switches recomputation of cells in the backward pass on or off."""
        self.grad_checkpointing = enable

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        classifier: nn.Module = self.head.fc
        return classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Puts a new classifier of `num_classes` outputs in place."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)

    def forward_intermediates(
        self, x: Tensor, indices: int | list[int] | None = None, norm: bool = False,
        stop_early: bool = False, output_fmt: str = "NCHW", intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:  # fmt: skip
        """Features behind the stem and each stage, as timm's method of this name gives them.

        Args:
            x: images [N, in_chans, H, W].
            indices: which of the features; the last n for a number, all for None.
            norm: accepted for timm's sake; there is no final norm to apply.
            stop_early: whether to leave out the stages behind the last one asked for.
            output_fmt: only `NCHW`.
            intermediates_only: whether to return the features alone.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt must be 'NCHW', got {output_fmt!r}")
        take, last = feature_take_indices(len(self.feature_info), indices)
        intermediates = []
        x = self.stem(x)
        if 0 in take:
            intermediates.append(x)
        for k, stage in enumerate(self.stages[:last] if stop_early else self.stages, start=1):
            x = stage(x)
            if k in take:
                intermediates.append(x)
        if intermediates_only:
            return intermediates
        return (x if stop_early and last < len(self.stages) else self.conv_head(x)), intermediates

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drops the layers that the features of `indices` do not need; returns the kept indices."""
        take, last = feature_take_indices(len(self.feature_info), indices)
        self.stages = self.stages[:last]
        if prune_head:
            self.conv_head = nn.Identity()
            self.num_features = self.head_hidden_size = self.feature_info[last]["num_chs"]
            self.reset_classifier(0, "")
        return list(take)

    def forward_features(self, x: Tensor) -> Tensor:
        """Features in front of the pooling: [N, num_features, H / 32, W / 32] at stride 32."""
        x = self.stem(x)
        if self.grad_checkpointing:
            x = checkpoint_seq(nn.Sequential(*(cell for stage in self.stages for cell in stage.children())), x)
        else:
            x = self.stages(x)
        return self.conv_head(x)  # type: ignore[no-any-return]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits [N, num_classes] of features, or what the classifier would read."""
        return self.head(x, pre_logits=pre_logits)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, num_classes] of images [N, in_chans, H, W]."""
        return self.forward_head(self.forward_features(x))
