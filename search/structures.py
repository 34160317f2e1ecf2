"""Which architectures are one: what benchmark tables split and count by."""

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from .trial import Arch

OUTPUT = "output"  # op of the explicit output of benchmark cells, last of their vocabulary


def connected(*labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Groups of rows that share one of their labels, also by way of other rows; numbered by first row [R].

    Args:
        labels: each a label per row [R], such as isomorphism ids and keys of pruned graphs.
    """
    rows = len(labels[0])
    joined = sp.csr_matrix((rows, rows), dtype=np.int8)
    for label in labels:
        _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
        joined = joined + sp.csr_matrix((np.ones(rows, np.int8), (np.arange(rows), first[inverse])), (rows, rows))
    group = connected_components(joined, directed=False)[1]
    _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def structure_of(space: Any, arch: Arch) -> str:
    """What architectures that compute the same function share: the space's word for it, or else the key."""
    return str(space.structure(arch)) if has_structures(space) else arch.key


def has_structures(space: Any) -> bool:
    """Whether a space knows architectures of different keys that compute the same function."""
    return callable(getattr(space, "structure", None))
