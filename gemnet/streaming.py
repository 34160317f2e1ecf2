"""Folders of images too large for memory: read, cropped and augmented by timm's transforms while training.

Each image of each epoch has random numbers of its own, from (seed, epoch, image). So the augmentation does not
depend on how many processes read, and a training goes on in the middle of an epoch without reading its beginning.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.data import create_transform
from timm.data.loader import fast_collate
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from .augment import Normalise
from .data import split_numbers
from .decoding import large_images, read_image
from .errors import ConfigError, DataError
from .folder import find_images
from .images import Batch, Share
from .randomness import all_kept, set_all
from .recipe import Recipe

BATCH = 64  # images of a batch in evaluation: small, so that many processes read the first ones at once
Key = tuple[int, int]  # epoch, number of an image


class FolderImages:
    """A folder of images, read while training; see `gemnet.images.Images`.

    Args:
        place: the folder: one folder of images per class, or `train`, `val` and `test` with these in each. Without
            `val`, a tenth of each training class is taken for it, always the same images.
        recipe: its image fields are used; `img_size` is above 0.
        in_chans: 3 for colour, 1 for grey.
        mean, std: per channel, in [0, 1], to normalise by.
        seed: of the augmentation.
        workers: processes that read; 0 reads in this one.

    Raises:
        DataError: the folder is missing or no data set.
        ConfigError: the recipe's `auto_augment` is no policy of timm's.
    """

    def __init__(
        self, place: str, recipe: Recipe, in_chans: int, mean: Sequence[float], std: Sequence[float],
        seed: int = 0, workers: int = 0,
    ) -> None:  # fmt: skip
        self.where, self.recipe, self.seed, self.workers = f"folder:{place}", recipe, seed, workers
        self.in_chans, self.img_size = in_chans, (recipe.img_size, recipe.img_size)
        self.mean, self.std = tuple(mean), tuple(std)
        self._transform(True)  # what is wrong with it is told before anything is listed or written
        self.root = Path(os.path.expanduser(place))
        files, self.classes = find_images(self.where, self.root)
        self._files = {part: _FileList(pairs) for part, pairs in files.items()}
        if "val" not in self._files:
            train = self._files["train"]
            kept, held_out = split_numbers(self.where, train.labels, self.classes)
            self._files |= {"train": train.some(kept), "val": train.some(held_out)}
        self.counts = {part: len(files.labels) for part, files in self._files.items()}
        self.data_set = ""

    @property
    def fingerprint(self) -> str:
        """sha256 over names, sizes in bytes and labels of all files; not over what is in them."""
        digest, start = hashlib.sha256(repr(self.classes).encode()), os.path.join(self.root, "")
        for part in sorted(self._files):
            files = self._files[part]
            for name, label in zip(files.names, files.labels):
                path = os.fsdecode(name)
                line = f"{part} {path.removeprefix(start)} {os.path.getsize(path)} {label}\n"
                digest.update(os.fsencode(line))  # also names that are not UTF-8
        return digest.hexdigest()

    def training(
        self, batches: Iterable[Tensor], share: Share, epoch: int, rng: torch.Generator, device: torch.device
    ) -> Iterator[Batch]:
        """See `gemnet.images.Images`; nothing is drawn from `rng`."""
        keys = [
            [(epoch, int(number)) for number in batch[part]] for batch in batches for part in share.slices(len(batch))
        ]
        return self._batches("train", keys, self._transform(True), device)

    def plain(self, part: str, share: Share, device: torch.device) -> Iterator[Batch]:
        """See `gemnet.images.Images`."""
        count, size = self.counts[part], BATCH
        firsts = range(share.rank * size, count, share.world * size)
        keys = [[(0, number) for number in range(first, min(first + size, count))] for first in firsts]
        return self._batches(part, keys, self._transform(False), device)

    def _transform(self, training: bool) -> Any:
        recipe = self.recipe
        try:
            return create_transform(
                (self.in_chans, *self.img_size), is_training=training, use_prefetcher=True,  # which leaves bytes
                scale=(recipe.crop_scale, 1.0), hflip=0.5 if recipe.flip else 0.0, color_jitter=recipe.color_jitter,
                auto_augment=recipe.auto_augment or None, interpolation="bicubic", crop_pct=recipe.crop_pct,
                mean=self.mean,
            )  # fmt: skip
        except (AssertionError, ValueError, KeyError):
            raise ConfigError(f"recipe.auto_augment must be a policy of timm's, such as rand-m9-mstd0.5, got "
                              f"{recipe.auto_augment!r:.60}") from None  # fmt: skip

    def _batches(self, part: str, keys: list[list[Key]], transform: Any, device: torch.device) -> Iterator[Batch]:
        # timm's create_loader takes no order of its own, and without one no epoch can be gone on with
        dataset = _Reader(self.where, self._files[part], transform, self.in_chans, self.seed)
        loader = DataLoader(
            dataset, batch_sampler=keys, num_workers=min(self.workers, len(keys)), collate_fn=_collate,
            pin_memory=device.type == "cuda", worker_init_fn=_one_thread,
            generator=torch.Generator(),  # else it draws from the one that the net's own random layers draw from
        )  # fmt: skip
        normalise = Normalise(self.mean, self.std, device)
        for batch in loader:
            if isinstance(batch, DataError):
                raise batch
            images, labels = batch
            # the bytes are put in channels-last order, not the four times as large floats
            on_device = images.to(device, non_blocking=True, memory_format=torch.channels_last)
            yield normalise(on_device.permute(0, 2, 3, 1)), labels.to(device, non_blocking=True)


class _FileList:
    """Names and labels of files, in arrays, which reading processes share without copying."""

    def __init__(self, pairs: Sequence[tuple[Path, int]] = ()) -> None:
        self.names = np.array([os.fsencode(path) for path, _ in pairs])
        self.labels = np.array([label for _, label in pairs], dtype=np.int64)

    def some(self, numbers: "np.ndarray[Any, Any]") -> "_FileList":
        part = _FileList()
        part.names, part.labels = self.names[numbers], self.labels[numbers]
        return part


class _Reader(TorchDataset[tuple[Any, int] | DataError]):
    """Images by their key, as bytes [C, H, W]; an error is given back, since raised in a worker it loses its type."""

    def __init__(self, where: str, files: _FileList, transform: Any, in_chans: int, seed: int) -> None:
        self.where, self.files, self.transform, self.seed = where, files, transform, seed
        self.mode = "L" if in_chans == 1 else "RGB"

    def __getitem__(self, key: Key) -> tuple[Any, int] | DataError:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[Key]) -> list[tuple[Any, int] | DataError]:
        with large_images(), all_kept():  # of a batch: for each image they take a tenth of the time of reading it
            return [self._read(epoch, number) for epoch, number in keys]

    def _read(self, epoch: int, number: int) -> tuple[Any, int] | DataError:
        path = Path(os.fsdecode(self.files.names[number]))
        set_all(self.seed, epoch, number)
        try:
            return self.transform(read_image(self.where, path, self.mode)), int(self.files.labels[number])
        except DataError as error:
            return error
        except ValueError as error:  # some of timm's policies ask for what Pillow no longer does
            return DataError(f"{self.where}: {path} cannot be augmented ({error}); set another auto_augment")

    def __len__(self) -> int:
        return len(self.files.labels)


def _collate(items: list[tuple[Any, int] | DataError]) -> tuple[Tensor, Tensor] | DataError:
    for item in items:
        if isinstance(item, DataError):
            return item
    batch: tuple[Tensor, Tensor] = fast_collate(items)  # type: ignore[no-untyped-call]
    return batch


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
