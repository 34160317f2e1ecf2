"""One process per folder: a lock that ends with the process that holds it, however that ends."""

import errno
import fcntl
import json
import os
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from .durable import is_alive
from .errors import GemnetError

NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)  # what a file system without any says

_held: set[int] = set()


def _let_go() -> None:
    """A forked process, which may outlive this one, would hold the locks on."""
    for handle in _held:
        os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: process, machine and start in UTC."""

    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


class Lock:
    """An exclusive lock on a file, held until `release` or the end of the process.

    Where the file system has no locks there is none.

    Args:
        path: of the file; what it stands for is its folder.
        error: what is raised.

    Raises:
        GemnetError: of that kind; another process holds it (the message names it), or the file cannot be written.
    """

    def __init__(self, path: Path, error: type[GemnetError]) -> None:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as reason:
            raise error(f"cannot lock {path}: {reason.strerror}") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            who = _read(path) or "another process"
            raise error(f"{path.parent} is in use by {who}; wait until it ends or stop it") from None
        except OSError as reason:
            if reason.errno not in NO_LOCKS:
                os.close(handle)
                raise error(f"cannot lock {path}: {reason.strerror}") from None
        self._handle = handle
        _held.add(handle)
        holder = Holder(os.getpid(), socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds"))
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps(asdict(holder)).encode())

    def release(self) -> None:
        """Lets the next process in."""
        if self._handle in _held:
            _held.remove(self._handle)
            os.ftruncate(self._handle, 0)
            os.close(self._handle)
        self._handle = -1


def holder(path: Path) -> Holder | None:
    """Who holds a lock now, without touching it; None when nobody does (as far as this machine knows)."""
    who = _read(path)
    if who is None or (who.host == socket.gethostname() and not is_alive(who.pid)):
        return None
    return who


def _read(path: Path) -> Holder | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Holder(int(data["pid"]), str(data["host"]), str(data["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
