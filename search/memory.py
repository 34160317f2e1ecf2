"""A study without a directory, for benchmarks: nothing is journalled, architectures are counted as queries."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemnet.errors import StudyError

from .evaluators import Evaluator
from .objective import Objective
from .progress import Progress
from .structures import structure_of
from .study import Study
from .trial import DONE, Arch, Trial, inputs_digest, trial_key, trial_seed

if TYPE_CHECKING:
    import numpy as np

SHARED = "encoder"  # learned without labels, so one serves the studies of all seeds


class QueriesSpentError(StudyError):
    """The last query a memory study allows was made; a strategy does not catch it."""


class MemoryStudy(Study):
    """A study that measures in this process and ends a strategy after a number of queries.

    Architectures that compute the same function are one query.

    Args:
        folder: for artifacts; those named `encoder` are taken over when they are there.
        seed: of everything random.
        space, evaluator, objective: as in `Study`.
        limit: how many queries are allowed.
        target: a score at which to end.

    Attributes:
        queries: the first trial of each, in order.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        *,
        space: Any,
        evaluator: Evaluator,
        objective: Objective,
        limit: int,
        target: float = math.inf,
    ) -> None:
        self.directory, self.settings, self.seed = folder, {}, seed
        self.space, self.evaluator, self.objective = space, evaluator, objective
        self.progress, self.workers = Progress(quiet=True), 0
        self.queries: list[Trial] = []
        self._limit, self._target, self._fingerprint = limit, target, evaluator.fingerprint
        self._trials, self._known = {}, set[str]()
        self._used = set()

    def evaluate(self, name: str, archs: Iterable[Arch], repeats: int = 1) -> list[Trial]:
        """The trials of some architectures, in the order asked.

        Raises:
            QueriesSpentError: the last query was made, or the target reached.
        """
        self._use("evaluate", name)
        found = []
        for arch in archs:
            trials = [self._measure_here(arch, repeat) for repeat in range(repeats)]
            found += trials
            structure = structure_of(self.space, arch)
            if structure not in self._known:
                self._known.add(structure)
                self.queries.append(trials[0])
            if len(self.queries) >= self._limit or self.score(self.queries[-1]) >= self._target:
                raise QueriesSpentError(f"{len(self.queries)} queries were made")
        return found

    def rng(self, name: str) -> "np.random.Generator":
        """As a study's; what is shared by all seeds does not depend on the seed."""
        own, self.seed = self.seed, 0 if name == SHARED else self.seed
        try:
            return super().rng(name)
        finally:
            self.seed = own

    def artifact(self, name: str, build: Callable[[Path], None], inputs: Sequence[Any] = ()) -> Path:
        """The folder that `build` filled."""
        self._use("artifact", name)
        place = f"{SHARED}-{inputs_digest(inputs)[:16]}" if name == SHARED else f"{self.seed}/{name}"
        folder = self.directory / place
        if name != SHARED or not folder.exists():
            folder.mkdir(parents=True)
            build(folder)
        return folder

    def close(self) -> None:
        """Has nothing to end."""

    def _measure_here(self, arch: Arch, repeat: int) -> Trial:
        key = trial_key(arch.key, self._fingerprint, repeat)
        if key not in self._trials:
            seed = trial_seed(self.seed, key)
            metrics = self.evaluator.evaluate(arch, seed)
            self._trials[key] = Trial(key, arch.to_dict(), arch.key, DONE, metrics, seed, repeat)
        return self._trials[key]
