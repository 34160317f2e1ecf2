"""The search space of cells whose leaves are the output: NASGEM's wide random graphs."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gemnet import settings
from gemnet.cell import INPUT, MAX_NODES, Cell
from gemnet.errors import CellError, ConfigError
from gemnet.search import sampling, wl
from gemnet.search.graphs import GraphBatch

SCHEMA = "gemnet.space.cells/1"
NONE = "none"


@dataclass(frozen=True)
class Field:
    """One categorical choice of the field view: a name and what may be chosen."""

    name: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class CellSpace:
    """Cells of `min_nodes` to `max_nodes` nodes, each after the input with 1 to `max_in_degree` predecessors.

    Args:
        min_nodes, max_nodes: sizes, the input node among them.
        max_in_degree: most predecessors of a node.
        ops: what a node may hold; names are checked where a network is built from them.
        min_edits, max_edits: edits of one `mutate`.

    Raises:
        ConfigError: a range is empty, or an op is listed twice or is the input's.
    """

    min_nodes: int = 8
    max_nodes: int = 30
    max_in_degree: int = 4
    ops: tuple[str, ...] = ("sepconv3x3", "conv1x1")
    min_edits: int = 1
    max_edits: int = 8

    def __post_init__(self) -> None:
        if not 2 <= self.min_nodes <= self.max_nodes <= MAX_NODES:
            got = f"min_nodes {self.min_nodes}, max_nodes {self.max_nodes}"
            raise ConfigError(f"a space has 2 <= min_nodes <= max_nodes <= {MAX_NODES}, got {got}")
        if self.max_in_degree < 1:
            raise ConfigError(f"max_in_degree is at least 1, got {self.max_in_degree}")
        if not 1 <= self.min_edits <= self.max_edits:
            raise ConfigError(f"1 <= min_edits <= max_edits, got {self.min_edits} and {self.max_edits}")
        if not self.ops or len(set(self.ops)) < len(self.ops) or INPUT in self.ops:
            raise ConfigError(f"a space lists different ops, {INPUT!r} not among them; got {list(self.ops)}")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "CellSpace":
        """The space a JSON object gives; raises ConfigError or UnknownNameError."""
        return settings.from_dict(cls, data, "space")

    def to_dict(self) -> dict[str, Any]:
        """A JSON object from which `from_dict` gives an equal space."""
        return settings.to_dict(self)

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of what decides which cells are in the space and how they are drawn."""
        text = json.dumps({"schema": SCHEMA} | self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The ops of this space's batches, the input's first."""
        return (INPUT, *self.ops)

    @property
    def width(self) -> int:
        """N of this space's batches."""
        return self.max_nodes

    def arch(self, data: Mapping[str, Any]) -> Cell:
        """The cell whose `to_dict` this is; raises CellError."""
        return Cell.from_dict(data)

    def sample(self, n: int, rng: np.random.Generator) -> list[Cell]:
        """n random cells."""
        return self.sample_batch(n, rng).cells()

    def sample_batch(self, n: int, rng: np.random.Generator) -> GraphBatch:
        """n random graphs: size, in-degree, predecessors and ops uniform (see search/sampling.py)."""
        return sampling.sample(n, rng, (self.min_nodes, self.max_nodes), self.max_in_degree, self.vocabulary)

    def mutate(self, arch: Cell, rng: np.random.Generator) -> Cell:
        """The cell after `min_edits` to `max_edits` random edits, still in the space.

        Raises:
            ConfigError: the space allows no edit of this cell.
        """
        return self.mutate_batch(self.batch([arch]), rng).cell(0)

    def mutate_batch(self, graphs: GraphBatch, rng: np.random.Generator) -> GraphBatch:
        """Each graph after `min_edits` to `max_edits` random edits; raises as `mutate` does."""
        return sampling.mutate(graphs, rng, self.max_in_degree, (self.min_edits, self.max_edits))

    def neighbours(self, arch: Cell) -> list[Cell]:
        """All cells one edit away, one of each WL hash, without the cell itself."""
        found = [Cell(ops, arch.edges) for ops in self._other_ops(arch)]
        for j, preds in enumerate(arch.predecessors[1:], start=1):
            rest = tuple(edge for edge in arch.edges if edge[1] != j)
            found += [Cell(arch.ops, rest + tuple((i, j) for i in other)) for other in self._other_preds(j, preds)]
        if not found:
            return []
        hashes = wl.graph_hash(self.batch([arch, *found]))
        return [found[k - 1] for k in wl.unique(hashes) if k > 0]

    def contains(self, arch: object) -> bool:
        """Whether a cell could come from this space."""
        return (
            isinstance(arch, Cell)
            and not arch.output
            and self.min_nodes <= len(arch.ops) <= self.max_nodes
            and set(arch.ops[1:]) <= set(self.ops)
            and all(1 <= len(preds) <= self.max_in_degree for preds in arch.predecessors[1:])
        )

    def batch(self, archs: Sequence[Cell]) -> GraphBatch:
        """The cells as one batch, N = `max_nodes`; raises CellError or UnknownNameError when one cannot be."""
        return GraphBatch.from_cells(archs, self.vocabulary, self.width)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The choices that describe a cell: number of nodes, then per node its op and predecessor slots.

        Every vector of choices decodes to a cell of the space: fields of nodes beyond the number
        are not read, and a predecessor named twice counts once.
        """
        sizes = tuple(str(n) for n in range(self.min_nodes, self.max_nodes + 1))
        found = [Field("nodes", sizes)]
        for j in range(1, self.max_nodes):
            found.append(Field(f"op{j}", self.ops))
            below = tuple(str(i) for i in range(j))
            slots = range(min(self.max_in_degree, j))
            found += [Field(f"pred{j}.{s}", below if s == 0 else (NONE, *below)) for s in slots]
        return tuple(found)

    def encode(self, arch: Cell) -> tuple[int, ...]:
        """Position of the choice of each field; raises CellError for a cell outside the space."""
        if not self.contains(arch):
            raise CellError("the cell is not in this space")
        size = len(arch.ops)
        code = [size - self.min_nodes]
        for j in range(1, self.max_nodes):
            code.append(self.ops.index(arch.ops[j]) if j < size else 0)
            preds = arch.predecessors[j] if j < size else (0,)
            slots = min(self.max_in_degree, j)
            code += [preds[0], *(i + 1 for i in preds[1:]), *[0] * (slots - len(preds))]
        return tuple(code)

    def decode(self, code: Sequence[int]) -> Cell:
        """The cell of a vector as `encode` gives it; raises ConfigError for a wrong length or choice."""
        fields = self.fields
        if len(code) != len(fields):
            raise ConfigError(f"this space has {len(fields)} fields, got {len(code)}")
        wrong = next((f for f, value in zip(fields, code) if not 0 <= value < len(f.choices)), None)
        if wrong is not None:
            raise ConfigError(f"field {wrong.name} has {len(wrong.choices)} choices")
        chosen = iter(int(value) for value in code)
        size = next(chosen) + self.min_nodes
        ops, edges = [INPUT], set()
        for j in range(1, size):
            ops.append(self.ops[next(chosen)])
            edges.add((next(chosen), j))
            later = [next(chosen) for _ in range(min(self.max_in_degree, j) - 1)]
            edges.update((value - 1, j) for value in later if value > 0)
        return Cell(tuple(ops), tuple(edges))

    def _other_ops(self, arch: Cell) -> list[tuple[str, ...]]:
        changes = [(v, op) for v in range(1, len(arch.ops)) for op in self.ops if op != arch.ops[v]]
        return [(*arch.ops[:v], op, *arch.ops[v + 1 :]) for v, op in changes]

    def _other_preds(self, j: int, preds: tuple[int, ...]) -> list[tuple[int, ...]]:
        free = [i for i in range(j) if i not in preds]
        fewer = [tuple(p for p in preds if p != gone) for gone in preds]
        found = [other for other in fewer if other]
        if len(preds) < self.max_in_degree:
            found += [(*preds, i) for i in free]
        return found + [(*other, i) for other in fewer for i in free]
