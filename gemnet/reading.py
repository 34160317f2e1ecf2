"""Files from elsewhere, read within limits: ordinary files only, JSON of bounded size and depth."""

import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from .errors import FileError

PIECE = 1 << 20  # bytes read at a time
MAX_JSON = 2 << 20  # bytes, read into at most 50 MB; twenty thousand label names and their descriptions have room


def open_file(path: Path) -> BinaryIO:
    """An ordinary file, opened to read; a pipe or device is never opened, so that nothing hangs or is set off.

    Raises:
        FileError: it is missing, cannot be read, or is something else.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise FileError(f"{path} is no ordinary file")
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        file = os.fdopen(handle, "rb")
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise FileError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):  # exchanged in between
        file.close()
        raise FileError(f"{path} is no ordinary file")
    return file


def read_file(path: Path, most: int, check: Callable[[bytes], object] = lambda _: None) -> bytes:
    """The bytes of an ordinary file.

    Args:
        path: of the file.
        most: bytes that are read.
        check: told the first 16 bytes before the rest is read; it may raise.

    Raises:
        FileError: it cannot be read, or is longer.
    """
    with open_file(path) as file:
        check(file.read(16))
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        content = file.read(most + 1) if size <= most else b""
    if size > most or len(content) > most:
        raise FileError(f"{path} has {max(size, len(content))} bytes, at most {most} are allowed")
    return content


def file_digest(path: Path, size: int) -> str:
    """sha256 (hex) of an ordinary file of `size` bytes, read piece by piece.

    Raises:
        FileError: it cannot be read, or has another size; what is too long is not read.
    """
    digest, seen = hashlib.sha256(), 0
    with open_file(path) as file:
        found = os.fstat(file.fileno()).st_size
        while found == size and seen <= size and (piece := file.read(PIECE)):
            digest.update(piece)
            seen += len(piece)
    if found != size or seen != size:
        raise FileError(f"{path} has {seen if found == size else found} bytes, not {size}")
    return digest.hexdigest()


def read_whole(path: Path, size: int) -> bytes:
    """The bytes of an ordinary file of `size` bytes; raises FileError as `file_digest`."""
    with open_file(path) as file:
        found = os.fstat(file.fileno()).st_size
        content = file.read(size + 1) if found == size else b""
    if found != size or len(content) != size:
        raise FileError(f"{path} has {len(content) if found == size else found} bytes, not {size}")
    return content


def read_json(path: Path, most: int = MAX_JSON) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        FileError: more than `most` bytes, no JSON object, nested too deeply, a name twice, NaN or an infinity.
    """
    return parse_json(read_file(path, most), str(path))


def parse_json(content: bytes, where: str) -> dict[str, Any]:
    """The JSON object that `content` spells; raises FileError, beginning with `where`, when there is none."""
    try:
        data = json.loads(content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_number)
    except RecursionError:
        raise FileError(f"{where} is nested too deeply") from None
    except ValueError as error:  # also of bytes that are no text, and of numbers without end
        raise FileError(f"{where} is no JSON file: {error}") from None
    if not isinstance(data, dict):
        raise FileError(f"{where} holds no JSON object")
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return data


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")
