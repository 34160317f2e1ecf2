"""The settings of a training, checked; separate from the training so that reading them needs no torch."""

import dataclasses
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from . import settings, zoo
from .errors import ConfigError
from .foreign import MAX_SIDE

SCHEMA = "gemnet.recipe/1"
SCHEDULES = ("cosine", "constant")
PRECISIONS = ("no", "bf16", "fp16")
MAX_PADDING = 256  # pixels, twice of which every image of a batch grows by while it is cropped
MAX_RATE = 1000  # far beyond use; torch refuses numbers that overflow 32 bits in the middle of a step
POLICY = re.compile(r"\w+(-(t(weights|3aw?)|[a-su-z][a-z]*\d[\d.]*))*", re.ASCII)  # timm passes over other sections
NUMBER = re.compile(r"[+-]?(\d{1,30}\.?\d{0,30}|\.\d{1,30})(e[+-]?\d{1,3})?", re.ASCII | re.IGNORECASE)
FOR_MEMORY = frozenset({"crop_padding"})  # fields that mean nothing for images read while training
FOR_FILES = frozenset({"crop_scale", "crop_pct", "color_jitter", "auto_augment"})  # and for images in memory
FIRST_FIELDS = 11  # those of version 0.1, which all recorded measurements hold


@dataclass(frozen=True)
class Recipe:
    """How a net is trained. The defaults are those of the short trainings that a search ranks cells by.

    Args:
        epochs: passes over the training images.
        batch_size: images of one step, over all processes and micro-batches; an upper bound, since an epoch is
            cut into batches whose sizes differ by at most one.
        lr: learning rate after the warm-up.
        momentum: of optimisers that have one, 0 or more and below 1.
        weight_decay: on weights of two or more dimensions only, not on biases and batch norms.
        label_smoothing: share of the target spread over all classes.
        warmup_epochs: epochs, or part of one, in which the learning rate rises linearly.
        crop_padding: black pixels added on each side before a random crop to the old size; 0 = no crop.
            For images in memory (`img_size` 0).
        flip: mirror half of the images left to right.
        stop_epochs: epochs after which a hopeless training ends; 0 = never.
        stop_factor: hopeless is a validation accuracy below this many times chance, but never
            more than a quarter of the way from chance to 1 (which matters below 5 classes).
        opt: an optimiser by timm's name; `sgd` is the one with Nesterov momentum, if there is momentum.
        sched: `cosine` decay at every step, or `constant`.
        min_lr: learning rate that the cosine ends at.
        layer_decay: factor of the learning rate from each layer group to the one before it; 1 = all alike.
        clip_grad: largest norm of all gradients together; 0 = as they are.
        mixup, cutmix: alpha of the Beta distribution that images of a batch are mixed by; 0 = not at all.
        random_erase: probability that a rectangle of an image is replaced by noise.
        drop_rate: dropout in front of the classifier.
        drop_path_rate: stochastic depth at the last cell, rising linearly from 0 at the first.
        ema_decay: of the moving average of the weights, which is then what is validated and kept; it starts
            at 0 and rises to this as 1 - (1 + step)^(-2/3). 0 = no average.
        precision: `no` (32 bit), `bf16` or `fp16` for the forward and backward pass.
        accumulate: micro-batches per step and process, which save memory.
        img_size: side in pixels that images of a folder are read at, one by one while training, from a random
            part of the image; 0 = images are held in memory at the size they have.
        crop_scale: smallest part of an image's area that is cut out (`img_size` above 0).
        crop_pct: part of an image's shorter side that is looked at in evaluation (`img_size` above 0).
        color_jitter: strength of random brightness, contrast and saturation (`img_size` above 0).
        auto_augment: timm's name of a policy such as `rand-m9-mstd0.5`, `""` for none (`img_size` above 0).

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
    opt: str = "sgd"
    sched: str = "cosine"
    min_lr: float = 0.0
    layer_decay: float = 1.0
    clip_grad: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    random_erase: float = 0.0
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    ema_decay: float = 0.0
    precision: str = "no"
    accumulate: int = 1
    img_size: int = 0
    crop_scale: float = 0.08
    crop_pct: float = 0.875
    color_jitter: float = 0.0
    auto_augment: str = ""

    def __post_init__(self) -> None:
        settings.check_ranges(self, "recipe", self._ranges())

    def _ranges(self) -> dict[str, tuple[bool, str]]:
        """For each field that has a range, whether its value is in it and what it is."""
        from_0_to_1 = ("label_smoothing", "momentum", "random_erase", "drop_rate", "drop_path_rate", "ema_decay")
        not_negative = ("stop_epochs", "stop_factor", "clip_grad", "mixup", "cutmix")
        up_to = {"crop_padding": MAX_PADDING, "img_size": MAX_SIDE, "color_jitter": 10, "weight_decay": MAX_RATE}
        above_0_to_1 = ("layer_decay", "crop_scale")
        return {
            "epochs": (self.epochs >= 1, "at least 1"),
            "batch_size": (self.batch_size >= 2, "at least 2, which batch norm needs"),
            "lr": (0 < self.lr <= MAX_RATE, f"above 0, at most {MAX_RATE}"),
            "min_lr": (0 <= self.min_lr <= self.lr, f"from 0 to lr ({self.lr})"),
            "warmup_epochs": (
                0 <= self.warmup_epochs < self.epochs,
                f"from 0 to below epochs ({self.epochs}), such as --set warmup_epochs=0",
            ),
            "accumulate": (self.accumulate >= 1, "at least 1"),
            "sched": (self.sched in SCHEDULES, " or ".join(SCHEDULES)),
            "precision": (self.precision in PRECISIONS, ", ".join(PRECISIONS)),
            "crop_pct": (0.1 <= self.crop_pct <= 1, "from 0.1 to 1"),  # images are resized to img_size / crop_pct
            "auto_augment": (
                not self.auto_augment or POLICY.fullmatch(self.auto_augment) is not None,
                "a policy of timm's, such as rand-m9-mstd0.5",
            ),
            **{name: (0 <= getattr(self, name) < 1, "from 0 to below 1") for name in from_0_to_1},
            **{name: (getattr(self, name) >= 0, "0 or more") for name in not_negative},
            **{name: (0 <= getattr(self, name) <= most, f"from 0 to {most}") for name, most in up_to.items()},
            **{name: (0 < getattr(self, name) <= 1, "above 0, at most 1") for name in above_0_to_1},
        }

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that name a measurement: those of version 0.1, and later ones that are not at their default.

        So a field that is added, and does nothing by default, leaves the names of earlier measurements as they are.
        """
        fields = dataclasses.fields(self)
        kept = [f.name for k, f in enumerate(fields) if k < FIRST_FIELDS or getattr(self, f.name) != f.default]
        return {name: getattr(self, name) for name in kept}

    def hopeless_below(self, num_classes: int) -> float:
        """The validation accuracy below which a training is given up."""
        chance = 1 / num_classes
        return min(self.stop_factor * chance, chance + (1 - chance) / 4)


