"""Regularised evolution: the best of a random few has a mutated child, and the oldest dies.

Real et al., "Regularized evolution for image classifier architecture search", AAAI 2019, algorithm 1.
The population and sample size of their CIFAR-10 runs are 100 and 25; for budgets of a few hundred
queries the defaults here are smaller.
"""

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from gemnet.errors import ConfigError
from gemnet.search.trial import Trial
from gemnet.settings import to_dict

from .ledger import Ledger

if TYPE_CHECKING:
    from gemnet.search.study import Study


@dataclass(frozen=True)
class RegularizedEvolution:
    """The search's settings.

    Args:
        samples: architectures that are measured, those that compute the same function counted once.
        population: how many live at a time, P.
        tournament: how many are drawn, with replacement, for a parent to be the best of, S.
        batch: children that are made and measured at a time; 1 is the paper's, more keep workers busy.

    Raises:
        ConfigError: a number below 1.
    """

    name: ClassVar[str] = "evolution"
    samples: int = 200
    population: int = 30
    tournament: int = 10
    batch: int = 1

    def __post_init__(self) -> None:
        for name in ("samples", "population", "tournament", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"strategy.{name}: expected 1 or more, got {getattr(self, name)}")

    def run(self, study: "Study") -> Trial:
        """The best architecture measured.

        Raises:
            EvaluationError: none could be measured.
        """
        ledger, rng = Ledger(study, self.samples), study.rng("evolution")
        population = deque(ledger.measure("population", study.space.sample(self.population, rng)), self.population)
        while ledger.open:
            children = []
            for _ in range(self.batch):
                drawn = [population[k] for k in rng.integers(0, len(population), self.tournament)]
                parent, _ = max(drawn, key=lambda member: member[1])
                children.append(study.space.mutate(parent, rng))
            population.extend(ledger.measure("children", children))
        return study.best(ledger.trials)

    def to_dict(self) -> dict[str, Any]:
        """The settings as a JSON object."""
        return to_dict(self)
