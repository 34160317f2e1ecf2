"""The files of a release and what each must be: `manifest.json`, written by `gemnet publish`, checked before a load.

    {"schema": "gemnet.manifest/1",
     "files": {"config.json": {"sha256": "...", "size": 1234}, "onnx/model.onnx": {...}}}

It finds what was damaged, cut short, exchanged or mixed from two releases. It is not signed: whoever can change
the files and the manifest together is not found out, unless the manifest's own sha256 is known from elsewhere.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .durable import write_atomic
from .errors import ConfigError, FileError, GemnetError, ManifestError
from .reading import file_digest, read_json, read_whole
from .settings import from_dict

SCHEMA = "gemnet.manifest/1"
FILE = "manifest.json"
MAX_FILES = 1000
MAX_BYTES = 1 << 20  # of manifest.json
MAX_NAME = 200  # characters of a path
PART = re.compile(r"[A-Za-z0-9._+-]*[A-Za-z0-9_+-]")  # ASCII: no letters that look alike, none that turn text
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileRecord:
    """What a file must be: sha256 of its bytes in lower-case hex, and their number."""

    sha256: str
    size: int

    def __post_init__(self) -> None:
        if not SHA256.fullmatch(self.sha256):
            raise ConfigError(f"a sha256 is 64 hexadecimal digits, got {self.sha256!r:.80}")
        if self.size < 0:
            raise ConfigError(f"a size is a number of bytes, got {self.size}")


@dataclass(frozen=True)
class Manifest:
    """The files of a release.

    Args:
        files: by their paths in the release's folder, relative and POSIX, without the manifest itself.

    Raises:
        ManifestError: too many files, a path that leaves the folder or is not plain, or two that some file systems
            take for one.
    """

    files: dict[str, FileRecord]

    def __post_init__(self) -> None:
        if len(self.files) > MAX_FILES:
            raise ManifestError(f"a manifest lists at most {MAX_FILES} files, got {len(self.files)}")
        taken: dict[str, str] = {FILE: FILE}
        for name in self.files:
            check_name(name)
            if name.lower() in taken:
                raise ManifestError(f"the manifest lists {name!r} besides {taken[name.lower()]!r}: one of them only")
            taken[name.lower()] = name
        for name in self.files:
            parents = ("/".join(name.lower().split("/")[:k]) for k in range(1, name.count("/") + 1))
            if any(parent in taken for parent in parents):
                raise ManifestError(f"the manifest lists {name!r} below a file, which is no folder")

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """The manifest in a file.

        Raises:
            FileError: there is no such file, or none with a JSON object.
            ManifestError: the object is no manifest.
        """
        data = read_json(path, MAX_BYTES)
        try:
            if data.get("schema") != SCHEMA or set(data) != {"schema", "files"} or not isinstance(data["files"], dict):
                raise ManifestError(f"it must be {{'schema': {SCHEMA!r}, 'files': {{...}}}}")
            for name in data["files"]:
                check_name(name)  # before it is in any other message
            return cls({name: from_dict(FileRecord, record, name) for name, record in data["files"].items()})
        except GemnetError as error:
            raise ManifestError(f"{path} is no manifest: {error}") from None

    def write(self, path: Path) -> None:
        """Writes the manifest; equal ones as equal bytes."""
        write_atomic(path, json.dumps(self.to_dict(), indent=1) + "\n")

    def to_dict(self) -> dict[str, Any]:
        """A JSON object from which `read` gives an equal manifest."""
        return {"schema": SCHEMA, "files": {name: vars(self.files[name]) for name in sorted(self.files)}}

    def check(self, folder: Path, *, within: Path | None = None) -> None:
        """Raises ManifestError, naming the first file that is missing or not as listed; see `check_file`."""
        for name in sorted(self.files):
            self.check_file(folder, name, within=within)

    def check_file(self, folder: Path, name: str, *, within: Path | None = None) -> Path:
        """Where one file is, after its size and sha256 were found to be as listed; memory does not depend on its size.

        Args:
            folder: of the release.
            name: of a file of the manifest.
            within: a folder that links may lead into, as the Hub client's cache has them; without it there are none.

        Raises:
            ManifestError: not listed, missing, a link, no ordinary file, of another size or content.
        """
        record = self._record(folder, name)
        path = resolve_inside(folder, name, within)
        try:
            digest = file_digest(path, record.size)
        except FileError as error:
            raise ManifestError(str(error)) from None
        _check_digest(digest, record, folder / name)
        return folder / name

    def read_file(self, folder: Path, name: str, *, within: Path | None = None) -> bytes:
        """The bytes of one file, read once and found to be as listed: to parse these no later change matters.

        Arguments and errors are those of `check_file`; memory is the file's listed size.
        """
        record = self._record(folder, name)
        path = resolve_inside(folder, name, within)
        try:
            content = read_whole(path, record.size)
        except FileError as error:
            raise ManifestError(str(error)) from None
        _check_digest(hashlib.sha256(content).hexdigest(), record, folder / name)
        return content

    def _record(self, folder: Path, name: str) -> FileRecord:
        record = self.files.get(name)
        if record is None:
            raise ManifestError(f"{folder / FILE} does not list {name!r}")
        return record


def _check_digest(digest: str, record: FileRecord, path: Path) -> None:
    if digest != record.sha256:
        raise ManifestError(f"{path} is damaged: its sha256 is {digest}, not {record.sha256}")


def describe(folder: Path, names: Sequence[str] = ()) -> Manifest:
    """The manifest of a folder's files as they are, the folder's own `manifest.json` left out.

    Args:
        folder: of the release.
        names: of the files; all below the folder without.

    Raises:
        ManifestError: a link, a pipe or device, a name that is not plain, too many files, or none can be read.
    """
    files: dict[str, FileRecord] = {}
    for name in names or list_files(folder):
        check_name(name)
        path = resolve_inside(folder, name)
        try:
            size = path.stat().st_size
            files[name] = FileRecord(file_digest(path, size), size)
        except OSError as error:
            raise ManifestError(f"cannot read {path}: {error.strerror}") from None
        except FileError as error:
            raise ManifestError(str(error)) from None
    return Manifest(files)


def check_name(name: str) -> None:
    """Raises ManifestError unless the name is a plain path below a folder, on every file system."""
    parts = name.split("/")
    if len(name) > MAX_NAME or not all(PART.fullmatch(part) for part in parts):
        raise ManifestError(
            f"{name!a:.220} is no name for a file of a release: letters, digits and ._+- in parts joined by /, "
            f"relative, without .., at most {MAX_NAME} characters"
        )
    if any(part.lower() == ".git" for part in parts):
        raise ManifestError(f"{name!r} is no name for a file of a release: git keeps its own files there")


def resolve_inside(folder: Path, name: str, within: Path | None = None) -> Path:
    """The real path of a file of a folder.

    Raises:
        ManifestError: it is a link or below one, unless that leads into `within`.
    """
    path = folder / name
    try:
        real, home = path.resolve(), folder.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise ManifestError(f"cannot read {path}: {error}") from None
    if real != home / name and (within is None or not real.is_relative_to(within.resolve())):
        raise ManifestError(f"{path} is a link to {real}; only files inside the folder are read")
    return real


def list_files(folder: Path) -> Iterator[str]:
    """The paths of all files and links below a folder but its `manifest.json`; raises ManifestError if it cannot."""
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        for name in sorted((*folders, *names)):
            path = Path(parent, name)
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink() or (name in names and relative != FILE):
                yield relative


def _refuse(error: OSError) -> None:
    raise ManifestError(f"cannot read {error.filename}: {error.strerror}")
