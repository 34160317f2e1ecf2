"""Random graphs and random edits of graphs, for a whole batch at a time.

The sampler (a setting, not the paper's): number of nodes uniform, in-degree of node j uniform in
1 .. min(cap, j), predecessors uniform without replacement, ops uniform. Predecessors are drawn by
Floyd's algorithm: for r = 0 .. k-1 draw u from 0 .. j-k+r and take u, or j-k+r when u is taken.
"""

import numpy as np
import numpy.typing as npt

from gemnet.errors import ConfigError

from .graphs import ABSENT, ONE, Bits, Bools, GraphBatch, Ints, bit_count

OP, ADD, REMOVE, REWIRE, GROW, SHRINK = range(6)


def sample(
    n: int, rng: np.random.Generator, nodes: tuple[int, int], max_in_degree: int, ops: tuple[str, ...]
) -> GraphBatch:
    """n random graphs without explicit output, N = the largest allowed size.

    Args:
        n: how many.
        rng: what draws them.
        nodes: fewest and most nodes, the input among them.
        max_in_degree: most predecessors of a node.
        ops: vocabulary, beginning with `"input"`.
    """
    low, high = nodes
    places = np.arange(high)
    present = places < rng.integers(low, high + 1, size=(n, 1))
    codes = np.where(present, rng.integers(1, len(ops), size=(n, high), dtype=np.uint8), np.uint8(ABSENT))
    codes[:, 0] = 0
    most = np.minimum(max_in_degree, places)
    degree = np.where(present, 1 + _below(rng, np.maximum(most, 1), (n, high)), 0)
    degree[:, 0] = 0
    rows = np.zeros((n, high), np.uint64)
    for r in range(min(max_in_degree, high - 1)):
        last = np.maximum(places - degree + r, 0)
        drawn = ONE << _below(rng, last + 1, (n, high)).astype(np.uint64)
        bit = np.where(rows & drawn, ONE << last.astype(np.uint64), drawn)
        rows |= np.where(r < degree, bit, np.uint64(0))
    return GraphBatch(codes, rows, ops)


def mutate(
    batch: GraphBatch,
    rng: np.random.Generator,
    max_in_degree: int,
    edits: tuple[int, int] = (1, 8),
    nodes: tuple[int, int] | None = None,
) -> GraphBatch:
    """Each graph after a random number of random edits, in-degrees 1 .. cap kept.

    An edit changes an op, adds, removes or rewires an edge, and, if `nodes` are given, inserts a
    leaf with one predecessor or takes a node out, whose readers then read what it read if that is
    all they read. The kind is uniform among those the graph allows, the node among those the kind allows.

    Args:
        batch: the graphs, which stay as they are.
        rng: what draws the edits.
        max_in_degree: most predecessors of a node.
        edits: fewest and most edits, drawn uniformly for each graph.
        nodes: fewest and most nodes of a graph, the input among them; None keeps every graph's number.

    Raises:
        ConfigError: a graph allows no edit at all, or graphs with an explicit output are to change their size.
    """
    if nodes is not None:
        if batch.output:
            raise ConfigError("graphs with an explicit output keep their number of nodes; leave out `nodes`")
        batch = batch.widen(max(nodes[1], batch.width))
    codes, rows = batch.codes.copy(), batch.adjacency.copy()
    count = rng.integers(edits[0], edits[1] + 1, size=len(batch))
    for step in range(edits[1]):
        active = np.flatnonzero(count > step)
        now = GraphBatch(codes[active], rows[active], batch.ops, batch.output)
        codes[active], rows[active] = _edit(now, rng, max_in_degree, nodes)
    return GraphBatch(codes, rows, batch.ops, batch.output)


def crossover(first: GraphBatch, second: GraphBatch, rng: np.random.Generator) -> GraphBatch:
    """Children of the graphs at equal places: the first nodes of one parent, the others of the second.

    Where to cut is uniform among places that leave both a node of their own; a child has its second
    parent's size, so it is in every space of `sample` that holds both parents.

    Args:
        first, second: of equal length, vocabulary and output.
        rng: what draws the cuts.

    Raises:
        ConfigError: lengths, vocabularies or outputs differ.
    """
    if len(first) != len(second) or first.ops != second.ops or first.output != second.output:
        raise ConfigError("parents are two batches of equal length, vocabulary and output")
    width = max(first.width, second.width)
    first, second = first.widen(width), second.widen(width)
    most = np.minimum(first.sizes, second.sizes) - 1 - first.output
    cut = 2 + _below(rng, np.maximum(most - 1, 1)[:, None], (len(first), 1))
    from_first = np.arange(width) < np.where(most[:, None] >= 2, cut, 1)
    codes = np.where(from_first, first.codes, second.codes)
    return GraphBatch(codes, np.where(from_first, first.adjacency, second.adjacency), first.ops, first.output)


