"""The matrix of all WL similarities of a batch, from its labels.

| symbol | meaning                                                                         | shape     |
|--------|---------------------------------------------------------------------------------|-----------|
| head   | counts of a round's labels that many nodes have, multiplied as dense integers   | [B, C_t]  |
| tail   | counts of all rounds' labels that a few nodes have, multiplied sparsely         | [B, L]    |
| norm   | k_t(G, G), to which a label that no second node has adds 1                      | [h+1, B]  |
| scale  | what k_t(G, H) is multiplied by, once for G and once for H                      | [h+1, B]  |

A label refines the one of the round before, so a node whose label no other node has shares none
in later rounds either: of the nodes of random 30-node cells, one in eight is left after two rounds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from gemnet.errors import UnknownNameError

from .graphs import Bits, Bools, Ints
from .learning import SIMILARITIES

if TYPE_CHECKING:
    import torch
    from torch import Tensor

HEAD_SHARE = 1 / 48  # of the graphs: a label that more nodes have is cheaper to multiply densely
ROWS = 200  # of the matrix made at a time, so that they are scaled while in cache
TAIL_ROWS = 10 * ROWS  # of the tail's product made at a time, so that its memory is bounded
SPREAD = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: multiplied by it, numbers differ in their upper bits

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class _Counted:
    """The labels of one round.

    Args:
        head: counts of the labels that more than HEAD_SHARE nodes per graph have [B, C_t].
        graph, label: one entry for each node whose label is rarer, but not its alone.
        labels: how many such labels there are.
        alone: nodes of each graph whose label no other node has [B].
    """

    head: Counts
    graph: Ints
    label: Ints
    labels: int
    alone: Ints


def gram_of_labels(codes: Codes, rounds: Sequence[Bits], present: Bools, form: str) -> Floats:
    """S_g of all pairs [B, B], symmetric but for rounding.

    Args:
        codes: op of each node, which is its l_0 [B, N].
        rounds: l_1 .. l_h [B, N] each; equal labels had equal labels in the round before.
        present: which node places are taken [B, N].
        form: `"mean"` or `"plain"`, see search/wl.py.

    Raises:
        UnknownNameError: another form.
    """
    counted = _counted(codes, rounds, present)
    tail, turn = _tail(counted)
    row, turns = np.repeat(np.arange(len(present)), np.diff(tail.indptr)), turn[tail.indices]
    squares = [np.einsum("bc,bc->b", part.head, part.head, dtype=np.float32) for part in counted]
    norm = np.array([part.alone + square for part, square in zip(counted, squares)], np.float64)
    norm += np.bincount(turns * len(present) + row, tail.data**2, norm.size).reshape(norm.shape)
    heads, scale = [part.head for part in counted], scales(norm, form)
    if form == "plain":  # one scale for all rounds, so that they are one product
        heads = [np.concatenate(heads, axis=1)]
    tail.data *= scale[turns, row]
    out: Floats = np.empty((len(present), len(present)))  # written whole: the input's label is in every head
    _write(heads, scale, tail, out)
    np.fill_diagonal(out, 1.0)
    return out


def scales(norm: Floats, form: str) -> Floats:
    """What the k_t of each round and graph is multiplied by for S_g [h+1, B]; raises UnknownNameError for a form."""
    if form not in SIMILARITIES:
        raise UnknownNameError("form of the WL similarity", form, SIMILARITIES)
    return 1 / np.sqrt(norm * len(norm) if form == "mean" else np.repeat(norm.sum(0)[None], len(norm), 0))


def _counted(codes: Codes, rounds: Sequence[Bits], present: Bools) -> list[_Counted]:
    """Ops are all head; each later round looks only at the nodes whose label another node had in the round before."""
    graphs = len(present)
    node, graph = np.flatnonzero(present), np.repeat(np.arange(graphs), present.sum(1))
    ops = codes.reshape(-1)[node].astype(np.int64)
    alone = np.zeros(graphs, np.int64)
    found = [_Counted(_count(graph, ops, graphs, int(ops.max(initial=0)) + 1), graph[:0], graph[:0], 0, alone)]
    for values in rounds:
        owner = owners(values.reshape(-1)[node])
        times = np.bincount(owner, minlength=len(node))
        shared = np.flatnonzero(times > 1)
        often = times[shared] > HEAD_SHARE * graphs
        frequent, rare = shared[often], shared[~often]
        others = len(frequent)  # the place of a label that is one node's alone; behind it are the tail's labels
        place = np.full(len(node), others)
        place[frequent], place[rare] = np.arange(others), np.arange(others + 1, others + 1 + len(rare))
        place = place[owner]
        heads, tails, single = (np.flatnonzero(which) for which in (place < others, place > others, place == others))
        alone = alone + np.bincount(graph[single], minlength=graphs)
        head = _count(graph[heads], place[heads], graphs, others)
        found.append(_Counted(head, graph[tails], place[tails] - others - 1, len(rare), alone))
        if len(single):
            stays = np.flatnonzero(place != others)
            node, graph = node[stays], graph[stays]
    return found


def _count(graph: Ints, label: Ints, graphs: int, labels: int) -> Counts:
    counts = np.zeros(graphs * labels, np.int8)
    np.add.at(counts, graph * labels + label, np.int8(1))
    return counts.reshape(graphs, labels)


def owners(values: Bits) -> Ints:
    """For each value the place of a value that is equal, the same place for all equal ones.

    Those who find an equal value in their slot of a table are done; the others try another table.
    """
    bits, factor = (2 * len(values)).bit_length(), SPREAD
    table = np.empty(1 << bits, np.int32)  # not 64 bits, so that more of it stays in cache
    owner, left, some = np.zeros(len(values), np.int64), np.arange(len(values), dtype=np.int32), values
    while len(left):
        slot = (some * np.uint64(factor) >> np.uint64(64 - bits)).view(np.int64)
        table[slot] = left
        holder = table[slot]
        if len(left) == len(values):  # the first time; then or later no more than a few are left
            owner = holder.astype(np.int64)
        else:
            owner[left] = holder
        missed = np.flatnonzero(values[holder] != some)
        left, some = left[missed], some[missed]
        factor = factor * SPREAD % 2**64
    return owner


def _tail(counted: Sequence[_Counted]) -> tuple[sp.csr_matrix, Ints]:
    """Counts of the rarer labels of all rounds, and the round of each column."""
    sizes = [part.labels for part in counted]
    first = np.cumsum([0, *sizes])
    graph = np.concatenate([part.graph for part in counted])
    label = np.concatenate([part.label + start for part, start in zip(counted, first)])
    shape = (len(counted[0].head), int(first[-1]))
    return sp.coo_matrix((np.ones(len(graph)), (graph, label)), shape).tocsr(), np.repeat(np.arange(len(sizes)), sizes)


def _write(heads: Sequence[Counts], scale: Floats, tail: sp.csr_matrix, out: Floats) -> None:
    """Writes the sum of all head head^T, scaled, and of tail tail^T: the same bits for any number of threads."""
    import torch  # not at the top: who only hashes graphs needs none of it

    multiply, kind, total = _whole_product()
    parts = [(torch.from_numpy(head).to(kind), torch.from_numpy(s)) for head, s in zip(heads, scale) if head.size]
    whole, entries, turned = torch.from_numpy(out), out.reshape(-1), tail.T.tocsr()
    totals = torch.empty((ROWS, len(out)), dtype=total)  # one place for all products: fresh memory costs page faults
    scaled = torch.empty(totals.shape if len(parts) > 1 else 0, dtype=torch.float64)
    for start in range(0, len(out), ROWS):
        rows, place = slice(start, start + ROWS), start % TAIL_ROWS
        block, count = whole[rows], len(whole[rows])
        for k, (counts, s) in enumerate(parts):
            multiply(counts[rows], counts.T, out=totals[:count])
            if k:
                block.addcmul_(scaled[:count].copy_(totals[:count]).mul_(s), s[rows, None])
            else:
                block.copy_(totals[:count]).mul_(s).mul_(s[rows, None])
        if place == 0:
            more = tail[start : start + TAIL_ROWS] @ turned
            at = np.repeat(np.arange(start, start + more.shape[0]) * len(out), np.diff(more.indptr)) + more.indices
        first, last = more.indptr[[place, place + count]]
        entries[at[first:last]] += more.data[first:last]


def _whole_product() -> tuple[Callable[..., "Tensor"], "torch.dtype", "torch.dtype"]:
    """An exact product of small whole numbers, the type it takes and the one it gives.

    In 8 bits it takes a quarter of the time where the processor has instructions for it; elsewhere torch's
    product of 8 bits is slow, and 32-bit floats, exact below 2^24, are quickest.
    """
    import torch

    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    if capabilities.get("avx512_vnni", False) and hasattr(torch, "_int_mm"):
        return torch._int_mm, torch.int8, torch.int32
    return torch.mm, torch.float32, torch.float32
