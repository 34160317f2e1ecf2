"""Gaussian process regression on a kernel of graphs.

| symbol | meaning                                                          | shape  |
|--------|------------------------------------------------------------------|--------|
| k      | S_g of two graphs, or exp(-|g - g'|^2 / (2 l^2)) of embeddings    |        |
| K      | s k + n I on the measured graphs                                 | [T, T] |
| y      | scores, z-scored                                                 | [T]    |

s, n (and l) maximise the log marginal likelihood (Rasmussen and Williams, "Gaussian Processes for
Machine Learning", 2006, equation 5.8) over a fixed grid, so a fit has no randomness.
"""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import cho_factor, cho_solve
from torch import Tensor

from gemnet.errors import ConfigError

from . import wl
from .embedding import Encoder
from .graphs import GraphBatch

Floats = npt.NDArray[np.float64]
NOISES = tuple(10 ** (-3 + k / 4) for k in range(13))  # share of the variance that is noise, .001 to 1
LENGTHS = tuple(2.0**k for k in range(-3, 4))  # in units of the median distance
BLOCK = 4096


class GaussianProcess:
    """Scores of graphs as a Gaussian process, after its kernel; made by `on_wl` or `on_embeddings`.

    Args:
        distance: whether the kernel is made of distances, and has a length to fit.
        relate: similarities, or squared distances, of graphs to the measured ones [B, T].
    """

    def __init__(self, distance: bool, relate: Callable[[GraphBatch, GraphBatch], Floats]) -> None:
        self._distance, self._relate = distance, relate
        self._known: GraphBatch | None = None

    @classmethod
    def on_wl(cls, h: int, directed: bool, form: str) -> "GaussianProcess":
        """A process on the WL similarity."""
        return cls(False, lambda some, known: wl.cross(some, known, h, directed, form))

    @classmethod
    def on_embeddings(cls, encoder: Encoder) -> "GaussianProcess":
        """A process on the squared distances of embeddings."""

        def distances(some: GraphBatch, known: GraphBatch) -> Floats:
            a, b = encoder.embed(some).astype(np.float64), encoder.embed(known).astype(np.float64)
            squared: Floats = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0)
            return squared

        return cls(True, distances)

    def fit(self, archs: GraphBatch, scores: Floats) -> None:
        """Learns from measured graphs; raises ConfigError for fewer than two or scores that are not finite."""
        if len(archs) != len(scores) or len(scores) < 2 or not np.isfinite(scores).all():
            raise ConfigError(f"a predictor learns from two or more finite scores, got {len(scores)}")
        self._set(archs, np.asarray(scores, np.float64))
        related = self._relate(archs, archs)
        self._unit = float(np.median(related[np.triu_indices(len(archs), 1)])) or 1.0
        lengths = LENGTHS if self._distance else (1.0,)
        fits = [(self._evidence(related, length, noise), length, noise) for length, noise in product(lengths, NOISES)]
        self._choose(related, *max(fits)[1:])

    def predict(self, archs: GraphBatch) -> tuple[Floats, Floats]:
        """Posterior mean and standard deviation of the noiseless score ([B], [B])."""
        if self._known is None:
            raise ConfigError("a predictor is fitted before it predicts")
        mean, std = np.empty(len(archs)), np.empty(len(archs))
        for start in range(0, len(archs), BLOCK):
            block = slice(start, start + BLOCK)
            near = self._kernel(self._relate(archs[block], self._known), self._length) * (1 - self._noise)
            mean[block] = near @ self._solved
            spread = (1 - self._noise) - (near * cho_solve(self._factor, near.T).T).sum(1)
            std[block] = np.sqrt(np.maximum(spread, 0) * self._amplitude)
        return mean * self._std + self._mean, std * self._std

    def state(self) -> dict[str, Tensor]:
        """What `restore` needs: measured graphs, scores and what was chosen."""
        assert self._known is not None
        chosen = np.array([self._unit, self._length, self._noise])
        arrays = {"codes": self._known.codes, "adjacency": self._known.adjacency.view(np.int64),
                  "scores": self._scores, "chosen": chosen}  # fmt: skip
        ops = "\n".join([*self._known.ops, "output" if self._known.output else ""]).encode()
        return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()} | {
            "ops": torch.frombuffer(bytearray(ops), dtype=torch.uint8)
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Takes a fitted state over."""
        *ops, output = bytes(state["ops"].numpy()).decode().split("\n")
        rows = state["adjacency"].numpy().view(np.uint64)
        self._set(GraphBatch(state["codes"].numpy(), rows, tuple(ops), bool(output)), state["scores"].numpy())
        self._unit, length, noise = (float(value) for value in state["chosen"])
        self._choose(self._relate(self._known, self._known), length, noise)  # type: ignore[arg-type]

    def _set(self, archs: GraphBatch, scores: Floats) -> None:
        self._known, self._scores = archs, scores
        self._mean, self._std = float(scores.mean()), float(scores.std()) or 1.0
        self._y = (scores - self._mean) / self._std

    def _kernel(self, related: Floats, length: float) -> Floats:
        return np.exp(-related / (2 * length**2 * self._unit)) if self._distance else related

    def _factored(self, related: Floats, length: float, noise: float) -> tuple[Floats, bool]:
        kernel = self._kernel(related, length) * (1 - noise)
        return cho_factor(kernel + (noise + 1e-8) * np.eye(len(kernel)), lower=True)  # type: ignore[no-any-return]

    def _evidence(self, related: Floats, length: float, noise: float) -> float:
        """Log marginal likelihood, up to a constant, at the best amplitude, which is y K^-1 y / T."""
        factor = self._factored(related, length, noise)
        amplitude = float(self._y @ cho_solve(factor, self._y)) / len(self._y)
        return -len(self._y) / 2 * math.log(max(amplitude, 1e-12)) - float(np.log(np.diag(factor[0])).sum())

    def _choose(self, related: Floats, length: float, noise: float) -> None:
        self._length, self._noise = length, noise
        self._factor = self._factored(related, length, noise)
        self._solved = cho_solve(self._factor, self._y)
        self._amplitude = float(self._y @ self._solved) / len(self._y)
