"""What a sequential strategy has measured so far, within its budget."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gemnet.search.structures import structure_of
from gemnet.search.trial import Arch, Trial

if TYPE_CHECKING:
    from gemnet.search.study import Study

MAX_IDLE = 1000  # proposals in a row without a new architecture, after which a strategy ends


class Ledger:
    """Measures architectures once each; those that compute the same function are one and cost one query.

    Args:
        study: what measures.
        budget: how many different architectures.
    """

    def __init__(self, study: "Study", budget: int) -> None:
        self._study, self._budget = study, budget
        self._trials: dict[str, Trial] = {}
        self._requests = self._idle = 0

    @property
    def trials(self) -> list[Trial]:
        """All trials, in the order in which they were asked for."""
        return list(self._trials.values())

    @property
    def open(self) -> bool:
        """Whether there is budget left, and proposals have not all been known for long."""
        return len(self._trials) < self._budget and self._idle < MAX_IDLE

    def measure(self, name: str, archs: Iterable[Arch]) -> list[tuple[Arch, float]]:
        """The score of each architecture, without those that the budget does not reach.

        Args:
            name: of the study's request; a number is added.
            archs: known and new ones.
        """
        asked = [(structure_of(self._study.space, arch), arch) for arch in archs]
        new: dict[str, Arch] = {}
        for structure, arch in asked:
            if structure not in self._trials and len(self._trials) + len(new) < self._budget:
                new.setdefault(structure, arch)
        self._idle = 0 if new else self._idle + max(1, len(asked))
        if new:
            self._requests += 1
            self._trials.update(zip(new, self._study.evaluate(f"{name}/{self._requests}", list(new.values()))))
        known = [(arch, self._trials[structure]) for structure, arch in asked if structure in self._trials]
        return [(arch, self._study.score(trial)) for arch, trial in known]
