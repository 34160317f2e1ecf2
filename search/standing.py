"""How a study stands, read from its directory without disturbing the process that works on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemnet.errors import StudyError
from gemnet.lock import Holder, holder
from gemnet.settings import from_dict

from .journal import Journal, uncollected
from .objective import Objective
from .opening import look
from .progress import Now, read_notice
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

    @property
    def ended(self) -> int:
        """How many have ended, one way or another."""
        return self.done + self.failed + self.infra


@dataclass(frozen=True)
class Standing:
    """A study as it stands.

    Attributes:
        state: `"finished"`, `"running"` or `"stopped"`.
        phases: in the order in which they were asked for.
        ranking: finished trials within the limits, one per architecture, with their scores; the
            winner first when there is one, the others by falling score.
        measured: the trials of each phase that have ended.
        all_trials: every trial that has ended, in the order in which they first did.
        now: what the process that works on it said last, when it is running.
    """

    directory: Path
    study_id: str
    record: Record
    strategy: str
    state: str
    worker: Holder | None
    phases: tuple[PhaseStanding, ...]
    ranking: tuple[tuple[Trial, float], ...]
    measured: Mapping[str, tuple[Trial, ...]]
    all_trials: tuple[Trial, ...]
    objective: Objective
    now: Now | None

    @property
    def trials(self) -> int:
        """How many trials have ended."""
        return len(self.all_trials)

    @property
    def waiting(self) -> int:
        """How many trials of the phase that runs now have not ended; 0 when it measures nothing."""
        now = self.now.phase if self.now else None
        return next((phase.asked - phase.ended for phase in self.phases if phase.name == now), 0)

    @property
    def running(self) -> int:
        """How many trials are measured now, as far as can be told from outside."""
        return min(self.now.workers or 1, self.waiting) if self.now else 0

    def left_s(self) -> float | None:
        """Seconds that the search still takes at the pace so far; None when nothing tells."""
        if self.now is None:
            return None
        to_come = max(self.waiting, planned_trials(self.record.settings) - self.trials)
        step_s = self.now.step_s()
        if self.waiting and step_s is not None:
            return step_s * to_come
        took = [trial.metrics["train_s"] for trial in self.all_trials if "train_s" in trial.metrics]
        if to_come and not took:
            return None
        trials_s = sum(took) / len(took) * to_come / max(1, self.now.workers) if took else 0.0
        return trials_s + (self.now.left_s() or 0.0)

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
            if count == 0:
                raise StudyError(self._why_none())
            raise StudyError(f"{self.directory} has {count} measured cells within the limits, there is no rank {rank}")
        return self.ranking[rank - 1]

    def _why_none(self) -> str:
        if any(trial.done for trial in self.all_trials):
            return f"{self.directory} has no best cell: none of its {self.trials} trials keeps the objective's limits"
        what = f"all of its {self.trials} trials failed" if self.trials else "nothing has been measured yet"
        remedy = "wait for its first trial" if self.worker else f"go on with 'gemnet-search resume {self.directory}'"
        return f"{self.directory} has no best cell: {what}; {remedy}"

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
            "planned": planned_trials(self.record.settings),
            "phases": [vars(phase) for phase in self.phases],
            "now": vars(self.now) | {"running": self.running} if self.now else None,
            "left_s": self.left_s(),
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


def standing(directory: Path, archs: bool = True) -> Standing:
    """How the study in a directory stands now.

    Args:
        directory: the study's.
        archs: without them `arch` is empty in every trial but the best, and large studies are read in half the time.

    Raises:
        StudyError: the directory is no study, or its study.json was changed.
        JournalError: the journal is damaged.
    """
    with uncollected():
        return _standing(directory, archs)


def _standing(directory: Path, archs: bool) -> Standing:
    record, journal = look(directory)
    objective = from_dict(Objective, record.settings.get("objective", {}), "objective")
    with journal:
        trials = _trials(journal, archs)
        asked = {row.key: row.body["keys"] for row in journal.of("asked")}
        done, strategy = journal.get("done", "done"), journal.get("strategy", "strategy")
        study = journal.get("study", "study")
        ranking = _ranking(trials, objective, trials.get(done.body["trial"]) if done else None)
        best = journal.get("trial", ranking[0][0].key) if ranking else None
        if best is not None and not archs:
            ranking = ((Trial(**best.body), ranking[0][1]), *ranking[1:])
    worker = holder(directory / "lock")
    state = "finished" if done else "running" if worker else "stopped"
    return Standing(
        directory,
        study.body["study_json"] if study else "",
        record,
        strategy.body["name"] if strategy else "",
        state,
        worker,
        tuple(_phase(name, keys, trials) for name, keys in asked.items()),
        ranking,
        {name: tuple(trials[key] for key in dict.fromkeys(keys) if key in trials) for name, keys in asked.items()},
        tuple(trials.values()),
        objective,
        read_notice(directory) if state == "running" else None,
    )


def planned_trials(settings: Mapping[str, Any]) -> int:
    """How many trials a search with these settings makes, at most; 0 when its strategy does not tell."""
    strategy = settings.get("strategy", {})
    return int(strategy.get("samples", 0)) + int(strategy.get("rounds", 1)) * int(strategy.get("finalists", 0))


def _trials(journal: Journal, archs: bool) -> dict[str, Trial]:
    if archs:
        return {row.key: Trial(**row.body) for row in journal.of("trial")}
    return {key: Trial(arch={}, **body) for key, body in journal.bodies("trial", without="arch").items()}


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
