import os
import random
import sqlite3
import subprocess
import sys

import pytest

from gemnet.errors import JournalError, StudyError
from gemnet.search.journal import Journal

ROWS = 50


@pytest.fixture
def path(tmp_path):
    with Journal.create(tmp_path / "journal.db") as journal:
        for k in range(ROWS):
            journal.append("trial", f"key{k}", {"val_acc": k / 7, "arch": ["sepconv3x3"] * 20})
    return tmp_path / "journal.db"


def edit(path, statement):
    db = sqlite3.connect(path)
    db.execute(statement)
    db.commit()
    db.close()


def test_rows_come_back_as_they_were_written(path):
    with Journal.open(path) as journal:
        assert [row.seq for row in journal.rows] == list(range(1, ROWS + 1))
        assert journal.get("trial", "key7").body == {"val_acc": 1.0, "arch": ["sepconv3x3"] * 20}
        assert journal.get("trial", "key50") is None
        assert journal.get("asked", "key7") is None


def test_the_last_row_of_a_key_counts(path):
    with Journal.open(path) as journal:
        journal.append("trial", "key3", {"again": True})
    with Journal.open(path) as journal:
        assert journal.get("trial", "key3").body == {"again": True}
        assert [row.key for row in journal.of("trial")][:5] == [f"key{k}" for k in range(5)]
        assert len(journal.of("trial")) == ROWS


def test_bodies_may_be_read_without_a_large_field(path):
    with Journal.open(path) as journal:
        journal.append("trial", "key3", {"arch": [[0, 1]], "loss": 1e-17, "text": "ü\u2028\"", "n": 2**53})
        journal.append("asked", "key3", {"arch": 1})
        whole = {row.key: row.body for row in journal.of("trial")}
        brief = journal.bodies("trial", without="arch")
        assert list(brief) == list(whole)
        assert brief == {key: {k: v for k, v in body.items() if k != "arch"} for key, body in whole.items()}


def test_a_flipped_bit_is_found_or_changes_nothing(path):
    whole = path.read_bytes()
    with Journal.open(path) as journal:
        rows = list(journal.rows)
    rng = random.Random(0)
    bits = [rng.randrange(800) for _ in range(100)] + [rng.randrange(8 * len(whole)) for _ in range(400)]
    messages = []
    for bit in bits:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            journal = Journal.open(path)
        except JournalError as error:
            messages.append(str(error))
            continue
        with journal:
            assert journal.rows == rows, f"bit {bit}"
            journal.append("trial", "next", {})
        with Journal.open(path) as journal:
            assert journal.rows[:ROWS] == rows, f"bit {bit}"
            assert len(journal.rows) == ROWS + 1
    assert len(messages) > 0.4 * len(bits)
    assert all(message.startswith(str(path)) and "\n" not in message for message in messages)


def test_a_changed_row_is_named(path):
    edit(path, "UPDATE row SET body = replace(body, '1.0', '0.9') WHERE key = 'key7'")
    with pytest.raises(JournalError, match=r"row 8 \(trial key7\) does not match its checksum; .*measures it again"):
        Journal.open(path)


@pytest.mark.parametrize("column", ["kind", "key", "time"])
def test_every_column_is_under_the_checksum(path, column):
    edit(path, f"UPDATE row SET {column} = 'other' WHERE seq = 5")
    with pytest.raises(JournalError, match=r"row 5 .* does not match its checksum"):
        Journal.open(path)


def test_a_removed_row_is_named(path):
    edit(path, "DELETE FROM row WHERE seq = 20")
    with pytest.raises(JournalError, match="row 20 is missing"):
        Journal.open(path)


def test_two_rows_cannot_change_places(path):
    for was, now in ((3, 1000), (4, 3), (1000, 4)):
        edit(path, f"UPDATE row SET seq = {now} WHERE seq = {was}")
    with pytest.raises(JournalError, match=r"row 3 .* does not match its checksum"):
        Journal.open(path)


def test_a_journal_of_another_version_is_refused(path):
    edit(path, "PRAGMA user_version=9")
    with pytest.raises(JournalError, match="journal version 9, this gemnet reads version 1"):
        Journal.open(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"hello" * 1000, "cannot be read"), (None, "is missing"), ("half", "journal.db")],
)
def test_other_content_is_no_journal(path, content, message):
    if content is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:9000] if content == "half" else content)
    with pytest.raises(JournalError, match=message):
        Journal.open(path)


def test_a_journal_is_not_created_over_another(path):
    with pytest.raises(StudyError, match="exists already"):
        Journal.create(path)


def child(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


HOLD = """
import sys
from pathlib import Path
from gemnet.search.journal import Journal
with Journal.open(Path(sys.argv[1])) as journal:
    print("open", flush=True)
    sys.stdin.read()
"""

APPEND = """
import sys
from pathlib import Path
from gemnet.search.journal import Journal
with Journal.open(Path(sys.argv[1])) as journal:
    while True:
        print(journal.append("trial", f"more{len(journal.rows)}", {}).seq, flush=True)
"""


def test_a_second_writer_is_told_who_holds_the_lock_and_readers_pass(path):
    with child(HOLD, path) as holder:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StudyError, match=f"in use by process {holder.pid} on "):
            Journal.open(path)
        with Journal.open(path, read_only=True) as journal:
            assert len(journal.rows) == ROWS
            with pytest.raises(StudyError, match="readonly"):
                journal.append("trial", "x", {})
        holder.stdin.close()
        holder.wait()
    Journal.open(path).close()


def test_a_killed_writer_loses_no_row_and_leaves_no_lock(path):
    with child(APPEND, path) as writer:
        for _ in range(20):
            seen = int(writer.stdout.readline())
        writer.kill()
        seen = max([seen, *map(int, writer.stdout.read().split())])
    with Journal.open(path) as journal:
        assert len(journal.rows) in (seen, seen + 1)


def test_a_full_disk_is_one_clear_line(path):
    with Journal.open(path) as journal:
        journal._db.execute(f"PRAGMA max_page_count={os.path.getsize(path) // 4096}")
        with pytest.raises(StudyError, match=r"cannot write .*journal.db: database or disk is full"):
            journal.append("trial", "big", {"text": "x" * 20000})
        rows = len(journal.rows)
    with Journal.open(path) as journal:
        assert len(journal.rows) == rows
