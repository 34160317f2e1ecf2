"""Files that are whole after a power cut: written beside, synced, renamed, folder synced."""

import hashlib
import os
from pathlib import Path


def write_atomic(path: Path, text: str) -> None:
    """Writes a file so that at any moment the path holds the old text or the new, never a part."""
    path = path.resolve()  # a link stays one
    if path.exists() and not path.is_file():  # a device or a pipe is written to, never replaced
        path.write_text(text, encoding="utf-8")
        return
    beside = path.with_name(f".{path.name}.tmp")
    try:
        write_synced(beside, text.encode())
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None
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


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
