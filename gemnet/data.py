"""Image classification sets, by name, as arrays in memory.

| name            | what it is                                                                         |
|-----------------|------------------------------------------------------------------------------------|
| `fashion-mini`  | 6,000 + 1,000 + 1,000 images of Fashion-MNIST, 28x28, part of this package         |
| `fashion-mnist` | 60,000 + 10,000 images, 28x28 grey (downloaded once)                               |
| `cifar10`       | 50,000 + 10,000 images, 32x32 colour (downloaded once)                             |
| `cifar100`      | the same size in 100 classes (downloaded once)                                     |
| `npz:FILE`      | arrays `train_images`, `train_labels`, and optional `val_*`, `test_*`, `classes`   |
| `folder:DIR`    | a folder of images per class, or `train`, `val`, `test` folders of such folders    |
| `folder:DIR@64` | the same, each image resized to 64 pixels on its shorter side and cropped square   |

Without `classes`, strings [K], the classes of an npz file are called by their numbers. Where the images are those of a
public set (see `gemnet.public_data`), what is trained on them has that set's names all the same.

A set without a validation split gives up a tenth of each training class for one, always the same images.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .dataset import Array, Dataset, Split, check_range, check_split
from .errors import DataError, UnknownNameError
from .sources import DOWNLOADS, Parts, read_download, read_embedded, read_npz

__all__ = ["NAMES", "Dataset", "Split", "load", "subset"]

NAMES = ("fashion-mini", *DOWNLOADS, "npz:FILE", "folder:DIR")
VAL_SHARE = 0.1  # of each training class, where a set has no validation split
SEED = 20170828  # of every split, so that all who use a set use the same images


def load(name: str, root: str | Path | None = None, progress: bool = True) -> Dataset:
    """The data set of a name in this module's table.

    Args:
        name: such as `"cifar10"` or `"npz:path/to/file.npz"`.
        root: folder that downloads are kept in; by default `GEMNET_DATA` of the environment if set, else
            `gemnet/data` in the user's cache folder.
        progress: show a progress bar on a terminal while downloading or decoding.

    Raises:
        UnknownNameError: the name is not in the table.
        DataError: the set is missing, malformed or cannot be downloaded.
    """
    kind, _, place = name.partition(":")
    if name == "fashion-mini":
        return _assemble(name, *read_embedded("fashion_mini.npz"))
    if name in DOWNLOADS:
        return _assemble(name, *read_download(name, root, progress))
    if kind == "npz" and place:
        return _assemble(name, *read_npz(Path(os.path.expanduser(place))))
    if kind == "folder" and place:
        from .folder import read_folder

        return _assemble(name, *read_folder(place, progress))
    if os.path.exists(name):
        raise DataError(f"{name} is a path: ask for {'folder' if os.path.isdir(name) else 'npz'}:{name}")
    raise UnknownNameError("data set", name, NAMES)


def subset(dataset: Dataset, train: int, val: int) -> Dataset:
    """A smaller data set of exactly so many training and validation images, the test split left as it is.

    Classes are as equal in number as the images allow, and the same images are taken each time. Validation
    images come from the validation split if it has enough, and otherwise from the training split.

    Raises:
        DataError: fewer images are asked for than there are classes, or more than there are images.
    """
    for part, count in (("training", train), ("validation", val)):
        if count < dataset.num_classes:
            raise DataError(f"{dataset.name}: {count} {part} images are too few for {dataset.num_classes} classes")
    apart = val <= len(dataset.val.labels)
    wanted, there = train if apart else train + val, len(dataset.train.labels)
    if wanted > there:
        asked = f"{train} training" if apart else f"{train} training and {val} validation"
        raise DataError(f"{dataset.name}: {asked} images asked for, but train has {there}; ask for fewer")
    pool = _balanced(dataset.train.labels, wanted)
    if apart:
        val_split = _take(dataset.val, _balanced(dataset.val.labels, val))
    else:
        pool = pool[np.argsort(dataset.train.labels[pool], kind="stable")]
        share = np.arange(wanted + 1) * val // wanted
        chosen = share[1:] > share[:-1]  # every (wanted / val)-th image of the pool sorted by class
        val_split, pool = _take(dataset.train, pool[chosen]), pool[~chosen]
    return Dataset(dataset.name, _take(dataset.train, pool), val_split, dataset.test, dataset.classes)


def _assemble(name: str, parts: Parts, classes: tuple[str, ...] | None) -> Dataset:
    splits = {part: Split(*arrays) for part, arrays in parts.items()}
    train = splits["train"]
    check_split(f"{name}: train", train)
    if classes is None:
        present = np.unique(train.labels)
        if present[0] < 0 or present[-1] >= len(train.labels):
            check_range(f"{name}: train", train.labels, range(len(present)))
        classes = tuple(str(k) for k in range(int(present[-1]) + 1))
    if "val" not in splits:
        check_range(f"{name}: train", train.labels, classes)
        kept, held_out = split_numbers(name, train.labels, classes)
        train, splits["val"] = _take(train, kept), _take(train, held_out)
    return Dataset(name, train, splits["val"], splits.get("test"), classes)


def split_numbers(name: str, labels: Array, classes: Sequence[str]) -> tuple[Array, Array]:
    """Which training images stay, and which validate where a set has no validation split; a tenth of each class.

    Raises:
        DataError: a class has a single image.
    """
    rng = np.random.Generator(np.random.Philox(SEED))
    for_val = np.zeros(len(labels), dtype=bool)
    for k in np.unique(labels):
        members = np.flatnonzero(labels == k)
        if len(members) < 2:
            raise DataError(f"{name}: class {classes[k]} has one training image, but a second is needed to validate; "
                            "add some")  # fmt: skip
        for_val[rng.permutation(members)[: max(1, round(VAL_SHARE * len(members)))]] = True
    return np.flatnonzero(~for_val), np.flatnonzero(for_val)


def _balanced(labels: Array, count: int) -> Array:
    """Numbers of `count` images, sorted, with each class taken as often as the others while it lasts."""
    rng = np.random.Generator(np.random.Philox(SEED))
    shuffled = rng.permutation(len(labels))
    rank = np.empty(len(labels), dtype=np.int64)  # an image's place among those of its class
    for k in np.unique(labels):
        members = shuffled[labels[shuffled] == k]
        rank[members] = np.arange(len(members))
    return np.sort(shuffled[np.argsort(rank[shuffled], kind="stable")[:count]])


def _take(split: Split, numbers: Array) -> Split:
    return Split(split.images[numbers], split.labels[numbers])
