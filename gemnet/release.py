"""Releases by reference: which one is meant, where its files are, each verified before anybody reads it."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .catalog import FAMILY
from .download import download
from .errors import FileError, ManifestError, UsageError
from .foreign import as_mapping
from .manifest import FILE, Manifest, resolve_inside
from .pretrained import load_weights_list

CONFIG, WEIGHTS = "config.json", "model.safetensors"  # what a model is loaded from
REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
REVISION = re.compile(r"[A-Za-z0-9_][\w./+-]*", re.ASCII)


@dataclass(frozen=True)
class Place:
    """What a reference means.

    Args:
        kind: `hub`, `folder`, or `package` for weights in a zoo.
        name: ORG/NAME, the folder's path, or the name timm knows the weights by.
        revision: tag, branch or commit on the Hub; its newest when None.
    """

    kind: str
    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name


def is_registered(name: str) -> bool:
    """Whether a text is the name of a registered model or of weights of it, which win over a folder of that name."""
    return name in FAMILY or (name.partition(".")[0] in FAMILY and name in load_weights_list())


def is_folder(name: str) -> bool:
    """Whether a text names a folder that is there; a registered name never does, `./NAME` is the folder."""
    return os.path.isdir(name) and not is_registered(name)


def arch_of(name: str) -> str:
    """The registered model of a name with the tag of its weights; every other text as it is."""
    return name.partition(".")[0] if is_registered(name) else name


def find_place(ref: str | os.PathLike[str], revision: str | None = None) -> Place:
    """What a reference means.

    Args:
        ref: a path object, `local-dir:DIR` or `hf-hub:ORG/NAME[@REVISION]`; of other texts a registered name is that
            of packaged weights, a folder that exists is one, and `ORG/NAME[@REVISION]` is on the Hub.
        revision: on the Hub.

    Raises:
        UsageError: it means nothing, or a revision is given where there are none, or twice.
    """
    text = os.fspath(ref)
    scheme, _, rest = text.partition(":")
    if scheme in ("hf-hub", "hf_hub"):
        return _find_on_hub(rest, revision)
    if scheme == "local-dir":
        place = Place("folder", rest)
    elif isinstance(ref, str) and is_registered(text):
        place = Place("package", text)
    elif not isinstance(ref, str) or os.path.isdir(text):
        place = Place("folder", text)
    elif "/" in text:
        return _find_on_hub(text, revision)
    else:
        place = Place("package", text)
    if revision is not None:
        raise UsageError(f"only models on the Hub have revisions, {text!r:.200} is none")
    return place


def _find_on_hub(text: str, revision: str | None) -> Place:
    name, at, tag = text.partition("@")
    if not REPO.fullmatch(name) or ".." in name or "--" in name:
        raise UsageError(f"{text!r:.200} is no folder here, and no model on the Hub, which is named ORG/NAME[@TAG]")
    if at and revision is not None:
        raise UsageError(f"{text!r:.200} names a revision, and {revision!r:.60} is another; give one of them")
    revision = tag if at else revision
    if revision is not None and (not REVISION.fullmatch(revision) or ".." in revision):
        raise UsageError(f"a revision is a tag, a branch or a commit, such as v1.0.0; got {revision!r:.60}")
    return Place("hub", name, revision)


@dataclass(frozen=True)
class Release:
    """A folder of files that a manifest describes.

    Args:
        place: what was asked for.
        folder: where the files are; in the Hub client's cache it is named by the commit.
        manifest: what they must be.
        cache: the Hub client's cache, which its links lead into; None for a folder.
    """

    place: Place
    folder: Path
    manifest: Manifest
    cache: Path | None = None

    def file(self, name: str, most: int | None = None) -> Path:
        """Where a file is, downloaded if need be, and verified.

        Args:
            name: of the file.
            most: bytes that it may have, looked at before anything else.

        Raises:
            ManifestError: it is not listed, too large or not what the manifest says.
            HubError: it cannot be downloaded.
        """
        with self._ready(name, most):
            return self.manifest.check_file(self.folder, name, within=self.cache)

    def read(self, name: str, most: int) -> bytes:
        """The bytes of a file, read once and verified; arguments and errors are those of `file`."""
        with self._ready(name, most):
            return self.manifest.read_file(self.folder, name, within=self.cache)

    @contextmanager
    def _ready(self, name: str, most: int | None) -> Iterator[None]:
        """Downloads a file that may be so large; what is found to be wrong with it is told with a remedy."""
        record = self.manifest.files.get(name)
        if record is not None and most is not None and record.size > most:
            raise ManifestError(f"{self.folder / name} has {record.size} bytes, at most {most} are allowed")
        if self.cache is not None and record is not None:
            download(self.place.name, self.folder.name, name, self.cache)
        try:
            yield
        except ManifestError as error:
            remedy = f"remove {self.folder.parents[1]} and load again" if self.cache else "copy or fetch it again"
            raise ManifestError(f"{error}; {remedy}") from None


def open_release(place: Place, cache_dir: str | os.PathLike[str] | None = None) -> Release:
    """The release at a place; of its files only the manifest is read.

    Args:
        place: a folder or a model on the Hub.
        cache_dir: of the Hub client; its own choice when None.

    Raises:
        FileError: the manifest is missing, cannot be read or is none.
        HubError: the model cannot be downloaded.
    """
    release = find_release(place, cache_dir)
    if release is None:
        if place.kind == "folder" and not Path(place.name, WEIGHTS).is_file():
            raise FileError(f"{place} holds no {WEIGHTS}, so it is no saved model; gemnet predict takes exports")
        form = f"hf-hub:{place}" if place.kind == "hub" else f"local-dir:{place.name}"
        raise FileError(f"{place} has no {FILE}, so nothing says what its files must be; "
                        f"timm.create_model({form!r}, pretrained=True) loads it unverified")  # fmt: skip
    return release


def find_release(place: Place, cache_dir: str | os.PathLike[str] | None = None) -> Release | None:
    """As `open_release`, or None when there is no manifest."""
    if place.kind == "folder":
        folder = Path(place.name)
        if not folder.is_dir():
            raise FileError(f"there is no folder {folder}")
        if not os.path.lexists(folder / FILE):
            return None
        return Release(place, folder, Manifest.read(resolve_inside(folder, FILE)))
    path = download(place.name, place.revision, FILE, cache_dir)
    if path is None:
        return None
    cache = path.parents[3]  # cache / models--ORG--NAME / snapshots / COMMIT / manifest.json
    return Release(place, path.parent, Manifest.read(resolve_inside(path.parent, FILE, cache)), cache)


def verify_source(cfg: object, cache_dir: str | os.PathLike[str] | None = None) -> None:
    """Checks the files that timm is about to load a model from, where a manifest says what they must be.

    Args:
        cfg: the pretrained cfg that timm hands on; only those of `hf-hub:` and `local-dir:` are looked at.
        cache_dir: of the Hub client.

    Raises:
        FileError: config or weights are not as published.
    """
    fields = as_mapping(cfg)
    if fields.get("source") == "local-dir":
        place = Place("folder", str(fields.get("file")))
    elif fields.get("source") == "hf-hub":
        place = find_place(f"hf-hub:{fields.get('hf_hub_id')}")
    else:
        return
    release = find_release(place, cache_dir)
    if release is not None:
        release.file(CONFIG)
        release.file(WEIGHTS)
