"""The cell space of NAS-Bench-101: up to 7 vertices and 9 edges, three ops on the inner vertices.

A cell is pruned from both ends before its edges are counted and before it is hashed; its key is the
benchmark's own hash. An architecture keeps its dangling vertices, because an edge drawn to one of them
later brings it to life: without them no edit of one edge could make a cell larger.
Ying et al., "NAS-Bench-101", ICML 2019 (sampling and mutation as in section 4); neighbours as in White
et al., "Local search is state of the art for neural architecture search benchmarks", 2020.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations
from typing import Any

import numpy as np

from gemnet import settings
from gemnet.cell import INPUT, Cell
from gemnet.cell import SCHEMA as CELL_SCHEMA
from gemnet.errors import CellError, ConfigError
from gemnet.search.graphs import GraphBatch
from gemnet.search.structures import OUTPUT
from gemnet.search.trial import digest

from .cells import Field

SCHEMA = "gemnet.nasbench101/1"
OPS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")  # the order of the benchmark's hash
MAX_DRAWS = 10_000
EDITS = (1, 4)  # of one graph in `mutate_batch`


@dataclass(frozen=True)
class Spec:
    """One architecture; equal keys mean the same pruned graph.

    Args:
        cell: with an explicit output, dangling vertices allowed.

    Raises:
        CellError: ops outside the benchmark's, or no path from input to output.
    """

    cell: Cell

    def __post_init__(self) -> None:
        ops = self.cell.ops
        if not self.cell.output or ops[-1] != OUTPUT or not set(ops[1:-1]) <= set(OPS):
            raise CellError(f"a NAS-Bench-101 cell has ops of {', '.join(OPS)} before an {OUTPUT!r}; got {list(ops)}")
        if not self.pruned.edges:
            raise CellError("a NAS-Bench-101 cell has a path from its input to its output")

    @classmethod
    def parse(cls, adjacency: Sequence[Sequence[int]], ops: Sequence[str]) -> "Spec":
        """The architecture of a matrix of 0 and 1 and its vertices' ops, input and output included."""
        size = len(ops)
        if len(adjacency) != size or any(len(row) != size or not set(row) <= {0, 1} for row in adjacency):
            raise CellError(f"{size} ops go with a {size} x {size} matrix of 0 and 1")
        edges = tuple((i, j) for i, row in enumerate(adjacency) for j, bit in enumerate(row) if bit)
        return cls(Cell((INPUT, *ops[1:-1], OUTPUT), edges, output=True))

    @cached_property
    def pruned(self) -> Cell:
        """The graph that is computed."""
        return self.cell.prune()

    @cached_property
    def key(self) -> str:
        """The benchmark's hash of the pruned graph (md5, hex)."""
        return module_hash(self.pruned)

    def to_dict(self) -> dict[str, Any]:
        """A JSON object from which `NASBench101.arch` gives an equal architecture."""
        return self.cell.to_dict() | {"schema": SCHEMA}


