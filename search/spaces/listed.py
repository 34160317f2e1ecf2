"""The architectures of a benchmark table as a search space: what is not in the table is not proposed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from gemnet import settings
from gemnet.cell import SCHEMA as CELL_SCHEMA
from gemnet.cell import Cell
from gemnet.errors import CellError
from gemnet.search import wl
from gemnet.search.enumerated import Enumeration
from gemnet.search.graphs import Bits, GraphBatch, Ints
from gemnet.search.structures import structure_of
from gemnet.search.table import Table, load_table
from gemnet.search.trial import Arch, digest

MAX_DRAWS = 256


@dataclass(frozen=True)
class TableSpace:
    """The space of a table, named as in search/table.py.

    As graphs, one stands for all architectures that compute the same function. An explicit output is a node
    with its own op there, the only leaf, so that encoders and predictors need not know of it.

    Args:
        table: such as `"nasbench201:FILE"`.
    """

    table: str

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "TableSpace":
        """The space a JSON object gives; raises ConfigError or UnknownNameError."""
        return settings.from_dict(cls, data, "space")

    def to_dict(self) -> dict[str, Any]:
        """A JSON object from which `from_dict` gives an equal space."""
        return settings.to_dict(self)

    @property
    def rows(self) -> Table:
        """The table, read once per process."""
        return load_table(self.table)

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the architectures and of the space they come from."""
        return digest("listed", self.rows.space.fingerprint, self.rows.fingerprint)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The ops of this space's graphs."""
        vocabulary: tuple[str, ...] = self.rows.space.vocabulary
        return vocabulary

    @property
    def width(self) -> int:
        """N of this space's batches."""
        return int(self.rows.space.width)

    @property
    def structures(self) -> int:
        """How many architectures compute different functions."""
        return len(self.rows.representatives)

    def arch(self, data: Mapping[str, Any]) -> Arch:
        """The architecture a JSON object gives; of a graph, the one that stands for it.

        Raises:
            CellError: the object is no architecture, or the table has no such graph.
        """
        if data.get("schema") != CELL_SCHEMA:
            found: Arch = self.rows.space.arch(data)
            return found
        graph = Cell.from_dict(data)
        group = self._groups(GraphBatch.from_cells([graph], self.vocabulary, self.width))[0]
        return self.rows.archs[int(self.rows.representatives[group])]

    def sample(self, n: int, rng: np.random.Generator) -> list[Arch]:
        """n random architectures, drawn as the table's own space draws, that compute different functions.

        All there are when n is larger. What the space's draws do not reach is drawn from the table's rows.
        """
        count, before = min(n, self.structures), -1
        found: dict[int, Arch] = {}
        while before < len(found) < count:
            before = len(found)
            self._add(found, self.rows.space.sample(max(100, count), rng), count)
        order = rng.permutation(len(self.rows))
        self._add(found, (self.rows.archs[int(row)] for row in order), count)
        return list(found.values())

    def mutate(self, arch: Arch, rng: np.random.Generator) -> Arch:
        """The architecture after one mutation of the table's own space, drawn again until it is in the table.

        Of a table with holes, where MAX_DRAWS of them are not, a random row.
        """
        table = self.rows
        for _ in range(MAX_DRAWS):
            child: Arch = table.space.mutate(arch, rng)
            if child.key in table.rows:
                return child
        return table.archs[int(rng.integers(len(table)))]

    def neighbours(self, arch: Arch) -> list[Arch]:
        """The neighbours in the table's own space that the table has."""
        table = self.rows
        return [near for near in table.space.neighbours(arch) if near.key in table.rows]

    def contains(self, arch: object) -> bool:
        """Whether the table has an architecture."""
        return bool(self.rows.space.contains(arch)) and getattr(arch, "key", None) in self.rows.rows

    def structure(self, arch: Arch) -> str:
        """What architectures that compute the same function share."""
        return structure_of(self.rows.space, arch)

    def batch(self, archs: Sequence[Arch]) -> GraphBatch:
        """For each architecture the graph that stands for it; raises DataError when the table has it not."""
        table = self.rows
        return self._representatives[np.array([table.group(arch.key) for arch in archs], np.int64)]

    def sample_batch(self, n: int, rng: np.random.Generator) -> GraphBatch:
        """n random graphs, none twice before all were drawn: n = `structures` gives every graph once."""
        rounds = [rng.permutation(self.structures) for _ in range(-(-n // self.structures))]
        return self._representatives[np.concatenate([np.empty(0, np.int64), *rounds])[:n]]

    def mutate_batch(self, graphs: GraphBatch, rng: np.random.Generator) -> GraphBatch:
        """Each graph after random edits of the table's own space, which may leave the table."""
        own = GraphBatch(graphs.codes, graphs.adjacency, graphs.ops, self.rows.graphs.output)
        mutated: GraphBatch = self.rows.space.mutate_batch(own, rng)
        return replace(mutated, output=False)

    @property
    def _representatives(self) -> Enumeration:
        return _graphs(self.table)[0]

    def _groups(self, graphs: GraphBatch) -> Ints:
        _, known, group = _graphs(self.table)
        hashes = wl.graph_hash(graphs)
        place = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
        if not (known[place] == hashes).all():
            raise CellError(f"{self.rows.name} has no architecture of this graph")
        return group[place]

    def _add(self, found: dict[int, Arch], archs: Iterable[Arch], count: int) -> None:
        table = self.rows
        for arch in archs:
            if len(found) == count:
                return
            row = table.rows.get(arch.key)
            if row is not None:
                found.setdefault(int(table.groups[row]), arch)


@lru_cache(maxsize=2)
def _graphs(table: str) -> tuple[Enumeration, Bits, Ints]:
    """The representatives' graphs [G]; the hashes of all rows' graphs, ascending, and each one's structure."""
    rows = load_table(table)
    hashes, first = np.unique(wl.graph_hash(rows.graphs), return_index=True)
    return Enumeration(replace(rows.graphs[rows.representatives], output=False)), hashes, rows.groups[first]
