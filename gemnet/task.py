"""The model and the images that a training or an evaluation is asked for by name."""

import os
import re
from pathlib import Path
from typing import Any

from . import data as datasets
from .catalog import resolve
from .cost import checked_cost, cost
from .devices import accelerator
from .errors import ConfigError, GemnetError
from .evaluation import Scores, score
from .images import Images, MemoryImages, Share
from .network import GemNet
from .public_data import PUBLIC, label_names
from .randomness import seeded
from .recipe import Recipe
from .release import arch_of, is_registered
from .saving import CONFIG, save_folder
from .weights import load_weights

SOURCES = ("local-dir:", "hf-hub:")  # of models with weights, besides the registered names


def open_images(name: str, recipe: Recipe, seed: int = 0, workers: int = 0, in_chans: int = 3) -> Images:
    """The images of a data set's name, streamed from its folder when the recipe has an `img_size`.

    Args:
        name: as `gemnet.data.load` takes it.
        recipe: how to train; its image fields are used.
        seed: of the augmentation of streamed images.
        workers: processes that read them.
        in_chans: 3 or 1, what streamed images are made to have.

    Raises:
        DataError, UnknownNameError: there is no such set, or it is none.
        ConfigError: the recipe has an `img_size` and the set is no folder.
    """
    kind, _, place = name.partition(":")
    if not recipe.img_size:
        return MemoryImages(datasets.load(name), recipe)
    if kind != "folder" or not place:
        raise ConfigError(f"the recipe reads images at {recipe.img_size} pixels, which needs folder:DIR, not {name}; "
                          "or --set img_size=0")  # fmt: skip
    from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    from .streaming import FolderImages

    mean, std = IMAGENET_DEFAULT_MEAN[:in_chans], IMAGENET_DEFAULT_STD[:in_chans]
    return FolderImages(place, recipe, in_chans, mean, std, seed, workers)


def build_model(
    reference: str, images: Images, recipe: Recipe, seed: int = 0, *,
    macro: str | None = None, macs: int | None = None, pretrained: bool = False,
) -> GemNet:  # fmt: skip
    """A GEMNet for a data set's classes and channels.

    With pretrained weights the images are normalised as those were, and a classifier of another number of
    classes is replaced by a new one.

    Args:
        reference: a registered name, also with a tag of its weights, a zoo cell, a cell file, or a saved model as
            `local-dir:DIR` or `hf-hub:NAME`.
        images: what it is for; its `mean` and `std` are set when `pretrained`.
        recipe: its `drop_rate` and `drop_path_rate` are used.
        seed: of the first weights.
        macro, macs: as `gemnet.catalog.resolve` takes them.
        pretrained: whether to begin with the reference's weights.

    Raises:
        GemnetError: no such model, no weights of it, or weights of another; images too small for it, or a network
            too large to be made.
    """
    options = {
        "num_classes": len(images.classes), "in_chans": images.in_chans, "pretrained": pretrained,
        "drop_rate": recipe.drop_rate, "drop_path_rate": recipe.drop_path_rate,
    }  # fmt: skip
    with seeded(seed):
        place = _place(reference)
        named = pretrained and is_registered(reference) and macro is None and macs is None
        if place.startswith(SOURCES) or named:
            model = _create(place, **options)
        elif pretrained:
            resolve(arch_of(reference), macro, macs)
            raise ConfigError(f"{reference} has no weights of that form; begin with a trained folder, local-dir:DIR")
        else:
            cell, net, _ = resolve(arch_of(reference), macro, macs)
            checked_cost(cell, net, images.img_size, images.in_chans, len(images.classes))
            model = _create("gemnet", cell=cell.to_dict(), net=net.to_dict(), **options)
    cost(model.cells, model.net, images.img_size, images.in_chans)  # refuses images that are too small
    cfg: Any = model.pretrained_cfg
    if pretrained and len(cfg["mean"]) == images.in_chans:
        images.mean, images.std = tuple(cfg["mean"]), tuple(cfg["std"])
    return model


