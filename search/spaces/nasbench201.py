"""The topology space of NAS-Bench-201 / NATS-Bench: 5 ops on each of the six edges of a four-node cell.

| symbol  | meaning                                                                   | shape       |
|---------|---------------------------------------------------------------------------|-------------|
| codes   | position in OPS of each edge's op, edges in the arch string's order       | [B, 6]      |
| listing | an arch string; 15,625 of them, in the order of `product(OPS, repeat=6)`  |             |
| graph   | edges' ops as nodes between input and output, `none` removed, pruned      | 8 nodes     |

Dong and Yang, "NAS-Bench-201", ICLR 2020; Dong et al., "NATS-Bench", TPAMI 2021.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from gemnet import settings
from gemnet.cell import INPUT, Cell
from gemnet.cell import SCHEMA as CELL_SCHEMA
from gemnet.errors import CellError, ConfigError
from gemnet.search import wl
from gemnet.search.graphs import GraphBatch, Ints
from gemnet.search.ordering import prune
from gemnet.search.structures import OUTPUT, connected
from gemnet.search.trial import digest

from .cells import Field

SCHEMA = "gemnet.nasbench201/1"
NONE, SKIP = "none", "skip_connect"
OPS = (NONE, SKIP, "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
READS = tuple(tuple(k for k, edge in enumerate(EDGES) if edge[1] == source) for source, _ in EDGES)
SIZE = len(OPS) ** len(EDGES)
EDITS = (1, 4)  # of one graph in `mutate_batch`
PLACES = len(OPS) ** np.arange(5, -1, -1)  # a listing's number from its codes
PATTERN = re.compile(r"\|(\w+)~0\|\+\|(\w+)~0\|(\w+)~1\|\+\|(\w+)~0\|(\w+)~1\|(\w+)~2\|")


@dataclass(frozen=True)
class Topology:
    """One listing; its key is the arch string.

    Args:
        ops: of the edges 0->1, 0->2, 1->2, 0->3, 1->3, 2->3.

    Raises:
        CellError: not six of the five ops.
    """

    ops: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.ops) != len(EDGES) or not set(self.ops) <= set(OPS):
            raise CellError(f"a NAS-Bench-201 cell has 6 ops of {', '.join(OPS)}; got {', '.join(self.ops)!r:.120}")

    @classmethod
    def parse(cls, text: str) -> "Topology":
        """The listing of an arch string; raises CellError for another text."""
        match = PATTERN.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise CellError(f"an arch string looks like |OP~0|+|OP~0|OP~1|+|OP~0|OP~1|OP~2|, got {text!r:.120}")
        return cls(match.groups())

    @cached_property
    def key(self) -> str:
        """The arch string."""
        a, b, c, d, e, f = self.ops
        return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"

    @property
    def codes(self) -> tuple[int, ...]:
        """Position of each edge's op in OPS."""
        return tuple(OPS.index(op) for op in self.ops)

    @property
    def number(self) -> int:
        """Place among all listings."""
        return int(PLACES @ self.codes)

    @property
    def cell(self) -> Cell:
        """The pruned graph, with an explicit output; without a path, input and output alone."""
        return _listings()[np.array([self.number])].cell(0)

    def isomorphism_string(self) -> str:
        """The benchmark's own text of what the cell computes: 6,466 of them; misses some dead branches."""
        texts = ["0", "", "", ""]
        for target in (1, 2, 3):
            parts = []
            for op, (source, end) in zip(self.ops, EDGES):
                if end == target:
                    dead = op == NONE or texts[source] == "#"
                    parts.append("#" if dead else texts[source] if op == SKIP else f"({texts[source]})@{op}")
            texts[target] = "+".join(sorted(parts))
        return texts[3]

    def to_dict(self) -> dict[str, Any]:
        """A JSON object from which `NASBench201.arch` gives an equal listing."""
        return {"schema": SCHEMA, "arch": self.key}


