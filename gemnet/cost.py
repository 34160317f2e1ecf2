"""Parameters, MACs and activations of a network, counted from its graph without building it.

| symbol     | meaning                                                                              |
|------------|--------------------------------------------------------------------------------------|
| macs       | multiply-adds of convolutions and the classifier, batch 1; bias, norm, activation and |
|            | pooling are not counted                                                              |
| params     | all trainable parameters: weights, norm scales and shifts, the classifier's bias     |
| acts       | elements of all convolution and classifier outputs, batch 1                          |
| peak_acts  | largest number of feature-map elements alive at once, batch 1: a node's until its    |
|            | last reader is done, a cell's and a stage's input until the cell or stage is; norm   |
|            | and activation work in place, an identity counts as a copy                           |
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .cell import Cell
from .config import MAX_PARAMS, NetConfig, Stage, resolve_cells
from .errors import ConfigError
from .ops import Conv, get_op

Size = tuple[int, int]


@dataclass(frozen=True)
class Cost:
    """What one forward pass of one image takes; see the module's table."""

    macs: int
    params: int
    acts: int
    peak_acts: int

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.macs + other.macs, self.params + other.params, self.acts + other.acts,
            max(self.peak_acts, other.peak_acts),
        )  # fmt: skip


def cost(
    cells: Cell | Sequence[Cell], net: NetConfig, img_size: int | Size = 224, in_chans: int = 3, num_classes: int = 1000
) -> Cost:
    """The cost of a network on one image.

    Args:
        cells: one cell for all stages, or one per stage.
        net: the network's shape.
        img_size: height and width of the image, or one number for both.
        in_chans: channels of the image.
        num_classes: outputs of the classifier; 0 for none.

    Raises:
        ConfigError: the image is too small for the network's strides.
        GemnetError: cells and net do not fit (see `gemnet.config.resolve_cells`).
    """
    per_stage = resolve_cells(cells, net)
    size = height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    image = in_chans * height * width
    size = _stride(size, net.stem_stride, ceil=True)
    total = _conv_cost([Conv(in_chans, net.stem_chs, 3)], size, image)
    chs = net.stem_chs
    for cell, stage in zip(per_stage, net.stages):
        before, size = size, _stride(size, stage.stride)
        if min(size) < 1:
            raise ConfigError(
                f"images of {height}x{width} are too small for this network; networks for small images are those of "
                "--macro small and the names that end in _cifar"
            )
        if stage.stride == 2:
            total += Cost(0, 0, 0, chs * (before[0] * before[1] + size[0] * size[1]))
        total += cell_cost(cell, chs, stage, net, size)
        held = chs * size[0] * size[1]
        for _ in range(stage.depth - 1):
            total += cell_cost(cell, stage.out_chs, stage, net, size, held)
        chs = stage.out_chs
    area = size[0] * size[1]
    total += _conv_cost([Conv(chs, net.head_chs)], size, chs * area)
    classifier = net.head_chs * num_classes
    alive = net.head_chs * (area + 1) + num_classes
    return total + Cost(classifier, classifier + num_classes, num_classes, alive)


def checked_cost(
    cells: Cell | Sequence[Cell], net: NetConfig, img_size: Size, in_chans: int, num_classes: int
) -> Cost:  # fmt: skip
    """The `cost` of a network that is about to be built; raises ConfigError also when it is too large for that."""
    found = cost(cells, net, img_size, in_chans, num_classes)
    if found.params > MAX_PARAMS:
        raise ConfigError(f"a network of {found.params / 1e6:,.0f} M parameters is too large, allowed are "
                          f"{MAX_PARAMS / 1e6:,.0f} M; ask for fewer --macs")  # fmt: skip
    return found


def cell_cost(cell: Cell, in_chs: int, stage: Stage, net: NetConfig, size: Size, held: int = 0) -> Cost:
    """The cost of one cell behind its pooling, at feature maps of `size`, with `held` more elements alive."""
    chs, area = stage.node_chs, size[0] * size[1]
    x = in_chs * area + held
    total = Cost(0, 0, 0, x)
    widths = [in_chs if net.merge == "concat" else chs] + [chs] * (len(cell.ops) - 1)
    if net.merge == "sum":
        total += _conv_cost([Conv(in_chs, chs)], size, x)
    last_read = dict(cell.edges)
    alive = x + (widths[0] * area if net.merge == "sum" else 0)
    for j in range(1, len(cell.ops)):
        preds = cell.predecessors[j]
        read = chs if net.merge == "sum" else sum(widths[i] for i in preds)
        merged = read * area if len(preds) > 1 else 0
        op = get_op(cell.ops[j])
        pooled = read * area if op.kind == "maxpool" and read != chs else 0
        total += _conv_cost(op.convs(read, chs), size, alive + merged + pooled, chs * area)
        alive += chs * area
        alive -= sum(widths[i] * area for i in preds if last_read[i] == j and (i or net.merge == "sum"))
    leaf_chs = sum(widths[leaf] for leaf in cell.leaves)
    gathered = leaf_chs * area if len(cell.leaves) > 1 else 0
    total += Cost(0, 0, 0, alive + gathered)
    if net.project:
        total += _conv_cost([Conv(leaf_chs, stage.out_chs)], size, x + leaf_chs * area)
    if in_chs != stage.out_chs:
        total += _conv_cost([Conv(in_chs, stage.out_chs)], size, x + stage.out_chs * area)
    terms = 1 if in_chs == stage.out_chs else 2  # of the sum that is the cell's output
    return total + Cost(0, 0, 0, x + (terms + 1) * stage.out_chs * area)


def _stride(size: Size, stride: int, ceil: bool = False) -> Size:
    up = stride - 1 if ceil else 0
    return (size[0] + up) // stride, (size[1] + up) // stride


def _conv_cost(convs: Sequence[Conv], size: Size, alive: int, out: int = 0) -> Cost:
    """Convolutions one behind the other with one norm at the end.

    Args:
        convs: the convolutions; none means an op without weights.
        size: height and width of their outputs.
        alive: elements alive while they run, their input included.
        out: elements an op without convolutions writes.
    """
    area = size[0] * size[1]
    outs = [conv.out_chs * area for conv in convs]
    weights = sum(conv.weights for conv in convs)
    pairs = [a + b for a, b in zip([0, *outs], outs)]
    norm = 2 * convs[-1].out_chs if convs else 0
    return Cost(weights * area, weights + norm, sum(outs), alive + max(pairs, default=out))
