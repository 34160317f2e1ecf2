"""One image file, checked and decoded."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import ExifTags, Image, ImageOps

from .errors import DataError

DEEP = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})  # modes that 8 bits cut off
ORIENTATION = ExifTags.Base.Orientation
UNDECODABLE = (OSError, ValueError, SyntaxError, EOFError, IndexError, MemoryError)


@contextmanager
def open_image(where: str, path: Path) -> Iterator[Image.Image]:
    """An image of which only the header is read; raises DataError for what goes wrong with it here or in the body."""
    try:
        with Image.open(path) as image:
            if image.mode in DEEP:
                bits = f"more than 8 bits per channel ({image.mode})"
                raise DataError(f"{where}: {path} has {bits}; convert it to 8 bits")
            yield image
    except Image.DecompressionBombError:
        raise DataError(f"{where}: {path} has too many pixels; make it smaller or remove it") from None
    except UNDECODABLE as error:
        message = f"{where}: {path} cannot be decoded ({type(error).__name__}); replace or remove it"
        raise DataError(message) from error


def read_image(where: str, path: Path, mode: str) -> Image.Image:
    """An image, upright as its EXIF says and without transparency, in the mode `L` or `RGB`.

    Raises:
        DataError: it cannot be decoded or has more than 8 bits per channel; `where` names the set.
    """
    with open_image(where, path) as file:
        file.load()
        image = ImageOps.exif_transpose(file) if ORIENTATION in file.getexif() else file
        if image.mode in ("P", "PA"):
            image = image.convert("RGBA")  # a palette with transparency converts to RGB with a warning
        return image if image.mode == mode else image.convert(mode)  # either would copy an image that is so already


def large_images() -> "warnings.catch_warnings[None]":
    """Keeps Pillow from warning of images of 90 M pixels and more; those of twice as many are refused."""
    return warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning)
