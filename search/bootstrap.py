"""The bootstrap phase: the best predicted of a stream of random candidates, in constant memory."""

import contextlib
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from gemnet.errors import EvaluationError

from . import crew, wl
from .graphs import Bits, Bools, GraphBatch, Ints, concat
from .readout import light
from .threads import torch_threads

if TYPE_CHECKING:
    from .gp import Arrays
    from .learning import PredictorSettings
    from .predictor import Embedder, Predictor

SLOW_TRIES, SLOW_BLOCKS = 1024, 4  # graphs of a block judged one by one in vain; blocks with none to give up after

Floats = npt.NDArray[np.float64]
Predict = Callable[[GraphBatch], tuple[Floats, Floats]]


class CandidateSource(Protocol):
    """What the bootstrap needs of a search space."""

    def sample_batch(self, n: int, rng: np.random.Generator) -> GraphBatch: ...


class Limits(Protocol):
    """Says for some graphs, best predicted first, which keep the limits.

    Attributes:
        text: names the limits.
        slow: whether graphs are judged one by one, so that looking for one that keeps the limits needs a bound.
    """

    text: str
    slow: bool

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


@dataclass(frozen=True, eq=False)
class Blocks:
    """The stream of candidates, cut into blocks: block b does not depend on the others.

    Args:
        space: where candidates come from.
        predict: (mean, std) of the scores of some graphs.
        seed: with its number, the key of a block's generator.
        candidates: how many graphs are drawn in all, C.
        size: how many are drawn at a time.
        k: how many of a block are kept.
        known: hashes of graphs that are not wanted.
        limits: what a kept graph must keep.
    """

    space: CandidateSource
    predict: Predict
    seed: int
    candidates: int
    size: int
    k: int
    known: Bits | None = None
    limits: Limits | None = None

    @property
    def count(self) -> int:
        """Number of blocks."""
        return math.ceil(self.candidates / self.size)

    def drawn(self, number: int) -> int:
        """How many graphs a block draws."""
        return min(self.size, self.candidates - number * self.size)

    def __call__(self, number: int, least: float) -> Ranked | None:
        """The best k of a block that keep the limits, of those predicted `least` or more; None when all are known."""
        own = np.random.Generator(np.random.Philox(key=np.array([self.seed, number], np.uint64)))
        graphs = self.space.sample_batch(self.drawn(number), own)
        hashes = wl.graph_hash(graphs)
        new = wl.unique(hashes)
        if self.known is not None:
            new = new[~np.isin(hashes[new], self.known)]
        if not len(new):
            return None
        if len(new) < len(graphs):  # else keep what is known of them
            graphs, hashes = graphs[new], hashes[new]
        found = Ranked(graphs, hashes, *self.predict(graphs)).sorted()
        return self._within(found.take(np.flatnonzero(~(found.mean < least))))

    def _within(self, found: Ranked) -> Ranked:
        """The k best of a sorted block that keep the limits."""
        if self.limits is None:
            return found.take(np.arange(min(self.k, len(found))))
        kept: list[Ints] = [np.empty(0, np.int64)]
        start, step = 0, 4 * self.k
        most = SLOW_TRIES if self.limits.slow else len(found)
        while start < len(found) and sum(map(len, kept)) < self.k and (start < most or any(map(len, kept))):
            places = np.arange(start, min(start + step, len(found)))
            kept.append(places[self.limits(found.graphs[places])])
            start, step = start + step, 2 * step
        return found.take(np.concatenate(kept)[: self.k])


class Portable:
    """A fitted predictor's `predict`, in a form that can be sent to other processes.

    Args:
        predictor: made by `build_predictor` of these settings, encoder and seed, then fitted.
    """

    def __init__(self, predictor: "Predictor", settings: "PredictorSettings", encoder: "Embedder", seed: int) -> None:
        self.predictor, self.settings, self.encoder, self.seed = predictor, settings, encoder, seed

    def __call__(self, graphs: GraphBatch) -> tuple[Floats, Floats]:
        return self.predictor.predict(graphs)

    def __reduce__(self) -> tuple[Any, ...]:
        encoder = light(self.encoder) if self.settings.form != "mlp" else self.encoder
        return _restored, (self.predictor.state(), self.settings, encoder, self.seed)


def _restored(state: "Arrays", settings: "PredictorSettings", encoder: "Embedder", seed: int) -> Portable:
    from .predictor import build_predictor

    predictor = build_predictor(settings, encoder, seed)
    predictor.restore(state)
    return Portable(predictor, settings, encoder, seed)


def top_candidates(
    space: CandidateSource,
    predict: Predict,
    rng: np.random.Generator,
    candidates: int,
    k: int,
    *,
    block: int = 4096,
    known: Bits | None = None,
    limits: Limits | None = None,
    workers: int = 0,
    on_block: Callable[[int], None] | None = None,
) -> Ranked:
    """The k best predicted of `candidates` random graphs, none known, one of each WL hash.

    Two graphs of one hash have one prediction, so it is enough that blocks are free of doubles and that
    merging drops a double of what is kept: a double of what was not kept is not kept either. Blocks are
    merged in their order, so the result is the same for any number of workers; predictions are always
    made with one thread.

    Args:
        space: where candidates come from.
        predict: (mean, std) of the scores of some graphs; see `Portable` for use by workers.
        rng: gives the key of the blocks' generators.
        candidates: how many graphs are drawn, C.
        k: how many are kept.
        block: how many are drawn at a time.
        known: hashes of graphs that are not wanted again.
        limits: what a kept graph must keep.
        workers: processes that draw, predict and judge; 0 does so in this process.
        on_block: called with the number of candidates drawn since the last call.

    Raises:
        EvaluationError: no candidate keeps the limits (slow ones: none of the best predicted of the first four
            blocks), or none is new; or a worker died.
    """
    blocks = Blocks(space, predict, int(rng.integers(2**63)), candidates, block, k, known, limits)
    best: Ranked | None = None
    drawn = 0

    def least() -> float:
        """What a graph must be predicted to enter the best k of the blocks merged so far."""
        return float(best.mean[-1]) if best is not None and len(best) == k else -math.inf

    with torch_threads(1), contextlib.closing(_answers(blocks, workers, least)) as answers:
        for number, found in enumerate(answers):
            if found is not None:
                best = found if best is None else best.merge(found, k)
            drawn += blocks.drawn(number)
            if on_block is not None:
                on_block(blocks.drawn(number))
            if limits is not None and limits.slow and number + 1 >= SLOW_BLOCKS and best is not None and not len(best):
                break
    if best is None:
        raise EvaluationError(f"all of {candidates} candidates are measured already; draw more, or widen the space")
    if not len(best):
        text = limits.text if limits is not None else ""
        raise EvaluationError(f"none of {drawn} candidates keeps the limits ({text or 'a network can be built'})")
    return best


def _answers(blocks: Blocks, workers: int, least: Callable[[], float]) -> Generator[Ranked | None, None, None]:
    """What each block gives, in order."""
    if workers:
        yield from crew.in_order(blocks, blocks.count, workers, least)
    else:
        yield from (blocks(number, least()) for number in range(blocks.count))
