"""How a study stands, read from its directory without disturbing the process that works on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemnet.errors import StudyError
from gemnet.settings import from_dict

from .lock import Holder, holder
from .objective import Objective
from .opening import look
from .record import Record
from .trial import INFRA, Trial


@dataclass(frozen=True)
class PhaseStanding:
    """Trials of one phase: asked for (equal ones once), and what came of them so far."""

    name: str
    asked: int
    done: int
    failed: int
    infra: int


@dataclass(frozen=True)
class Standing:
    """A study as it stands.

    Attributes:
        state: `"finished"`, `"running"` or `"stopped"`.
        phases: in the order in which they were asked for.
        ranking: finished trials within the limits, one per architecture, with their scores; the
            winner first when there is one, the others by falling score.
        measured: the trials of each phase that have ended.
    """

    directory: Path
    study_id: str
    record: Record
    strategy: str
    state: str
    worker: Holder | None
    phases: tuple[PhaseStanding, ...]
    trials: int
    ranking: tuple[tuple[Trial, float], ...]
    measured: Mapping[str, tuple[Trial, ...]]

    def trials_of(self, phase: str) -> list[Trial]:
        """The trials of a phase that have ended, in the order in which they were asked for; none if unknown."""
        return list(self.measured.get(phase, ()))

    def best(self, rank: int = 1) -> tuple[Trial, float]:
        """The trial of a rank, 1 for the best, and its score.

        Raises:
            StudyError: there are not so many.
        """
        if not 1 <= rank <= len(self.ranking):
            count = len(self.ranking)
            raise StudyError(f"{self.directory} has {count} measured cells within the limits, there is no rank {rank}")
        return self.ranking[rank - 1]

    def to_dict(self) -> dict[str, Any]:
        """A JSON object for `status --json`."""
        return {
            "directory": str(self.directory),
            "study_id": self.study_id,
            "state": self.state,
            "process": vars(self.worker) if self.worker else None,
            "strategy": self.strategy,
            "seed": self.record.seed,
            "trials": self.trials,
            "phases": [vars(phase) for phase in self.phases],
            "best": self.best_dict() if self.ranking else None,
        }

    def best_dict(self, rank: int = 1) -> dict[str, Any]:
        """A JSON object for `best --json`."""
        trial, score = self.best(rank)
        return {
            "finished": self.state == "finished",
            "rank": rank,
            "score": score,
            "trial": trial.key,
            "arch_key": trial.arch_key,
            "metrics": trial.metrics,
            "arch": trial.arch,
        }


def standing(directory: Path) -> Standing:
    """How the study in a directory stands now.

    Raises:
        StudyError: the directory is no study, or its study.json was changed.
        JournalError: the journal is damaged.
    """
    record, journal = look(directory)
    with journal:
        trials = {row.key: Trial(**row.body) for row in journal.of("trial")}
        asked = {row.key: row.body["keys"] for row in journal.of("asked")}
        done, strategy = journal.get("done", "done"), journal.get("strategy", "strategy")
        study = journal.get("study", "study")
    worker = holder(directory / "lock")
    state = "finished" if done else "running" if worker else "stopped"
    objective = from_dict(Objective, record.settings.get("objective", {}), "objective")
    return Standing(
        directory,
        study.body["study_json"] if study else "",
        record,
        strategy.body["name"] if strategy else "",
        state,
        worker,
        tuple(_phase(name, keys, trials) for name, keys in asked.items()),
        len(trials),
        _ranking(trials, objective, trials.get(done.body["trial"]) if done else None),
        {name: tuple(trials[key] for key in dict.fromkeys(keys) if key in trials) for name, keys in asked.items()},
    )


def _phase(name: str, keys: list[str], trials: Mapping[str, Trial]) -> PhaseStanding:
    unique = set(keys)
    found = [trials[key] for key in unique if key in trials]
    done, infra = sum(trial.done for trial in found), sum(trial.status == INFRA for trial in found)
    return PhaseStanding(name, len(unique), done, len(found) - done - infra, infra)


def _ranking(
    trials: Mapping[str, Trial], objective: Objective, winner: Trial | None
) -> tuple[tuple[Trial, float], ...]:
    groups: dict[str, list[Trial]] = {}
    for trial in [winner, *trials.values()] if winner else trials.values():
        if trial.done and objective.accepts(trial.metrics):
            groups.setdefault(trial.arch_key, []).append(trial)
    scored = [
        (group[0], sum(objective.score(trial.metrics) for trial in group) / len(group)) for group in groups.values()
    ]
    return tuple(sorted(scored, key=lambda pair: (pair[0] is not winner, -pair[1])))
