"""What a data set is: images and labels in memory, in splits."""

import hashlib
from collections.abc import Sized
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .errors import DataError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels.

    Args:
        images: uint8 [N, H, W, C].
        labels: int64 [N], numbers of classes.
    """

    images: Array
    labels: Array


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory, checked on construction.

    Args:
        name: what it was asked for by.
        train: holds at least one image of each class.
        val: what choices are made by.
        test: what is looked at once in the end, if there is any.
        classes: name of each class, in the order of the labels.

    Raises:
        DataError: the arrays do not make a data set; the message says why.
    """

    name: str
    train: Split
    val: Split
    test: Split | None
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise DataError(f"{self.name}: {len(self.classes)} class, but at least 2 are needed")
        for part, split in self.splits.items():
            check_split(f"{self.name}: {part}", split)
            if split.images.shape[1:] != self.train.images.shape[1:]:
                got, train = _size(split.images), _size(self.train.images)
                raise DataError(f"{self.name}: {part} images are {got}, but train images are {train}; make them equal")
            check_range(f"{self.name}: {part}", split.labels, self.classes)
        missing = np.setdiff1d(np.arange(len(self.classes)), self.train.labels)
        if len(missing):
            k = int(missing[0])
            raise DataError(
                f"{self.name}: class {k} ({self.classes[k]}) has no training image; "
                f"add some, or number the classes 0, 1, 2 and so on without a gap"
            )

    @property
    def splits(self) -> dict[str, Split]:
        """The splits there are, by name."""
        both = {"train": self.train, "val": self.val}
        return both if self.test is None else {**both, "test": self.test}

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def in_chans(self) -> int:
        return int(self.train.images.shape[3])

    @property
    def img_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.train.images.shape[1]), int(self.train.images.shape[2])

    @property
    def mean(self) -> tuple[float, ...]:
        """Of each channel over the training images, in [0, 1]."""
        return self._moments[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Of each channel over the training images, in [0, 1]; 1 where a channel never changes."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        values = np.arange(256) / 255
        counts = [np.bincount(self.train.images[..., c].ravel(), minlength=256) for c in range(self.in_chans)]
        means = [float(np.average(values, weights=count)) for count in counts]
        stds = [float(np.average((values - m) ** 2, weights=count)) ** 0.5 for m, count in zip(means, counts)]
        return tuple(means), tuple(std or 1.0 for std in stds)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over all arrays and the classes' names; the set's own name does not count."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for part, split in self.splits.items():
            for array in (split.images, split.labels.astype("<i8", copy=False)):
                digest.update(f"{part} {array.dtype.str} {array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def check_split(where: str, split: Split) -> None:
    """Raises unless there are images of the right type and shape, and as many labels."""
    images, labels = split.images, split.labels
    if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape[1:]:
        got = f"{images.dtype} {list(images.shape)}"
        raise DataError(f"{where} images are {got}, but must be uint8 [N, H, W, C] (or [N, H, W] in a file)")
    if labels.dtype != np.int64 or labels.ndim != 1:
        raise DataError(f"{where} labels are {labels.dtype} {list(labels.shape)}, but must be int64 [N]")
    if len(images) != len(labels):
        raise DataError(f"{where} has {len(images)} images but {len(labels)} labels; there must be one label per image")
    if len(images) == 0:
        raise DataError(f"{where} has no images")


def check_range(where: str, labels: Array, classes: Sized) -> None:
    """Raises unless every label numbers a class."""
    outside = labels[(labels < 0) | (labels >= len(classes))]
    if len(outside):
        raise DataError(f"{where} has the label {outside[0]}, but labels must be from 0 to {len(classes) - 1}")


def _size(images: Array) -> str:
    _, height, width, channels = images.shape
    return f"{height}x{width} with {channels} channel{'s' if channels > 1 else ''}"
