"""The Weisfeiler-Lehman subtree kernel of many graphs at once.

| symbol     | meaning                                                               | shape         |
|------------|-----------------------------------------------------------------------|---------------|
| l_0(v)     | code of v's op                                                        | uint64 [B, N] |
| l_t(v)     | code of (l_{t-1}(v), {predecessors' l_{t-1}}, {successors' l_{t-1}})  | uint64 [B, N] |
| phi_t(G)   | how often each label of round t occurs in G                           | [B, labels]   |
| k_t(G, H)  | <phi_t(G), phi_t(H)>                                                  |               |
| z(G)       | scaled features of all rounds, so that S_g(G, H) = <z(G), z(H)>       | [B, columns]  |

form "mean": S_g = mean over t of k_t(G, H) / sqrt(k_t(G, G) k_t(H, H))
form "plain": k = sum of k_t, S_g = k(G, H) / sqrt(k(G, G) k(H, H))

Undirected labels see one multiset of neighbours; "plain" with them is GraKeL's normalised
WeisfeilerLehman(n_iter=h). A label is a 64-bit multiset hash: sums of mixed codes modulo 2^64, the
same in every process (Shervashidze et al., "Weisfeiler-Lehman graph kernels", JMLR 2011).
"""

import hashlib

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from .enumerated import EnumeratedGraphs
from .gram import gram_of_labels, scales
from .graphs import ONE, Bits, GraphBatch, Ints, concat

PREDECESSOR, SUCCESSOR, GRAPH = (np.uint64(v) for v in (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0))
HASH_ROUNDS = 6


def mix(x: Bits) -> Bits:
    """A bijection of 64-bit numbers that spreads every bit (the finaliser of splitmix64)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    shifted = x >> np.uint64(30)
    x ^= shifted
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= np.right_shift(x, np.uint64(27), out=shifted)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= np.right_shift(x, np.uint64(31), out=shifted)
    return x


def labels(batch: GraphBatch, h: int = 3, directed: bool = True) -> list[Bits]:
    """l_0 .. l_h as hashes; absent nodes have 0 [B, N] each."""
    table = np.zeros(256, np.uint64)
    table[: len(batch.ops)] = [_name_code(op) for op in batch.ops]
    label = table[batch.codes].reshape(-1)
    absent = np.flatnonzero(~batch.present)
    below, above = batch.sparse, batch.sparse.T
    rounds = [label]
    for _ in range(h):
        mixed = mix(label ^ PREDECESSOR)
        seen = below @ mixed
        if directed:
            read_by = above @ mix(label ^ SUCCESSOR)
            label = mix(mix(label + mix(seen)) + mix(read_by ^ SUCCESSOR))
        else:
            seen += above @ mixed
            label = mix(label + mix(seen))
        label[absent] = 0
        rounds.append(label)
    return [label.reshape(batch.codes.shape) for label in rounds]


def exact_labels(batch: GraphBatch, h: int = 3, directed: bool = True) -> list[Bits]:
    """l_0 .. l_h as numbers given by a dictionary of the whole batch, so that none is shared by chance.

    One Python step per node and round, about 200 times the hashes' time: for proofs.
    """
    every = np.nonzero(batch.present)
    neighbours = [[np.flatnonzero(row) for row in graph] for dense in (batch.dense, batch.dense.transpose(0, 2, 1))
                  for graph in dense]  # fmt: skip
    rounds = [np.where(batch.present, batch.codes, 0).astype(np.uint64) + batch.present.astype(np.uint64)]
    for _ in range(h):
        last, label = rounds[-1].tolist(), np.zeros(batch.codes.shape, np.uint64)
        book: dict[object, int] = {}
        for b, v in zip(*(index.tolist() for index in every)):
            before = [last[b][u] for u in neighbours[b][v]]
            after = [last[b][u] for u in neighbours[len(batch) + b][v]]
            sides = (sorted(before), sorted(after)) if directed else (sorted(before + after),)
            label[b, v] = book.setdefault((last[b][v], *map(tuple, sides)), len(book) + 1)
        rounds.append(label)
    return rounds


def graph_hash(batch: GraphBatch, rounds: int = HASH_ROUNDS) -> Bits:
    """One number per graph, equal for relabelled graphs, different where that many rounds tell graphs apart [B]."""
    if isinstance(batch, EnumeratedGraphs):
        return batch.whole.keep(("hash", rounds), lambda graphs: graph_hash(graphs, rounds))[batch.rows]
    last = labels(batch, rounds)[-1]
    mixed: Bits = np.where(batch.present, mix(last ^ GRAPH), np.uint64(0)).sum(1, dtype=np.uint64)
    return mix(mixed)


def unique(hashes: Bits) -> Ints:
    """Positions of the first graph of each hash, ascending."""
    return np.sort(np.unique(hashes, return_index=True)[1])


def features(batch: GraphBatch, h: int = 3, directed: bool = True, exact: bool = False) -> list[sp.csr_matrix]:
    """phi_0 .. phi_h of a batch, float64 [B, labels of the round] each.

    Args:
        batch: the graphs.
        h: number of rounds.
        directed: whether predecessors and successors are told apart.
        exact: label by dictionary, not by hash.
    """
    graph = np.nonzero(batch.present)[0]
    return [
        _count(graph, np.unique(label[batch.present], return_inverse=True)[1], len(batch))
        for label in (exact_labels if exact else labels)(batch, h, directed)
    ]


def scaled(phi: list[sp.csr_matrix], form: str = "mean") -> sp.csr_matrix:
    """z, whose rows' inner products are S_g [B, columns]; raises UnknownNameError for another form."""
    scale = scales(np.stack([np.asarray(part.multiply(part).sum(1)).reshape(-1) for part in phi]), form)
    return sp.hstack([sp.diags(row) @ part for row, part in zip(scale, phi)], format="csr")


