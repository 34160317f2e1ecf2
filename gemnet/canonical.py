"""Canonical order of a labelled directed acyclic graph, by individualisation and refinement.

| symbol   | meaning                                                                              |
|----------|--------------------------------------------------------------------------------------|
| colour   | position of a node's block in the ordered partition; equal colours = not told apart  |
| twins    | nodes of equal label, predecessors and successors: interchangeable, so one stands in |
| leaf     | a partition into single nodes, which is an order of all nodes                        |

Refinement is the Weisfeiler-Lehman step run to a fixed point. What it cannot tell apart is split by
giving one node of a block its own colour, for every node of the block, and the least resulting graph
wins. Automorphisms found on the way (two leaves with the same graph) prune blocks to one node per
orbit and end a branch early (McKay and Piperno, "Practical graph isomorphism, II", 2014).
"""

from collections.abc import Sequence

from .errors import CellError

Neighbours = Sequence[Sequence[int]]
MAX_LEAVES = 4096  # random 64-node cells need one, the hardest seen in the tests 60


def canonical_order(ops: Sequence[str], predecessors: Neighbours, successors: Neighbours, output: bool) -> list[int]:
    """The nodes in an order that is topological and the same for every relabelling of the graph.

    Args:
        ops: label of each node; nodes are numbered so that edges go upwards.
        predecessors, successors: neighbours of each node.
        output: whether the last node is an explicit output, which stays last.

    Raises:
        CellError: the graph is so symmetric that more than 4,096 orders would have to be compared.
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    for v, op in enumerate(ops):
        is_output = output and v == len(ops) - 1
        groups.setdefault((op, is_output, tuple(predecessors[v]), tuple(successors[v])), []).append(v)
    twins = list(groups.values())
    place = {v: k for k, group in enumerate(twins) for v in group}
    preds = [sorted({place[p] for p in predecessors[group[0]]}) for group in twins]
    succs = [sorted({place[s] for s in successors[group[0]]}) for group in twins]
    level = _levels(predecessors)
    labels = [
        (output and group[0] == len(ops) - 1, level[group[0]], ops[group[0]] != "input", ops[group[0]], len(group))
        for group in twins
    ]
    order = _Search(preds, succs).run(_rank(labels))
    return [v for k in order for v in twins[k]]


def _levels(predecessors: Neighbours) -> list[int]:
    level: list[int] = []
    for preds in predecessors:
        level.append(1 + max((level[p] for p in preds), default=-1))
    return level


def _rank(labels: Sequence[object]) -> list[int]:
    """For each label how many labels are smaller: the colours of an ordered partition."""
    ranks: dict[object, int] = {}
    for position, label in enumerate(sorted(labels)):  # type: ignore[type-var]
        ranks.setdefault(label, position)
    return [ranks[label] for label in labels]


class _Search:
    """Depth-first search for the order that gives the least certificate."""

    def __init__(self, preds: Neighbours, succs: Neighbours) -> None:
        self.preds, self.succs = preds, succs
        self.automorphisms: list[list[int]] = []
        self.leaves = 0
        self.first: _Leaf | None = None
        self.best: _Leaf | None = None

    def run(self, colours: list[int]) -> list[int]:
        self._visit(self._refine(colours), ())
        assert self.best is not None
        return self.best.order

    def _refine(self, colours: list[int]) -> list[int]:
        blocks = len(set(colours))
        while blocks < len(colours):
            colours = _rank([
                (colour, tuple(sorted(colours[p] for p in preds)), tuple(sorted(colours[s] for s in succs)))
                for colour, preds, succs in zip(colours, self.preds, self.succs)
            ])  # fmt: skip
            count = len(set(colours))
            if count == blocks:
                break
            blocks = count
        return colours

    def _visit(self, colours: list[int], path: tuple[int, ...]) -> int:
        """Searches below a partition; returns the depth of the node to go on from."""
        block = _first_block(colours)
        if not block:
            return self._reach(colours, path)
        explored: list[int] = []
        for v in block:
            if explored and self._same_orbit(v, explored, path):
                continue
            explored.append(v)
            split = [2 * colour + 1 for colour in colours]
            split[v] -= 1
            depth = self._visit(self._refine(_rank(split)), (*path, v))
            if depth < len(path):
                return depth
        return len(path)

    def _reach(self, colours: list[int], path: tuple[int, ...]) -> int:
        self.leaves += 1
        if self.leaves > MAX_LEAVES:
            raise CellError(f"the cell is too symmetric to be given a normal form within {MAX_LEAVES} orders")
        leaf = _Leaf(colours, path, self.preds)
        for known in (self.first, self.best):
            if known is not None and known.certificate == leaf.certificate:
                self.automorphisms.append([known.order[colour] for colour in leaf.colours])
                return _common(known.path, path)
        self.first = self.first or leaf
        if self.best is None or leaf.certificate < self.best.certificate:
            self.best = leaf
        return len(path)

    def _same_orbit(self, v: int, explored: Sequence[int], path: Sequence[int]) -> bool:
        """Whether an automorphism that fixes the path maps an explored node to v."""
        parent = list(range(len(self.preds)))

        def root(u: int) -> int:
            while parent[u] != u:
                u = parent[u]
            return u

        for image in self.automorphisms:
            if all(image[u] == u for u in path):
                for u, w in enumerate(image):
                    parent[root(u)] = root(w)
        return root(v) in {root(u) for u in explored}


class _Leaf:
    """One order of all nodes, with the graph it gives."""

    def __init__(self, colours: list[int], path: tuple[int, ...], preds: Neighbours) -> None:
        self.colours, self.path = colours, path
        self.order = sorted(range(len(colours)), key=colours.__getitem__)
        self.certificate = [sorted(colours[p] for p in preds[v]) for v in self.order]


def _first_block(colours: list[int]) -> list[int]:
    """The nodes of the first block with more than one node, or none."""
    count: dict[int, int] = {}
    for colour in colours:
        count[colour] = count.get(colour, 0) + 1
    target = min((colour for colour, n in count.items() if n > 1), default=None)
    return [] if target is None else [v for v, colour in enumerate(colours) if colour == target]


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    depth = 0
    while depth < min(len(a), len(b)) and a[depth] == b[depth]:
        depth += 1
    return depth
