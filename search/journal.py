"""What a study has done so far: one SQLite file of numbered, checksummed rows that are only appended.

| kind     | key           | body                                                          |
|----------|---------------|---------------------------------------------------------------|
| study    | `"study"`     | sha256 of study.json, fingerprints of space and evaluator     |
| strategy | its name      | its settings                                                  |
| asked    | phase         | keys of the trials the strategy asked for, in order           |
| trial    | trial key     | the trial                                                     |
| artifact | its name      | digest of its inputs, its folder, sha256 of each of its files |
| done     | `"done"`      | the winner                                                    |

Opening reads everything: SQLite's own check, the file's header, the table's definition, every
row's checksum and the unbroken sequence. So one flipped bit is found, or stands in a byte that
nothing reads. Look-ups are in memory; of several rows with one kind and key the last counts.
"""

import gc
import hashlib
import json
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from gemnet.errors import JournalError, StudyError
from gemnet.lock import Lock

from .trial import canonical

VERSION = 1  # raised together with another `checksum`, so that rows tell their version as the header does
APPLICATION_ID = 0x47454D4E  # "GEMN"
PAGE_BYTES = 4096
COLUMNS = "seq, kind, key, body, time, sha256"
TABLE = (
    "CREATE TABLE row (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL, "
    "body TEXT NOT NULL, time TEXT NOT NULL, sha256 TEXT NOT NULL)"
)
INSERT = f"INSERT INTO row ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"
BUSY_S = 30.0
REMEDY = "'gemnet-search verify' lists what is damaged, 'gemnet-search resume' measures it again"
GONE = "restore the file from a copy, or start the study anew in another directory"


@dataclass(frozen=True)
class Row:
    """One entry of a journal; `text` is its body's canonical JSON, `time` is UTC, ISO 8601."""

    seq: int
    kind: str
    key: str
    text: str
    time: str

    @cached_property
    def body(self) -> dict[str, Any]:
        """The JSON object, read from the text when it is first asked for."""
        body: dict[str, Any] = json.loads(self.text)
        return body


