"""Gaussian process regression on graphs.

| symbol | meaning                                                                   | shape  |
|--------|---------------------------------------------------------------------------|--------|
| S_m    | similarity m of two graphs, at most 1                                     | [T, T] |
| r_q    | distance of two graphs' vectors q, standardised, over its root mean square | [T, T] |
| M(r)   | (1 + u + u^2 / 3) exp(-u), u = sqrt(5) r / l_q  (Matern 5/2)              |        |
| K      | sum of a_m S_m + sum of a_q M(r_q) + n I = F F^T, F lower triangular      | [T, T] |
| y      | scores, warped (search/warp.py) and z-scored                              | [T]    |

The logarithms of a, l and n maximise the log marginal likelihood (Rasmussen and Williams, "Gaussian
Processes for Machine Learning", 2006, equation 5.8) plus that of normal priors around START, by
L-BFGS from there, so a fit has no randomness. Nothing here needs torch: processes that only predict
start in a fraction of the time and memory.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import Bounds, minimize

from gemnet.errors import ConfigError

from .evidence import JITTER, loss_and_slope
from .graphs import GraphBatch
from .warp import Warp

Floats = npt.NDArray[np.float64]
Arrays = dict[str, npt.NDArray[np.generic]]
Similarity = Callable[[GraphBatch], Callable[[GraphBatch], Floats]]
Vectors = Callable[[GraphBatch], npt.NDArray[np.floating]]
NOISE_START, AMPLITUDE_SPREAD, LENGTH_SPREAD, NOISE_SPREAD = -2.3, 1.5, 1.0, 1.5  # of the priors, in logarithms
STOP = {"maxiter": 60, "ftol": 1e-6}  # of the fit; finer steps change no ranking
REACH = 6  # spreads from START, further than which no step tries
BLOCK = 2048


class GaussianProcess:
    """Scores of graphs as a Gaussian process.

    Args:
        similarities: each gives, for T measured graphs, what gives [B, T] for B graphs.
        vectors: each gives a vector per graph, whose distances are used.
        target: `"gap"` or `"raw"`, see search/warp.py.
    """

    def __init__(self, similarities: Sequence[Similarity], vectors: Sequence[Vectors], target: str = "gap") -> None:
        self._similarities, self._vectors, self._target = similarities, vectors, target
        self._known: GraphBatch | None = None

    def fit(self, archs: GraphBatch, scores: Floats) -> None:
        """Learns from measured graphs; raises ConfigError for fewer than two or scores that are not finite."""
        check_scores(archs, scores)
        self._set(archs, np.asarray(scores, np.float64))
        parts = self._parts(archs)
        start, spread = self._prior()

        def loss(theta: Floats) -> tuple[float, Floats]:
            value, slope = loss_and_slope(theta, *parts, self._y)
            away = (theta - start) / spread
            return value + float(away @ away) / 2, slope + away / spread

        reach = Bounds(start - REACH * spread, start + REACH * spread)
        found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=reach, options=STOP)
        self._choose(found.x, parts)

    def predict(self, archs: GraphBatch) -> tuple[Floats, Floats]:
        """Posterior mean and standard deviation of the noiseless score ([B], [B])."""
        if self._known is None:
            raise ConfigError("a predictor is fitted before it predicts")
        if (archs.ops, archs.output) != (self._known.ops, self._known.output):
            raise ConfigError(
                f"this predictor knows graphs of the ops {self._known.ops}, in this order, got {archs.ops}; "
                "explicit outputs are a kind of their own"
            )
        mean, std = np.empty(len(archs)), np.empty(len(archs))
        for start in range(0, len(archs), BLOCK):
            block = slice(start, start + BLOCK)
            out = sum(self._pieces(self._theta, *self._parts(archs[block]))) @ self._solved
            mean[block] = out[:, 0]
            out *= out
            std[block] = np.sqrt(np.maximum(self._variance - out[:, 1:].sum(1), 1e-12))
        return self._warp.restored(mean * self._std + self._mean, std * self._std)

    def state(self) -> Arrays:
        """What `restore` needs: measured graphs, scores and what was chosen."""
        assert self._known is not None
        ops = "\n".join([*self._known.ops, "output" if self._known.output else ""]).encode()
        return {"codes": self._known.codes, "adjacency": self._known.adjacency.view(np.int64), "scores": self._scores,
                "theta": self._theta, "ops": np.frombuffer(ops, np.uint8)}  # fmt: skip

    def restore(self, state: Arrays) -> None:
        """Takes a fitted state over; raises KeyError for one of another kernel."""
        if state["theta"].shape != self._prior()[0].shape:
            raise KeyError("theta")
        *ops, output = state["ops"].tobytes().decode().split("\n")
        known = GraphBatch(
            state["codes"].astype(np.uint8), state["adjacency"].view(np.uint64), tuple(ops), bool(output)
        )  # fmt: skip
        self._set(known, state["scores"].astype(np.float64))
        self._choose(state["theta"].astype(np.float64), self._parts(known))

    def _set(self, archs: GraphBatch, scores: Floats) -> None:
        self._known, self._scores = archs, scores
        self._warp = Warp.of(scores, self._target)
        learned = self._warp.learned(scores)
        self._mean, self._std = float(learned.mean()), float(learned.std()) or 1.0
        self._y = (learned - self._mean) / self._std
        self._similar = [similar_to(archs) for similar_to in self._similarities]
        self._scaled = [_Scaled(make(archs).astype(np.float64)) for make in self._vectors]

    def _parts(self, some: GraphBatch) -> tuple[list[Floats], list[Floats]]:
        """S and r^2 of graphs and the measured ones [B, T] each."""
        far = [scaled.squared(make(some)) for make, scaled in zip(self._vectors, self._scaled)]
        return [similar(some) for similar in self._similar], far

    def _prior(self) -> tuple[Floats, Floats]:
        """Means and spreads of theta: log a of every part, log l of every vector, log n."""
        count, lengths = len(self._similarities) + len(self._vectors), len(self._vectors)
        mean = [-float(np.log(count))] * count + [0.0] * lengths + [NOISE_START]
        spread = [AMPLITUDE_SPREAD] * count + [LENGTH_SPREAD] * lengths + [NOISE_SPREAD]
        return np.array(mean), np.array(spread)

    def _pieces(self, theta: Floats, similar: list[Floats], far: list[Floats]) -> list[Floats]:
        """The summands of K without its noise [B, T] each."""
        amplitude, length = self._split(theta)
        near = [*similar, *(_matern(squared, side) for squared, side in zip(far, length))]
        return [a * part for a, part in zip(amplitude, near)]

    def _split(self, theta: Floats) -> tuple[Floats, Floats]:
        """a of every part and l of every vector."""
        count = len(self._similarities) + len(self._vectors)
        return np.exp(theta[:count]), np.exp(theta[count:-1])

    def _choose(self, theta: Floats, parts: tuple[list[Floats], list[Floats]]) -> None:
        self._theta, self._variance = theta, float(self._split(theta)[0].sum())
        kernel = sum(self._pieces(theta, *parts), start=(np.exp(theta[-1]) + JITTER) * np.eye(len(self._y)))
        inverse = solve_triangular(cholesky(kernel, lower=True), np.eye(len(self._y)), lower=True)
        # the mean and what the explained variance sums are one product, whose rows do not depend on each other
        self._solved = np.concatenate([(inverse.T @ (inverse @ self._y))[:, None], inverse.T], 1)


class _Scaled:
    """Vectors of the measured graphs, standardised, and the mean square of their distances."""

    def __init__(self, vectors: Floats) -> None:
        self._mean = vectors.mean(0)
        spread = vectors.std(0)
        self._scale = np.where(spread > 1e-9, 1 / np.maximum(spread, 1e-9), 0.0)  # what never varied says nothing
        self._known = (vectors - self._mean) * self._scale
        self._unit = 1.0
        self._unit = float(self.squared(vectors).mean()) or 1.0

    def squared(self, vectors: npt.NDArray[np.floating]) -> Floats:
        """Squared distances to the measured graphs [B, T]."""
        x = (vectors.astype(np.float64) - self._mean) * self._scale
        out: Floats = x @ (-2 * self._known.T)
        out += (x**2).sum(1)[:, None]
        out += (self._known**2).sum(1)
        np.maximum(out, 0, out=out)
        out /= self._unit
        return out


def _matern(squared: Floats, length: float) -> Floats:
    """Matern 5/2 of squared distances; as `evidence.matern`, without its slope and half of its time."""
    u = np.sqrt(squared * (5 / length**2))
    out: Floats = u / 3
    out += 1
    out *= u
    out += 1
    out *= np.exp(-u)
    return out


def check_scores(archs: GraphBatch, scores: Floats) -> None:
    """Raises ConfigError unless there are at least two graphs, each with a finite score."""
    if np.shape(scores) != (len(archs),) or len(scores) < 2 or not np.isfinite(scores).all():
        got = f"{list(np.shape(scores))} for {len(archs)} graphs"
        raise ConfigError(f"a predictor learns from two or more finite scores, got {got}")
