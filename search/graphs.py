"""Many graphs as a few arrays, so that work on a million cells is a loop over numpy calls.

| symbol    | meaning                                                                 | shape         |
|-----------|-------------------------------------------------------------------------|---------------|
| codes     | position of each node's op in the vocabulary `ops`; 255 = no such node  | uint8 [B, N]  |
| adjacency | predecessors of each node as bits: bit i of row j set means edge i -> j | uint64 [B, N] |
| present   | the nodes a graph has; always its first ones                            | bool [B, N]   |

Edges go from lower to higher nodes, N <= 64, node 0 is the input (code 0).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from gemnet.cell import INPUT, MAX_NODES, Cell
from gemnet.errors import CellError, ConfigError, UnknownNameError

ABSENT = 255
NO_NODE = MAX_NODES - 1  # the last of most nodes precedes none
ONE = np.uint64(1)

Bits = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class GraphBatch:
    """B graphs over one vocabulary.

    Args:
        codes: op of each node [B, N].
        adjacency: predecessors of each node as bits [B, N].
        ops: the vocabulary; its first op is `"input"`.
        output: whether each graph's last node is an explicit output.

    Raises:
        ConfigError: the arrays' shapes differ, or the vocabulary does not begin with `"input"`.
    """

    codes: npt.NDArray[np.uint8]
    adjacency: Bits
    ops: tuple[str, ...]
    output: bool = False

    def __post_init__(self) -> None:
        if self.codes.ndim != 2 or self.codes.shape != self.adjacency.shape or self.codes.shape[1] > MAX_NODES:
            shapes = f"{self.codes.shape} and {self.adjacency.shape}"
            raise ConfigError(f"codes and adjacency are [B, N] with N <= {MAX_NODES}, got {shapes}")
        if self.codes.dtype != np.uint8 or self.adjacency.dtype != np.uint64:
            raise ConfigError(f"codes are uint8 and adjacency uint64, got {self.codes.dtype}, {self.adjacency.dtype}")
        if not self.ops or self.ops[0] != INPUT or len(self.ops) > ABSENT:
            raise ConfigError(f"a vocabulary begins with {INPUT!r} and has at most {ABSENT} ops, got {self.ops!r:.80}")

    @classmethod
    def from_cells(cls, cells: Sequence[Cell], ops: tuple[str, ...], width: int | None = None) -> "GraphBatch":
        """The batch of these cells, node for node.

        Args:
            cells: all with, or all without, an explicit output.
            ops: the vocabulary, beginning with `"input"`.
            width: N; the largest cell's size when None.

        Raises:
            UnknownNameError: a cell has an op that is not in the vocabulary.
            CellError: a cell has more than `width` nodes, or only some cells have an explicit output.
        """
        width = max((len(cell.ops) for cell in cells), default=1) if width is None else width
        code = {op: k for k, op in enumerate(ops)}
        codes = np.full((len(cells), width), ABSENT, np.uint8)
        adjacency = np.zeros((len(cells), width), np.uint64)
        for b, cell in enumerate(cells):
            if len(cell.ops) > width:
                raise CellError(f"a cell of {len(cell.ops)} nodes does not fit into a batch of {width}")
            if cell.output != cells[0].output:
                raise CellError("cells with and without an explicit output cannot share a batch")
            unknown = next((op for op in cell.ops if op not in code), None)
            if unknown is not None:
                raise UnknownNameError("op", unknown, ops[1:])
            codes[b, : len(cell.ops)] = [code[op] for op in cell.ops]
            for v, preds in enumerate(cell.predecessors):
                adjacency[b, v] = sum(1 << p for p in preds)
        return cls(codes, adjacency, ops, bool(cells) and cells[0].output)

    def cell(self, b: int) -> Cell:
        """Graph b as a Cell, node for node; raises CellError when it is none."""
        size = int(self.sizes[b])
        rows = [int(row) for row in self.adjacency[b, :size]]
        edges = tuple((i, j) for j, row in enumerate(rows) for i in range(size) if row >> i & 1)
        return Cell(tuple(self.ops[code] for code in self.codes[b, :size]), edges, self.output)

    def cells(self) -> list[Cell]:
        """All graphs as Cells, in order."""
        return [self.cell(b) for b in range(len(self))]

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: "slice | Ints | Bools") -> "GraphBatch":
        """The graphs a slice, an index array or a mask selects."""
        return GraphBatch(self.codes[index], self.adjacency[index], self.ops, self.output)

    @property
    def width(self) -> int:
        """N, the number of node places of every graph."""
        return int(self.codes.shape[1])

    @cached_property
    def present(self) -> Bools:
        """Which node places are taken [B, N]."""
        present: Bools = self.codes != ABSENT
        return present

    @cached_property
    def sizes(self) -> Ints:
        """Number of nodes of each graph [B]."""
        sizes: Ints = self.present.sum(1)
        return sizes

    @cached_property
    def in_degree(self) -> Ints:
        """Number of predecessors of each node [B, N]."""
        return bit_count(self.adjacency)

    @cached_property
    def leaves(self) -> Bools:
        """Which nodes no node reads [B, N]; with an explicit output, the last node alone."""
        places = np.arange(self.width)
        read = np.bitwise_or.reduce(self.adjacency, axis=1)[:, None] >> places.astype(np.uint64) & ONE
        leaves: Bools = places == self.sizes[:, None] - 1 if self.output else self.present & (read == 0)
        return leaves

    @cached_property
    def dense(self) -> npt.NDArray[np.uint8]:
        """Adjacency as 0 and 1: entry [b, j, i] is 1 for edge i -> j [B, N, N]."""
        rows = np.ascontiguousarray(self.adjacency.astype("<u8", copy=False))
        octets = rows.view(np.uint8).reshape(len(self), self.width, 8)[:, :, : -(-self.width // 8)]
        return np.unpackbits(octets, axis=2, bitorder="little")[:, :, : self.width]

    @cached_property
    def predecessors(self) -> npt.NDArray[np.uint8]:
        """The predecessors of each node, lowest first, then NO_NODE [B, N, largest in-degree]."""
        rest, most = self.adjacency, int(self.in_degree.max(initial=0))
        places = np.empty((*rest.shape, most), np.uint8)
        for r in range(most):
            less = rest - ONE
            places[:, :, r] = np.bitwise_count(rest ^ less) - np.uint8(1)
            rest = rest & less
        return places

    @cached_property
    def sparse(self) -> sp.csr_matrix:
        """One matrix over all node places, row j of predecessors, uint64 ones [B * N, B * N]."""
        edges, size = self.in_degree.sum(1), self.codes.size
        index = np.int32 if max(int(edges.sum()), size) < 2**31 else np.int64
        places = self.predecessors.reshape(-1)
        first: npt.NDArray[np.integer] = np.repeat(np.arange(len(self), dtype=index) * self.width, edges)
        column = places[np.flatnonzero(places != NO_NODE)] + first
        start = np.concatenate([[0], np.cumsum(self.in_degree.reshape(-1))]).astype(index)
        return sp.csr_matrix((np.ones(len(column), np.uint64), column, start), shape=(size, size))

    def widen(self, width: int) -> "GraphBatch":
        """The same graphs with N = width; raises ConfigError when a graph is larger."""
        if width < self.width and len(self) and int(self.sizes.max()) > width:
            raise ConfigError(f"a graph of {int(self.sizes.max())} nodes does not fit into {width}")
        kept = min(width, self.width)
        codes = np.full((len(self), width), ABSENT, np.uint8)
        adjacency = np.zeros((len(self), width), np.uint64)
        codes[:, :kept], adjacency[:, :kept] = self.codes[:, :kept], self.adjacency[:, :kept]
        return GraphBatch(codes, adjacency, self.ops, self.output)


def concat(batches: Sequence[GraphBatch]) -> GraphBatch:
    """One batch of all graphs, in order, as wide as the widest.

    Raises:
        ConfigError: there is no batch, or vocabulary or output differ.
    """
    if not batches:
        raise ConfigError("there is no batch to join")
    first = batches[0]
    if any(batch.ops != first.ops or batch.output != first.output for batch in batches):
        raise ConfigError("batches of different vocabularies or outputs cannot be joined")
    wide = [batch.widen(max(batch.width for batch in batches)) for batch in batches]
    codes, rows = np.concatenate([batch.codes for batch in wide]), np.concatenate([batch.adjacency for batch in wide])
    return GraphBatch(codes, rows, first.ops, first.output)


def pack(dense: npt.NDArray[np.uint8]) -> Bits:
    """The adjacency bits of 0/1 matrices [B, N, N] as `dense` gives them [B, N]."""
    octets = np.packbits(dense, axis=2, bitorder="little")
    full = np.zeros((*dense.shape[:2], 8), np.uint8)
    full[:, :, : octets.shape[2]] = octets
    return full.view("<u8")[:, :, 0].astype(np.uint64, copy=False)


def bit_count(bits: Bits) -> Ints:
    """How many bits of each number are set, of the same shape."""
    count: Ints = np.bitwise_count(bits).astype(np.int64)
    return count
