"""Small data sets in files and folders, right and wrong ones."""

import numpy as np
import pytest
from PIL import Image

from gemnet.data import load
from gemnet.errors import DataError


def arrays(n=40, shape=(8, 8), **changes):
    """The arrays of a correct npz file of n training images, with some replaced or, by None, left out."""
    rng = np.random.default_rng(0)
    made = {
        "train_images": rng.integers(0, 256, (n, *shape), dtype=np.uint8),
        "train_labels": (np.arange(n) % 4).astype(np.uint8)[:, None],
        "val_images": rng.integers(0, 256, (8, *shape), dtype=np.uint8),
        "val_labels": (np.arange(8) % 4).astype(np.uint8)[:, None],
        "test_images": rng.integers(0, 256, (4, *shape), dtype=np.uint8),
        "test_labels": (np.arange(4) % 4).astype(np.uint8)[:, None],
        **changes,
    }
    return {name: array for name, array in made.items() if array is not None}


def npz(folder, **changes):
    np.savez(folder / "set.npz", **arrays(**changes))
    return f"npz:{folder / 'set.npz'}"


def save_image(path, size=(8, 8), mode="RGB", value=100, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode in ("L", "I;16") else (value,) * len(mode)).save(path, **options)


def folder_set(root, classes=("cat", "dog"), count=3, **image):
    for k, name in enumerate(classes):
        for i in range(count):
            save_image(root / name / f"{i}.png", value=10 * k + i, **image)
    return f"folder:{root}"


def fails(name, *words):
    """Loads what cannot be loaded, and checks that one line says so with these words."""
    with pytest.raises(DataError) as caught:
        load(name)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    assert caught.value.exit_code == 2
