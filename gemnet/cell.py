"""A cell: the small labelled directed acyclic graph that every part of this package exchanges.

| symbol  | meaning                                                                    |
|---------|----------------------------------------------------------------------------|
| ops     | one label per node; `ops[0]` is `"input"`                                  |
| edges   | pairs (i, j) with i < j: node j reads what node i computed                 |
| output  | True when the last node is an explicit output; otherwise all leaves are it |
| leaf    | a node that no other node reads                                            |
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .canonical import canonical_order
from .errors import CellError

SCHEMA = "gemnet.cell/1"
MAX_NODES = 64
INPUT = "input"
NOTES = frozenset({"name", "provenance", "provisional"})  # fields of a zoo file that say nothing about the graph


@dataclass(frozen=True)
class Cell:
    """A directed acyclic graph of ops; equal cells have equal fields, isomorphic ones equal `key`.

    Args:
        ops: labels of the nodes; the first is `"input"` and no other is.
        edges: pairs (i, j) with i < j, without repetition, in any order.
        output: whether the last node is an explicit output.

    Raises:
        CellError: the fields describe no such graph, or one of more than 64 nodes.
    """

    ops: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    output: bool = False

    def __post_init__(self) -> None:
        n = len(self.ops)
        if not 2 <= n <= MAX_NODES:
            raise CellError(f"a cell has 2 to {MAX_NODES} nodes, got {n}")
        if any(not isinstance(op, str) for op in self.ops):
            raise CellError("ops are strings")
        if self.ops[0] != INPUT or INPUT in self.ops[1:]:
            raise CellError(f"node 0, and no other, is {INPUT!r}; got ops {list(self.ops)}")
        for i, j in self.edges:
            if not (0 <= i < n and 0 <= j < n):
                raise CellError(f"edge [{i}, {j}] names a missing node; nodes are 0 to {n - 1}")
        backward = next(((i, j) for i, j in self.edges if i >= j), None)
        if backward is not None:
            raise CellError(_why_not_forward(self.edges, backward))
        if len(set(self.edges)) != len(self.edges):
            double = next(e for k, e in enumerate(self.edges) if e in self.edges[:k])
            raise CellError(f"edge {list(double)} is listed twice")
        if self.output and any(i == n - 1 for i, _ in self.edges):
            raise CellError("the output node has a successor")
        object.__setattr__(self, "edges", tuple(sorted(self.edges, key=lambda e: (e[1], e[0]))))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Cell":
        """The cell a JSON object describes.

        Raises:
            CellError: unknown schema or field, wrong types, or no acyclic graph.
        """
        if not isinstance(data, Mapping):
            raise CellError(f"a cell is a JSON object, got {type(data).__name__}")
        if data.get("schema") != SCHEMA:
            raise CellError(f"a cell's schema is {SCHEMA!r}, got {data.get('schema')!r}")
        unknown = sorted(set(data) - {"schema", "ops", "edges", "output"} - NOTES)
        if unknown:
            raise CellError(f"unknown field {unknown[0]!r} in a cell; allowed: schema, ops, edges, output")
        ops, edges, output = data.get("ops"), data.get("edges"), data.get("output", False)
        if not isinstance(ops, Sequence) or isinstance(ops, str):
            raise CellError("a cell's 'ops' is a list of names")
        if len(ops) > MAX_NODES:
            raise CellError(f"a cell has 2 to {MAX_NODES} nodes, got {len(ops)}")
        if isinstance(edges, Sequence) and len(edges) > MAX_NODES**2:
            raise CellError(f"a cell of at most {MAX_NODES} nodes has no {len(edges)} edges")
        if not isinstance(edges, Sequence) or isinstance(edges, str) or not all(map(_is_pair, edges)):
            raise CellError("a cell's 'edges' is a list of [from, to] pairs of whole numbers")
        if not isinstance(output, bool):
            raise CellError("a cell's 'output' is true or false")
        return cls(tuple(ops), tuple((int(i), int(j)) for i, j in edges), output)

    @classmethod
    def load(cls, path: str | Path) -> "Cell":
        """The cell in a JSON file; raises CellError naming the file when there is none."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise CellError(f"cannot read cell file {path}: {error.strerror}") from None
        except (ValueError, RecursionError) as error:  # also of bytes that are no text, and of numbers without end
            raise CellError(f"{path} is no JSON file: {error}") from None
        try:
            return cls.from_dict(data)
        except CellError as error:
            raise CellError(f"{path}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """A JSON object from which `from_dict` gives an equal cell."""
        data: dict[str, Any] = {"schema": SCHEMA, "ops": list(self.ops), "edges": [list(e) for e in self.edges]}
        return data | {"output": True} if self.output else data

    @cached_property
    def predecessors(self) -> tuple[tuple[int, ...], ...]:
        """For every node the nodes it reads, ascending."""
        return tuple(tuple(i for i, j in self.edges if j == v) for v in range(len(self.ops)))

    @cached_property
    def successors(self) -> tuple[tuple[int, ...], ...]:
        """For every node the nodes that read it, ascending."""
        return tuple(tuple(j for i, j in self.edges if i == v) for v in range(len(self.ops)))

    @property
    def leaves(self) -> tuple[int, ...]:
        """Nodes that no node reads, ascending; with an explicit output, that node alone."""
        if self.output:
            return (len(self.ops) - 1,)
        return tuple(v for v, nexts in enumerate(self.successors) if not nexts)

    def prune(self) -> "Cell":
        """The cell without nodes that the input does not reach or (with an output) that do not reach it.

        Input and output always stay, so a cell whose output nothing reaches becomes two unconnected nodes.

        Raises:
            CellError: without an explicit output, when no node reads the input.
        """
        last = len(self.ops) - 1
        keep = _closure(0, self.successors)
        if self.output:
            keep = keep & _closure(last, self.predecessors) | {0, last}
        order = sorted(keep)
        place = {v: k for k, v in enumerate(order)}
        edges = tuple((place[i], place[j]) for i, j in self.edges if i in keep and j in keep)
        return Cell(tuple(self.ops[v] for v in order), edges, self.output)

    def normal_form(self) -> "Cell":
        """The one cell that stands for all relabellings of this one, in topological order."""
        order = canonical_order(self.ops, self.predecessors, self.successors, self.output)
        place = {v: k for k, v in enumerate(order)}
        return Cell(tuple(self.ops[v] for v in order), tuple((place[i], place[j]) for i, j in self.edges), self.output)

    @cached_property
    def key(self) -> str:
        """sha256 (hex) of the normal form: equal exactly for isomorphic cells."""
        text = json.dumps(self.normal_form().to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _is_pair(edge: object) -> bool:
    return (
        isinstance(edge, Sequence)
        and len(edge) == 2
        and all(isinstance(v, int) and not isinstance(v, bool) for v in edge)
    )


def _closure(start: int, neighbours: Sequence[Sequence[int]]) -> set[int]:
    seen, todo = {start}, [start]
    while todo:
        for v in neighbours[todo.pop()]:
            if v not in seen:
                seen.add(v)
                todo.append(v)
    return seen


def _why_not_forward(edges: Sequence[tuple[int, int]], bad: tuple[int, int]) -> str:
    start, end = bad[1], bad[0]
    nexts: dict[int, list[int]] = {}
    for i, j in edges:
        nexts.setdefault(i, []).append(j)
    paths = [[start]]
    seen = {start}
    while paths:
        path = paths.pop()
        if path[-1] == end:
            return f"edge {list(bad)} closes the cycle {' -> '.join(map(str, [*path, start]))}; a cell has none"
        for j in nexts.get(path[-1], []):
            if j not in seen:
                seen.add(j)
                paths.append([*path, j])
    return f"edge {list(bad)} runs backwards; number the nodes so that every edge goes from a lower to a higher one"
