"""What a model answers, kept to compare exported files with."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from gemnet.errors import ExportError

from .form import Form
from .infer import normalise

Array = np.ndarray[Any, Any]
BATCH = 32  # images given to the model at once


@dataclass(frozen=True, eq=False)
class Case:
    """Images and the model's answer to them.

    Args:
        name: such as `batch 2`.
        images: as the file takes them.
        logits: float32 [N, num_classes].
    """

    name: str
    images: Array
    logits: Array


@dataclass(frozen=True)
class Scaling:
    """Mean and deviation of the channels of images in [0, 1], as the model was trained with."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def parity_cases(model: nn.Module, form: Form, scaling: Scaling | None = None) -> list[Case]:
    """The model's answers to random images at every batch and size that the file must take.

    Args:
        model: maps normalised images [N, C, H, W] to logits; put into eval mode and back.
        form: of the file.
        scaling: needed when the file takes bytes.

    Raises:
        ExportError: the model's answers are not finite.
    """
    rng = np.random.Generator(np.random.Philox(0))
    cases = []
    for size in form.sizes:
        for batch in form.batches if size == form.image[1:] else form.batches[:2]:
            name = f"batch {batch}" + ("" if size == form.image[1:] else f", {size[0]} x {size[1]} px")
            shape = (batch, *form.shaped(*size))
            images: Array
            if form.as_bytes:
                images = rng.integers(0, 256, shape, dtype=np.uint8)
            else:
                images = rng.standard_normal(shape, dtype=np.float32)
            cases.append(Case(name, images, answer(model, images, scaling)))
    return cases


def answer(model: nn.Module, images: Array, scaling: Scaling | None = None) -> Array:
    """The model's logits, float32 [N, num_classes].

    Args:
        model: maps normalised images [N, C, H, W] to logits; put into eval mode and back.
        images: normalised floats [N, C, H, W], or bytes [N, H, W, C].
        scaling: for bytes.

    Raises:
        ExportError: the logits are not finite; names the first weight that is not, if there is one.
    """
    if images.dtype == np.uint8:
        assert scaling is not None
        images = normalise(images, {"mean": scaling.mean, "std": scaling.std})
    training, parameter = model.training, next(model.parameters())
    try:
        with torch.no_grad():
            model.eval()
            parts = [
                model(torch.from_numpy(images[k : k + BATCH]).to(parameter.device, parameter.dtype)).float().cpu()
                for k in range(0, len(images), BATCH)
            ]
    finally:
        model.train(training)
    logits = torch.cat(parts).numpy()
    if not np.isfinite(logits).all():
        bad = [name for name, value in model.state_dict().items() if not bool(torch.isfinite(value).all())]
        where = f"its weight {bad[0]!r} is not" if bad else "none of its weights is at fault"
        raise ExportError(f"the model's own outputs are not finite ({where}); train it or check its weights")
    return logits


def difference(got: Array, want: Array) -> tuple[float, float]:
    """Largest absolute difference of two arrays, and the same divided by the largest wanted value."""
    worst = float(np.abs(got.astype(np.float64) - want).max())
    return worst, worst / max(float(np.abs(want).max()), 1e-12)


def agreement(logits: Array, others: Array) -> float:
    """The share of images on which two sets of logits [N, num_classes] choose the same class."""
    return float((logits.argmax(1) == others.argmax(1)).mean())


def accuracy(logits: Array, labels: Sequence[int] | Array) -> float:
    """The share of images whose largest logit is their label's; nan without labels."""
    return float((logits.argmax(1) == np.asarray(labels)).mean()) if len(labels) else math.nan
