"""Arrays of a data set read from a file or downloaded; what `gemnet.data` builds its sets from."""

import contextlib
import io
import os
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np

from .errors import DataError
from .notices import warn_once

Array = np.ndarray[Any, Any]
Parts = dict[str, tuple[Array, Array]]  # split -> images uint8 [N, H, W, C], labels int64 [N]

DOWNLOADS = {"fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}  # torchvision's classes
MAX_BYTES = 4 * 2**30  # of a whole set in memory; every worker of a search holds a copy
MAX_CHANNELS = 16  # more is a volume, or channels that come first
UNREADABLE = (
    OSError, ValueError, EOFError, KeyError, MemoryError, RuntimeError, SyntaxError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def read_embedded(file: str) -> tuple[Parts, tuple[str, ...] | None]:
    """The splits and class names of a set inside this package."""
    from gemnet import zoo

    return read_npz(zoo.path("data", file))


def read_npz(path: Path) -> tuple[Parts, tuple[str, ...] | None]:
    """The splits and class names of a file in MedMNIST's layout.

    Images are uint8 [N, H, W] or [N, H, W, C], labels integers [N] or [N, 1]; an array `classes` may name
    the classes. Nothing in the file is unpickled.

    Raises:
        DataError: there is no such file, or it cannot be read, or its arrays have other names or types.
    """
    if not os.path.isfile(path):
        raise DataError(f"npz:{path}: there is no such file; check the path")
    if not zipfile.is_zipfile(path):
        raise DataError(f"npz:{path}: this is no npz file; write one with numpy.savez_compressed")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size <= MAX_BYTES:
            with np.load(path, allow_pickle=False) as arrays:
                return _npz_parts(f"npz:{path}", arrays)
    except UNREADABLE as error:
        hint = "save its arrays with plain types" if "pickle" in str(error) else "it is damaged, get it again"
        raise DataError(f"npz:{path}: cannot be read ({_reason(error)}); {hint}") from error
    raise DataError(f"npz:{path}: {too_large(size)}")


def too_large(size: int) -> str:
    """What to say of a set of `size` bytes that is over the limit."""
    return f"takes {size / 2**30:.1f} GB of memory, allowed are {MAX_BYTES / 2**30:.0f}; use fewer or smaller images"


def _npz_parts(where: str, arrays: Any) -> tuple[Parts, tuple[str, ...] | None]:
    parts: Parts = {}
    for part in ("train", "val", "test"):
        names = f"{part}_images", f"{part}_labels"
        missing = [name for name in names if name not in arrays.files]
        if missing and (part == "train" or len(missing) == 1):
            has = ", ".join(sorted(arrays.files)[:9]) or "nothing"
            raise DataError(f"{where}: the array {missing[0]} is missing; the file has {has}")
        if not missing:
            parts[part] = _images(where, names[0], arrays[names[0]]), _labels(where, names[1], arrays[names[1]])
    known = {"classes", *(f"{part}_{what}" for part in parts for what in ("images", "labels"))}
    if others := sorted({*arrays.files} - known):
        warn_once(f"{where}: the arrays {', '.join(others[:9])} are left out; known are those of train, val and test, "
                  "such as val_images and val_labels, and classes")  # fmt: skip
    if "classes" not in arrays.files:
        return parts, None
    classes = arrays["classes"]
    if classes.ndim != 1 or classes.dtype.kind != "U" or len({*classes.tolist()} - {""}) < len(classes):
        got = f"{classes.dtype} {list(classes.shape)}"
        raise DataError(f"{where}: classes must be different, not empty strings [K], got {got}")
    return parts, tuple(classes.tolist())


def _images(where: str, name: str, images: Array) -> Array:
    got = f"{where}: {name} is {images.dtype} {list(images.shape)}"
    if images.dtype != np.uint8:
        raise DataError(f"{got}, but must be uint8 from 0 to 255; convert it")
    if images.ndim == 3:
        return images[..., None]
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3, 4):
        raise DataError(f"{got}, which looks like channels first; put them last with images.transpose(0, 2, 3, 1)")
    if images.ndim != 4 or images.shape[3] > MAX_CHANNELS:
        raise DataError(f"{got}, but must be [N, H, W] or [N, H, W, C] with C last and at most {MAX_CHANNELS}")
    return images


def _labels(where: str, name: str, labels: Array) -> Array:
    got = f"{where}: {name} is {labels.dtype} {list(labels.shape)}"
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(f"{got}, but must be [N] or [N, 1]: one label per image")
    if labels.dtype.kind not in "iu":
        raise DataError(f"{got}, but labels must be integers; convert them")
    if labels.dtype.kind == "u" and len(labels) and labels.max() > np.iinfo(np.int64).max:
        raise DataError(f"{where}: {name} has the label {labels.max()}; number the classes 0, 1, 2 and so on")
    return labels.astype(np.int64)


def read_download(name: str, root: str | Path | None, progress: bool) -> tuple[Parts, tuple[str, ...]]:
    """The splits and class names of a set that torchvision knows, downloaded unless it is there.

    Raises:
        DataError: it cannot be downloaded or stored.
    """
    import torchvision.datasets

    folder = Path(os.path.expanduser(root)) if root is not None else default_root()
    source = getattr(torchvision.datasets, DOWNLOADS[name])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _quiet_unless(progress and sys.stderr.isatty()):
            sets = {part: source(folder, train=part == "train", download=True) for part in ("train", "test")}
    except (*UNREADABLE, HTTPException, tarfile.TarError) as error:
        raise DataError(
            f"{name}: cannot be downloaded to {folder} ({_reason(error)}); check the network connection and that "
            "the folder can be written, or set GEMNET_DATA to a folder that has the files"
        ) from error
    parts = {}
    for part, data in sets.items():
        images = np.asarray(data.data)
        parts[part] = images.reshape(*images.shape[:3], -1), np.asarray(data.targets, dtype=np.int64)
    return parts, tuple(sets["train"].classes)


def default_root() -> Path:
    """The folder that downloads are kept in: `GEMNET_DATA`, else `gemnet/data` in the user's cache folder."""
    if os.environ.get("GEMNET_DATA"):
        return Path(os.path.expanduser(os.environ["GEMNET_DATA"]))
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "gemnet" / "data"


@contextlib.contextmanager
def _quiet_unless(progress: bool) -> Iterator[None]:
    """Keeps torchvision's messages off the standard output, and its bar off the screen unless wanted."""
    screen = sys.stderr if progress else io.StringIO()
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
        yield


def _reason(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return text.strip().splitlines()[0].rstrip(".:")[:160]
