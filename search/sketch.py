"""WL labels of many graphs as places in small tables, for a network to read.

| symbol | meaning                                                              | shape        |
|--------|----------------------------------------------------------------------|--------------|
| p_t(v) | table place of v's label of round t, one table after the other       | int64 [B, N] |
| w_t(v) | +1 or -1, by the label, over |phi_t(G)|; 0 for absent nodes          | [B, N]       |

With a table W of random rows, sum over v of w_t(v) W[p_t(v)] is a count sketch of phi_t / |phi_t|
(Charikar et al., "Finding frequent items in data streams", 2002): inner products of sketches are
unbiased estimates of round t's share of S_g, and W can be trained. Round 0 has a place per op.
"""

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from . import wl
from .graphs import Bits, GraphBatch, Ints

Floats = npt.NDArray[np.float32]
SPARE, POWER = 16, 4  # of the search for principal axes: spare directions and iterations


def sketch(graphs: GraphBatch, h: int, directed: bool, buckets: int) -> tuple[Ints, Floats]:
    """p and w of all rounds side by side ([B, (h + 1) N] each).

    Args:
        graphs: the graphs.
        h: rounds of labels.
        directed: whether labels tell predecessors from successors.
        buckets: places of each round's table after round 0's.
    """
    first, *later = wl.labels(graphs, h, directed)
    weight = 1 / ((h + 1) ** 0.5 * _norms(first, graphs)[:, None])
    places = [np.where(graphs.present, graphs.codes, 0).astype(np.int64)]
    weights = [np.where(graphs.present, weight, 0)]
    for t, label in enumerate(later):
        mixed = wl.mix(label)
        start = len(graphs.ops) + t * buckets
        places.append(start + ((mixed >> np.uint64(8)) % np.uint64(buckets)).astype(np.int64))
        weight = 1 / ((h + 1) ** 0.5 * _norms(label, graphs)[:, None])
        weights.append(np.where(graphs.present, np.where(mixed & np.uint64(1), weight, -weight), 0))
    return np.concatenate(places, 1), np.concatenate(weights, 1).astype(np.float32)


def matrix(places: Ints, weights: Floats, size: int) -> sp.csr_matrix:
    """The sketches as one sparse matrix [B, size]."""
    start = np.arange(len(places) + 1) * places.shape[1]
    made = sp.csr_matrix((weights.reshape(-1), places.reshape(-1), start), shape=(len(places), size))
    made.sum_duplicates()
    return made


def basis(z: sp.csr_matrix, count: int, rng: np.random.Generator) -> Floats:
    """The first `count` principal axes of sketches, then as many random directions at right angles to them.

    Axes keep what is common to many graphs; random directions keep whether two graphs share rare
    labels (Halko et al., "Finding structure with randomness", SIAM Review 2011, for the axes).

    Args:
        z: sketches [B, size].
        count: how many of either; at most a quarter of B or of size.
        rng: of the random directions.
    """
    count = max(1, min(count, min(z.shape) // 4))
    z = z.astype(np.float32)
    found = rng.standard_normal((z.shape[1], count + SPARE), dtype=np.float32)
    for _ in range(POWER):
        found = np.linalg.qr(z.T @ (z @ found))[0]
    axes = found @ np.linalg.svd(z @ found, full_matrices=False)[2][:count].T
    other = rng.standard_normal(axes.shape, dtype=np.float32) * np.float32(count**-0.5)
    out: Floats = np.concatenate([axes, other - axes @ (axes.T @ other)], 1)
    return out


def table_size(num_ops: int, h: int, buckets: int) -> int:
    """How many places all rounds have together."""
    return num_ops + h * buckets


def squared_norms(label: Bits, graphs: GraphBatch) -> npt.NDArray[np.float64]:
    """k_t(G, G) of every graph [B]: the number of ordered pairs of nodes of one label."""
    ordered = np.sort(np.where(graphs.present, label, np.uint64(0)), axis=1)
    new = np.ones(label.shape, bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    starts = np.flatnonzero(new)
    runs = np.diff(np.append(starts, label.size)).astype(np.float64)
    runs[ordered.reshape(-1)[starts] == 0] = 0
    return np.bincount(starts // label.shape[1], runs**2, len(graphs)).astype(np.float64)


def _norms(label: Bits, graphs: GraphBatch) -> npt.NDArray[np.float64]:
    """|phi_t(G)| of every graph [B]."""
    return np.sqrt(np.maximum(squared_norms(label, graphs), 1))
