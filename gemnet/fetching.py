"""Releases verified file by file, and fetched into folders for machines without a network."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .durable import OCCUPIED, put_folder, scratch, sync_tree
from .errors import FileError, GemnetError, UsageError
from .manifest import FILE, Manifest, list_files
from .pretrained import Weights, find_weights
from .release import Release, find_place, open_release

TRAIN = "train.json"
OF_TRAINING = {TRAIN, "checkpoints", "curve.html", "tensorboard", "release", ".lock"}  # beside what gemnet train saves


@dataclass(frozen=True)
class Check:
    """What became of one file: `problem` is empty when it is as listed; size and sha256 are those listed."""

    name: str
    size: int
    sha256: str
    problem: str = ""


def verify(
    ref: str | os.PathLike[str], revision: str | None = None, cache_dir: str | os.PathLike[str] | None = None
) -> Iterator[Check]:
    """Every file of a release, downloaded if need be, as it was found to be.

    Args:
        ref, revision, cache_dir: as `gemnet.from_pretrained` takes them.

    Raises:
        GemnetError: there is no release, or it cannot be downloaded.
    """
    place = find_place(ref, revision)
    if place.kind == "package":
        yield from map(_check_weights, find_weights(place.name))
        return
    release = open_release(place, cache_dir)
    for name, record in sorted(release.manifest.files.items()):
        try:
            release.file(name)
            problem = ""
        except FileError as error:
            problem = str(error)
        yield Check(name, record.size, record.sha256, problem)


def unlisted(ref: str | os.PathLike[str]) -> list[str]:
    """Files in a release's folder that its manifest does not list; of a training's own none."""
    place = find_place(ref)
    if place.kind != "folder":
        return []
    listed = open_release(place).manifest.files
    own = OF_TRAINING if TRAIN not in listed and Path(place.name, TRAIN).is_file() else ()
    return [name for name in list_files(Path(place.name)) if name not in listed and name.partition("/")[0] not in own]


def fetch(
    ref: str | os.PathLike[str], to: Path, revision: str | None = None, *,
    force: bool = False, cache_dir: str | os.PathLike[str] | None = None,
) -> Manifest:  # fmt: skip
    """Writes a release's files and manifest into a folder, which appears whole or not at all.

    They are gathered in a new folder `.NAME-*` beside, so that several may fetch at once; what a kill
    leaves of it the next fetch into the same folder removes.

    Args:
        ref, revision, cache_dir: as `gemnet.from_pretrained` takes them; weights in a zoo need not be fetched.
        to: the folder; it must not be there, or be empty.
        force: put the release in the place of a folder that is not empty.

    Raises:
        UsageError: the folder is not empty, or cannot be written to.
        GemnetError: a file cannot be downloaded, or is not as published.
    """
    place = find_place(ref, revision)
    if place.kind == "package":
        path = find_weights(place.name)[0].path
        raise UsageError(f"{place.name} names weights in a zoo, {path}: there is nothing to fetch")
    _check_room(to, force)
    release = open_release(place, cache_dir)
    home = Path(os.path.abspath(to))
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with scratch(home.parent, home.name) as folder:
            draft = Path(folder, "draft")  # below, as it is to have the usual permissions
            _copy(release, draft)
            put_folder(draft, home, replace=force)
    except OSError as error:
        if error.errno in OCCUPIED:  # filled since it was looked at
            _check_room(to, force)
        raise UsageError(f"cannot write to {to}: {error.strerror}") from None
    return release.manifest


def _check_room(to: Path, force: bool) -> None:
    if to.is_symlink() or (to.exists() and not to.is_dir()):
        raise UsageError(f"{to} is there and no folder; name another")
    if to.is_dir() and not force and any(to.iterdir()):
        raise UsageError(f"{to} is not empty; name another folder, or --force to replace it")


def _copy(release: Release, draft: Path) -> None:
    """Copies a release, and reads back what was written."""
    draft.mkdir()
    for name in release.manifest.files:
        target = draft / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(release.file(name), target)
    release.manifest.write(draft / FILE)
    release.manifest.check(draft)
    sync_tree(draft)


def _check_weights(weights: Weights) -> Check:
    size = weights.path.stat().st_size if weights.path.is_file() else 0
    try:
        weights.check()
    except GemnetError as error:
        return Check(weights.file, size, weights.sha256, str(error))
    return Check(weights.file, size, weights.sha256)
