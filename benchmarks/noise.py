"""Images made up at random, to measure how fast a training takes them."""

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import numpy as np
from PIL import Image

from gemnet.data import Dataset, Split
from gemnet.images import Images, MemoryImages
from gemnet.recipe import Recipe
from gemnet.task import open_images

CLASSES = 10
FILES = 64  # different JPEG files; further ones are links to them


def make_images(recipe: Recipe, steps: int, workers: int, side: int = 32) -> AbstractContextManager[Images]:
    """Images for so many steps, in files where the recipe has an `img_size`; the files are gone after the block."""
    count = recipe.batch_size * steps
    return in_files(count, recipe, workers) if recipe.img_size else nullcontext(in_memory(count, recipe, side))


def in_memory(count: int, recipe: Recipe, side: int) -> Images:
    """Random images that memory holds."""
    rng = np.random.default_rng(0)

    def split(n: int) -> Split:
        return Split(rng.integers(0, 256, (n, side, side, 3), np.uint8), np.arange(n) % CLASSES)

    names = tuple(f"class {k}" for k in range(CLASSES))
    return MemoryImages(Dataset("random", split(max(count, CLASSES)), split(CLASSES), None, names), recipe)


@contextmanager
def in_files(count: int, recipe: Recipe, workers: int) -> Iterator[Images]:
    """Random JPEG files of some 60 kB, coarse noise made large, in a folder that is gone after the block."""
    rng, made = np.random.default_rng(0), list[Path]()
    with tempfile.TemporaryDirectory() as folder:
        for part, number in (("train", max(count, CLASSES)), ("val", CLASSES)):
            for k in range(number):
                path = Path(folder) / part / f"class{k % CLASSES}" / f"{k}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                if len(made) == FILES:
                    path.hardlink_to(made[k % FILES])
                    continue
                coarse = Image.fromarray(rng.integers(0, 256, (94, 125, 3), np.uint8))
                coarse.resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=90)
                made.append(path)
        yield open_images(f"folder:{folder}", recipe, workers=workers)
