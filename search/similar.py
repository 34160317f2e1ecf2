"""WL similarities of many graphs with a few known ones.

| symbol | meaning                                                             | shape       |
|--------|---------------------------------------------------------------------|-------------|
| z      | scaled features (search/wl.py), of the known graphs' labels alone   | [B, labels] |
"""

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from . import wl
from .gram import owners, scales
from .graphs import GraphBatch
from .sketch import squared_norms

Floats = npt.NDArray[np.float64]


class SimilarTo:
    """S_g of any graphs with known ones, whose features are counted once.

    Args:
        known: [T].
        h, directed, form: as in `wl.gram`.

    Raises:
        UnknownNameError: another form.
    """

    def __init__(self, known: GraphBatch, h: int = 3, directed: bool = True, form: str = "mean") -> None:
        self._h, self._directed, self._form = h, directed, form
        rounds = wl.labels(known, h, directed)
        self._labels = [np.unique(label[known.present]) for label in rounds]
        self._z: Floats = self._features(known).T.toarray()

    def __call__(self, graphs: GraphBatch) -> Floats:
        """S_g of each graph with each known one [B, T]."""
        out: Floats = self._features(graphs) @ self._z
        return out

    def _features(self, graphs: GraphBatch) -> sp.csr_matrix:
        """z of graphs; a node whose label no known node has has none in later rounds either."""
        rounds = wl.labels(graphs, self._h, self._directed)
        scale = scales(np.stack([squared_norms(label, graphs) for label in rounds]), self._form)
        node, graph = np.flatnonzero(graphs.present), np.nonzero(graphs.present)[0]
        rows, columns, weights, start = [], [], [], 0
        for label, known, weight in zip(rounds, self._labels, scale):
            owner = owners(np.concatenate([known, label.reshape(-1)[node]]))
            place = np.full(len(owner), -1)
            place[owner[: len(known)]] = np.arange(start, start + len(known))
            column = place[owner[len(known) :]]
            shared = np.flatnonzero(column >= 0)
            node, graph = node[shared], graph[shared]
            rows.append(graph)
            columns.append(column[shared])
            weights.append(weight[graph])
            start += len(known)
        entries = np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))
        return sp.coo_matrix(entries, (len(graphs), start)).tocsr()
