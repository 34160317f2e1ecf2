"""Measuring finished trials again: a study that can be trusted gives the same numbers."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gemnet.errors import StudyError
from gemnet.stopping import Stop

from .compose import Parts
from .record import Limits
from .standing import Standing
from .trial import Trial
from .workers import Task
from .workforce import Workforce, open_pool


@dataclass(frozen=True)
class Repeated:
    """A trial that was measured again, and what differed: `{metric: [then, now]}`, times not among them."""

    trial: str
    arch_key: str
    differs: dict[str, tuple[float | None, float | None]]
    error: str | None = None

    @property
    def same(self) -> bool:
        """Whether every number came out as before."""
        return not self.differs and self.error is None

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self) | {"same": self.same}


def replay(standing: Standing, parts: Parts, trials: int, seed: int, workforce: Workforce) -> list[Repeated]:
    """Some random finished trials of a study, measured again with their own seeds; nothing is journalled.

    Args:
        standing: of the study.
        parts: of the study, see `compose`.
        trials: how many; all when there are fewer.
        seed: which ones.
        workforce: who measures.

    Raises:
        StudyError: no trial has finished.
    """
    done = [trial for trial in standing.all_trials if trial.done]
    if not done:
        raise StudyError(f"{standing.directory} has no finished trial to measure again")
    rng = np.random.Generator(np.random.Philox(key=seed))
    chosen = [done[k] for k in sorted(rng.choice(len(done), min(trials, len(done)), replace=False))]
    tasks = [Task(trial.key, parts.space.arch(trial.arch), trial.seed, trial.repeat) for trial in chosen]
    pool = open_pool(parts.evaluator, workforce, Limits(), Stop())
    try:
        outcomes = {outcome.task.key: outcome for outcome in pool.run(tasks)}
    finally:
        pool.close()
    return [_compared(trial, outcomes[trial.key].metrics, outcomes[trial.key].error) for trial in chosen]


def _compared(trial: Trial, now: dict[str, float], error: str | None) -> Repeated:
    if error is not None:
        return Repeated(trial.key, trial.arch_key, {}, error)
    names = [name for name in dict.fromkeys([*trial.metrics, *now]) if not name.endswith("_s")]
    pairs = {name: (trial.metrics.get(name), now.get(name)) for name in names}
    return Repeated(trial.key, trial.arch_key, {name: pair for name, pair in pairs.items() if pair[0] != pair[1]})