def gram(
    batch: GraphBatch, h: int = 3, directed: bool = True, form: str = "mean", exact: bool = False
) -> npt.NDArray[np.float64]:
    """S_g of all pairs of a batch [B, B]."""
    rounds = exact_labels(batch, h, directed)[1:] if exact else _marks(batch, h, directed)
    return gram_of_labels(batch.codes, rounds, batch.present, form)


def cross(
    a: GraphBatch, b: GraphBatch, h: int = 3, directed: bool = True, form: str = "mean"
) -> npt.NDArray[np.float64]:
    """S_g of every graph of one batch with every graph of another [A, B]."""
    z = scaled(features(concat([a, b]), h, directed), form)
    out: npt.NDArray[np.float64] = (z[: len(a)] @ z[len(a) :].T).toarray()
    return out


def similarity(
    a: GraphBatch, b: GraphBatch, h: int = 3, directed: bool = True, form: str = "mean"
) -> npt.NDArray[np.float64]:
    """S_g of the graphs at equal places of two batches [B]."""
    z = scaled(features(concat([a, b]), h, directed), form)
    return np.asarray(z[: len(a)].multiply(z[len(a) :]).sum(1)).reshape(-1)


def _marks(batch: GraphBatch, h: int, directed: bool) -> list[Bits]:
    """Numbers that are equal where l_1 .. l_h are, and mean nothing elsewhere: one `mix` a round [B, N] each."""
    below, above = batch.sparse, batch.sparse.T
    mark, rounds = np.arange(256, dtype=np.uint64), []
    for t in range(h):
        mixed = mix(mark) if t else mix(mark)[batch.codes].reshape(-1)
        mark = mixed * PREDECESSOR + below @ mixed
        mark += above @ (mixed * (SUCCESSOR | ONE) if directed else mixed)  # odd, so that no bit is lost
        rounds.append(mark)
    return [mark.reshape(batch.codes.shape) for mark in rounds]


def _count(row: Ints, column: Ints, rows: int) -> sp.csr_matrix:
    columns = int(column.max(initial=-1)) + 1
    counts = sp.coo_matrix((np.ones(len(row)), (row, column)), shape=(rows, columns)).tocsr()
    counts.sum_duplicates()
    return counts


def _name_code(op: str) -> int:
    """A code of the op's name, so that it does not depend on a vocabulary's order."""
    return int.from_bytes(hashlib.sha256(op.encode()).digest()[:8], "little")
