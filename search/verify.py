"""Whether a study's directory is whole: study.json, every row of the journal, every file of its artifacts."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gemnet.errors import GemnetError, JournalError

from .artifacts import problems_of
from .journal import Journal, Row
from .mending import salvage
from .opening import JOURNAL, check_unchanged
from .record import read_record
from .trial import Trial, trial_key, trial_seed


@dataclass(frozen=True)
class Verified:
    """What was looked at, and a line for everything that is wrong."""

    rows: int
    trials: int
    artifacts: int
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def verify(directory: Path) -> Verified:
    """What is wrong with a study, if anything; nothing is changed.

    Raises:
        StudyError: the directory is no study.
    """
    record, sha256 = read_record(directory)
    path, problems = directory / JOURNAL, []
    try:
        with Journal.open(path, read_only=True) as journal:
            rows = list(journal.rows)
            check_unchanged(directory, journal, sha256, {})
    except JournalError as error:
        found = salvage(path)
        rows = list(found.rows)
        problems += [str(error), *(f"{path}: {line} is damaged" for line in found.lost)]
    except GemnetError as error:
        problems.append(str(error))
    last = {(row.kind, row.key): row for row in rows}
    trials = [Trial(**row.body) for row in last.values() if row.kind == "trial"]
    artifacts = [row for row in last.values() if row.kind == "artifact"]
    problems += _wrong_trials(trials, rows, record.seed)
    for row in artifacts:
        problems += problems_of(directory / "artifacts", row)
    return Verified(len(rows), len(trials), len(artifacts), tuple(problems))


def _wrong_trials(trials: list[Trial], rows: list[Row], seed: int) -> list[str]:
    """Trials whose key or seed are not what they are made of."""
    evaluator = next((row.body["evaluator"] for row in rows if row.kind == "study"), None)
    if evaluator is None:
        return []
    wrong = [
        trial
        for trial in trials
        if trial.key != trial_key(trial.arch_key, evaluator, trial.repeat) or trial.seed != trial_seed(seed, trial.key)
    ]
    return [f"trial {trial.key[:12]} was measured with another evaluator or seed" for trial in wrong]