@dataclass(frozen=True)
class NASBench201:
    """The space of all 15,625 listings, drawn uniformly."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "NASBench201":
        """The space a JSON object gives; raises UnknownNameError."""
        return settings.from_dict(cls, data, "space")

    def to_dict(self) -> dict[str, Any]:
        """A JSON object from which `from_dict` gives an equal space."""
        return settings.to_dict(self)

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of what decides which graphs are in the space."""
        return digest(SCHEMA, OPS, EDGES, EDITS)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The ops of this space's graphs, the input's first, the output's last."""
        return (INPUT, *OPS[1:], OUTPUT)

    @property
    def width(self) -> int:
        """N of this space's batches."""
        return len(EDGES) + 2

    def arch(self, data: Mapping[str, Any]) -> Topology:
        """The listing a JSON object gives; of a cell, the first listing of its graph.

        Raises:
            CellError: the object is neither, or no listing has this graph.
        """
        if data.get("schema") == CELL_SCHEMA:
            return self.listings(Cell.from_dict(data))[0]
        if data.get("schema") != SCHEMA or set(data) != {"schema", "arch"}:
            raise CellError(f"a listing is an object with schema {SCHEMA!r} and arch, got {data!r:.80}")
        return Topology.parse(data["arch"])

    def listings(self, cell: Cell) -> list[Topology]:
        """All listings whose graph is isomorphic to a pruned cell; raises CellError when there is none."""
        if cell.output and len(cell.ops) <= self.width and set(cell.ops) <= set(self.vocabulary):
            same = wl.graph_hash(GraphBatch.from_cells([cell], self.vocabulary, self.width)) == _hashes()
            found = [topology(int(number)) for number in np.flatnonzero(same)]
            if found:
                return found
        raise CellError("no NAS-Bench-201 cell has this graph")

    def all(self) -> list[Topology]:
        """Every listing, in order."""
        return [topology(number) for number in range(SIZE)]

    def sample(self, n: int, rng: np.random.Generator) -> list[Topology]:
        """n random listings."""
        return [topology(int(number)) for number in rng.integers(0, SIZE, n)]

    def mutate(self, arch: Topology, rng: np.random.Generator) -> Topology:
        """The listing with another op on one random edge."""
        edge, shift = int(rng.integers(len(EDGES))), int(rng.integers(1, len(OPS)))
        return _replace(arch, edge, OPS[(OPS.index(arch.ops[edge]) + shift) % len(OPS)])

    def neighbours(self, arch: Topology) -> list[Topology]:
        """The 24 listings with another op on one edge."""
        return [_replace(arch, edge, op) for edge in range(len(EDGES)) for op in OPS if op != arch.ops[edge]]

    def contains(self, arch: object) -> bool:
        """Whether something is a listing."""
        return isinstance(arch, Topology)

    def structure(self, arch: Topology) -> str:
        """The arch string of the first listing that computes the same function (5,615 groups)."""
        return topology(int(_structures()[arch.number])).key

    def batch(self, archs: Sequence[Topology]) -> GraphBatch:
        """The listings' graphs, N = 8."""
        return _listings()[np.array([arch.number for arch in archs], np.int64)]

    def sample_batch(self, n: int, rng: np.random.Generator) -> GraphBatch:
        """The graphs of n random listings."""
        return _listings()[rng.integers(0, SIZE, n)]

    def mutate_batch(self, graphs: GraphBatch, rng: np.random.Generator) -> GraphBatch:
        """Each graph after other ops on 1 to 4 random edges of its first listing.

        Raises:
            CellError: a graph is no listing's.
        """
        known, first = np.unique(_hashes(), return_index=True)
        hashes = wl.graph_hash(graphs)
        place = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
        if not (known[place] == hashes).all():
            raise CellError("no NAS-Bench-201 cell has one of these graphs")
        codes = first[place][:, None] // PLACES % len(OPS)
        count = rng.integers(EDITS[0], EDITS[1] + 1, (len(graphs), 1))
        chosen = rng.permuted(np.broadcast_to(np.arange(len(EDGES)), codes.shape), axis=1) < count
        shift = rng.integers(1, len(OPS), codes.shape)
        return _listings()[np.where(chosen, (codes + shift) % len(OPS), codes) @ PLACES]

    @property
    def fields(self) -> tuple[Field, ...]:
        """The choices that describe a listing: the op of each edge."""
        return tuple(Field(f"op{i}{j}", OPS) for i, j in EDGES)

    def encode(self, arch: Topology) -> tuple[int, ...]:
        """Position of the choice of each field."""
        return arch.codes

    def decode(self, code: Sequence[int]) -> Topology:
        """The listing of a vector as `encode` gives it; raises ConfigError for a wrong length or choice."""
        if len(code) != len(EDGES) or not all(0 <= value < len(OPS) for value in code):
            raise ConfigError(f"this space has 6 fields of 5 choices, got {list(code)!r:.80}")
        return Topology(tuple(OPS[value] for value in code))


def topology(number: int) -> Topology:
    """The listing at a place of `NASBench201.all`."""
    return Topology(tuple(OPS[code] for code in number // PLACES % len(OPS)))


def _replace(arch: Topology, edge: int, op: str) -> Topology:
    return Topology((*arch.ops[:edge], op, *arch.ops[edge + 1 :]))


@lru_cache(maxsize=1)
def _listings() -> GraphBatch:
    """The graphs of all listings [15625]; node k + 1 is edge k, and reads the edges that end where it begins."""
    edge_codes = np.arange(SIZE)[:, None] // PLACES % len(OPS)
    ends = np.full((SIZE, 1), len(OPS), np.int64)
    codes = np.concatenate([np.zeros((SIZE, 1), np.int64), np.maximum(edge_codes, 1), ends], 1)
    into_output = [k for k, edge in enumerate(EDGES) if edge[1] == 3]
    preds = [(), *(tuple(k + 1 for k in reads) or (0,) for reads in READS), tuple(k + 1 for k in into_output)]
    rows = np.array([sum(1 << p for p in reads) for reads in preds], np.uint64)
    absent: npt.NDArray[np.bool_] = np.pad(edge_codes == OPS.index(NONE), ((0, 0), (1, 1)))
    adjacency = np.where(absent, np.uint64(0), rows)
    return prune(GraphBatch(codes.astype(np.uint8), adjacency, NASBench201().vocabulary, True))


@lru_cache(maxsize=1)
def _hashes() -> npt.NDArray[np.uint64]:
    return wl.graph_hash(_listings())


@lru_cache(maxsize=1)
def _structures() -> Ints:
    """For every listing the first that computes the same function, by isomorphism string or by pruned graph."""
    strings = np.unique([topology(number).isomorphism_string() for number in range(SIZE)], return_inverse=True)[1]
    group = connected(strings, _hashes())
    return np.unique(group, return_index=True)[1][group]
