"""Mending a damaged journal: the rows that still match their checksums, read from the pages of the file.

SQLite gives up a whole file for a bit in the wrong place. Rows lie in the leaf pages of one table
(https://www.sqlite.org/fileformat2.html sections 1.5, 1.6 and 2.1), so every page is read as if it
were one; whatever was misread does not match its checksum. A search finds again by replay what a
lost row told: a trial is measured again, an artifact built again.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gemnet.durable import sync_folder
from gemnet.errors import JournalError, StudyError
from gemnet.lock import Lock

from .journal import PAGE_BYTES, Journal, Row, checksum, write_journal

LARGEST_LOCAL = PAGE_BYTES - 35  # bytes of a row that stand in the leaf page itself
SMALLEST_LOCAL = (PAGE_BYTES - 12) * 32 // 255 - 23
SHOWN = 10


@dataclass(frozen=True)
class Salvage:
    """What is left of a damaged journal: rows with their old numbers, and a line about each number without one."""

    rows: tuple[Row, ...]
    lost: tuple[str, ...]


def open_mended(path: Path, warn: Callable[[str], None]) -> Journal:
    """An existing journal, locked for writing; a damaged one is replaced by its undamaged rows and set aside.

    Raises:
        JournalError: it is missing, of another version, or no row of it can be read.
        StudyError: another process holds the lock, or the new file cannot be written.
    """
    try:
        return Journal.open(path)
    except JournalError as error:
        lock, reason = Lock(path.with_name("lock"), StudyError), error
    try:
        found = salvage(path)
        if not found.rows:
            raise reason
        aside = _replace(path, found)
    finally:
        lock.release()
    warn(f"{path} was damaged: {len(found.rows)} rows are whole, {len(found.lost)} are lost; it is kept as {aside}")
    for line in found.lost[:SHOWN]:
        warn(f"{line} is damaged and is made again")
    if len(found.lost) > SHOWN:
        warn(f"so are {len(found.lost) - SHOWN} more")
    return Journal.open(path)


def salvage(path: Path) -> Salvage:
    """The rows of a journal's file that match their checksums, whatever state the rest of it is in."""
    if not path.is_file():
        return Salvage((), ())
    data = path.read_bytes()
    whole: dict[int, Row] = {}
    broken: dict[int, str] = {}
    for seq, columns in _records(data):
        row = _row(seq, columns)
        if row is not None:
            whole[seq] = row
        elif 0 < seq <= len(data):  # a row has more than one byte
            broken[seq] = " ".join("".join(c for c in text[:16].decode(errors="ignore") if c.isprintable())
                                   for text in columns[:2])  # fmt: skip
    last = max(whole, default=0)
    missing = [seq for seq in range(1, last + 1) if seq not in whole]
    lost = [f"row {seq} ({broken[seq]})" if seq in broken else f"row {seq}" for seq in missing]
    beyond = [f"row {seq} ({what})" for seq, what in sorted(broken.items()) if last < seq <= last + len(broken)]
    return Salvage(tuple(whole[seq] for seq in sorted(whole)), tuple(lost + beyond))


def _replace(path: Path, found: Salvage) -> Path:
    """Puts a new journal in a damaged one's place, at every moment whole; returns where the old one is."""
    beside = path.with_name(f".{path.name}.mended")
    for name in (beside, beside.with_name(f"{beside.name}-journal")):
        name.unlink(missing_ok=True)
    rows = [row for row in found.rows if row.kind != "done"]  # the search ends when it has found again what is lost
    write_journal(beside, rows)
    free = (path.with_name(f"{path.stem}.damaged-{k}{path.suffix}") for k in range(1, 1000))
    aside = next(name for name in free if not name.exists())
    hot = path.with_name(f"{path.name}-journal")
    if hot.exists():  # SQLite would undo the new file's pages with the old ones'
        os.rename(hot, aside.with_name(f"{aside.name}-journal"))
    os.link(path, aside)
    os.replace(beside, path)
    sync_folder(path.parent)
    return aside


def _records(data: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Row numbers and text columns of everything in the file that looks like a row."""
    for page in range(PAGE_BYTES, len(data) - 8, PAGE_BYTES):  # the first page holds no row
        count = int.from_bytes(data[page + 3 : page + 5])
        for place in range(page + 8, min(page + 8 + 2 * count, page + PAGE_BYTES - 1, len(data) - 1), 2):
            start = int.from_bytes(data[place : place + 2])
            if 8 <= start < PAGE_BYTES:
                try:
                    yield _record(data, page + start)
                except IndexError:
                    continue  # no row


def _record(data: bytes, place: int) -> tuple[int, list[bytes]]:
    size, place = _varint(data, place)
    seq, place = _varint(data, place)
    if size > len(data):
        raise IndexError
    payload = _payload(data, place, size)
    head, at = _varint(payload, 0)
    sizes = []
    while at < head:
        kind, at = _varint(payload, at)
        sizes.append((kind - 13) // 2 if kind >= 13 else 0)
    if len(sizes) != 6 or head + sum(sizes) > size:
        raise IndexError
    columns = []
    for length in sizes[1:]:  # the number itself is not among the columns
        columns.append(payload[at : at + length])
        at += length
    return seq, columns


def _payload(data: bytes, place: int, size: int) -> bytes:
    """A row's bytes: in the page, and the rest in a chain of pages of their own."""
    if size <= LARGEST_LOCAL:
        return data[place : place + size]
    local = SMALLEST_LOCAL + (size - SMALLEST_LOCAL) % (PAGE_BYTES - 4)
    local = local if local <= LARGEST_LOCAL else SMALLEST_LOCAL
    found, place = data[place : place + local], place + local
    while len(found) < size:
        page = (int.from_bytes(data[place : place + 4]) - 1) * PAGE_BYTES
        if not PAGE_BYTES <= page < len(data):
            raise IndexError
        found += data[page + 4 : page + PAGE_BYTES]
        place = page
    return found[:size]


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number of SQLite's variable length, and the place after it."""
    value = 0
    for k in range(9):
        byte = data[place + k]
        if k == 8:
            return value << 8 | byte, place + 9
        value = value << 7 | byte & 127
        if byte < 128:
            return value, place + k + 1
    raise AssertionError


def _row(seq: int, columns: list[bytes]) -> Row | None:
    try:
        kind, key, text, time, sha256 = (column.decode() for column in columns)
    except UnicodeDecodeError:
        return None
    return Row(seq, kind, key, text, time) if checksum(seq, kind, key, text, time) == sha256 else None
