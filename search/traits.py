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
computed node by node for many graphs at once, in O(edges) per graph.
"""

import numpy as np
import numpy.typing as npt

from .graphs import GraphBatch

IDENTITY = frozenset({"identity", "skip_connect"})  # ops that pass their input on
WEIGHTLESS = IDENTITY | {"maxpool3x3", "avg_pool_3x3"}

BLOCK = 512  # graphs at a time, so that all numbers of their nodes stay in cache

Floats = npt.NDArray[np.float64]


def traits(graphs: GraphBatch) -> Floats:
    """All traits of graphs [B, traits]."""
    inner = range(1, len(graphs.ops) - graphs.output)
    counts = np.stack([(graphs.codes == k).sum(1) for k in inner], 1)
    starts = range(0, max(len(graphs), 1), BLOCK)
    paths = np.concatenate([_path_traits(graphs[start : start + BLOCK]) for start in starts])
    return np.concatenate([counts, paths], 1)


def op_sets(graphs: GraphBatch) -> list[tuple[int, ...]]:
    """The sets of op codes that paths are measured by, none twice."""
    inner = range(1, len(graphs.ops) - graphs.output)
    active = tuple(k for k in inner if graphs.ops[k] not in IDENTITY)
    weighted = tuple(k for k in inner if graphs.ops[k] not in WEIGHTLESS)
    return [ops for ops in dict.fromkeys([*((k,) for k in active), weighted, active]) if ops]


def _path_traits(graphs: GraphBatch) -> Floats:
    """longest, shortest, mean and walk of every set, 0 for graphs without a path, then log1p of the paths' number."""
    sets = op_sets(graphs)
    is_in = np.array([[code in ops for code in range(256)] for ops in sets], np.float64)
    most, sums = _from_input(graphs, is_in[:, graphs.codes.T].transpose(1, 0, 2))
    depth, walk, paths = np.split(sums, [len(sets), 2 * len(sets)], axis=1)
    ends = graphs.leaves.T[:, None] & (paths > 0)
    extreme = np.where(ends.any(0), np.where(ends, most, -np.inf).max(0), 0)
    total = (paths * ends).sum(0)
    mean = (depth * ends).sum(0) / np.maximum(total, 1)
    walked = (walk * ends).sum(0) / np.maximum(ends.sum(0), 1)
    rows = np.stack([extreme[: len(sets)], -extreme[len(sets) :], mean, walked], 1).reshape(-1, len(graphs))
    return np.concatenate([rows, np.log1p(total)]).T


def _from_input(graphs: GraphBatch, here: Floats) -> tuple[Floats, Floats]:
    """Of the paths from the input to each node: what is largest of them, and what is summed over them.

    Args:
        graphs: [B].
        here: whether each node holds an op of each set [N, sets, B].

    Returns:
        d of the longest and minus d of the shortest, -inf without a path [N, 2 sets, B]; d summed over paths,
        d's mean over walks, and the number of paths [N, 2 sets + 1, B].
    """
    size, width, sets = len(graphs), graphs.width, here.shape[1]
    most = np.full((width + 1, 2 * sets, size), -np.inf)  # one more node, for places without a predecessor
    sums = np.zeros((width + 1, 2 * sets + 1, size))
    most[0], sums[0, -1] = 0, 1
    node = np.minimum(graphs.predecessors, width).astype(np.int64).transpose(1, 2, 0)[:, :, None]
    column = np.arange((2 * sets + 1) * size).reshape(-1, size)
    degree = np.maximum(graphs.in_degree.T, 1)
    for j in range(1, width):
        most[j] = most.take(node[j] * most[0].size + column[:-1]).max(0, initial=-np.inf)
        most[j, :sets] += here[j]
        most[j, sets:] -= here[j]
        sums[j] = sums.take(node[j] * sums[0].size + column).sum(0)
        sums[j, :sets] += here[j] * sums[j, -1]
        sums[j, sets:-1] /= degree[j]
        sums[j, sets:-1] += here[j]
    return most[:width], sums[:width]
