"""The settings of a training, checked; separate from the training so that reading them needs no torch."""

import math
from dataclasses import dataclass

from .errors import ConfigError


@dataclass(frozen=True)
class Recipe:
    """How a net is trained: SGD with Nesterov momentum, cosine decay of the learning rate at every step.

    Args:
        epochs: passes over the training images.
        batch_size: upper bound; an epoch is cut into batches whose sizes differ by at most one.
        lr: learning rate after the warm-up.
        momentum: of SGD, 0 or more and below 1.
        weight_decay: on weights of two or more dimensions only, not on biases and batch norms.
        label_smoothing: share of the target spread over all classes.
        warmup_epochs: epochs, or part of one, in which the learning rate rises linearly.
        crop_padding: black pixels added on each side before a random crop to the old size; 0 = no crop.
        flip: mirror half of the images left to right.
        stop_epochs: epochs after which a hopeless training ends; 0 = never.
        stop_factor: hopeless is a validation accuracy below this many times chance, but never
            more than a quarter of the way from chance to 1 (which matters below 5 classes).

    Raises:
        ConfigError: a value is out of its range.
    """

    epochs: int = 8
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    warmup_epochs: float = 0.0
    crop_padding: int = 4
    flip: bool = True
    stop_epochs: int = 4
    stop_factor: float = 2.0

    def __post_init__(self) -> None:
        finite = math.isfinite(self.lr) and math.isfinite(self.weight_decay) and math.isfinite(self.stop_factor)
        allowed = {
            "epochs": (self.epochs >= 1, "at least 1"),
            "batch_size": (self.batch_size >= 2, "at least 2, which batch norm needs"),
            "lr": (self.lr > 0 and finite, "above 0"),
            "momentum": (0 <= self.momentum < 1, "from 0 to below 1"),
            "weight_decay": (self.weight_decay >= 0 and finite, "0 or more"),
            "label_smoothing": (0 <= self.label_smoothing < 1, "from 0 to below 1"),
            "warmup_epochs": (0 <= self.warmup_epochs < self.epochs, f"from 0 to below epochs ({self.epochs})"),
            "crop_padding": (self.crop_padding >= 0, "0 or more"),
            "stop_epochs": (self.stop_epochs >= 0, "0 or more"),
            "stop_factor": (self.stop_factor >= 0 and finite, "0 or more"),
        }
        for name, (holds, values) in allowed.items():
            if not holds:
                raise ConfigError(f"recipe: {name} is {getattr(self, name)}, allowed is {values}")

    def hopeless_below(self, num_classes: int) -> float:
        """The validation accuracy below which a training is given up."""
        chance = 1 / num_classes
        return min(self.stop_factor * chance, chance + (1 - chance) / 4)