@dataclass(frozen=True)
class NASBench101:
    """The space of cells of at most `vertices` vertices and `edges` edges.

    Args:
        vertices: of a cell before pruning, input and output among them.
        edges: of a pruned cell.

    Raises:
        ConfigError: fewer than 2 or more than 7 vertices, or no edge.
    """

    vertices: int = 7
    edges: int = 9

    def __post_init__(self) -> None:
        if not 2 <= self.vertices <= 7 or self.edges < 1:
            raise ConfigError(f"2 to 7 vertices and 1 or more edges, got {self.vertices} and {self.edges}")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "NASBench101":
        """The space a JSON object gives; raises ConfigError or UnknownNameError."""
        return settings.from_dict(cls, data, "space")

    def to_dict(self) -> dict[str, Any]:
        """A JSON object from which `from_dict` gives an equal space."""
        return settings.to_dict(self)

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of what decides which cells are in the space and how they are drawn."""
        return digest(SCHEMA, OPS, EDITS, self.to_dict())

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The ops of this space's graphs, the input's first, the output's last."""
        return (INPUT, *OPS, OUTPUT)

    @property
    def width(self) -> int:
        """N of this space's batches."""
        return self.vertices

    def arch(self, data: Mapping[str, Any]) -> Spec:
        """The architecture a JSON object gives; raises CellError."""
        if data.get("schema") not in (SCHEMA, CELL_SCHEMA):
            raise CellError(f"an architecture's schema is {SCHEMA!r} or {CELL_SCHEMA!r}, got {data.get('schema')!r}")
        return Spec(Cell.from_dict(dict(data) | {"schema": CELL_SCHEMA}))

    def sample(self, n: int, rng: np.random.Generator) -> list[Spec]:
        """n random architectures: every op and every entry of the matrix uniform, drawn again until valid."""
        return [self._draw(rng) for _ in range(n)]

    def mutate(self, arch: Spec, rng: np.random.Generator) -> Spec:
        """Each edge flipped with probability 1 / vertices, each op changed with 1 / (vertices - 2), until valid.

        Raises:
            CellError: the architecture is not in this space, or 10,000 draws gave no valid one.
        """
        cell = self._padded(arch)
        pairs = list(combinations(range(self.vertices), 2))
        for _ in range(MAX_DRAWS):
            flipped = {pair for pair, u in zip(pairs, rng.random(len(pairs))) if u < 1 / self.vertices}
            ops = [
                _other(op, rng) if op in OPS and rng.random() < 1 / (self.vertices - 2) else op
                for op in cell.ops
            ]  # fmt: skip
            found = self._valid(ops, set(cell.edges) ^ flipped)
            if found is not None:
                return found
        raise CellError(f"no valid mutation of a cell in {MAX_DRAWS} draws")

    def neighbours(self, arch: Spec) -> list[Spec]:
        """Architectures with one op of a living vertex changed, or one edge flipped; one of each key, not its own."""
        found: dict[str, Spec] = {}
        for spec in self._one_edit(self._padded(arch)):
            found.setdefault(spec.key, spec)
        found.pop(arch.key, None)
        return list(found.values())

    def contains(self, arch: object) -> bool:
        """Whether something is an architecture of this space."""
        return isinstance(arch, Spec) and len(arch.cell.ops) <= self.vertices and len(arch.pruned.edges) <= self.edges

    def batch(self, archs: Sequence[Spec]) -> GraphBatch:
        """The pruned graphs, N = `vertices`."""
        return GraphBatch.from_cells([arch.pruned for arch in archs], self.vocabulary, self.width)

    def sample_batch(self, n: int, rng: np.random.Generator) -> GraphBatch:
        """The graphs of n random architectures."""
        return self.batch(self.sample(n, rng))

    def mutate_batch(self, graphs: GraphBatch, rng: np.random.Generator) -> GraphBatch:
        """Each graph after 1 to 4 mutations."""
        archs = [Spec(cell) for cell in graphs.cells()]
        for k, count in enumerate(rng.integers(EDITS[0], EDITS[1] + 1, len(archs))):
            for _ in range(count):
                archs[k] = self.mutate(archs[k], rng)
        return self.batch(archs)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The choices that describe an architecture: each op, then each entry of the matrix.

        Some vectors decode to no valid cell: too many edges, or no path.
        """
        ops = [Field(f"op{v}", OPS) for v in range(1, self.vertices - 1)]
        return (*ops, *(Field(f"edge{i}{j}", ("0", "1")) for i, j in combinations(range(self.vertices), 2)))

    def encode(self, arch: Spec) -> tuple[int, ...]:
        """Position of the choice of each field; raises CellError for an architecture outside the space."""
        cell = self._padded(arch)
        edges = [int(pair in cell.edges) for pair in combinations(range(self.vertices), 2)]
        return (*(OPS.index(op) for op in cell.ops[1:-1]), *edges)

    def decode(self, code: Sequence[int]) -> Spec:
        """The architecture of a vector as `encode` gives it.

        Raises:
            ConfigError: a wrong length or choice.
            CellError: the vector describes no valid cell.
        """
        fields, inner = self.fields, self.vertices - 2
        if len(code) != len(fields) or not all(0 <= v < len(f.choices) for f, v in zip(fields, code)):
            raise ConfigError(f"this space has {inner} ops of 3 choices and {len(fields) - inner} entries of 2")
        edges = {pair for pair, bit in zip(combinations(range(self.vertices), 2), code[inner:]) if bit}
        found = self._valid([INPUT, *(OPS[v] for v in code[:inner]), OUTPUT], edges)
        if found is None:
            raise CellError(f"the vector gives no path from input to output, or more than {self.edges} edges")
        return found

    def _draw(self, rng: np.random.Generator) -> Spec:
        pairs = list(combinations(range(self.vertices), 2))
        for _ in range(MAX_DRAWS):
            ops = [INPUT, *(OPS[k] for k in rng.integers(0, len(OPS), self.vertices - 2)), OUTPUT]
            found = self._valid(ops, {pair for pair, bit in zip(pairs, rng.integers(0, 2, len(pairs))) if bit})
            if found is not None:
                return found
        raise CellError(f"no valid cell of {self.vertices} vertices and {self.edges} edges in {MAX_DRAWS} draws")

    def _one_edit(self, cell: Cell) -> Iterator[Spec]:
        living = _living(cell)
        for v, op in enumerate(cell.ops):
            for other in OPS if v in living and op in OPS else ():
                changed = [*cell.ops[:v], other, *cell.ops[v + 1 :]]
                found = self._valid(changed, set(cell.edges)) if other != op else None
                if found is not None:
                    yield found
        for pair in combinations(range(self.vertices), 2):
            found = self._valid(cell.ops, set(cell.edges) ^ {pair})
            if found is not None:
                yield found

    def _valid(self, ops: Sequence[str], edges: set[tuple[int, int]]) -> Spec | None:
        spec = _spec(tuple(ops), tuple(sorted(edges)))
        return spec if spec is not None and len(spec.pruned.edges) <= self.edges else None

    def _padded(self, arch: Spec) -> Cell:
        """The cell with `vertices` vertices, dangling ones of the first op put before the output."""
        if not self.contains(arch):
            raise CellError(f"the cell is not one of {self.vertices} vertices and {self.edges} edges")
        ops, last = arch.cell.ops, len(arch.cell.ops) - 1
        more = self.vertices - len(ops)
        edges = tuple((i, j + more if j == last else j) for i, j in arch.cell.edges)
        return Cell((*ops[:-1], *[OPS[0]] * more, OUTPUT), edges, output=True)


@lru_cache(maxsize=1 << 15)  # more than the 27,648 matrices and ops of five vertices: searches ask for them again
def _spec(ops: tuple[str, ...], edges: tuple[tuple[int, int], ...]) -> Spec | None:
    """The architecture, with its pruned cell and its key; None when there is none."""
    try:
        return Spec(Cell(ops, edges, output=True))
    except CellError:
        return None


def module_hash(cell: Cell) -> str:
    """The benchmark's hash of a pruned cell (md5, hex): in- and out-degree and op, refined once per vertex."""
    label = {INPUT: -1, OUTPUT: -2} | {op: k for k, op in enumerate(OPS)}
    before, after = cell.predecessors, cell.successors
    hashes = [_md5(str((len(s), len(p), label[op]))) for op, p, s in zip(cell.ops, before, after)]
    for _ in cell.ops:
        sides = [["".join(sorted(hashes[w] for w in side[v])) for side in (before, after)] for v in range(len(hashes))]
        hashes = [_md5(f"{into}|{out}|{own}") for (into, out), own in zip(sides, hashes)]
    return _md5(str(sorted(hashes)))


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _living(cell: Cell) -> set[int]:
    """The vertices on a path from input to output."""
    down, up = {0}, {len(cell.ops) - 1}
    for v in range(len(cell.ops)):
        if down.intersection(cell.predecessors[v]):
            down.add(v)
    for v in reversed(range(len(cell.ops))):
        if up.intersection(cell.successors[v]):
            up.add(v)
    return down & up


def _other(op: str, rng: np.random.Generator) -> str:
    return OPS[(OPS.index(op) + int(rng.integers(1, len(OPS)))) % len(OPS)]
