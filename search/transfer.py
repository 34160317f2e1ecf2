"""A study's trials as text files: JSON lines that another machine's study takes over, CSV for a spreadsheet."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemnet.errors import GemnetError, StudyError
from gemnet.settings import from_dict, to_dict

from .compose import Parts
from .journal import Journal
from .opening import JOURNAL
from .standing import Standing
from .trial import INFRA, Trial, digest, trial_key, trial_seed

SCHEMA = "gemnet.trials/1"


@dataclass(frozen=True)
class Carried:
    """A study's settings, seed and trials, from another machine."""

    settings: dict[str, Any]
    seed: int
    trials: tuple[Trial, ...]


def jsonl(standing: Standing) -> str:
    """One line of settings and seed, and a checksummed line for every trial but those that are to be retried."""
    head = {"schema": SCHEMA, "settings": standing.record.settings, "seed": standing.record.seed}
    trials = (to_dict(trial) for trial in standing.all_trials if trial.status != INFRA)
    lines = [json.dumps(head), *(json.dumps({"trial": trial, "sha256": digest(trial)}) for trial in trials)]
    return "\n".join(lines) + "\n"


def read_jsonl(path: Path) -> Carried:
    """What `jsonl` wrote.

    Raises:
        StudyError: the file is no such text, or a line of it is damaged.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        head = json.loads(lines[0])
        known = head["schema"] == SCHEMA
        settings, seed = head["settings"], int(head["seed"])
    except (UnicodeDecodeError, ValueError, LookupError, TypeError):
        known = False
    if not known:
        raise StudyError(f"{path} is no file that 'gemnet-search export DIR --jsonl FILE' wrote") from None
    return Carried(settings, seed, tuple(_trials(path, lines[1:])))


def carry_over(directory: Path, parts: Parts, carried: Carried) -> int:
    """How many of the trials were new to the study in a directory; they are journalled now.

    Raises:
        StudyError: a trial was measured with another seed, data set, recipe or evaluator.
    """
    fingerprint, new = parts.evaluator.fingerprint, 0
    with Journal.open(directory / JOURNAL) as journal:
        for trial in carried.trials:
            key = trial_key(parts.space.arch(trial.arch).key, fingerprint, trial.repeat)
            if trial.key != key or trial.seed != trial_seed(carried.seed, key):
                raise StudyError(
                    f"trial {trial.key[:12]} was measured with other data, settings or seed than {directory} has; "
                    "nothing is taken over from there on"
                )
            if journal.get("trial", key) is None:
                journal.append("trial", key, to_dict(trial))
                new += 1
    return new


def table(standing: Standing) -> tuple[list[str], list[list[Any]]]:
    """The columns and rows of a study's trials: what they are, phases, score, every metric, error, architecture."""
    trials = standing.all_trials
    metrics = list(dict.fromkeys(name for trial in trials for name in trial.metrics))
    phases: dict[str, list[str]] = {}
    for name, measured in standing.measured.items():
        for trial in measured:
            phases.setdefault(trial.key, []).append(name)
    columns = ["key", "arch_key", "phases", "status", "repeat", "seed", "score", *metrics, "error", "arch"]
    rows = [
        [trial.key, trial.arch_key, " ".join(phases.get(trial.key, ())), trial.status, trial.repeat, trial.seed,
         standing.objective.score(trial.metrics) if trial.done else None,
         *(trial.metrics.get(name) for name in metrics), trial.error, json.dumps(trial.arch)]
        for trial in trials
    ]  # fmt: skip
    return columns, rows


def csv_text(standing: Standing) -> str:
    """`table` as CSV."""
    columns, rows = table(standing)
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue()


def _trials(path: Path, lines: list[str]) -> Iterator[Trial]:
    for number, line in enumerate(lines, start=2):
        try:
            data = json.loads(line)
            trial = from_dict(Trial, data["trial"], "trial")
            whole = data["sha256"] == digest(data["trial"])
        except (ValueError, LookupError, TypeError, GemnetError):
            whole = False
        if not whole:
            raise StudyError(f"{path}: line {number} is damaged; export the study again, or remove the line")
        yield trial
