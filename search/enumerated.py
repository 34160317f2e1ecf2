"""Graphs of a space small enough to be listed: what is computed of each is computed once, however often it comes."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

from .graphs import Bools, GraphBatch, Ints

T = TypeVar("T")


class Enumeration:
    """All graphs of a space, with what was computed of them.

    Args:
        graphs: each once.
    """

    def __init__(self, graphs: GraphBatch) -> None:
        self.graphs = graphs
        self._kept: dict[Hashable, Any] = {}

    def __len__(self) -> int:
        return len(self.graphs)

    def __getitem__(self, rows: Ints) -> "EnumeratedGraphs":
        """The graphs of these rows."""
        g = self.graphs
        return EnumeratedGraphs(g.codes[rows], g.adjacency[rows], g.ops, g.output, rows=rows, whole=self)

    def keep(self, key: Hashable, make: Callable[[GraphBatch], T]) -> T:
        """What `make` gives for all graphs, computed the first time it is asked for under this key."""
        if key not in self._kept:
            self._kept[key] = make(self.graphs)
        found: T = self._kept[key]
        return found


@dataclass(frozen=True, eq=False, kw_only=True)
class EnumeratedGraphs(GraphBatch):
    """Some graphs of an enumeration.

    Args:
        rows: which [B].
        whole: the enumeration.
    """

    rows: Ints
    whole: Enumeration

    def __getitem__(self, index: "slice | Ints | Bools") -> "EnumeratedGraphs":
        """The graphs a slice, an index array or a mask selects."""
        return self.whole[self.rows[index]]


def once(make: Callable[[GraphBatch], Any]) -> Callable[[GraphBatch], Any]:
    """A function of each graph alone that is computed once for the graphs of an enumeration."""

    def made(graphs: GraphBatch) -> Any:
        return graphs.whole.keep(make, make)[graphs.rows] if isinstance(graphs, EnumeratedGraphs) else make(graphs)

    return made
