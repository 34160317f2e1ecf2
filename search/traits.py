"""What the paths of a graph carry, as a few numbers per graph for a predictor.

For a set s of ops, d(v) of a path from the input to node v is how many of its nodes hold an op of s.

| trait of s | meaning                                                              |
|------------|----------------------------------------------------------------------|
| longest    | largest d over the paths from the input to an output                 |
| shortest   | smallest d                                                           |
| mean       | mean of d over all paths                                             |
| walk       | mean of d over walks backwards that choose a predecessor uniformly   |

The sets are each op that computes something, all ops with weights, and all ops that compute
something. Besides: how often each op occurs, and the logarithm of the number of paths. All are
computed node by node for the whole batch, in O(edges) per graph.
"""

import numpy as np
import numpy.typing as npt

from .graphs import GraphBatch

IDENTITY = frozenset({"identity", "skip_connect"})  # ops that pass their input on
WEIGHTLESS = IDENTITY | {"maxpool3x3", "avg_pool_3x3"}

Floats = npt.NDArray[np.float64]


def traits(graphs: GraphBatch) -> Floats:
    """All traits of graphs [B, traits]."""
    inner = range(1, len(graphs.ops) - graphs.output)
    counts = np.stack([(graphs.codes == k).sum(1) for k in inner], 1)
    columns = [depth for ops in op_sets(graphs) for depth in _depths(graphs, ops)]
    return np.concatenate([counts, np.stack([*columns, np.log1p(_paths(graphs)[1])], 1)], 1)


def op_sets(graphs: GraphBatch) -> list[tuple[int, ...]]:
    """The sets of op codes that paths are measured by, none twice."""
    inner = range(1, len(graphs.ops) - graphs.output)
    active = tuple(k for k in inner if graphs.ops[k] not in IDENTITY)
    weighted = tuple(k for k in inner if graphs.ops[k] not in WEIGHTLESS)
    return [ops for ops in dict.fromkeys([*((k,) for k in active), weighted, active]) if ops]


def _depths(graphs: GraphBatch, ops: tuple[int, ...]) -> tuple[Floats, Floats, Floats, Floats]:
    """longest, shortest, mean and walk of one set [B] each; 0 for graphs without a path."""
    here = np.isin(graphs.codes, ops).astype(np.float64)
    reached, total = _paths(graphs)
    size = (len(graphs), graphs.width)
    longest, shortest, summed, walk = np.full(size, -np.inf), np.full(size, np.inf), np.zeros(size), np.zeros(size)
    longest[:, 0] = shortest[:, 0] = 0
    for j in range(1, graphs.width):
        edge = graphs.dense[:, j, :j] > 0
        longest[:, j] = np.where(edge, longest[:, :j], -np.inf).max(1) + here[:, j]
        shortest[:, j] = np.where(edge, shortest[:, :j], np.inf).min(1) + here[:, j]
        summed[:, j] = (edge * summed[:, :j]).sum(1) + here[:, j] * reached[:, j]
        walk[:, j] = (edge * walk[:, :j]).sum(1) / np.maximum(edge.sum(1), 1) + here[:, j]
    ends = graphs.leaves & (reached > 0)
    some = ends.any(1)
    return (
        np.where(some, np.where(ends, longest, -np.inf).max(1), 0),
        np.where(some, np.where(ends, shortest, np.inf).min(1), 0),
        (summed * ends).sum(1) / np.maximum(total, 1),
        (walk * ends).sum(1) / np.maximum(ends.sum(1), 1),
    )


def _paths(graphs: GraphBatch) -> tuple[Floats, Floats]:
    """Number of paths from the input to each node [B, N], and to all outputs together [B]."""
    reached = np.zeros((len(graphs), graphs.width))
    reached[:, 0] = 1
    for j in range(1, graphs.width):
        reached[:, j] = (graphs.dense[:, j, :j] * reached[:, :j]).sum(1)
    return reached, (reached * graphs.leaves).sum(1)
