"""A data set read from folders of image files."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from .decoding import large_images, open_image, read_image
from .errors import DataError
from .notices import warn_once
from .sources import MAX_BYTES, Array, Parts, too_large

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "test", "testing"}
GREY = frozenset({"1", "L"})

Shape = tuple[int, int, int]
Files = dict[str, list[tuple[Path, int]]]  # split -> image files with their labels


def read_folder(place: str, progress: bool) -> tuple[Parts, tuple[str, ...]]:
    """The splits and class names of a folder; classes are numbered in the order of their folders' names.

    Args:
        place: `DIR`, whose images must all have one size, or `DIR@SIZE`, which resizes each image to SIZE
            pixels on its shorter side and crops the middle square.
        progress: show a progress bar on a terminal.

    Images are read in grey if all of them are grey and in RGB otherwise, upright as their EXIF says;
    transparency is dropped. Files that are no images by their suffix are passed over.

    Raises:
        DataError: a folder is missing, empty or unknown, an image cannot be read or is of another size, or
            the set is too large to be held in memory.
    """
    folder, size = parse_place(place)
    where = f"folder:{place}"
    files, classes = find_images(where, folder)
    parts: Parts = {}
    with large_images():
        shape = _survey(where, folder, [path for pairs in files.values() for path, _ in pairs], size)
        for part, pairs in files.items():
            images = np.empty((len(pairs), *shape), dtype=np.uint8)
            for k, (path, _) in enumerate(_track(pairs, f"reading {part}", progress)):
                images[k] = _read(where, path, shape, size)
            parts[part] = images, np.array([label for _, label in pairs], dtype=np.int64)
    return parts, classes


def find_images(where: str, folder: Path) -> tuple[Files, tuple[str, ...]]:
    """The image files of each split with their labels, and the classes, which are those of the training split.

    Other files are left out, and how many is told once on the standard error.

    Raises:
        DataError: the folder is missing, empty or no data set; `where` names it.
    """
    if not os.path.isdir(folder):
        raise DataError(f"{where}: there is no such folder; check the path")
    try:
        return _list(where, folder)
    except OSError as error:
        raise DataError(f"{where}: cannot be listed ({error}); check its permissions") from error


def parse_place(place: str) -> tuple[Path, int | None]:
    """The folder and the size of `DIR@SIZE`, or of `DIR`, which may have an @ in its name; raises DataError."""
    sized = re.fullmatch(r"(.+)@(\d{1,5})", place)
    if sized is None or os.path.isdir(os.path.expanduser(place)):
        return Path(os.path.expanduser(place)), None
    size = int(sized[2])
    if size < 1:
        raise DataError(f"folder:{place}: the size is {size}, but must be at least 1 pixel")
    return Path(os.path.expanduser(sized[1])), size


def _list(where: str, folder: Path) -> tuple[Files, tuple[str, ...]]:
    folders = {"train": folder}
    if (folder / "train").is_dir() and _subfolders(folder / "train"):
        folders = {sub.name: sub for sub in _subfolders(folder)}
        unknown = sorted(set(folders) - {"train", "val", "test"})
        if unknown:
            raise DataError(f"{where}: beside train there is {unknown[0]}, allowed are val and test; rename or move it")
    classes = tuple(sub.name for sub in _subfolders(folders["train"]))
    if classes and {name.lower() for name in classes} <= SPLIT_NAMES:
        raise DataError(
            f"{where}: {', '.join(classes)} look like splits, not classes; splits are folders named train, val and "
            "test, train among them, each with a folder for every class"
        )
    if len(classes) < 2:
        got = f"{len(classes)} class folder{'s' * (len(classes) != 1)} in {folders['train']}"
        raise DataError(f"{where}: {got}, at least 2 are needed; give each class a folder of its own")
    for name in classes:
        if name != name.encode(errors="ignore").decode():
            raise DataError(f"{where}: the name of the class folder {name!r} is not UTF-8; rename it")
    labels = {name: k for k, name in enumerate(classes)}
    files: Files = {}
    others = [path for place in dict.fromkeys((folder, *folders.values())) for path in _stray(place)]
    for part in sorted(folders, key=["train", "val", "test"].index):
        for sub in _subfolders(folders[part]):
            if sub.name not in labels:
                raise DataError(f"{where}: {sub} is a class that train has not; add it there or remove it")
            found, no_images = _files(sub)
            if part == "train" and not found:
                hint = f" ({_left_out(no_images)})" if no_images else ""
                raise DataError(f"{where}: the class folder {sub} has no images{hint}; add some or remove it")
            others += no_images
            files.setdefault(part, []).extend((path, labels[sub.name]) for path in found)
        if not files.get(part):
            raise DataError(f"{where}: {folders[part]} has no images in class folders; add some or remove it")
    if others:
        warn_once(f"{where}: {_left_out(others)}")
    return files, classes


def _subfolders(folder: Path) -> list[Path]:
    return sorted(sub for sub in folder.iterdir() if sub.is_dir() and not sub.name.startswith((".", "__")))


def _files(folder: Path) -> tuple[list[Path], list[Path]]:
    """The images under a folder, and what else is there that is not hidden, links to folders or nothing among it."""
    images, others = [], []
    for path in sorted(folder.rglob("*")):
        if any(name.startswith(".") for name in path.relative_to(folder).parts):
            continue
        if path.suffix.lower() in SUFFIXES and path.is_file():
            images.append(path)
        elif not path.is_dir() or path.is_symlink():
            others.append(path)
    return images, others


def _stray(folder: Path) -> list[Path]:
    """Images that are in no class folder."""
    beside = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    return sorted(path for path in beside if path.is_file())


def _left_out(paths: list[Path]) -> str:
    count = f"{len(paths)} files are" if len(paths) > 1 else "1 file is"
    why = f"no {', '.join(sorted(SUFFIXES))}, in no class folder, or a link to a folder or to nothing"
    return f"{count} left out, such as {paths[0]}: {why}"


def _survey(where: str, folder: Path, paths: list[Path], size: int | None) -> Shape:
    """The shape [H, W, C] of all images, from their headers alone."""
    grey, first, height, width = True, paths[0], size or 0, size or 0
    for path in paths:
        with open_image(where, path) as image:
            mode, (w, h) = image.mode, image.size
            turned = image.getexif().get(0x0112, 1) >= 5  # EXIF orientations that swap the sides
        grey = grey and mode in GREY
        if turned:
            w, h = h, w
        if size is None and path is first:
            height, width = h, w
        if size is None and (h, w) != (height, width):
            raise DataError(
                f"{where}: images differ in size ({first} is {width}x{height}, {path} is {w}x{h}); "
                f"give one to resize them to, such as folder:{folder}@{min(height, width, 64)}"
            )
    shape = height, width, 1 if grey else 3
    if len(paths) * height * width * shape[2] > MAX_BYTES:
        hint = f", such as folder:{folder}@64" if height > 64 else ""
        raise DataError(f"{where}: {too_large(len(paths) * height * width * shape[2])}{hint}")
    return shape


def _read(where: str, path: Path, shape: Shape, size: int | None) -> Array:
    image = read_image(where, path, "L" if shape[2] == 1 else "RGB")
    if size is not None and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    array = np.asarray(image)
    if array.shape[:2] != shape[:2]:
        raise DataError(f"{where}: {path} is not of the size that its header says; replace or remove it")
    return array if array.ndim == 3 else array[..., None]


def _track(pairs: list[tuple[Path, int]], title: str, progress: bool) -> Iterable[tuple[Path, int]]:
    """The pairs, with a bar on the standard error while a terminal is there to see it."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    disable = not (progress and console.is_terminal)
    return track(pairs, title, console=console, transient=True, disable=disable)