def names() -> list[str]:
    """The recipes there are."""
    return zoo.names("recipes")


def load(name: str) -> Recipe:
    """The recipe of a name of the zoo, or of a JSON file when the name ends in `.json`.

    Raises:
        UnknownNameError: no such recipe, or an unknown field in it.
        ConfigError: the file is no recipe, or a value is of the wrong type or out of its range.
    """
    return settings.from_dict(Recipe, settings.read_named("recipe", name, SCHEMA), "recipe")


def override(recipe: Recipe, changes: Iterable[str]) -> Recipe:
    """The recipe after changes such as `"epochs=5"`; values are JSON, or text when they are no JSON.

    Raises:
        ConfigError: a change is not of the form `field=value`, or its value is of the wrong type or range.
        UnknownNameError: no such field; names the nearest.
    """
    fields = settings.to_dict(recipe)
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set expects FIELD=VALUE, such as epochs=5; got {change!r}")
        fields[name.strip()] = _value(text.strip())
    return settings.from_dict(Recipe, fields, "recipe")


def without_effect(recipe: Recipe, changes: Iterable[str]) -> list[str]:
    """The fields that changes such as `"crop_pct=1"` name, and that mean nothing for the recipe's images."""
    names = [change.partition("=")[0].strip() for change in changes]
    return [name for name in names if name in (FOR_MEMORY if recipe.img_size else FOR_FILES)]


def _value(text: str) -> Any:
    """What a value in JSON says, or in Python's spelling of a number or of true and false; else the text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return float(text) if NUMBER.fullmatch(text) else text