def trained_model(
    reference: str, weights: Path | None, num_classes: int | None, in_chans: int | None, macro: str | None,
    macs: int | None,
) -> GemNet:  # fmt: skip
    """A GEMNet with its weights, to be evaluated on images of so many classes and channels.

    Args:
        reference: as `build_model` takes it; a folder is a saved model.
        weights: a safetensors file for a name or cell; the reference's own when None.
        num_classes, in_chans: of the data; the model's when None.
        macro, macs: as `gemnet.catalog.resolve` takes them.

    Raises:
        GemnetError: no such model, or no weights of it, or of another arch, number of classes or channels.
    """
    place = _place(reference)
    if not place.startswith(SOURCES):
        cell, net, _ = resolve(arch_of(reference), macro, macs)
        if weights is None and not is_registered(reference):
            raise ConfigError(f"the cell {reference} has no weights of its own; name some by --weights FILE")
    if weights is not None:
        if place.startswith(SOURCES):
            raise ConfigError(f"{reference} brings its own weights; name its cell to load {weights}")
        sizes = {"num_classes": num_classes, "in_chans": in_chans or 3}
        model = _create("gemnet", cell=cell.to_dict(), net=net.to_dict(), **sizes)
        load_weights(model, weights)
        return model
    model = _create(place, pretrained=True)
    for what, has, needs in (("classes", model.num_classes, num_classes), ("channels", model.in_chans, in_chans)):
        if needs not in (None, has):
            raise ConfigError(f"the weights of {reference} are for {has} {what}, but the data has {needs}; "
                              "evaluate on what they were trained for, or train on this")  # fmt: skip
    return model


def score_model(
    reference: str, data: str, split: str | None, weights: Path | None, macro: str | None, macs: int | None,
    device: str, workers: int,
) -> tuple[str, Scores, tuple[str, ...]]:  # fmt: skip
    """The split, the scores and the classes of a model evaluated on a data set; arguments as above.

    Raises:
        GemnetError: as `trained_model`, or the data has no such split.
    """
    runner, streamed = accelerator(device), data.startswith("folder:") and not re.search(r"@\d+$", data)
    images = open_images(data, Recipe(img_size=1 if streamed else 0))
    model = trained_model(reference, weights, len(images.classes), None if streamed else images.in_chans, macro, macs)
    cfg: Any = model.pretrained_cfg
    if streamed:  # so far only its classes were asked for; now its images, as the model wants them
        how = Recipe(img_size=cfg["input_size"][1], crop_pct=cfg["crop_pct"])
        images = open_images(data, how, workers=workers, in_chans=model.in_chans)
    if weights is None:
        images.mean, images.std = tuple(cfg["mean"]), tuple(cfg["std"])
    cost(model.cells, model.net, images.img_size, model.in_chans)  # refuses images that are too small
    part = split or ("test" if "test" in images.counts else "val")
    if part not in images.counts:
        raise ConfigError(f"{data} has no {part} split, it has {', '.join(images.counts)}")
    batches = images.plain(part, Share(), runner.device)
    return part, score(model, batches, len(images.classes), runner.device, runner), images.classes


def save_model(model: GemNet, folder: Path, images: Images, recipe: Recipe) -> None:
    """Writes the folder that timm loads, with the preprocessing and classes of the images."""
    cfg = {
        "input_size": (images.in_chans, *images.img_size), "mean": images.mean, "std": images.std,
        "crop_pct": recipe.crop_pct if recipe.img_size else 1.0, "interpolation": "bicubic",
        "pool_size": None, "test_input_size": None,
    }  # fmt: skip
    names = label_names(images.classes, PUBLIC.get(images.data_set))
    save_folder(model, folder, label_names=names, pretrained_cfg=cfg)


def describe_model(reference: str, model: GemNet, pretrained: bool) -> dict[str, Any]:
    """What a model is, for `train.json`: its name or file's name, its cells and network."""
    cells = [cell.to_dict() for cell in dict.fromkeys(model.cells)]
    return {"name": Path(reference).name, "pretrained": pretrained, "cells": cells, "net": model.net.to_dict()}


def _place(reference: str) -> str:
    """A folder that holds a saved model, as timm names it; other references as they are."""
    is_folder = not is_registered(reference) and os.path.isfile(os.path.join(reference, CONFIG))
    return f"local-dir:{reference}" if is_folder else reference


def _create(name: str, **options: Any) -> GemNet:
    import timm

    try:
        model = timm.create_model(name, **options)
    except GemnetError:
        raise
    except (RuntimeError, OSError, ValueError, KeyError, AssertionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError(f"the model {name} cannot be made or loaded: {reason:.200}") from None
    if not isinstance(model, GemNet):
        raise ConfigError(f"{name} is a {type(model).__name__}; only GEMNets are trained and evaluated here")
    return model
