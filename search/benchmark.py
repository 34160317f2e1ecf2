"""Runs a strategy many times on a benchmark table: after how many queries does it find a best architecture?

Architectures that compute the same function are one query. A run ends when it has found one with the
table's highest accuracy, or after a number of queries, which then stands for it in mean and quartiles.
"""

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from gemnet.errors import ConfigError

from .compose import make_strategy
from .evaluators.table import TableEvaluator
from .memory import MemoryStudy, QueriesSpentError
from .objective import Objective
from .spaces.listed import TableSpace
from .strategies import Strategy
from .table import absolute, load_table
from .threads import environment_threads, torch_threads

SCHEMA = "gemnet.benchmark/1"
NASGEM = {"samples": 10, "finalists": 1, "acquisition": "ei"}  # what finds a best architecture soonest


@dataclass(frozen=True)
class Run:
    """One seed's run.

    Args:
        seed: of the run.
        queries: at which a best architecture was found, None when none was.
        curve: best accuracy after 1, 2, ... queries.
    """

    seed: int
    queries: int | None
    curve: tuple[float, ...]


@dataclass(frozen=True)
class Report:
    """What came of all runs.

    Args:
        table: what was searched.
        fingerprint: of its rows.
        strategy: its name and settings.
        best: the table's highest accuracy.
        queries: the most a run may make.
        runs: by seed.
    """

    table: str
    fingerprint: str
    strategy: dict[str, Any]
    best: float
    queries: int
    runs: tuple[Run, ...]

    @property
    def found(self) -> float:
        """Share of the runs that found a best architecture."""
        return sum(run.queries is not None for run in self.runs) / len(self.runs)

    @property
    def summary(self) -> dict[str, float]:
        """Queries to a best architecture: mean and its standard error, median, quartiles; cut runs count as cut."""
        counts = np.array([self.queries if run.queries is None else run.queries for run in self.runs])
        low, median, high = np.percentile(counts, (25, 50, 75))
        error = counts.std(ddof=1) / math.sqrt(len(counts)) if len(counts) > 1 else 0.0
        numbers = {"mean": counts.mean(), "mean_error": error, "median": median, "quartile_1": low, "quartile_3": high}
        return {name: float(value) for name, value in numbers.items()}

    @property
    def curve(self) -> list[float]:
        """Best accuracy after 1, 2, ... queries, mean over the runs."""
        rows = [run.curve + run.curve[-1:] * (self.queries - len(run.curve)) for run in self.runs]
        return [float(value) for value in np.mean(rows, axis=0)]

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "schema": SCHEMA,
            "table": self.table,
            "fingerprint": self.fingerprint,
            "strategy": self.strategy,
            "best_val_acc": self.best,
            "queries": self.queries,
            "seeds": len(self.runs),
            "found": self.found,
            "queries_to_best": self.summary,
            "runs": [{"seed": run.seed, "queries": run.queries, "val_acc": run.curve[-1]} for run in self.runs],
            "curve": self.curve,
        }


def benchmark(
    table: str,
    section: dict[str, Any],
    seeds: int,
    queries: int,
    workers: int = 0,
    on_run: Callable[[Run], None] | None = None,
    known: Sequence[Run] = (),
) -> Report:
    """The report of `seeds` runs of a strategy on a table.

    Args:
        table: as in search/table.py.
        section: the strategy's `name` and the settings that differ from those a benchmark gives it.
        seeds: how many runs, with the seeds 0, 1, ...
        queries: the most a run may make; no more than the table has different architectures.
        workers: processes; 0 runs in this one. The result does not depend on it.
        on_run: called after each run.
        known: runs of the same table, settings and number of queries that are not made again.

    Raises:
        UnknownNameError: an unknown table, strategy or setting.
        ConfigError: a setting of the wrong type or range.
        DataError: the table cannot be read.
    """
    if seeds < 1 or queries < 1:
        raise ConfigError(f"a benchmark takes 1 or more seeds and queries, got {seeds} and {queries}")
    table = absolute(table)
    space, evaluator = TableSpace(table), TableEvaluator(table)
    queries = min(queries, space.structures)
    strategy = make_strategy(_settings(section, queries, space.structures))
    with tempfile.TemporaryDirectory() as folder:
        task = _Task(table, strategy, queries, evaluator.best(), folder)
        runs = [run for run in known if run.seed < seeds]
        missing = sorted(set(range(seeds)) - {run.seed for run in runs})
        for run in task.run_all(missing, workers):
            runs.append(run)
            if on_run is not None:
                on_run(run)
    described = {"name": strategy.name} | strategy.to_dict()
    ordered = tuple(sorted(runs, key=lambda run: run.seed))
    return Report(table, load_table(table).fingerprint, described, evaluator.best(), queries, ordered)


