"""What candidates are ranked by when measuring goes on: the expected improvement on the best measured score.

| symbol | meaning                                                                    | shape |
|--------|----------------------------------------------------------------------------|-------|
| m, s   | predicted mean and standard deviation of a score as it is learned (search/warp.py) | [B] |
| b      | the best measured score, learned likewise                                  |       |
| z      | (m - b) / s                                                                | [B]   |
| EI     | s (z Phi(z) + phi(z))                                                      | [B]   |

Its logarithm ranks alike and does not underflow (Ament et al., "Unexpected improvements to expected
improvement for Bayesian optimization", NeurIPS 2023).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.special import erfcx, ndtr

from .warp import Warp

if TYPE_CHECKING:
    from .bootstrap import Predict
    from .graphs import GraphBatch

FAR = -1.0  # z below which the two terms of EI nearly cancel
ROOT = np.sqrt(2 * np.pi)
LEAST = 1e-9  # s of what is predicted without doubt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LogImprovement:
    """Gives graphs the logarithm of their expected improvement, where a predictor gives their mean.

    Args:
        predict: mean and standard deviation of the scores of some graphs.
        warp: how the predictor learns scores.
        best: the highest measured score.
    """

    predict: "Predict"
    warp: Warp
    best: float

    def __call__(self, graphs: "GraphBatch") -> tuple[Floats, Floats]:
        """log EI of the learned scores and the standard deviation of the scores ([B], [B])."""
        mean, std = self.predict(graphs)
        m, s = self.warp.unrestored(mean, std)
        b, s = self.warp.learned(np.array(self.best)), np.maximum(s, LEAST)
        return np.log(s) + log_gain((m - b) / s), std


def log_gain(z: Floats) -> Floats:
    """log(z Phi(z) + phi(z)) [B]."""
    near, far = np.maximum(z, FAR), np.minimum(z, FAR)
    gain = near * ndtr(near) + np.exp(-(near**2) / 2) / ROOT
    ratio = erfcx(-far / np.sqrt(2)) * ROOT / 2  # Phi / phi
    rest = np.maximum(1 + far * ratio, 1 / (far**2 + 3))  # which it tends to, and is rounded to 0 in the end
    out: Floats = np.where(z > FAR, np.log(gain), -(far**2) / 2 - np.log(ROOT) + np.log(rest))
    return out
