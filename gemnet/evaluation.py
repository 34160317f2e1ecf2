"""How right a model is on a split of a data set."""

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from .errors import ConfigError, TrainingError
from .images import Batch

TOP = 5


@dataclass(frozen=True)
class Scores:
    """What a model scored.

    Args:
        top1, top5: share of the images whose label has the largest score, or one of the five largest.
        per_class: the former for each class's images; None for a class without any.
        images: how many there were.
        images_per_s: how many were read, normalised and classified in a second, over all processes.
    """

    top1: float
    top5: float
    per_class: tuple[float | None, ...]
    images: int
    images_per_s: float


def score(
    model: nn.Module, batches: Iterable[Batch], num_classes: int | None, device: torch.device,
    accelerator: Accelerator | None = None,
) -> Scores:  # fmt: skip
    """The scores of a model on batches, which lie on `device`.

    The model runs in eval mode and is given back in the mode it had; its weights move to `device`.

    Args:
        model: gives scores [N, num_classes] of images [N, C, H, W].
        batches: of this process.
        num_classes: how many classes there are; as many as the model has scores when None.
        device: where to compute.
        accelerator: gives the precision, and adds up what several processes count.

    Raises:
        ConfigError: the model's scores do not fit the classes.
        TrainingError: some are infinite or not a number.
    """
    was_training, start = model.training, time.perf_counter()
    model.to(device).eval()
    counts = None if num_classes is None else torch.zeros(4, num_classes, dtype=torch.int64, device=device)
    with torch.inference_mode(), contextlib.nullcontext() if accelerator is None else accelerator.autocast():
        for images, labels in batches:
            output = model(images)
            check_shape(output, len(labels), num_classes or output.shape[-1])
            more = _count(output, labels)
            counts = more if counts is None else counts + more
    model.train(was_training)
    assert counts is not None, "a split has images"
    if accelerator is not None:
        counts = accelerator.reduce(counts, "sum")
    return _scores(counts, time.perf_counter() - start)


def check_shape(output: Tensor, images: int, num_classes: int) -> None:
    """Raises ConfigError unless a model's output is [images, num_classes]."""
    if output.shape != (images, num_classes):
        raise ConfigError(
            f"the model gives scores of shape {tuple(output.shape)} for {images} images of "
            f"{num_classes} classes; build it with num_classes={num_classes}"
        )


def _count(output: Tensor, labels: Tensor) -> Tensor:
    """Per class: images, right ones, those right in the top five, and those whose scores are no numbers [4, K]."""
    num_classes = output.shape[1]
    right = output.argmax(1) == labels
    near = (output.topk(min(TOP, num_classes), 1).indices == labels[:, None]).any(1)
    weights = torch.stack((torch.ones_like(right), right, near, ~output.isfinite().all(1))).long()
    return torch.zeros(4, num_classes, dtype=torch.int64, device=labels.device).index_add_(1, labels, weights)


def _scores(counts: Tensor, seconds: float) -> Scores:
    images, right, near, broken = (row.tolist() for row in counts.cpu())
    total = sum(images)
    if any(broken):
        raise TrainingError(f"the model's outputs for {sum(broken)} of {total} images are infinite or not a number")
    per_class = tuple(r / n if n else None for r, n in zip(right, images))
    return Scores(sum(right) / total, sum(near) / total, per_class, total, total / seconds)
