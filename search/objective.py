"""What the search maximises: accuracy less a price for multiply-adds, within hard limits.

score = val_acc - lam * (log10(macs) - 6), after the efficiency score of NASGEM
(Cheng et al., arXiv 2007.04452; lam = 0.1 is this project's default). Limits are filters,
never terms of the score.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gemnet.errors import ConfigError, EvaluationError
from gemnet.settings import to_dict


@dataclass(frozen=True)
class Objective:
    """The score of measured numbers, and the limits an architecture must keep.

    Args:
        lam: price of a factor of ten in multiply-adds, as accuracy in [0, 1].
        max_macs: the most multiply-adds, None for no limit.
        max_params: the most parameters, None for no limit.
        max_acts: the most peak activations (elements), None for no limit.

    Raises:
        ConfigError: a negative or infinite setting.
    """

    lam: float = 0.1
    max_macs: int | None = None
    max_params: int | None = None
    max_acts: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lam) and self.lam >= 0):
            raise ConfigError(f"objective.lam: expected a finite number >= 0, got {self.lam}")
        for name in ("max_macs", "max_params", "max_acts"):
            limit = getattr(self, name)
            if limit is not None and limit <= 0:
                raise ConfigError(f"objective.{name}: expected a number > 0 or none, got {limit}")

    def score(self, metrics: Mapping[str, float]) -> float:
        """The score of one measurement.

        Raises:
            EvaluationError: `val_acc` or (unless `lam` is 0) a `macs` > 0 is not among the metrics.
        """
        for name in ("val_acc", "macs") if self.lam else ("val_acc",):
            if name not in metrics or (name == "macs" and metrics[name] <= 0):
                raise EvaluationError(f"the objective needs {name}, got {dict(metrics)!r:.80}")
        price = self.lam * (math.log10(metrics["macs"]) - 6) if self.lam else 0.0
        return metrics["val_acc"] - price

    def allows(self, macs: Any, params: Any, acts: Any) -> Any:
        """True where the limits are kept: numbers give a bool, arrays [N] an array of bool [N]."""
        allowed = (macs >= 0) & (params >= 0) & (acts >= 0)  # all true, in the arguments' shape
        for value, limit in ((macs, self.max_macs), (params, self.max_params), (acts, self.max_acts)):
            if limit is not None:
                allowed = allowed & (value <= limit)
        return allowed

    def accepts(self, metrics: Mapping[str, float]) -> bool:
        """True when a measurement keeps the limits; a number that was not measured keeps its limit."""
        return bool(self.allows(*(metrics.get(name, 0.0) for name in ("macs", "params", "peak_acts"))))

    def to_dict(self) -> dict[str, Any]:
        """The settings as a JSON object."""
        return to_dict(self)
