"""The matrix of all WL similarities of a batch, from its labels.

| symbol | meaning                                                                      | shape     |
|--------|------------------------------------------------------------------------------|-----------|
| head   | counts of the labels that many nodes share, multiplied densely               | [B, C]    |
| tail   | counts of the labels that a few nodes share, multiplied sparsely             | [B, L]    |
| norm   | k_t(G, G), to which the labels that no second node has add 1 each            | [h+1, B]  |

A label refines the one of the round before, so a node whose label no other node shares shares none
in later rounds either: of the nodes of random 30-node cells, one in eight is left after two rounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from gemnet.errors import UnknownNameError

from .graphs import Bits, Bools, Ints
from .learning import SIMILARITIES

HEAD_SHARE = 1 / 24  # of the graphs: a label that more nodes have is cheaper to multiply densely
ROWS = 500  # of the matrix made at a time, so that they are mirrored while in cache

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Shared:
    """The labels of all rounds that at least two nodes have.

    Args:
        graph, label: one entry for each node that has such a label: in which graph, and which label.
        total, turn: how many nodes have each label, and its round [labels].
        alone: nodes of each graph whose label of the round no other node has [h+1, B].
    """

    graph: Ints
    label: Ints
    total: Ints
    turn: Ints
    alone: Floats


def gram_of_labels(rounds: Sequence[Bits], present: Bools, form: str) -> Floats:
    """S_g of all pairs [B, B].

    Args:
        rounds: l_0 .. l_h [B, N] each; equal labels had equal labels in the round before.
        present: which node places are taken [B, N].
        form: `"mean"` or `"plain"`, see search/wl.py.

    Raises:
        UnknownNameError: another form.
    """
    if form not in SIMILARITIES:
        raise UnknownNameError("form of the WL similarity", form, SIMILARITIES)
    shared = _shared_labels(rounds, present)
    frequent = shared.total > HEAD_SHARE * len(present)
    head, tail = _split(shared, frequent, len(present))
    head_turn, row = shared.turn[frequent], np.repeat(np.arange(len(present)), np.diff(tail.indptr))
    tail_turn = shared.turn[~frequent][tail.indices]
    norm = shared.alone
    np.add.at(norm, (tail_turn, row), tail.data**2)
    for t in range(len(rounds)):
        part = head[:, head_turn == t]
        norm[t] += np.einsum("gc,gc->g", part, part)
    scale = 1 / np.sqrt(norm * len(norm) if form == "mean" else np.broadcast_to(norm.sum(0), norm.shape))
    tail.data *= scale[tail_turn, row]
    out: Floats = np.empty((len(present), len(present)))
    _multiply(head * scale.T[:, head_turn], tail, out)
    np.fill_diagonal(out, 1.0)
    return out


def _shared_labels(rounds: Sequence[Bits], present: Bools) -> _Shared:
    """Looks in each round only at the nodes whose label was shared in the round before."""
    graphs, width = present.shape
    node = np.flatnonzero(present.reshape(-1))
    graph, label, total, turn, alone = [], [], [], [], []
    known = 0
    for t, values in enumerate(rounds):
        number = _numbered(values.reshape(-1)[node])
        times = np.bincount(number)
        kept = times > 1
        stays = kept[number]
        place = np.cumsum(kept) - 1 + known
        alone.append(np.bincount(node[~stays] // width, minlength=graphs))
        node = node[stays]
        graph.append(node // width)
        label.append(place[number[stays]])
        total.append(times[kept])
        turn.append(np.full(len(total[-1]), t))
        known += len(total[-1])
    graph_of, label_of, totals, turns = (np.concatenate(parts) for parts in (graph, label, total, turn))
    return _Shared(graph_of, label_of, totals, turns, np.cumsum(alone, axis=0, dtype=np.float64))


def _split(shared: _Shared, frequent: Bools, graphs: int) -> tuple[Floats, sp.csr_matrix]:
    """Counts of the frequent labels and of the others, columns in the labels' order."""
    columns = int(frequent.sum())
    place = np.where(frequent, np.cumsum(frequent), np.cumsum(~frequent)) - 1
    in_head = frequent[shared.label]
    cell = shared.graph[in_head] * columns + place[shared.label[in_head]]
    head = np.bincount(cell, minlength=graphs * columns).reshape(graphs, columns).astype(np.float64)
    graph, column = shared.graph[~in_head], place[shared.label[~in_head]]
    tail = sp.coo_matrix((np.ones(len(graph)), (graph, column)), (graphs, len(frequent) - columns)).tocsr()
    return head, tail


def _numbered(values: Bits) -> Ints:
    """A number for each value, the same for the same value only, by a table of at least twice as many places."""
    size = 1 << (2 * len(values) + 1).bit_length()
    slot = (values & np.uint64(size - 1)).view(np.int64)
    holder, taken = np.zeros(size, np.uint64), np.zeros(size, np.bool_)
    holder[slot], taken[slot] = values, True
    number = np.cumsum(taken, dtype=np.int64) - 1
    ids: Ints = number[slot]
    clash = np.flatnonzero(holder[slot] != values)
    ids[clash] = number[-1] + 1 + np.unique(values[clash], return_inverse=True)[1]
    return ids


def _multiply(head: Floats, tail: sp.csr_matrix, out: Floats) -> None:
    """Writes head head^T + tail tail^T: each block of rows from its own column on, and the mirror image."""
    turned, size = tail.T.tocsr(), len(out)
    for start in range(0, size, ROWS):
        rows = slice(start, start + ROWS)
        np.matmul(head[rows], head[start:].T, out=out[rows, start:])
        more = tail[rows] @ turned
        kept = np.flatnonzero(more.indices >= start)
        first = np.arange(start, start + more.shape[0]) * size
        out.reshape(-1)[np.repeat(first, np.diff(more.indptr))[kept] + more.indices[kept]] += more.data[kept]
        out[start + ROWS :, rows] = out[rows, start + ROWS :].T
