import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gemnet import durable
from gemnet.durable import put_folder, scratch, write_atomic

KILLED = """
import os, sys
from pathlib import Path
from gemnet import durable

home = Path(sys.argv[1])
with durable.scratch(home.parent, home.name) as folder:
    draft = Path(folder, "draft")
    draft.mkdir()
    (draft / "new").touch()
    if sys.argv[2] == "between the renames":
        rename = os.rename
        os.rename = lambda source, target: os.kill(os.getpid(), 9) if source == draft else rename(source, target)
        durable.put_folder(draft, home, replace=True)
    os.kill(os.getpid(), 9)
"""


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_atomic(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_device_is_written_to_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_atomic(tmp_path / "pipe", "text")
    assert os.read(reader, 100) == b"text"
    os.close(reader)
    assert not (tmp_path / "pipe").is_file()


def test_a_file_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path):
    with pytest.raises(OSError, match="absent") as error:
        write_atomic(tmp_path / "absent" / "file", "text")
    assert error.value.filename == str(tmp_path / "absent" / "file")
    assert list(tmp_path.iterdir()) == []


def test_two_may_write_one_file_at_the_same_time(tmp_path):
    texts = [letter * 100_000 for letter in "abcdefgh"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda text: write_atomic(tmp_path / "file", text), texts * 5))
    assert (tmp_path / "file").read_text() in texts
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path, monkeypatch, error):
    write_atomic(tmp_path / "file", "old")

    def fail(*_):
        raise error

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises((KeyboardInterrupt, OSError)):
        write_atomic(tmp_path / "file", "new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def kill(home: Path, when: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(home), when], timeout=60, check=False)
    assert done.returncode == -9


WRITING = """
import os, signal, sys
from pathlib import Path
from gemnet import durable

os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
durable.write_atomic(Path(sys.argv[1]), "new")
"""


def test_what_a_write_that_was_killed_left_is_removed_by_the_next(tmp_path):
    file, folder = tmp_path / "file", tmp_path / ".file-mine.tmp"
    file.write_text("old")
    folder.mkdir()
    done = subprocess.run([sys.executable, "-c", WRITING, str(file)], timeout=60, check=False)
    assert done.returncode == -9
    (left,) = set(tmp_path.iterdir()) - {file, folder}
    assert left.read_text() == "new"
    assert file.read_text() == "old"
    write_atomic(tmp_path / "file2", "other")
    assert left.exists()  # it is of another file
    write_atomic(file, b"newer")
    assert {path.name: path.is_dir() for path in tmp_path.iterdir()} == {
        "file": False, "file2": False, ".file-mine.tmp": True
    }  # fmt: skip
    assert file.read_bytes() == b"newer"


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    kill(tmp_path / "out", "before them")
    (left,) = tmp_path.iterdir()
    with scratch(tmp_path, "out2"):
        assert left.exists()  # it is of another folder
    with scratch(tmp_path, "out") as folder:
        assert list(tmp_path.iterdir()) == [Path(folder)]
    assert list(tmp_path.iterdir()) == []


def test_what_may_be_the_only_copy_stays_until_there_is_another(tmp_path):
    home = tmp_path / "out"
    home.mkdir()
    (home / "old").touch()
    kill(home, "between the renames")
    assert not home.exists()
    with scratch(tmp_path, "out") as folder:
        (kept,) = (path for path in tmp_path.iterdir() if path != Path(folder))
        assert (kept / "0" / "old").exists()
        (Path(folder) / "draft").mkdir()
        (Path(folder) / "draft" / "newer").touch()
        put_folder(Path(folder, "draft"), home, replace=True)
    with scratch(tmp_path, "out") as folder:
        assert set(tmp_path.iterdir()) == {home, Path(folder)}
    assert [path.name for path in home.iterdir()] == ["newer"]


def test_what_is_in_use_or_of_another_machine_stays(tmp_path, monkeypatch):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        start = f".out-{durable._machine()}-"
        names = [f"{start}{process.pid}-abc", f".out-00000000-{process.pid}-abc", ".out-mine", f"{start}-abc",
                 f"{start}{10**30}-abc", f".outer-{durable._machine()}-1-abc"]  # fmt: skip
        for name in names:
            (tmp_path / name).mkdir()
        with scratch(tmp_path, "out"):
            pass
        assert {path.name for path in tmp_path.iterdir()} == set(names)
    finally:
        process.communicate(b"\n")
    with scratch(tmp_path, "out"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == set(names[1:])