class Journal:
    """An open journal; use `create` or `open`."""

    def __init__(self, path: Path, db: sqlite3.Connection, rows: list[Row], lock: Lock | None) -> None:
        self.path = path
        self.rows = rows
        self._db, self._lock = db, lock
        self._last = {(row.kind, row.key): row for row in rows}

    @classmethod
    def create(cls, path: Path) -> "Journal":
        """A new, empty journal, locked for writing.

        Raises:
            StudyError: the path exists, cannot be written, or another process holds its lock.
        """
        lock = Lock(path.with_name("lock"), StudyError)
        try:
            if path.exists():
                raise StudyError(f"{path} exists already")
            db = _new_file(path, [])
        except sqlite3.Error as error:
            lock.release()
            raise StudyError(f"cannot create {path}: {error}") from None
        except BaseException:
            lock.release()
            raise
        return cls(path, db, [], lock)

    @classmethod
    def open(cls, path: Path, read_only: bool = False) -> "Journal":
        """An existing journal with every row verified; read-only ones take no lock.

        Raises:
            JournalError: the file is damaged, missing or of another version.
            StudyError: another process holds the lock.
        """
        if not path.is_file():
            raise JournalError(f"{path} is missing; {GONE}")
        lock = None if read_only else Lock(path.with_name("lock"), StudyError)
        try:
            db = _connect(path, "rw")
            try:
                if not read_only:
                    _durable(db)
                rows = _verified(path, db)
                if read_only:
                    db.execute("PRAGMA query_only=1")
            except BaseException:
                db.close()
                raise
        except (sqlite3.Error, UnicodeDecodeError) as error:
            _release(lock)
            raise JournalError(f"{path} cannot be read ({str(error)[:80]!r}); {REMEDY}") from None
        except BaseException:
            _release(lock)
            raise
        return cls(path, db, rows, lock)

    def append(self, kind: str, key: str, body: dict[str, Any]) -> Row:
        """The row that is on disk when this returns.

        Raises:
            StudyError: it could not be written, for example because the disk is full.
        """
        text = canonical(body)
        seq, time = len(self.rows) + 1, datetime.now(UTC).isoformat(timespec="milliseconds")
        values = (seq, kind, key, text, time)
        try:
            self._db.execute(INSERT, (*values, checksum(*values)))
        except sqlite3.Error as error:
            raise StudyError(f"cannot write {self.path}: {error}; mend this and resume, nothing is lost") from None
        row = Row(seq, kind, key, text, time)
        self.rows.append(row)
        self._last[kind, key] = row
        return row

    def get(self, kind: str, key: str) -> Row | None:
        """The last row of a kind and key."""
        return self._last.get((kind, key))

    def of(self, kind: str) -> list[Row]:
        """The last row of every key of a kind, in the order in which the keys first appeared."""
        return [row for row in self._last.values() if row.kind == kind]

    def bodies(self, kind: str, without: str) -> dict[str, dict[str, Any]]:
        """Bodies of `of(kind)` by key, but for one field, which is not read: faster where it is large.

        Raises:
            JournalError: the file cannot be read any more.
        """
        query = "SELECT seq, json_remove(body, ?) FROM row WHERE kind = ?"
        try:
            texts = dict(self._db.execute(query, (f"$.{without}", kind)))
        except sqlite3.Error as error:
            raise JournalError(f"{self.path} cannot be read ({error})") from None
        return {row.key: json.loads(texts[row.seq]) for row in self.of(kind)}

    def close(self) -> None:
        """Closes the file and releases the lock."""
        self._db.close()
        _release(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_journal(path: Path, rows: Sequence[Row]) -> None:
    """Writes a new journal of some rows, numbered afresh; raises StudyError when it cannot be written."""
    try:
        _new_file(path, rows).close()
    except sqlite3.Error as error:
        raise StudyError(f"cannot create {path}: {error}") from None


def _new_file(path: Path, rows: Sequence[Row]) -> sqlite3.Connection:
    db = _connect(path, "rwc")
    db.execute(f"PRAGMA page_size={PAGE_BYTES}")
    _durable(db)
    db.execute("BEGIN IMMEDIATE")
    db.execute(f"PRAGMA application_id={APPLICATION_ID}")
    db.execute(f"PRAGMA user_version={VERSION}")
    db.execute(TABLE)
    for seq, row in enumerate(rows, start=1):
        values = (seq, row.kind, row.key, row.text, row.time)
        db.execute(INSERT, (*values, checksum(*values)))
    db.execute("COMMIT")
    return db


def _release(lock: Lock | None) -> None:
    if lock is not None:
        lock.release()


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    address = f"file:{quote(str(path.absolute()))}?mode={mode}"
    return sqlite3.connect(address, uri=True, isolation_level=None, timeout=BUSY_S)


def _durable(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA journal_mode=DELETE")
    db.execute("PRAGMA synchronous=FULL")


def checksum(seq: object, kind: object, key: object, body: object, time: object) -> str:
    """sha256 (hex) over a row's number and columns."""
    return hashlib.sha256(canonical([seq, kind, key, body, time]).encode()).hexdigest()


def _verified(path: Path, db: sqlite3.Connection) -> list[Row]:
    """All rows of a journal; raises JournalError (or sqlite3.Error) when anything in the file is wrong."""
    with open(path, "rb") as file:  # closed last: closing it drops this process's locks on the file
        db.execute("BEGIN")  # one snapshot, also while another process appends
        try:
            tables = db.execute("SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema").fetchall()
            if not tables:
                raise JournalError(f"{path} is empty; {GONE}")
            _check_header(path, file.read(100))
            if tables != [("table", "row", "row", 2, TABLE)]:
                raise JournalError(f"{path}: its table has been changed; {REMEDY}")
            found = db.execute("PRAGMA integrity_check").fetchall()
            if found != [("ok",)]:
                raise JournalError(f"{path} is damaged ({str(found[0][0]).splitlines()[-1]}); {REMEDY}")
            db.text_factory = bytes
            raw = db.execute(f"SELECT {COLUMNS} FROM row ORDER BY seq").fetchall()
        finally:
            db.text_factory = str
            db.execute("ROLLBACK")
    with uncollected():
        return [_row(path, place, values) for place, values in enumerate(raw, start=1)]


@contextmanager
def uncollected() -> Iterator[None]:
    """Within it Python looks for no garbage: among 10,000 rows that have just been read it takes half the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _row(path: Path, place: int, values: tuple[Any, ...]) -> Row:
    if values[0] != place:
        raise JournalError(f"{path}: row {place} is missing; {REMEDY}")
    try:
        kind, key, text, time, sha256 = (value.decode() for value in values[1:])
    except (AttributeError, UnicodeDecodeError):
        raise JournalError(f"{path}: row {place} is no text; {REMEDY}") from None
    if sha256 != checksum(place, kind, key, text, time):
        raise JournalError(f"{path}: row {place} ({kind[:20]} {key[:16]}) does not match its checksum; {REMEDY}")
    return Row(place, kind, key, text, time)


def _check_header(path: Path, header: bytes) -> None:
    """Raises unless every field of SQLite's file header that this journal fixes holds its value.

    The fields are those of https://www.sqlite.org/fileformat2.html section 1.3. Only the number
    of the SQLite version that wrote last is free, and nothing depends on it.
    """
    if len(header) < 100 or header[:16] != b"SQLite format 3\0":
        raise JournalError(f"{path} is no journal; {GONE}")
    fields = struct.unpack(">H6B12I", header[16:72])
    changes, pages = fields[7], fields[8]
    schema = fields[11]
    fixed = (PAGE_BYTES, 1, 1, 0, 64, 32, 32, changes, pages, 0, 0, schema, 4, 0, 0, 1)
    if fields[:16] != fixed or fields[17:] != (0, APPLICATION_ID) or any(header[72:92]):
        raise JournalError(f"{path}: its header is damaged; {REMEDY}")
    if struct.unpack(">I", header[92:96])[0] != changes or pages * PAGE_BYTES != path.stat().st_size:
        raise JournalError(f"{path}: its header is damaged; {REMEDY}")
    if fields[16] != VERSION:
        theirs = f"journal version {fields[16]}, this gemnet reads version {VERSION}"
        raise JournalError(f"{path}: {theirs}; use the version of gemnet that started the study")
