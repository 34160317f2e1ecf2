"""Costs of many cells at once, for one network shape; what `gemnet.cost.cost` says of each, exactly.

| symbol | meaning                                                                  | shape        |
|--------|--------------------------------------------------------------------------|--------------|
| r      | channels a node reads: its predecessors' in sum (concat), or F (sum)     | int64 [B, N] |
| alive  | feature-map elements kept while a node is computed, its own not counted  | int64 [B, N] |
"""

from dataclasses import dataclass

import numpy as np

from gemnet.config import NetConfig, Stage
from gemnet.errors import ConfigError
from gemnet.ops import Conv, get_op

from .graphs import ONE, Bools, GraphBatch, Ints

Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class BatchCost:
    """`gemnet.cost.Cost` of B networks, an array of each quantity [B]."""

    macs: Ints
    params: Ints
    acts: Ints
    peak_acts: Ints


class _Sum:
    """Costs so far: the first three add up, the largest peak stays."""

    def __init__(self, size: int) -> None:
        self.macs, self.params, self.acts, self.peak = (np.zeros(size, np.int64) for _ in range(4))

    def add(self, macs: "Ints | int", params: "Ints | int", acts: "Ints | int", peak: "Ints | int") -> None:
        self.macs += macs
        self.params += params
        self.acts += acts
        self.peak = np.maximum(self.peak, peak)

    def conv(self, read: "Ints | int", out_chs: int, area: int, alive: "Ints | int", kernel_size: int = 1) -> None:
        """One dense convolution with its norm, `alive` elements kept beside its output."""
        weights = read * out_chs * kernel_size**2
        self.add(weights * area, weights + 2 * out_chs, out_chs * area, alive + out_chs * area)


def batch_cost(
    graphs: GraphBatch, net: NetConfig, img_size: "int | Size" = 224, in_chans: int = 3, num_classes: int = 1000
) -> BatchCost:
    """The cost of every graph's network on one image; arguments as `gemnet.cost.cost`'s.

    Every node must be reached from the input.

    Raises:
        ConfigError: the image is too small, the graphs have an explicit output, or the network does not project.
    """
    if graphs.output or not net.project:
        raise ConfigError("costs of a batch are those of cells without explicit output in a network that projects")
    size = (img_size, img_size) if isinstance(img_size, int) else img_size
    total, image = _Sum(len(graphs)), in_chans * size[0] * size[1]
    size = (size[0] + net.stem_stride - 1) // net.stem_stride, (size[1] + net.stem_stride - 1) // net.stem_stride
    total.conv(in_chans, net.stem_chs, size[0] * size[1], image, kernel_size=3)
    chs, shape = net.stem_chs, _Shape(graphs)
    for stage in net.stages:
        if stage.stride == 2:
            before, size = size, (size[0] // 2, size[1] // 2)
            if min(size) < 1:
                raise ConfigError(f"an image of {img_size} is too small for this network")
            total.add(0, 0, 0, chs * (before[0] * before[1] + size[0] * size[1]))
        area = size[0] * size[1]
        _add_cell(total, shape, chs, stage, net.merge, area)
        for _ in range(stage.depth - 1):
            _add_cell(total, shape, stage.out_chs, stage, net.merge, area, held=chs * area)
        chs = stage.out_chs
    area = size[0] * size[1]
    total.conv(chs, net.head_chs, area, chs * area)
    classifier = net.head_chs * num_classes
    total.add(classifier, classifier + num_classes, num_classes, net.head_chs * (area + 1) + num_classes)
    return BatchCost(total.macs, total.params, total.acts, total.peak)


class _Shape:
    """What costs depend on of each graph's nodes [B, N]: reads of the input and of others, and what each ends."""

    def __init__(self, graphs: GraphBatch) -> None:
        graph, node = np.arange(len(graphs))[:, None], np.arange(graphs.width)
        self.graphs = graphs
        self.inner: Bools = graphs.present & (node > 0)
        self.of_input = (graphs.adjacency & ONE).astype(np.int64)
        self.of_nodes = graphs.in_degree - self.of_input
        last = graphs.width - 1 - graphs.dense[:, ::-1].argmax(1)  # of whom node i is read last
        read: Bools = np.asarray(graphs.dense.any(1))
        self.ends_input: Bools = read[:, :1] & (last[:, :1] == node)
        self.ends_nodes = np.zeros(graphs.codes.shape, np.int64)
        np.add.at(self.ends_nodes, (np.broadcast_to(graph, read.shape)[:, 1:], last[:, 1:]), read[:, 1:])
        self.leaves = graphs.leaves.sum(1)
        self.kind = (graphs.codes.astype(np.int64) * 64 + self.of_nodes) * 2 + self.of_input


def _add_cell(total: _Sum, shape: _Shape, in_chs: int, stage: Stage, merge: str, area: int, held: int = 0) -> None:
    chs, x, summed = stage.node_chs, in_chs * area + held, merge == "sum"
    first = chs if summed else in_chs
    total.add(0, 0, 0, x)
    if summed:
        total.conv(in_chs, chs, area, x)
    read = np.full(shape.kind.shape, chs) if summed else shape.of_nodes * chs + shape.of_input * first
    weights, norm, outs, pairs = _ops(shape, chs, first, summed, area)
    grown = np.where(shape.inner, chs - shape.ends_nodes * chs - (first * shape.ends_input if summed else 0), 0) * area
    alive = x + (chs * area if summed else 0) + np.cumsum(grown, axis=1)
    merged = np.where(shape.of_nodes + shape.of_input > 1, read * area, 0)
    during = np.where(shape.inner, alive - grown + merged + pairs, 0)
    total.add((weights * area).sum(1), (weights + norm).sum(1), outs.sum(1), during.max(1))
    leaf_chs = shape.leaves * chs
    total.add(0, 0, 0, alive[:, -1] + np.where(shape.leaves > 1, leaf_chs * area, 0))
    total.conv(leaf_chs, stage.out_chs, area, x + leaf_chs * area)
    if in_chs != stage.out_chs:
        total.conv(in_chs, stage.out_chs, area, x + stage.out_chs * area)
    terms = 1 if in_chs == stage.out_chs else 2
    total.add(0, 0, 0, x + (terms + 1) * stage.out_chs * area)


def _ops(shape: _Shape, chs: int, first: int, summed: bool, area: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Weights, norm parameters, output elements and largest neighbouring feature maps of every node's op [B, N]."""
    kinds, inverse = np.unique(np.where(shape.inner, shape.kind, -1), return_inverse=True)
    rows = np.zeros((len(kinds), 4), np.int64)
    for row, kind in zip(rows, kinds.tolist()):
        if kind >= 0:
            code, reads = divmod(kind, 128)
            read = chs if summed else reads // 2 * chs + reads % 2 * first
            op = get_op(shape.graphs.ops[code])
            row[:] = _op(op.convs(read, chs), chs, area)
            row[3] += read * area if op.kind == "maxpool" and read != chs else 0
    table = rows[inverse.reshape(shape.kind.shape)]
    return table[..., 0], table[..., 1], table[..., 2], table[..., 3]


def _op(convs: tuple[Conv, ...], chs: int, area: int) -> tuple[int, int, int, int]:
    outs = [conv.out_chs * area for conv in convs]
    pairs = [a + b for a, b in zip([0, *outs], outs)]
    norm = 2 * convs[-1].out_chs if convs else 0
    return sum(conv.weights for conv in convs), norm, sum(outs), max(pairs, default=chs * area)
