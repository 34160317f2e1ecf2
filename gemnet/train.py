"""Training of one net on one data set, short enough to rank candidates by.

Images stay in memory as bytes and are cropped, flipped and normalised a batch at a time, so that nothing
but the net costs time. Everything random comes from one seed: the same seed and thread count give the same
net, bit for bit, on a CPU.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import Tensor, nn

from .data import Dataset, Split
from .errors import ConfigError, TrainingError
from .recipe import Recipe

__all__ = ["Recipe", "TrainResult", "augment", "evaluate", "seeded", "train"]


@dataclass(frozen=True)
class TrainResult:
    """What a training came to: `val_acc` and `train_loss` are the last epoch's, `train_s` is all of the call."""

    val_acc: float
    train_loss: float
    train_s: float
    epochs_run: int
    stopped_early: bool


@contextlib.contextmanager
def seeded(seed: int, device: str | torch.device = "cpu") -> Iterator[None]:
    """A block in which torch draws from `seed`; afterwards its generators are as they were before.

    Build a model inside one to make its first weights depend on the seed alone.
    """
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def train(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    seed: int,
    device: str | torch.device = "cpu",
    *,
    on_epoch: Callable[[int, float], None] | None = None,
) -> TrainResult:
    """Accuracy on the validation split after training `model`, in place, on the training split.

    Args:
        model: maps float images [N, C, H, W] to scores [N, num_classes]; it ends on `device`, channels last.
        data: train and val are used, test is not.
        recipe: how to train.
        seed: decides the order of the images, their augmentation and the model's own random layers.
        device: where to train.
        on_epoch: called after each epoch with the number of epochs run and the mean training loss.

    Raises:
        TrainingError: the loss became infinite or not a number.
        ConfigError: the model's scores do not fit the data's classes.
    """
    start = time.perf_counter()
    with seeded(seed, device):
        rng = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        loop = _Loop(model, data, recipe, device, rng)
        for epoch in range(1, recipe.epochs + 1):
            loss = loop.run_epoch()
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss became {loss} in epoch {epoch} of {recipe.epochs} at learning rate {recipe.lr}; "
                    "lower lr or add warmup_epochs"
                )
            if on_epoch is not None:
                on_epoch(epoch, loss)
            if epoch in (recipe.stop_epochs, recipe.epochs):
                val_acc = evaluate(model, data.val, data.mean, data.std, device)
                if epoch == recipe.epochs or val_acc < recipe.hopeless_below(data.num_classes):
                    break
    return TrainResult(val_acc, loss, time.perf_counter() - start, epoch, epoch < recipe.epochs)


def evaluate(
    model: nn.Module,
    split: Split,
    mean: Sequence[float],
    std: Sequence[float],
    device: str | torch.device = "cpu",
    *,
    batch_size: int = 256,
) -> float:
    """The share of a split's images whose largest score is their label's, in [0, 1].

    The model runs in eval mode and is given back in the mode it had; its weights move to `device`.
    """
    was_training = model.training
    model.to(device).eval()
    normalise = _Normalise(mean, std, device)
    right = torch.zeros((), dtype=torch.int64, device=device)
    with torch.inference_mode():
        for first in range(0, len(split.labels), batch_size):
            images = _tensor(split.images[first : first + batch_size]).to(device)
            labels = _tensor(split.labels[first : first + batch_size]).to(device)
            right += (model(normalise(images)).argmax(1) == labels).sum()
    model.train(was_training)
    return int(right) / len(split.labels)


def augment(images: Tensor, padding: int, flip: bool, rng: torch.Generator) -> Tensor:
    """Images randomly shifted by up to `padding` pixels in each direction, and half of them mirrored.

    Args:
        images: bytes [N, H, W, C]; what is shifted in is black.
        padding: largest shift in pixels.
        flip: whether to mirror at all.
        rng: a generator on the CPU, so that a seed means the same on every device.
    """
    n, height, width, _ = images.shape
    top, left = torch.randint(2 * padding + 1, (2, n, 1), generator=rng)
    rows, cols = top + torch.arange(height), left + torch.arange(width)
    if flip:
        mirrored = torch.rand(n, 1, generator=rng) < 0.5
        cols = torch.where(mirrored, cols.flip(1), cols)
    rows, cols = rows.to(images.device), cols.to(images.device)
    padded = F.pad(images, (0, 0, padding, padding, padding, padding))  # [N, H + 2p, W + 2p, C]
    each = torch.arange(n, device=images.device)
    return padded[each[:, None, None], rows[:, :, None], cols[:, None, :]]


class _Loop:
    """Model, optimiser and data of one training, an epoch at a time."""

    def __init__(
        self, model: nn.Module, data: Dataset, recipe: Recipe, device: str | torch.device, rng: torch.Generator
    ) -> None:
        self.model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.recipe, self.num_classes, self.rng = recipe, data.num_classes, rng
        self.images = _tensor(data.train.images).to(device)
        self.labels = _tensor(data.train.labels).to(device)
        self.normalise = _Normalise(data.mean, data.std, device)
        self.optimizer = create_optimizer_v2(  # timm's "sgd" is the one with Nesterov momentum
            model, opt="sgd", lr=recipe.lr, weight_decay=recipe.weight_decay, momentum=recipe.momentum
        )
        self.batches = math.ceil(len(self.labels) / recipe.batch_size)
        self.step = 0
        self.scheduler = _cosine(self.optimizer, recipe, self.batches)

    def run_epoch(self) -> float:
        """The mean loss over one pass."""
        self.model.train()
        order = torch.randperm(len(self.labels), generator=self.rng).to(self.labels.device)
        total = torch.zeros((), device=self.labels.device)
        for batch in order.tensor_split(self.batches):
            total += self._run_step(batch) * len(batch)
        return float(total) / len(order)

    def _run_step(self, batch: Tensor) -> Tensor:
        images = augment(self.images[batch], self.recipe.crop_padding, self.recipe.flip, self.rng)
        self.scheduler.step_update(self.step)
        scores = self.model(self.normalise(images))
        if scores.shape != (len(batch), self.num_classes):
            raise ConfigError(
                f"the model gives scores of shape {tuple(scores.shape)} for {len(batch)} images of "
                f"{self.num_classes} classes; build it with num_classes={self.num_classes}"
            )
        loss = F.cross_entropy(scores, self.labels[batch], label_smoothing=self.recipe.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.step += 1
        return loss.detach()


class _Normalise:
    """Bytes [N, H, W, C] to floats [N, C, H, W] of mean 0 and variance 1, channels last in memory."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: str | torch.device) -> None:
        self.mean = 255 * torch.tensor(mean, device=device)
        self.scale = 1 / (255 * torch.tensor(std, device=device))

    def __call__(self, images: Tensor) -> Tensor:
        return ((images - self.mean) * self.scale).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def _cosine(optimizer: torch.optim.Optimizer, recipe: Recipe, batches: int) -> Any:
    """The schedule whose `step_update(t)` sets the rate of step t; the first step already learns."""
    warmup = round(recipe.warmup_epochs * batches)
    steps = max(1, recipe.epochs * batches - warmup)
    return CosineLRScheduler(
        optimizer, t_initial=steps, t_in_epochs=False,
        warmup_t=warmup, warmup_lr_init=recipe.lr / (warmup + 1), warmup_prefix=True,
    )  # fmt: skip


def _tensor(array: "np.ndarray[Any, Any]") -> Tensor:
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))
