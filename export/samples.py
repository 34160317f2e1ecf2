"""Real images that a file is tried on and int8 is calibrated with."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from gemnet.data import Dataset, Split, load
from gemnet.errors import DataError

PACKAGED = "fashion-mini"
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Samples:
    """Images at a model's size, as bytes.

    Args:
        name: of the data set.
        images: [N, H, W, C], of its validation split.
        labels: [N], or none of them where the set's classes are not the model's.
        calibration: [M, H, W, C], of its training split.
    """

    name: str
    images: Array
    labels: Array
    calibration: Array

    @classmethod
    def of(
        cls, data: Dataset, image: tuple[int, int, int], num_classes: int, count: int, calibration: int
    ) -> "Samples":
        """Images from all over a data set; with labels when the number of classes is the model's."""
        images, labels = _spread(data.val, image, count)
        known = data.num_classes == num_classes
        return cls(data.name, images, labels if known else labels[:0], _spread(data.train, image, calibration)[0])

    @classmethod
    def packaged(cls, image: tuple[int, int, int], count: int, calibration: int) -> "Samples":
        """Images that come with this package, without labels: its classes are not the model's."""
        return cls.of(load(PACKAGED), image, 0, count, calibration)


def fit(images: Array, image: tuple[int, int, int]) -> Array:
    """Images [N, H, W, C] of any size and number of channels as [N, *] of another.

    Args:
        images: bytes.
        image: C, H and W wanted.

    Raises:
        DataError: there are no images.
    """
    chans, height, width = image
    if not len(images):
        raise DataError("no images to try the file on; ask for at least 1")
    if images.shape[3] != chans:
        grey = images if images.shape[3] == 1 else images.mean(axis=3, keepdims=True).round().astype(np.uint8)
        images = np.repeat(grey, chans, axis=3)
    if images.shape[1:3] == (height, width):
        return np.ascontiguousarray(images)
    out = np.empty((len(images), height, width, chans), np.uint8)
    for k in range(chans):
        for n, plane in enumerate(images[..., k]):
            out[n, :, :, k] = np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC))
    return out


def _spread(split: Split, image: tuple[int, int, int], count: int) -> tuple[Array, Array]:
    """Images and labels from all over a split, in case it is sorted by class."""
    chosen = np.linspace(0, len(split.images) - 1, min(count, len(split.images))).round().astype(int)
    return fit(split.images[chosen], image), split.labels[chosen]
