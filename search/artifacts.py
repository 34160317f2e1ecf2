"""What a study builds besides trials (encoders, predictors): folders, whole or absent, verified on reuse."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from gemnet.durable import file_sha256, sync_folder, sync_tree
from gemnet.errors import ReplayError, StudyError

from .journal import Journal, Row
from .replay import REMEDY


class Artifacts:
    """The `artifacts/` folder of a study.

    A folder is built under `artifacts/.partial`, which survives a kill, so that `build` can go on
    from what it left there. When it is complete its files are synced, their sha256 journalled, and
    it is renamed.
    """

    def __init__(self, directory: Path, journal: Journal) -> None:
        self._root, self._journal = directory, journal

    def get(self, name: str, inputs: str, build: Callable[[Path], None]) -> Path:
        """The folder that `build` made, now or before.

        Args:
            name: the artifact's name in the study.
            inputs: digest of what it is made of.
            build: fills the (existing, maybe half-filled) folder it is given.

        Raises:
            ReplayError: it was made of other inputs before.
            StudyError: one of its files is missing or damaged, or `build` made none.
        """
        row = self._journal.get("artifact", name)
        if row is not None and row.body["inputs"] != inputs:
            reason = "the artifact was built from other inputs than it is now"
            raise ReplayError(f"replay diverged at {name}: {reason}; {REMEDY}")
        folder = f"{re.sub('[^A-Za-z0-9_-]', '-', name)}-{inputs[:12]}"
        final, partial = self._root / folder, self._root / ".partial" / folder
        if row is not None and (final.is_dir() or partial.is_dir()):
            place = final if final.is_dir() else partial
            _verify(name, place, row)
        else:
            partial.mkdir(parents=True, exist_ok=True)
            if final.is_dir():  # never journalled: not ours to trust
                shutil.rmtree(final)
            _build(name, partial, build)
            self._record(name, inputs, partial, folder)
            place = partial
        if place == partial:
            os.rename(partial, final)
            sync_folder(self._root)
        return final

    def _record(self, name: str, inputs: str, partial: Path, folder: str) -> None:
        files = {str(file.relative_to(partial)): file for file in sorted(partial.rglob("*")) if file.is_file()}
        if not files:
            raise StudyError(f"artifact {name!r}: its builder wrote no file")
        sync_tree(partial)
        sums = {relative: file_sha256(file) for relative, file in files.items()}
        self._journal.append("artifact", name, {"inputs": inputs, "folder": folder, "files": sums})


def _build(name: str, folder: Path, build: Callable[[Path], None]) -> None:
    try:
        build(folder)
    except Exception as error:
        if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":  # no OSError, even on a full disk
            raise StudyError(f"cannot build artifact {name!r} in {folder}: {error}; mend this and resume") from None
        raise


def problems_of(root: Path, row: Row) -> list[str]:
    """What is wrong with the files of a journalled artifact, one line each."""
    name, folder = row.key, str(row.body["folder"])
    place = root / folder if (root / folder).is_dir() else root / ".partial" / folder
    if not place.is_dir():
        return [f"artifact {name!r}: {root / folder} is missing; resume builds it again"]
    return _damaged(name, place, row)


def _verify(name: str, folder: Path, row: Row) -> None:
    for problem in _damaged(name, folder, row):
        raise StudyError(problem)


def _damaged(name: str, folder: Path, row: Row) -> list[str]:
    found = []
    for relative, sha256 in row.body["files"].items():
        file = folder / relative
        state = "missing" if not file.is_file() else "damaged" if file_sha256(file) != sha256 else None
        if state:
            found.append(f"artifact {name!r}: {file} is {state}; delete {folder} and resume to build it again")
    return found