def _settings(section: dict[str, Any], queries: int, structures: int) -> dict[str, Any]:
    """A strategy's settings for a table: enough samples for all queries; for NASGEM, all candidates and EI."""
    if section.get("name") != "nasgem":
        return _reaching(queries, {"samples": queries} | section, section.get("samples", queries))
    given: dict[str, Any] = {**NASGEM, "candidates": structures, "block": structures, **section}
    samples, finalists = given["samples"], given["finalists"]
    if not isinstance(samples, int) or not isinstance(finalists, int) or finalists < 1:
        return given  # the settings' own check says what is wrong
    rounds = given.setdefault("rounds", max(1, math.ceil((queries - samples) / finalists)))
    return _reaching(queries, given, samples + finalists * rounds if isinstance(rounds, int) else queries)


def _reaching(queries: int, section: dict[str, Any], reach: object) -> dict[str, Any]:
    """The section; raises ConfigError when its strategy ends before the queries do, which would count as a failure."""
    if isinstance(reach, int) and reach < queries:
        raise ConfigError(f"these settings end a run after {reach} queries of {queries}: raise them, or ask for fewer")
    return section


@dataclass(frozen=True)
class _Task:
    """What a process needs to run one seed."""

    table: str
    strategy: Strategy
    queries: int
    target: float
    folder: str

    def run_all(self, seeds: Sequence[int], workers: int) -> Iterator[Run]:
        """The runs of these seeds, as they end; the first alone, since it makes what is shared."""
        yield from map(self.run, seeds[:1])
        if workers < 2 or len(seeds) < 3:
            yield from map(self.run, seeds[1:])
            return
        context = get_context("spawn")
        with environment_threads(1), ProcessPoolExecutor(min(workers, len(seeds) - 1), context) as pool:
            waiting = [pool.submit(self.run, seed) for seed in seeds[1:]]
            try:
                for future in as_completed(waiting):
                    yield future.result()
            finally:
                for future in waiting:
                    future.cancel()

    def run(self, seed: int) -> Run:
        """One seed's run."""
        with torch_threads(1):
            study = MemoryStudy(
                Path(self.folder),
                seed,
                space=TableSpace(self.table),
                evaluator=TableEvaluator(self.table),
                objective=Objective(lam=0),
                limit=self.queries,
                target=self.target,
            )
            with suppress(QueriesSpentError):
                self.strategy.run(study)
        curve = np.maximum.accumulate([study.score(trial) for trial in study.queries]).tolist()
        return Run(seed, len(curve) if curve[-1] >= self.target else None, tuple(curve))


def describe(report: Report) -> Sequence[str]:
    """A report as lines of text."""
    counts = report.summary
    quartiles = f"quartiles {counts['quartile_1']:g} and {counts['quartile_3']:g}"
    mean = f"mean {counts['mean']:.1f} ± {counts['mean_error']:.1f}"
    return (
        f"{report.strategy['name']} on {report.table}",
        f"  best accuracy {100 * report.best:.2f} %, found by {100 * report.found:.0f} % of {len(report.runs)} runs",
        f"  queries to it: median {counts['median']:g}, {quartiles}, {mean}; runs are cut at {report.queries}",
        f"  best accuracy found, mean over runs: {100 * report.curve[-1]:.3f} %",
    )
