"""Training of one net on one data set in memory, short enough to rank candidates by.

It is `gemnet.trainer` without checkpoints and without a validation every epoch. Everything random comes from
one seed: the same seed and thread count give the same net, bit for bit, on a CPU.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from .augment import Normalise, augment
from .data import Dataset, Split
from .devices import accelerator
from .evaluation import score
from .images import EVALUATION_BATCH, MemoryImages, Share, as_tensor, plain_batches
from .randomness import borrowed, seeded
from .recipe import Recipe
from .trainer import Trainer

__all__ = ["Recipe", "TrainResult", "augment", "evaluate", "seeded", "train"]


@dataclass(frozen=True)
class TrainResult:
    """What a training came to: `val_acc` and `train_loss` are the last epoch's, `train_s` is all of the call."""

    val_acc: float
    train_loss: float
    train_s: float
    epochs_run: int
    stopped_early: bool


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
        device: `cpu`, `cuda` or `auto`.
        on_epoch: called after each epoch with the number of epochs run and the mean training loss.

    Raises:
        TrainingError: the loss became infinite or not a number.
        ConfigError: the model's scores do not fit the data's classes.
    """
    start, images = time.perf_counter(), MemoryImages(data, recipe)
    runner = accelerator(device, recipe.precision, recipe.accumulate)
    with borrowed(seed, device=runner.device) as rng:
        trainer = Trainer(model, images, recipe, runner, rng)
        try:
            for epoch in range(1, recipe.epochs + 1):
                loss = trainer.run_epoch()
                if on_epoch is not None:
                    on_epoch(epoch, loss)
                if epoch in (recipe.stop_epochs, recipe.epochs):
                    batches = images.plain("val", trainer.share, runner.device)
                    val_acc = score(trainer.chosen, batches, data.num_classes, runner.device, runner).top1
                    if epoch == recipe.epochs or val_acc < recipe.hopeless_below(data.num_classes):
                        break
        finally:
            trainer.release()
    return TrainResult(val_acc, loss, time.perf_counter() - start, epoch, epoch < recipe.epochs)


def evaluate(
    model: nn.Module,
    split: Split,
    mean: Sequence[float],
    std: Sequence[float],
    device: str | torch.device = "cpu",
    *,
    batch_size: int = EVALUATION_BATCH,
) -> float:
    """The share of a split's images whose largest score is their label's, in [0, 1].

    The model runs in eval mode and is given back in the mode it had; its weights move to `device`.
    """
    device = torch.device(device)
    images, labels = as_tensor(split.images).to(device), as_tensor(split.labels).to(device)
    batches = plain_batches(images, labels, Normalise(mean, std, device), Share(), batch_size)
    return score(model, batches, None, device).top1
