"""Local search: from a random architecture to its best neighbour for as long as that is better, then anew.

White et al., "Local search is state of the art for neural architecture search benchmarks", 2020
(arXiv 2005.02960), algorithm 1; `until = "first"` moves on as soon as a neighbour is better.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from gemnet.errors import ConfigError, UnknownNameError
from gemnet.search.trial import Arch, Trial
from gemnet.settings import to_dict

from .ledger import Ledger

if TYPE_CHECKING:
    import numpy as np

    from gemnet.search.study import Study

UNTIL = ("best", "first")
Scored = tuple[Arch, float]


@dataclass(frozen=True)
class LocalSearch:
    """The search's settings.

    Args:
        samples: architectures that are measured, those that compute the same function counted once.
        starts: random architectures of which the best is climbed from.
        until: `"best"` measures all neighbours, `"first"` moves to the first better one.
        batch: neighbours that are measured at a time with `"first"`.

    Raises:
        ConfigError: a number below 1.
        UnknownNameError: another word than `"best"` or `"first"`.
    """

    name: ClassVar[str] = "local"
    samples: int = 200
    starts: int = 1
    until: str = "best"
    batch: int = 1

    def __post_init__(self) -> None:
        for name in ("samples", "starts", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"strategy.{name}: expected 1 or more, got {getattr(self, name)}")
        if self.until not in UNTIL:
            raise UnknownNameError("value of strategy.until", self.until, UNTIL)

    def run(self, study: "Study") -> Trial:
        """The best architecture measured.

        Raises:
            EvaluationError: none could be measured.
        """
        ledger, rng = Ledger(study, self.samples), study.rng("local")
        while ledger.open:
            current = _best(ledger.measure("start", study.space.sample(self.starts, rng)))
            while current is not None:
                current = self._step(study, ledger, current, rng)
        return study.best(ledger.trials)

    def to_dict(self) -> dict[str, Any]:
        """The settings as a JSON object."""
        return to_dict(self)

    def _step(self, study: "Study", ledger: Ledger, current: Scored, rng: "np.random.Generator") -> Scored | None:
        """A better neighbour, or None at a local optimum."""
        near: list[Arch] = study.space.neighbours(current[0])
        near = [near[k] for k in rng.permutation(len(near))]
        size = self.batch if self.until == "first" else max(1, len(near))
        for start in range(0, len(near), size):
            found = _best(ledger.measure("neighbours", near[start : start + size]))
            if found is not None and found[1] > current[1]:
                return found
        return None


def _best(scored: list[Scored]) -> Scored | None:
    return max(scored, key=lambda pair: pair[1], default=None)
