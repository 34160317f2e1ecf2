import json
import random
from pathlib import Path

import pytest
from studies import content, create, reopen
from toys import TwoPhases, calls_of

from gemnet.errors import JournalError
from gemnet.search.journal import PAGE_BYTES, Journal
from gemnet.search.mending import open_mended, salvage

ROWS = 60


@pytest.fixture
def path(tmp_path):
    with Journal.create(tmp_path / "journal.db") as journal:
        for k in range(ROWS):  # every tenth is larger than a page
            journal.append("trial", f"key{k}", {"val_acc": k / 7, "arch": ["sepconv3x3"] * (20 if k % 10 else 900)})
    return tmp_path / "journal.db"


def rows_of(path):
    with Journal.open(path) as journal:
        return list(journal.rows)


def test_every_row_of_a_whole_file_is_read_from_its_pages(path):
    found = salvage(path)
    assert list(found.rows) == rows_of(path)
    assert found.lost == ()


@pytest.mark.parametrize("flips", [150, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_flipped_bit_costs_one_row_at_most_and_says_so(path, flips):
    whole, rows = path.read_bytes(), rows_of(path)
    rng = random.Random(0)
    lost = []
    for _ in range(flips):
        bit = rng.randrange(8 * len(whole) if rng.random() < 0.7 else 1600)
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        said = []
        with open_mended(path, said.append) as journal:
            kept = [(row.key, row.body, row.time) for row in journal.rows]
        assert all(row in [(row.key, row.body, row.time) for row in rows] for row in kept)
        lost.append(ROWS - len(kept))
        assert bool(lost[-1]) <= bool(said), f"bit {bit} was silent"
        for aside in path.parent.glob("*.damaged-*"):
            assert aside.read_bytes() == bytes(damaged)
            aside.unlink()
    assert set(lost) == {0, 1}


def test_what_is_cut_off_is_missing_and_the_rest_is_kept(path):
    rows = rows_of(path)
    path.write_bytes(path.read_bytes()[: 9 * PAGE_BYTES + 77])
    said = []
    with open_mended(path, said.append) as journal:
        assert 5 < len(journal.rows) < ROWS
        assert {row.key for row in journal.rows} < {row.key for row in rows}
    assert said[0].startswith(f"{path} was damaged: ")


@pytest.mark.parametrize("content", [b"", b"hello" * 5000, None])
def test_what_holds_no_row_is_refused_and_left_alone(path, content):
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(JournalError):
        open_mended(path, print)
    assert (path.read_bytes() if path.exists() else None) == content


def test_a_journal_left_by_a_killed_writer_does_not_undo_the_mended_one(path):
    hot = path.with_name("journal.db-journal")
    hot.write_bytes(b"not a journal at all")
    damaged = bytearray(path.read_bytes())
    damaged[damaged.rindex(b'"val_acc"') + 12] ^= 1
    path.write_bytes(damaged)
    with open_mended(path, lambda _: None) as journal:
        assert len(journal.rows) == ROWS - 1
    assert not hot.exists() or hot.stat().st_size == 0
    assert len(rows_of(path)) == ROWS - 1


def damage(directory, text):
    file = Path(directory) / "journal.db"
    data = bytearray(file.read_bytes())
    data[data.index(text) + len(text) + 1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("kind", ["study", "strategy", "asked", "trial", "artifact", "done"])
def test_a_search_finds_again_what_a_lost_row_told(tmp_path, calls, capsys, kind):
    with create(tmp_path / "whole", calls) as study:
        winner = study.run(TwoPhases())
    again = str(tmp_path / "again")
    with create(tmp_path / "s", again) as study:
        study.run(TwoPhases())
    with Journal.open(tmp_path / "s" / "journal.db", read_only=True) as journal:
        key = next(row.key for row in journal.rows if row.kind == kind)
    damage(tmp_path / "s", f"{kind}{key}".encode())
    before = calls_of(again)
    with reopen(tmp_path / "s", again) as study:
        assert study.run(TwoPhases()).key == winner.key
    said = capsys.readouterr().err
    assert f"({kind} {key[:16]}) is damaged and is made again" in said
    assert sum(calls_of(again).values()) - sum(before.values()) == (kind == "trial")
    assert content(tmp_path / "s") == content(tmp_path / "whole")


def test_status_and_verify_name_the_damage_and_change_nothing(tmp_path, calls):
    from click.testing import CliRunner

    from gemnet.search.cli import main

    with create(tmp_path / "s", calls) as study:
        study.run(TwoPhases())
        trials = len(study._trials)
    result = CliRunner().invoke(main, ["verify", str(tmp_path / "s")])
    assert (result.exit_code, result.stdout) == (0, f"{trials + 6} rows, {trials} trials and 1 artifacts are whole\n")
    damage(tmp_path / "s", b'{"arch":{"value":')
    for folder in (tmp_path / "s" / "artifacts").glob("table-*"):
        (folder / "table.txt").write_text("1 2 3")
    before = (tmp_path / "s" / "journal.db").read_bytes()
    for command in ("status", "best"):
        result = CliRunner().invoke(main, [command, str(tmp_path / "s")])
        assert result.exit_code == 1
        assert "does not match its checksum; 'gemnet-search verify' lists what is damaged" in result.stderr
    result = CliRunner().invoke(main, ["verify", str(tmp_path / "s"), "--json"])
    found = json.loads(result.stdout)
    assert (result.exit_code, found["rows"], found["trials"]) == (1, trials + 5, trials - 1)
    assert len(found["problems"]) == 3
    assert "table.txt is damaged; delete" in found["problems"][2]
    assert (tmp_path / "s" / "journal.db").read_bytes() == before
