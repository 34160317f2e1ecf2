"""The bootstrap phase: the best predicted of a stream of random candidates, in constant memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gemnet.errors import EvaluationError

from . import wl
from .graphs import Bits, Bools, GraphBatch, Ints, concat

Floats = npt.NDArray[np.float64]


class CandidateSource(Protocol):
    """What the bootstrap needs of a search space."""

    def sample_batch(self, n: int, rng: np.random.Generator) -> GraphBatch: ...


class Limits(Protocol):
    """Says for some graphs, best predicted first, which keep the limits; `text` names the limits."""

    text: str

    def __call__(self, graphs: GraphBatch) -> Bools: ...


@dataclass(frozen=True, eq=False)
class Ranked:
    """Graphs with their predictions, best first: score, then hash.

    Args:
        graphs: [k].
        hashes: WL hash of each [k].
        mean, std: predicted score and its spread [k].
    """

    graphs: GraphBatch
    hashes: Bits
    mean: Floats
    std: Floats

    def __len__(self) -> int:
        return len(self.graphs)

    def take(self, index: Ints) -> "Ranked":
        """The entries at these places, in this order."""
        return Ranked(self.graphs[index], self.hashes[index], self.mean[index], self.std[index])

    def merge(self, other: "Ranked", k: int) -> "Ranked":
        """The k best of both, one of each hash."""
        graphs = concat([self.graphs, other.graphs])
        both = Ranked(
            graphs, np.concatenate([self.hashes, other.hashes]),
            np.concatenate([self.mean, other.mean]), np.concatenate([self.std, other.std]),
        )  # fmt: skip
        return both.sorted().take(np.arange(min(k, len(graphs)))) if len(graphs) else both

    def sorted(self) -> "Ranked":
        """The best first, one of each hash."""
        one = self.take(wl.unique(self.hashes))
        return one.take(np.lexsort((one.hashes, -one.mean)))


def top_candidates(
    space: CandidateSource,
    predict: Callable[[GraphBatch], tuple[Floats, Floats]],
    rng: np.random.Generator,
    candidates: int,
    k: int,
    *,
    block: int = 4096,
    known: Bits | None = None,
    limits: Limits | None = None,
    on_block: Callable[[int], None] | None = None,
) -> Ranked:
    """The k best predicted of `candidates` random graphs, none known, one of each WL hash.

    Every block has a generator of its own, keyed by its number, so a block does not depend on the others.

    Args:
        space: where candidates come from.
        predict: (mean, std) of the scores of some graphs.
        rng: gives the key of the blocks' generators.
        candidates: how many graphs are drawn, C.
        k: how many are kept.
        block: how many are drawn at a time.
        known: hashes of graphs that are not wanted again.
        limits: what a kept graph must keep.
        on_block: called with the number of candidates drawn since the last call.

    Raises:
        EvaluationError: no candidate keeps the limits, or none is new.
    """
    best: Ranked | None = None
    for graphs, hashes in _fresh(space, rng, candidates, block, known, on_block):
        found = Ranked(graphs, hashes, *predict(graphs)).sorted()
        found = _within(found, k, best, limits)
        best = found if best is None else best.merge(found, k)
    if best is None:
        raise EvaluationError(f"all of {candidates} candidates are measured already; draw more, or widen the space")
    if not len(best):
        text = limits.text if limits is not None else ""
        raise EvaluationError(f"none of {candidates} candidates keeps the limits ({text or 'a network can be built'})")
    return best


def _fresh(
    space: CandidateSource,
    rng: np.random.Generator,
    candidates: int,
    block: int,
    known: Bits | None,
    on_block: Callable[[int], None] | None,
) -> Iterator[tuple[GraphBatch, Bits]]:
    seed = rng.integers(2**63)
    for number, start in enumerate(range(0, candidates, block)):
        own = np.random.Generator(np.random.Philox(key=np.array([seed, number], np.uint64)))
        count = min(block, candidates - start)
        graphs = space.sample_batch(count, own)
        hashes = wl.graph_hash(graphs)
        kept = wl.unique(hashes)
        if known is not None:
            kept = kept[~np.isin(hashes[kept], known)]
        if len(kept):
            yield graphs[kept], hashes[kept]
        if on_block is not None:
            on_block(count)


def _within(found: Ranked, k: int, best: Ranked | None, limits: Limits | None) -> Ranked:
    """The k best of a sorted block that keep the limits; only what could enter the best k is judged."""
    if limits is None:
        return found.take(np.arange(min(k, len(found))))
    if best is not None and len(best) == k:
        found = found.take(np.flatnonzero(found.mean >= best.mean[-1]))
    kept: list[Ints] = [np.empty(0, np.int64)]
    start, step = 0, 4 * k
    while start < len(found) and sum(map(len, kept)) < k:
        places = np.arange(start, min(start + step, len(found)))
        kept.append(places[limits(found.graphs[places])])
        start, step = start + step, 2 * step
    return found.take(np.concatenate(kept)[:k])
