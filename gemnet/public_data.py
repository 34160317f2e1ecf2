"""Public image sets that this project knows again by their images, and what weights trained on them may be used for."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .dataset import Dataset


@dataclass(frozen=True)
class PublicData:
    """A public data set.

    Args:
        title: its own name.
        hub_id: on the Hub.
        license: its formal licence; empty when it has none.
        limits: what it holds, and what that does not stand for.
        classes: their names, in the order of the labels; empty where every form of the set brings them.
        sizes: number of images, training and validation together, then test.
        contents: of its images, see `contents_of`; empty where it is known by its name in `gemnet.data` alone.
        fingerprints: as `gemnet.dataset.Dataset` has them, for records of trainings that name no set.
    """

    title: str
    hub_id: str
    license: str
    limits: str
    classes: tuple[str, ...] = ()
    sizes: tuple[int, int] = (0, 0)
    contents: str = ""
    fingerprints: tuple[str, ...] = ()


CIFAR = (
    "small photographs that were collected by web search and labelled by hand. What they show, and how often, is what "
    "the collectors found; it was not chosen to be fair to places or people."
)
CLOTHES = "grey product photographs of one shop's clothes."
PUBLIC = {
    "cifar10": PublicData(
        "CIFAR-10", "uoft-cs/cifar10", "", CIFAR,
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"), (50_000, 10_000),
        "9cbff09440f84be66212b04998c77c333419697abd4f9dfbe4455ba268d645f8",
        ("add24a5c4137358820fa5ef7af6fc119635fa355c01dd80d400e399bde24cb1c",),  # arrays without names of classes
    ),
    "cifar100": PublicData("CIFAR-100", "uoft-cs/cifar100", "", CIFAR),
    "fashion-mnist": PublicData("Fashion-MNIST", "zalando-datasets/fashion_mnist", "mit", CLOTHES),
    "fashion-mini": PublicData(
        "Fashion-MNIST (an excerpt)", "zalando-datasets/fashion_mnist", "mit", CLOTHES,
        fingerprints=("5fe710e1cc6854167e4c2e0bbb2d5fae9d8164ccecd18d8d915fbf2c5253241c",),
    ),
}  # fmt: skip


def recognise(data: Dataset) -> str:
    """The key in `PUBLIC` of a data set, in whatever order and split and with whatever names; empty when unknown.

    A name of `PUBLIC` needs no look at the images: torchvision compares with its checksums what it has downloaded.
    """
    if data.name in PUBLIC:
        return data.name
    sizes = len(data.train.labels) + len(data.val.labels), len(data.test.labels) if data.test else 0
    known = {public.contents: name for name, public in PUBLIC.items() if public.sizes == sizes}
    return known.get(contents_of(data), "") if known else ""


def contents_of(data: Dataset) -> str:
    """sha256 over the labelled images, training and validation images taken together, of which the order is no part."""
    digest = hashlib.sha256()
    for splits in ((data.train, data.val), (data.test,) if data.test else ()):
        rows = sorted(
            hashlib.sha256(int(label).to_bytes(8, "little") + image.tobytes()).digest()
            for split in splits for image, label in zip(split.images, split.labels)
        )  # fmt: skip
        digest.update(len(rows).to_bytes(8, "little") + b"".join(rows))
    return digest.hexdigest()


def data_of(train: Mapping[str, Any]) -> PublicData | None:
    """The data set that the record of a finished training (`train.json`) is of, if it is one of `PUBLIC`."""
    fingerprint = train["asked"]["data"].get("fingerprint")
    same = (data for data in PUBLIC.values() if fingerprint in data.fingerprints)
    return PUBLIC.get(str(train["result"].get("data_set"))) or next(same, None)


def label_names(classes: Sequence[str], data: PublicData | None) -> tuple[str, ...]:
    """The names of classes; those of the public data set where they have numbers alone."""
    numbers = tuple(str(k) for k in range(len(data.classes))) if data else ()
    return data.classes if data and tuple(classes) == numbers else tuple(classes)


@dataclass(frozen=True)
class Licence:
    """Of weights: the Hub's identifier, the name behind `other`, and the reason in words."""

    id: str
    name: str
    reason: str


def licence(data: PublicData | None) -> Licence:
    """Of weights trained on a data set: Apache-2.0 like the code, unless the images have no formal licence."""
    if data is not None and data.license:
        reason = f"Weights and code: Apache-2.0. {data.title} is published under the licence `{data.license}`."
        return Licence("apache-2.0", "", reason)
    if data is None:
        lacks = "The data they were trained on is no public set that this project knows"
    else:
        lacks = f"{data.title} has no formal licence"
    reason = (
        f"The code and the cell are under Apache-2.0, and so is whatever right this project has in the weights. "
        f"{lacks}, so this project cannot say for its owners what weights made from it may be used for: the licence is "
        "therefore `other`, and that is for you to judge."
    )
    return Licence("other", "apache-2.0-with-unlicensed-training-data", reason)
