"""Files and folders that are whole after a power cut: written beside, synced, renamed, folder synced."""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import socket
import tempfile
from functools import cache
from pathlib import Path

OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST)  # what renaming onto a folder with files says
TRIES = 100  # of replacing a folder that others replace at the same time


def write_atomic(path: Path, content: str | bytes, *, follow: bool = True) -> None:
    """Writes a file so that at any moment the path holds the old content or the new, never a part.

    What processes of this machine that were killed left of such a file is removed.

    Args:
        path: of the file.
        content: all of it; text becomes UTF-8.
        follow: whether a link stays one and what it leads to is replaced; else the link is replaced.
    """
    raw = content.encode() if isinstance(content, str) else content
    path = path.resolve() if follow else path.parent.resolve() / path.name
    if path.exists() and not path.is_file():  # a device or a pipe is written to, never replaced
        path.write_bytes(raw)
        return
    beside = path.with_name(f"{_prefix(path.name)}{secrets.token_hex(4)}.tmp")  # others may write the file too
    for left in _left_behind(path.parent, path.name):
        with contextlib.suppress(OSError):  # a folder, or not ours
            left.unlink()
    try:
        write_synced(beside, raw)
        os.replace(beside, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()
    sync_folder(path.parent)


def write_synced(path: Path, content: bytes) -> None:
    """Writes a file and returns once it is on disk."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Returns once the names in a folder are on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Returns once every file and name below a folder is on disk."""
    for parent, _, files in os.walk(folder, topdown=False):
        for name in files:
            handle = os.open(os.path.join(parent, name), os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        sync_folder(Path(parent))


def put_folder(draft: Path, home: Path, *, replace: bool = False) -> None:
    """Gives a finished folder its name; several that do so at once each put a whole folder there.

    Args:
        draft: the folder, on the disk of `home`; see `sync_tree`.
        home: its name, at which there is nothing or an empty folder.
        replace: also take the place of a folder with files. It is renamed aside and deleted at the end; until the
            second of two renames nobody finds a folder at `home`. Whatever ends this before, an interrupt too, the
            old folder has its name again; after a kill between the renames it is in `.NAME-*/0` beside.

    Raises:
        OSError: one cannot be renamed; `draft` is where it was. Its `errno` is one of `OCCUPIED` for files at `home`.
    """
    if not replace:
        os.rename(draft, home)
        sync_folder(home.parent)
        return
    aside = Path(tempfile.mkdtemp(prefix=_prefix(home.name), dir=home.parent))
    try:
        _exchange(draft, home, aside)
    except BaseException:
        last = max((int(path.name) for path in aside.iterdir()), default=None)
        if last is not None and not home.exists():
            os.rename(aside / str(last), home)  # where this fails nothing is deleted
        shutil.rmtree(aside, ignore_errors=True)
        raise
    sync_folder(home.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _exchange(draft: Path, home: Path, aside: Path) -> None:
    """Moves what is at `home` into `aside`, numbered, until the draft could take its place."""
    for number in range(TRIES):
        if home.is_dir():
            os.rename(home, aside / str(number))
        try:
            os.rename(draft, home)
        except OSError as error:
            if error.errno not in OCCUPIED or number == TRIES - 1:
                raise
        else:
            return


def scratch(folder: Path, name: str) -> "tempfile.TemporaryDirectory[str]":
    """A new folder `.NAME-*` in a folder, to be used by `with`, on whose disk a draft of NAME is made.

    Such folders, and those of `put_folder`, that processes of this machine left when they were killed are removed. One
    that holds the former NAME stays while there is no other.

    Raises:
        OSError: the folder cannot be written to.
    """
    for path in _left_behind(folder, name):
        if path.is_dir() and not ((path / "0").exists() and _is_empty(folder / name)):
            shutil.rmtree(path, ignore_errors=True)
    return tempfile.TemporaryDirectory(prefix=_prefix(name), dir=folder, ignore_cleanup_errors=True)


def _left_behind(folder: Path, name: str) -> list[Path]:
    """What is beside NAME of processes of this machine that are gone."""
    start = f".{name}-{_machine()}-"
    try:
        found = [Path(folder, entry) for entry in os.listdir(folder) if entry.startswith(start)]
    except OSError:
        return []
    owners = ((path, path.name.removeprefix(start).partition("-")[0]) for path in found)
    return [path for path, pid in owners if pid.isdecimal() and not is_alive(int(pid))]


def _prefix(name: str) -> str:
    return f".{name}-{_machine()}-{os.getpid()}-"


@cache
def _machine() -> str:
    """Of this machine or, where containers number their processes themselves, of the container."""
    try:
        numbering = os.readlink("/proc/self/ns/pid")
    except OSError:
        numbering = ""
    return hashlib.sha256(f"{socket.gethostname()} {numbering}".encode()).hexdigest()[:8]


def is_alive(pid: int) -> bool:
    """Whether a process of this machine may still run."""
    if os.name == "nt":  # where asking is a signal that ends it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it is somebody else's, or no number of a process
        return True
    return True


def _is_empty(folder: Path) -> bool:
    return not folder.is_dir() or not any(folder.iterdir())


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
