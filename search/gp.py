"""Gaussian process regression on graphs.

| symbol | meaning                                                                   | shape  |
|--------|---------------------------------------------------------------------------|--------|
| S_m    | similarity m of two graphs, at most 1                                     | [T, T] |
| r_q    | distance of two graphs' vectors q, standardised, over its root mean square | [T, T] |
| M(r)   | (1 + u + u^2 / 3) exp(-u), u = sqrt(5) r / l_q  (Matern 5/2)              |        |
| K      | sum of a_m S_m + sum of a_q M(r_q) + n I                                  | [T, T] |
| y      | scores, warped (search/warp.py) and z-scored                              | [T]    |

The logarithms of a, l and n maximise the log marginal likelihood (Rasmussen and Williams, "Gaussian
Processes for Machine Learning", 2006, equation 5.8) plus that of normal priors around START, by
L-BFGS from there, so a fit has no randomness.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from torch import Tensor

from gemnet.errors import ConfigError

from .graphs import GraphBatch
from .warp import Warp

Floats = npt.NDArray[np.float64]
Similarity = Callable[[GraphBatch, GraphBatch], Floats]
Vectors = Callable[[GraphBatch], npt.NDArray[np.floating]]
NOISE_START, AMPLITUDE_SPREAD, LENGTH_SPREAD, NOISE_SPREAD = -2.3, 1.5, 1.0, 1.5  # of the priors, in logarithms
STEPS = 60
JITTER = 1e-6
BLOCK = 4096


class GaussianProcess:
    """Scores of graphs as a Gaussian process.

    Args:
        similarities: each gives [B, T] for B graphs and T measured ones.
        vectors: each gives a vector per graph, whose distances are used.
        target: `"gap"` or `"raw"`, see search/warp.py.
    """

    def __init__(self, similarities: Sequence[Similarity], vectors: Sequence[Vectors], target: str = "gap") -> None:
        self._similarities, self._vectors, self._target = similarities, vectors, target
        self._known: GraphBatch | None = None

    def fit(self, archs: GraphBatch, scores: Floats) -> None:
        """Learns from measured graphs; raises ConfigError for fewer than two or scores that are not finite."""
        if len(archs) != len(scores) or len(scores) < 2 or not np.isfinite(scores).all():
            raise ConfigError(f"a predictor learns from two or more finite scores, got {len(scores)}")
        self._set(archs, np.asarray(scores, np.float64))
        parts = self._parts(archs)
        start, spread = self._prior()

        def loss(values: Floats) -> tuple[float, Floats]:
            theta = torch.tensor(values, requires_grad=True)
            factor = torch.linalg.cholesky(self._noisy(theta, parts))
            solved = torch.cholesky_solve(self._y[:, None], factor)[:, 0]
            prior = ((theta - start) / spread).square().sum() / 2
            out = self._y @ solved / 2 + factor.diagonal().log().sum() + prior
            out.backward()
            assert theta.grad is not None
            return out.item(), theta.grad.numpy()

        best = minimize(loss, start.numpy(), jac=True, method="L-BFGS-B", options={"maxiter": STEPS}).x
        self._choose(torch.from_numpy(best), parts)

    def predict(self, archs: GraphBatch) -> tuple[Floats, Floats]:
        """Posterior mean and standard deviation of the noiseless score ([B], [B])."""
        if self._known is None:
            raise ConfigError("a predictor is fitted before it predicts")
        mean, std = np.empty(len(archs)), np.empty(len(archs))
        for start in range(0, len(archs), BLOCK):
            block = slice(start, start + BLOCK)
            near = self._kernel(self._theta, self._parts(archs[block]))
            mean[block] = near @ self._solved
            explained = torch.linalg.solve_triangular(self._factor, near.T, upper=False).square().sum(0)
            std[block] = (self._variance - explained).clamp_min(1e-12).sqrt()
        return self._warp.restored(mean * self._std + self._mean, std * self._std)

    def state(self) -> dict[str, Tensor]:
        """What `restore` needs: measured graphs, scores and what was chosen."""
        assert self._known is not None
        arrays = {"codes": self._known.codes, "adjacency": self._known.adjacency.view(np.int64),
                  "scores": self._scores, "theta": self._theta.numpy()}  # fmt: skip
        ops = "\n".join([*self._known.ops, "output" if self._known.output else ""]).encode()
        return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()} | {
            "ops": torch.frombuffer(bytearray(ops), dtype=torch.uint8)
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Takes a fitted state over; raises KeyError for one of another kernel."""
        if state["theta"].shape != self._prior()[0].shape:
            raise KeyError("theta")
        *ops, output = bytes(state["ops"].numpy()).decode().split("\n")
        rows = state["adjacency"].numpy().view(np.uint64)
        known = GraphBatch(state["codes"].numpy(), rows, tuple(ops), bool(output))
        self._set(known, state["scores"].numpy())
        self._choose(state["theta"], self._parts(known))

    def _set(self, archs: GraphBatch, scores: Floats) -> None:
        self._known, self._scores = archs, scores
        self._warp = Warp.of(scores, self._target)
        learned = self._warp.learned(scores)
        self._mean, self._std = float(learned.mean()), float(learned.std()) or 1.0
        self._y = torch.from_numpy((learned - self._mean) / self._std)
        self._scaled = [_Scaled(make(archs).astype(np.float64)) for make in self._vectors]

    def _parts(self, some: GraphBatch) -> tuple[list[Tensor], list[Tensor]]:
        """S and r^2 of graphs and the measured ones [B, T] each."""
        assert self._known is not None
        similar = [torch.from_numpy(relate(some, self._known)) for relate in self._similarities]
        far = [torch.from_numpy(scaled.squared(make(some))) for make, scaled in zip(self._vectors, self._scaled)]
        return similar, far

    def _prior(self) -> tuple[Tensor, Tensor]:
        """Means and spreads of theta: log a of every part, log l of every vector, log n."""
        count, lengths = len(self._similarities) + len(self._vectors), len(self._vectors)
        mean = [-float(np.log(count))] * count + [0.0] * lengths + [NOISE_START]
        spread = [AMPLITUDE_SPREAD] * count + [LENGTH_SPREAD] * lengths + [NOISE_SPREAD]
        return torch.tensor(mean, dtype=torch.float64), torch.tensor(spread, dtype=torch.float64)

    def _kernel(self, theta: Tensor, parts: tuple[list[Tensor], list[Tensor]]) -> Tensor:
        """K without its noise [B, T]."""
        similar, far = parts
        count = len(similar) + len(far)
        amplitude, length = theta[:count].exp(), theta[count:-1].exp()
        near = [*similar, *(_matern(squared / side**2) for squared, side in zip(far, length))]
        return torch.stack([a * part for a, part in zip(amplitude, near)]).sum(0)

    def _noisy(self, theta: Tensor, parts: tuple[list[Tensor], list[Tensor]]) -> Tensor:
        kernel = self._kernel(theta, parts)
        return kernel + (theta[-1].exp() + JITTER) * torch.eye(len(kernel), dtype=torch.float64)

    def _choose(self, theta: Tensor, parts: tuple[list[Tensor], list[Tensor]]) -> None:
        self._theta = theta
        self._factor = torch.linalg.cholesky(self._noisy(theta, parts))
        self._solved = torch.cholesky_solve(self._y[:, None], self._factor)[:, 0]
        self._variance = theta[: len(self._similarities) + len(self._vectors)].exp().sum()


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
        far = (x**2).sum(1)[:, None] + (self._known**2).sum(1) - 2 * x @ self._known.T
        out: Floats = np.maximum(far, 0) / self._unit
        return out


def _matern(squared: Tensor) -> Tensor:
    """Matern 5/2 of squared distances in units of the length."""
    u = (5 * squared + 1e-12).sqrt()
    return (1 + u + u.square() / 3) * torch.exp(-u)