def _edit(
    batch: GraphBatch, rng: np.random.Generator, max_in_degree: int, nodes: tuple[int, int] | None
) -> tuple[npt.NDArray[np.uint8], Bits]:
    codes, rows, every = batch.codes.copy(), batch.adjacency.copy(), np.arange(len(batch))
    allowed = _allowed(batch, max_in_degree)
    if nodes is not None:
        allowed = np.concatenate([allowed, _resizable(batch, nodes)])
    if not allowed.any((0, 2)).all():
        raise ConfigError("a graph of this space has no neighbour: no op, and no edge, can be changed")
    kind = _pick(np.asarray(allowed.any(2)).T, rng)
    node = _pick(np.asarray(allowed[kind, every], np.bool_), rng)
    row = rows[every, node]
    free = (ONE << node.astype(np.uint64)) - ONE & ~row
    dropped = np.where((kind == REMOVE) | (kind == REWIRE), _pick_bit(row, rng), np.uint64(0))
    added = np.where((kind == ADD) | (kind == REWIRE), _pick_bit(free, rng), np.uint64(0))
    rows[every, node] = row & ~dropped | added
    changed = every[kind == OP]
    choices = _inner_ops(batch)
    if len(changed):
        at = (changed, node[changed])
        codes[at] = 1 + (codes[at] - 1 + rng.integers(1, choices, size=len(changed))) % choices
    for resize, these in ((_grow, every[kind == GROW]), (_shrink, every[kind == SHRINK])):
        if len(these):
            codes[these], rows[these] = resize(batch[these], node[these], rng)
    return codes, rows


def _grow(batch: GraphBatch, node: Ints, rng: np.random.Generator) -> tuple[npt.NDArray[np.uint8], Bits]:
    """A new leaf of a random op and predecessor at a place of each graph; later nodes move up."""
    places, at = np.arange(batch.width), node[:, None]
    below = (ONE << at.astype(np.uint64)) - ONE
    rows = batch.adjacency & below | (batch.adjacency & ~below) << ONE
    source = np.where(places > at, places - 1, places)
    codes, rows = np.take_along_axis(batch.codes, source, 1), np.take_along_axis(rows, source, 1)
    every = np.arange(len(batch))
    codes[every, node] = rng.integers(1, len(batch.ops), size=len(batch), dtype=np.uint8)
    rows[every, node] = _pick_bit(below[:, 0], rng)
    return codes, rows


def _shrink(batch: GraphBatch, node: Ints, _: np.random.Generator) -> tuple[npt.NDArray[np.uint8], Bits]:
    """Each graph without a node; those that read nothing else read its predecessors."""
    places, at = np.arange(batch.width), node[:, None]
    bit = ONE << at.astype(np.uint64)
    own = batch.adjacency[np.arange(len(batch)), node][:, None]
    rows = np.where(batch.adjacency == bit, own, batch.adjacency & ~bit)
    rows = rows & (bit - ONE) | rows >> ONE & ~(bit - ONE)
    source = np.minimum(np.where(places >= at, places + 1, places), batch.width - 1)
    codes, rows = np.take_along_axis(batch.codes, source, 1), np.take_along_axis(rows, source, 1)
    gone = places >= batch.sizes[:, None] - 1
    return np.where(gone, np.uint8(ABSENT), codes), np.where(gone, np.uint64(0), rows)


def _allowed(batch: GraphBatch, max_in_degree: int) -> Bools:
    """Which edits each node allows [kind, B, N]."""
    places, degree = np.arange(batch.width), batch.in_degree
    inner = batch.present & (places > 0)
    fixed = batch.leaves if batch.output else np.zeros_like(inner)
    change = inner & ~fixed if _inner_ops(batch) > 1 else np.zeros_like(inner)
    add = inner & (degree < np.minimum(max_in_degree, places))
    return np.stack([change, add, inner & (degree > 1), inner & (degree < places) & (degree > 0)])


def _resizable(batch: GraphBatch, nodes: tuple[int, int]) -> Bools:
    """Where a node may be inserted, and which may go [2, B, N]."""
    places, sizes = np.arange(batch.width), batch.sizes[:, None]
    grow = (places > 0) & (places <= sizes) & (sizes < nodes[1])
    return np.stack([grow, batch.present & (places > 0) & (sizes > max(nodes[0], 2))])


def _inner_ops(batch: GraphBatch) -> int:
    """How many ops an inner node may hold; an explicit output's own op is the vocabulary's last."""
    return len(batch.ops) - 1 - batch.output


def _below(rng: np.random.Generator, limit: Ints, shape: tuple[int, int]) -> Ints:
    """Uniform whole numbers below `limit`: 32 random bits scaled, biased by less than 2^-26 for limits to 64."""
    bits = rng.integers(0, 2**32, size=shape, dtype=np.uint32).astype(np.int64)
    return bits * limit >> 32


def _pick(mask: Bools, rng: np.random.Generator) -> Ints:
    """A uniform true position of each row [B]."""
    draw = rng.random(mask.shape, dtype=np.float32) + np.float32(1)
    picked: Ints = np.where(mask, draw, 0).argmax(1)
    return picked


def _pick_bit(bits: Bits, rng: np.random.Generator) -> Bits:
    """A uniform set bit of each number, alone; 0 of 0 [B]."""
    skip = _below(rng, bit_count(bits)[:, None], (len(bits), 1))[:, 0]
    for step in range(int(skip.max(initial=0))):
        bits = np.where(skip > step, bits & (bits - ONE), bits)
    return bits & (~bits + ONE)
