"""Starting a study directory, and opening one only when it is what it was when it was started."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gemnet.durable import write_atomic
from gemnet.errors import ReplayError, StudyError

from .journal import Journal
from .mending import open_mended
from .record import FILE, Record, differences, new_record, read_record, record_text
from .replay import REMEDY

JOURNAL = "journal.db"
LEFTOVERS = {"lock", JOURNAL, f"{JOURNAL}-journal", f".{FILE}.tmp"}  # of a start that was cut off


def begin(
    directory: Path, settings: Mapping[str, Any], seed: int, fingerprints: Mapping[str, str | None]
) -> tuple[Record, Journal]:
    """The record and journal of a study that starts in an empty or new directory.

    study.json is written last: a directory without it holds nothing that was measured.

    Raises:
        StudyError: the directory is not empty, cannot be written, or is in use.
    """
    record = new_record(settings, seed)
    text = record_text(record)
    refuse_occupied(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(directory)
    except OSError as error:
        raise StudyError(f"cannot start a study in {directory}: {error.strerror}") from None
    journal = Journal.create(directory / JOURNAL)
    try:
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        journal.append("study", "study", {"study_json": sha256} | dict(fingerprints))
        write_atomic(directory / FILE, text)
    except BaseException:
        journal.close()
        raise
    return record, journal


def reopen(
    directory: Path,
    settings: Mapping[str, Any] | None,
    seed: int | None,
    fingerprints: Mapping[str, str | None],
    warn: Callable[[str], None],
) -> tuple[Record, Journal]:
    """The record and journal of a study that was started before, locked for writing.

    Damaged rows of the journal are left out and reported; what they told is found again by replay.

    Args:
        directory: the study's.
        settings: must equal the study's, unless None.
        seed: must equal the study's, unless None.
        fingerprints: of space and evaluator, as they are now.
        warn: called with each line about damage.

    Raises:
        StudyError: the directory is no study, is in use, or was started with other settings.
        JournalError: the journal is damaged, and no row of it can be read.
        ReplayError: space or evaluator have changed.
    """
    record, sha256 = read_record(directory)
    refuse_other_settings(record, settings, seed)
    journal = open_mended(directory / JOURNAL, warn)
    try:
        if journal.get("study", "study") is None:  # lost with its row: study.json itself was read
            journal.append("study", "study", {"study_json": sha256} | dict(fingerprints))
        check_unchanged(directory, journal, sha256, fingerprints)
    except BaseException:
        journal.close()
        raise
    return record, journal


def look(directory: Path) -> tuple[Record, Journal]:
    """The record and a read-only journal of a study, also while another process works on it.

    Raises:
        StudyError: the directory is no study, or its study.json was changed.
        JournalError: the journal is damaged.
    """
    record, sha256 = read_record(directory)
    journal = Journal.open(directory / JOURNAL, read_only=True)
    try:
        check_unchanged(directory, journal, sha256, {})
    except BaseException:
        journal.close()
        raise
    return record, journal


def refuse_other_settings(record: Record, settings: Mapping[str, Any] | None, seed: int | None) -> None:
    """Raises StudyError naming every field in which settings or seed differ from the study's."""
    changed = [] if settings is None else differences(record.settings, json.loads(json.dumps(dict(settings))))
    changed += [] if seed is None else differences(record.seed, seed, "seed")
    if changed:
        remedy = "a study keeps the settings it was started with, start another for new ones"
        raise StudyError(f"cannot resume with other settings: {'; '.join(changed)}; {remedy}")


def check_unchanged(
    directory: Path, journal: Journal, sha256: str, fingerprints: Mapping[str, str | None]
) -> None:
    """Raises when study.json, or one of the parts given, is another than when the study was started."""
    row = journal.get("study", "study")
    if row is None or row.body["study_json"] != sha256:
        raise StudyError(f"{directory / FILE} was changed after the study was started; restore it from a copy")
    for part, now in fingerprints.items():
        if row.body[part] != now:
            raise ReplayError(
                f"replay diverged at {part}: its fingerprint was {str(row.body[part])[:16]}, is {str(now)[:16]}; "
                f"data, settings or code of the {part} have changed since the study was started; {REMEDY}"
            )


def refuse_occupied(directory: Path) -> None:
    """Raises StudyError unless a study can be started in a directory: it is new, empty, or a start was cut off."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise StudyError(f"{directory} is a file; give a new directory")
    names = {entry.name for entry in directory.iterdir()}
    if FILE in names:
        raise StudyError(f"{directory} holds a study already; go on with 'gemnet-search resume {directory}'")
    if names - LEFTOVERS:
        raise StudyError(f"{directory} is not empty (it holds {min(names - LEFTOVERS)!r}); give a new directory")


def _clear_leftovers(directory: Path) -> None:
    """Removes the journal of a start that was cut off before its study.json."""
    path = directory / JOURNAL
    if path.exists():
        with Journal.open(path) as journal:
            if len(journal.rows) > 1:
                raise StudyError(f"{directory} has a journal but no {FILE}; restore that, or give a new directory")
            path.unlink()
