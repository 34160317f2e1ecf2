"""The ensemble of MLPs: scores of graphs from their embeddings.

| symbol | meaning                                         | shape      |
|--------|-------------------------------------------------|------------|
| g      | embeddings, standardised on the measured ones   | [B, p]     |
| y      | scores, warped and z-scored on the measured ones | [B]       |
| f_m    | member m of the ensemble, an MLP 64-128-64-1    |            |
| L      | mean (f - y)^2 + weight * mean over pairs y_i > y_j of max(0, margin - (f_i - f_j)) | |
"""

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gemnet.errors import ConfigError

from .gp import Arrays, check_scores
from .graphs import GraphBatch
from .learning import PredictorSettings
from .warp import Warp

if TYPE_CHECKING:
    from .predictor import Embedder

Floats = npt.NDArray[np.float64]


class MLPEnsemble:
    """Several small MLPs on standardised embeddings, trained side by side as one batch of weights.

    Args:
        encoder: gives the embeddings; stays as it is.
        settings: see PredictorSettings.
        seed: of the weights and of what each member holds out.
    """

    def __init__(self, encoder: "Embedder", settings: PredictorSettings, seed: int) -> None:
        self.encoder, self.settings, self.seed = encoder, settings, seed
        self._weights: list[Tensor] = []
        self._scale: dict[str, Tensor] = {}
        self._warp = Warp()

    def fit(self, archs: GraphBatch, scores: Floats) -> None:
        """Learns from measured graphs; raises ConfigError for fewer than two or scores that are not finite."""
        check_scores(archs, scores)
        self._warp = Warp.of(np.asarray(scores, np.float64), self.settings.target)
        learned = self._warp.learned(np.asarray(scores, np.float64))
        g, y = torch.from_numpy(self.encoder.embed(archs)), torch.from_numpy(learned).float()
        self._scale = {
            "mean": g.mean(0), "std": g.std(0, correction=0).clamp_min(1e-6),
            "y_mean": y.mean(), "y_std": y.std(correction=0).clamp_min(1e-6),
        }  # fmt: skip
        x, target = self._standardise(g), (y - self._scale["y_mean"]) / self._scale["y_std"]
        generator = torch.Generator().manual_seed(self.seed)
        self._weights = _initial((x.shape[1], *self.settings.hidden, 1), self.settings.members, generator)
        self._weights = _train(self._weights, x, target, _held_out(len(x), self.settings, generator), self.settings)

    def predict(self, archs: GraphBatch) -> tuple[Floats, Floats]:
        """Mean and standard deviation over the members, in the scores' unit ([B], [B])."""
        if not self._weights:
            raise ConfigError("a predictor is fitted before it predicts")
        return self.predict_embedded(self.encoder.embed(archs))

    def predict_embedded(self, embeddings: npt.NDArray[np.float32]) -> tuple[Floats, Floats]:
        """As `predict`, of graphs that are embedded already [B, p]."""
        with torch.inference_mode():
            members = _forward(self._weights, self._standardise(torch.from_numpy(embeddings)))
            members = members * self._scale["y_std"] + self._scale["y_mean"]
        every = members.double().numpy()
        return self._warp.restored(every.mean(0), every.std(0))

    def state(self) -> Arrays:
        """What `restore` needs."""
        named = self._scale | {f"weight{k}": weight for k, weight in enumerate(self._weights)}
        return {"warp": np.array([self._warp.top, self._warp.soft])} | {k: v.numpy() for k, v in named.items()}

    def restore(self, state: Arrays) -> None:
        """Takes a fitted state over."""
        self._warp = Warp(*state["warp"].tolist())
        self._scale = {name: torch.tensor(state[name]) for name in ("mean", "std", "y_mean", "y_std")}
        self._weights = [torch.tensor(state[f"weight{k}"]) for k in range(2 * len(self.settings.hidden) + 2)]

    def _standardise(self, g: Tensor) -> Tensor:
        return (g - self._scale["mean"]) / self._scale["std"]


def _initial(sizes: tuple[int, ...], members: int, generator: torch.Generator) -> list[Tensor]:
    """Weights [M, in, out] and biases [M, 1, out] of every layer, He-initialised."""
    made = []
    for fan_in, fan_out in pairwise(sizes):
        made.append(torch.randn(members, fan_in, fan_out, generator=generator) * (2 / fan_in) ** 0.5)
        made.append(torch.zeros(members, 1, fan_out))
    return made


def _forward(weights: list[Tensor], x: Tensor) -> Tensor:
    """Every member's output [M, B]."""
    hidden = x.expand(weights[0].shape[0], *x.shape)
    for k in range(0, len(weights), 2):
        hidden = torch.baddbmm(weights[k + 1], hidden, weights[k])
        if k + 2 < len(weights):
            hidden = torch.relu(hidden)
    return hidden.squeeze(2)


def _held_out(n: int, settings: PredictorSettings, generator: torch.Generator) -> Tensor:
    """Which cells each member does not train on [M, n]; at least two, or none below eight cells."""
    count = max(2, round(settings.held_out * n)) if n >= 8 and settings.held_out > 0 else 0
    held = torch.zeros(settings.members, n)
    for row in held:
        row[torch.randperm(n, generator=generator)[:count]] = 1
    return held


def _losses(f: Tensor, y: Tensor, weight: Tensor, settings: PredictorSettings) -> Tensor:
    """Every member's loss over the cells of weight 1 [M]."""
    squared = ((f - y).square() * weight).sum(1) / weight.sum(1)
    pairs = weight[:, :, None] * weight[:, None, :] * (y[:, None] > y[None, :])
    hinge = torch.relu(settings.margin - (f[:, :, None] - f[:, None, :]))
    return squared + settings.ranking * (hinge * pairs).sum((1, 2)) / pairs.sum((1, 2)).clamp_min(1)


def _train(weights: list[Tensor], x: Tensor, y: Tensor, held: Tensor, settings: PredictorSettings) -> list[Tensor]:
    """The weights of each member's best step on the cells it holds out."""
    weights = [weight.requires_grad_() for weight in weights]
    optimiser = torch.optim.AdamW(weights, lr=settings.lr, weight_decay=settings.weight_decay)
    judge = held if held.any() else torch.ones_like(held)
    best, since = torch.full((len(held),), torch.inf), torch.zeros(len(held))
    kept = [weight.detach().clone() for weight in weights]
    for _ in range(settings.steps):
        f = _forward(weights, x)
        with torch.no_grad():
            now = _losses(f, y, judge, settings)
            better = now < best
            best, since = torch.where(better, now, best), torch.where(better, 0, since + 1)
            for copy, weight in zip(kept, weights):
                copy[better] = weight[better]
        if bool((since > settings.patience).all()):
            break
        optimiser.zero_grad()
        _losses(f, y, 1 - held, settings).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return kept
