"""A study: a search that can be killed at any moment and resumed by running the same code again.

A strategy asks a study for measurements, artifacts and random generators by name. What was done
before is looked up in the journal; only what is missing is done. So a resumed search walks
through its code again until it reaches the point where it was stopped.
"""

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from gemnet.errors import EvaluationError, StudyError
from gemnet.stopping import Stop

from .artifacts import Artifacts
from .compose import Parts
from .journal import Journal
from .opening import begin, reopen
from .progress import LIVE, Notice, Phase, Progress
from .record import Record, surroundings_changed
from .replay import recall_asked, recall_strategy
from .strategies import Strategy
from .threads import torch_threads
from .trial import INFRA, Arch, Trial, best_of, digest, inputs_digest, trial_key, trial_seed
from .workers import Outcome, Task
from .workforce import Workforce, as_workforce, open_pool

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Arch", "Parts", "Strategy", "Study", "Trial"]


class Study:
    """An open study; use `create` or `open`, and `close` it (or use it in a `with` statement).

    Attributes:
        directory: where it lives: `study.json`, `journal.db`, `artifacts/`.
        settings: the resolved settings it was started with, by section.
        seed: where all its randomness comes from.
        space, evaluator, objective: the parts a strategy works with.
        progress: shows phases; strategies may show their own.
        workers: how many processes a strategy may use on this machine; 0 for none but this one.
    """

    def __init__(
        self,
        directory: Path,
        parts: Parts,
        record: Record,
        journal: Journal,
        workforce: Workforce,
        progress: Progress | None,
        stop: Stop | None,
    ) -> None:
        self.directory, self.settings, self.seed = directory, record.settings, record.seed
        self.space, self.evaluator, self.objective = parts.space, parts.evaluator, parts.objective
        self.progress, self.workers, self._stop = progress or Progress(quiet=True), workforce.here, stop or Stop()
        self.progress.post(Notice(directory / LIVE, workforce.count))
        self._parts, self._threads, self._limits = parts, record.threads["driver"], record.limits
        self._journal = journal
        self._artifacts = Artifacts(directory / "artifacts", journal)
        self._pool = open_pool(parts.evaluator, workforce, record.limits, self._stop)
        self._trials = {row.key: Trial(**row.body) for row in journal.of("trial")}
        self._used: set[tuple[str, str]] = set()

    @classmethod
    def create(
        cls,
        directory: str | Path,
        parts: Parts,
        *,
        seed: int = 0,
        workers: int | Workforce = 0,
        progress: Progress | None = None,
        stop: Stop | None = None,
    ) -> "Study":
        """A new study in a directory that is empty or does not exist.

        Args:
            directory: on a local disk.
            parts: what it works with; their settings are kept in study.json, the section `study` as `Limits`.
            seed: of everything random.
            workers: processes that measure, or a workforce of another kind; 0 measures in this process.
            progress: where phases are shown; nowhere when None.
            stop: asked before anything new is begun.

        Raises:
            StudyError: the directory is not empty, cannot be written, or is in use.
        """
        directory = Path(directory)
        record, journal = begin(directory, parts.settings, seed, parts.fingerprints())
        return cls(directory, parts, record, journal, as_workforce(workers), progress, stop)

    @classmethod
    def open(
        cls,
        directory: str | Path,
        parts: Parts,
        *,
        seed: int | None = None,
        workers: int | Workforce = 0,
        progress: Progress | None = None,
        stop: Stop | None = None,
        retry_failed: bool = False,
        warn: Callable[[str], None] | None = None,
    ) -> "Study":
        """A study that was started before, ready to go on; arguments as for `create`.

        Rows of the journal that are damaged are reported and left out, so that they are made again.

        Args:
            parts: their settings must equal the study's, unless they are empty.
            seed: must equal the study's when given.
            retry_failed: measure trials again that failed through no fault of their own.
            warn: called with each line about damage, or about bit-equality that cannot be promised; prints
                to stderr when None.

        Raises:
            StudyError: the directory is no study, is in use, or was started with other settings.
            JournalError: the journal is damaged beyond repair.
            ReplayError: data, recipe, space or evaluator have changed since.
        """
        directory, warn = Path(directory), warn or _warn
        record, journal = reopen(directory, parts.settings or None, seed, parts.fingerprints(), warn)
        changed = surroundings_changed(record)
        if changed:
            warn(f"{'; '.join(changed)}: results stay valid, but bit-equality with an unbroken run is not promised")
        study = cls(directory, parts, record, journal, as_workforce(workers), progress, stop)
        if retry_failed:
            study._trials = {key: trial for key, trial in study._trials.items() if trial.status != INFRA}
        return study

    def run(self, strategy: Strategy | None = None) -> Trial:
        """The winner a strategy finds (the parts' own when None), journalled; a finished study gives its winner again.

        Raises:
            KeyboardInterrupt: `stop` was requested, and what ran then is saved.
            ReplayError: the strategy is another than before, or asks for something else.
            EvaluationError: too many trials failed, or none is within the limits.
        """
        self._used.clear()
        strategy = strategy or self._parts.strategy
        recall_strategy(self._journal, strategy.name, strategy.to_dict())
        finished = self._journal.get("done", "done")
        if finished is not None:
            return self._trials[finished.body["trial"]]
        with torch_threads(self._threads):
            winner = self._winner(strategy.run(self))
        self._journal.append("done", "done", {"trial": winner.key, "arch": winner.arch, "arch_key": winner.arch_key})
        return winner

    def evaluate(self, name: str, archs: Iterable[Arch], repeats: int = 1) -> list[Trial]:
        """The trials of some architectures, in the order asked; repeats of one stand together.

        Args:
            name: names this request in the study; used once.
            archs: what to measure; equal ones are measured once.
            repeats: measurements of each, with different seeds.

        Raises:
            ReplayError: a study that was started before asked for other trials under this name.
            EvaluationError: too many of them failed.
        """
        self._use("evaluate", name)
        fingerprint = self.evaluator.fingerprint
        asked = [self._task(arch, fingerprint, repeat) for arch in archs for repeat in range(repeats)]
        keys = [task.key for task in asked]
        recall_asked(self._journal, name, keys)
        tasks: dict[str, Task] = {}
        for task in asked:
            tasks.setdefault(task.key, task)
        missing = [task for key, task in tasks.items() if key not in self._trials]
        with self.progress.phase(name, len(tasks), len(tasks) - len(missing)) as phase:
            self._measure(name, missing, list(tasks), phase)
        return [self._trials[key] for key in keys]

    def artifact(self, name: str, build: Callable[[Path], None], inputs: Sequence[Any] = ()) -> Path:
        """The folder that `build` filled, now or before the study was stopped.

        Args:
            name: names it in the study; used once.
            build: fills the folder it is given, which holds what an interrupted `build` left there.
            inputs: what it is made of, as trials, architectures, folders or JSON values.

        Raises:
            ReplayError: it was built from other inputs before.
            StudyError: one of its files is missing or damaged.
        """
        self._use("artifact", name)

        def begin_and_build(folder: Path) -> None:
            self._stop.end()
            build(folder)

        return self._artifacts.get(name, inputs_digest(inputs), begin_and_build)

    def rng(self, name: str) -> "np.random.Generator":
        """A random generator of its own for every name: Philox keyed by sha256 of (seed, name)."""
        import numpy as np

        self._use("rng", name)
        return np.random.Generator(np.random.Philox(key=int(digest("rng", self.seed, name)[:32], 16)))

    def score(self, trial: Trial) -> float:
        """The objective's score of a trial; minus infinity when it has no metrics."""
        return self.objective.score(trial.metrics) if trial.done else -math.inf

    def best(self, trials: Iterable[Trial]) -> Trial:
        """The trial with the highest score (mean over repeats) within the limits; the first of equal ones.

        Raises:
            EvaluationError: there is none.
        """
        trials = list(trials)
        allowed = [trial for trial in trials if trial.done and self.objective.accepts(trial.metrics)]
        found = best_of(allowed, map(self.score, allowed))
        if found is None:
            done = sum(trial.done for trial in trials)
            raise EvaluationError(f"no best among {len(trials)} trials: {done} finished, none within the limits")
        return found

    def close(self) -> None:
        """Ends the workers and lets another process open the study."""
        self._pool.close()
        self.progress.post(None)
        self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _task(self, arch: Arch, fingerprint: str, repeat: int) -> Task:
        key = trial_key(arch.key, fingerprint, repeat)
        return Task(key, arch, trial_seed(self.seed, key), repeat)

    def _measure(self, name: str, missing: list[Task], keys: list[str], phase: Phase) -> None:
        self._stop_if_hopeless(name, keys)
        for outcome in self._pool.run(missing):
            trial = _trial(outcome)
            row = self._journal.append("trial", trial.key, vars(trial))
            self._trials[trial.key] = Trial(**row.body)  # what a resumed study reads
            phase.advance()
            self._stop_if_hopeless(name, keys)
        if any(task.key not in self._trials for task in missing):
            self._stop.end()

    def _stop_if_hopeless(self, name: str, keys: list[str]) -> None:
        failed = [self._trials[key] for key in keys if key in self._trials and not self._trials[key].done]
        if len(failed) > self._limits.max_failed_share * len(keys):
            raise EvaluationError(
                f"{len(failed)} of {len(keys)} trials of {name!r} failed, more than the share "
                f"{self._limits.max_failed_share:g} that study.max_failed_share allows; the first: {failed[0].error}"
            )

    def _winner(self, found: Arch | Trial) -> Trial:
        if isinstance(found, Trial):
            return found
        mine = [trial for trial in self._trials.values() if trial.arch_key == found.key]
        return self.best(mine)

    def _use(self, kind: str, name: str) -> None:
        if (kind, name) in self._used:
            raise StudyError(f"the name {name!r} is used twice by {kind}; give each request its own, such as {name}/1")
        self._used.add((kind, name))


def _trial(outcome: Outcome) -> Trial:
    task, arch = outcome.task, outcome.task.arch
    return Trial(
        key=task.key,
        arch=arch.to_dict(),
        arch_key=arch.key,
        status=outcome.status,
        metrics=outcome.metrics,
        seed=task.seed,
        repeat=task.repeat,
        error=outcome.error,
    )


def _warn(text: str) -> None:
    print(f"Warning: {text}", file=sys.stderr)
