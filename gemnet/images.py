"""Where a training's images come from: what every source offers, and the source that holds them in memory.

A step's images are those of one batch over all processes. `Share` says which of them one process takes, and
in which micro-batches.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .augment import Moves, Normalise, to_device
from .dataset import Dataset
from .public_data import recognise
from .recipe import Recipe

Batch = tuple[Tensor, Tensor]  # images float [N, C, H, W], labels int64 [N]
EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Share:
    """The part of every batch that one of `world` processes takes, cut into `accumulate` micro-batches."""

    rank: int = 0
    world: int = 1
    accumulate: int = 1

    @property
    def parts(self) -> int:
        """Micro-batches of one step, over all processes."""
        return self.world * self.accumulate

    def slices(self, n: int) -> list[slice]:
        """This process's micro-batches of a batch of n images; the sizes of all differ by at most one."""
        bounds = [n * k // self.parts for k in range(self.parts + 1)]
        first = self.rank * self.accumulate
        return [slice(bounds[k], bounds[k + 1]) for k in range(first, first + self.accumulate)]


class Images(Protocol):
    """A data set that can be trained on, in memory or not.

    Attributes:
        classes: names, in the order of the labels.
        in_chans, img_size: channels; height and width in pixels that the net gets.
        mean, std: per channel, in [0, 1], that images are normalised by.
        counts: number of images of each split there is: train, val and perhaps test.
        fingerprint: sha256 (hex) by which the images are known again.
        data_set: key in `gemnet.public_data.PUBLIC`; empty when it is none of these.
    """

    classes: tuple[str, ...]
    in_chans: int
    img_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    counts: dict[str, int]

    @property
    def fingerprint(self) -> str: ...

    @property
    def data_set(self) -> str: ...

    def training(
        self, batches: Iterable[Tensor], share: Share, epoch: int, rng: torch.Generator, device: torch.device
    ) -> Iterator[Batch]:
        """The augmented micro-batches of a share, in turn, of batches given as numbers of training images."""
        ...

    def plain(self, part: str, share: Share, device: torch.device) -> Iterator[Batch]:
        """A share of a split's images, in order and as they are."""
        ...


class MemoryImages:
    """A data set held in memory, on the device, and augmented a batch at a time; see `Images`.

    Args:
        data: the data set.
        recipe: `crop_padding` and `flip` are used.
        mean, std: what to normalise by; the training images' own when None.
    """

    def __init__(
        self, data: Dataset, recipe: Recipe, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
    ) -> None:
        self.data, self.recipe = data, recipe
        self.classes, self.in_chans, self.img_size = data.classes, data.in_chans, data.img_size
        self.mean, self.std = tuple(mean or data.mean), tuple(std or data.std)
        self.counts = {part: len(split.labels) for part, split in data.splits.items()}
        self._held: dict[tuple[str, torch.device], Batch] = {}

    @property
    def fingerprint(self) -> str:
        return self.data.fingerprint

    @cached_property
    def data_set(self) -> str:
        return recognise(self.data)

    def training(
        self, batches: Iterable[Tensor], share: Share, epoch: int, rng: torch.Generator, device: torch.device
    ) -> Iterator[Batch]:
        """See `Images`; the moves of a whole batch are drawn from `rng`, whatever the share."""
        images, labels = self._on(device, "train")
        normalise = Normalise(self.mean, self.std, device)
        for numbers in batches:
            batch = to_device(numbers, device)
            moves = Moves.draw(len(batch), self.recipe.crop_padding, self.recipe.flip, rng).to(device)
            for part in share.slices(len(batch)):
                yield normalise(moves.of(part).apply(images[batch[part]])), labels[batch[part]]

    def plain(self, part: str, share: Share, device: torch.device) -> Iterator[Batch]:
        """See `Images`."""
        return plain_batches(*self._on(device, part), Normalise(self.mean, self.std, device), share)

    def _on(self, device: torch.device, part: str) -> Batch:
        if (part, device) not in self._held:
            split = self.data.splits[part]
            self._held[part, device] = as_tensor(split.images).to(device), as_tensor(split.labels).to(device)
        return self._held[part, device]


def plain_batches(
    images: Tensor, labels: Tensor, normalise: Normalise, share: Share, batch_size: int = EVALUATION_BATCH
) -> Iterator[Batch]:
    """A process's share of images, bytes [N, H, W, C], and their labels, in order."""
    for first in range(share.rank * batch_size, len(labels), share.world * batch_size):
        some = slice(first, first + batch_size)
        yield normalise(images[some]), labels[some]


def as_tensor(array: "np.ndarray[Any, Any]") -> Tensor:
    """The array's values as a tensor, without copying them where that can be."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))
