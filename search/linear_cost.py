"""Costs of many cells at once, by a linear law found from a few exactly counted cells.

With one network shape for all cells, MACs, parameters and activations of a cell are linear in the
numbers of nodes of each op, the channels they read and the leaves. The law is solved from probe
cells and checked on others; where it does not hold exactly (peak activations; widths solved per
cell) there is no law, and cells are counted one by one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gemnet.cell import Cell
from gemnet.errors import GemnetError

from .graphs import ONE, GraphBatch, Ints

Floats = npt.NDArray[np.float64]
PROBES, CHECKS = 4, 32  # probe cells per unknown, and cells the law must then predict exactly


@dataclass(frozen=True, eq=False)
class LinearCost:
    """weights [features, quantities] such that `terms(graphs) @ weights` are the costs."""

    weights: Floats

    def __call__(self, graphs: GraphBatch) -> Ints:
        """The costs of each graph [B, quantities]."""
        return np.rint(terms(graphs) @ self.weights).astype(np.int64)


def terms(graphs: GraphBatch) -> Floats:
    """What costs are linear in: 1, leaves and, per op, nodes, reads of nodes and reads of the input [B, 2 + 3 ops]."""
    of_input = (graphs.adjacency & ONE).astype(np.int64)
    of_nodes = graphs.in_degree - of_input
    columns = [np.ones(len(graphs)), graphs.leaves.sum(1)]
    for code in range(1, len(graphs.ops)):
        here = graphs.codes == code
        columns += [here.sum(1), (here * of_nodes).sum(1), (here * of_input).sum(1)]
    return np.stack(columns, 1).astype(np.float64)


def find_law(count: Callable[[Cell], Sequence[float]], probes: GraphBatch) -> LinearCost | None:
    """The law that gives every probe's cost exactly, None where there is none.

    Args:
        count: the costs of one cell.
        probes: random cells, at least 4 per term and 32 more to check.
    """
    try:
        counted = np.array([count(cell) for cell in probes.cells()], np.float64)
    except GemnetError:  # a cell that cannot be built follows no law
        return None
    known = terms(probes)
    solved = len(probes) - CHECKS
    law = LinearCost(np.linalg.lstsq(known[:solved], counted[:solved], rcond=None)[0].astype(np.float64))
    return law if np.array_equal(law(probes), counted) else None


def probes_needed(ops: int) -> int:
    """How many probe cells `find_law` takes for a vocabulary of that many ops, the input's among them."""
    return PROBES * (2 + 3 * (ops - 1)) + CHECKS
