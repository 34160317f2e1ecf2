"""The model and the images that a training or an evaluation is asked for by name."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import data as datasets
from .catalog import resolve
from .cost import checked_cost, cost
from .devices import accelerator
from .errors import ConfigError
from .evaluation import Scores, score
from .folder import parse_place
from .foreign import parse_config
from .images import Images, MemoryImages, Share
from .network import GemNet
from .notices import warn_once
from .public_data import PUBLIC, label_names, licence
from .randomness import seeded
from .reading import MAX_JSON, parse_json, read_file
from .recipe import Recipe
from .release import arch_of, is_registered
from .saved import SOURCES, check_weights, create_model, refuse_size, saved_place
from .saving import CONFIG, save_folder
from .scale import get_macro
from .weights import load_weights

OF_IMAGES = ("input_size", "mean", "std", "crop_pct", "interpolation", "label_names")  # of a pretrained cfg


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
        ConfigError: the recipe has an `img_size` and the set is no folder, or one with a size of its own.
    """
    kind, _, place = name.partition(":")
    if not recipe.img_size:
        return MemoryImages(datasets.load(name), recipe)
    if kind != "folder" or not place:
        raise ConfigError(f"the recipe reads images at {recipe.img_size} pixels, which needs folder:DIR, not {name}; "
                          "or --set img_size=0")  # fmt: skip
    if parse_place(place)[1] is not None:
        raise ConfigError(f"the recipe reads images at {recipe.img_size} pixels, so {name} may not have a size too; "
                          "leave out @SIZE, or --set img_size=0")  # fmt: skip
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
        place, sized = saved_place(reference), macro is not None or macs is not None
        if place.startswith(SOURCES):
            refuse_size(reference, sized)
            model = create_model(place, **options)
        elif pretrained and is_registered(reference) and not sized:
            check_weights(reference, "leave out --pretrained")
            model = create_model(place, **options)
        elif pretrained:
            resolve(arch_of(reference), macro, macs)
            raise ConfigError(f"{reference} has no weights of that form; begin with a trained folder, local-dir:DIR")
        else:
            cell, net, _ = resolve(arch_of(reference), macro, macs)
            checked_cost(cell, net, images.img_size, images.in_chans, len(images.classes))
            model = create_model("gemnet", cell=cell.to_dict(), net=net.to_dict(), **options)
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
    place = saved_place(reference)
    if weights is not None:
        if place.startswith(SOURCES):
            raise ConfigError(f"{reference} brings its own weights; name its cell to load {weights}")
        cell, net, form = resolve(arch_of(reference), macro, macs)
        chans, side = in_chans or 3, get_macro(form).img_size
        told = _told_beside(weights) or {"input_size": (chans, side, side)}
        sizes = {"num_classes": num_classes, "in_chans": chans, "pretrained_cfg_overlay": told}
        model = create_model("gemnet", cell=cell.to_dict(), net=net.to_dict(), **sizes)
        load_weights(model, weights)
        return model
    if is_registered(reference):
        check_weights(reference, "name some by --weights FILE")
    elif not place.startswith(SOURCES):
        resolve(reference, macro, macs)  # refuses what is no cell either
        raise ConfigError(f"the cell {reference} has no weights of its own; name some by --weights FILE")
    refuse_size(reference, macro is not None or macs is not None)
    model = create_model(place, pretrained=True)
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
        GemnetError: as `trained_model`, or the data has no such split, or its images or classes are not the model's.
    """
    runner = accelerator(device)
    streamed = data.startswith("folder:") and parse_place(data.removeprefix("folder:"))[1] is None
    images = open_images(data, Recipe(img_size=1 if streamed else 0))
    model = trained_model(reference, weights, len(images.classes), None if streamed else images.in_chans, macro, macs)
    cfg: Any = model.pretrained_cfg
    if streamed:  # so far only its classes were asked for; now its images, as the model wants them
        images = _images_for(model, data, workers)
    if weights is None or _told_beside(weights):
        images.mean, images.std = tuple(cfg["mean"]), tuple(cfg["std"])
        _check_classes(reference, cfg.get("label_names") or (), images.classes)
        if images.img_size != (wanted := tuple(cfg["input_size"][1:])):
            have, want = ("x".join(map(str, size)) for size in (images.img_size, wanted))
            warn_once(f"the images of {data} are {have} pixels (height x width), the weights are for {want}")
    else:
        warn_once(f"{weights} has no {CONFIG} beside it, which would say what images its weights are for; those of "
                  f"{data} are normalised by mean {_short(images.mean)} and std {_short(images.std)}")  # fmt: skip
    cost(model.cells, model.net, images.img_size, model.in_chans)  # refuses images that are too small
    part = split or ("test" if "test" in images.counts else "val")
    if part not in images.counts:
        raise ConfigError(f"{data} has no {part} split, it has {', '.join(images.counts)}")
    batches = images.plain(part, Share(), runner.device)
    return part, score(model, batches, len(images.classes), runner.device, runner), images.classes


def _told_beside(weights: Path) -> dict[str, Any]:
    """What the config beside a file of weights says of the images they are for; empty when there is none."""
    config = weights.with_name(CONFIG)
    if not config.is_file():
        return {}
    _, cfg = parse_config(parse_json(read_file(config, MAX_JSON), str(config)))
    return {name: cfg[name] for name in OF_IMAGES if name in cfg}


def _short(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:.3f}" for number in numbers)


def save_model(model: GemNet, folder: Path, images: Images, recipe: Recipe) -> None:
    """Writes the folder that timm loads, with the preprocessing and classes of the images."""
    cfg = {
        "input_size": (images.in_chans, *images.img_size), "mean": images.mean, "std": images.std,
        "crop_pct": recipe.crop_pct if recipe.img_size else 1.0, "interpolation": "bicubic",
        "pool_size": None, "test_input_size": None, "license": licence(PUBLIC.get(images.data_set)).id,
    }  # fmt: skip
    names = label_names(images.classes, PUBLIC.get(images.data_set))
    save_folder(model, folder, label_names=names, pretrained_cfg=cfg)


def describe_model(reference: str, model: GemNet, pretrained: bool) -> dict[str, Any]:
    """What a model that is not yet trained is, for `train.json`: its name or file's name, its cells and network.

    Of pretrained weights also the sha256 (hex) that a `model.safetensors` of them has, with the new head if it has one.
    """
    cells = [cell.to_dict() for cell in dict.fromkeys(model.cells)]
    name = os.path.basename(os.path.abspath(reference.removeprefix(SOURCES[0])))
    about = {"name": name, "pretrained": pretrained, "cells": cells, "net": model.net.to_dict()}
    return about | ({"weights_sha256": _weights_sha256(model)} if pretrained else {})


def _weights_sha256(model: GemNet) -> str:
    from safetensors.torch import save

    return hashlib.sha256(save({name: value.contiguous() for name, value in model.state_dict().items()})).hexdigest()


def _images_for(model: GemNet, data: str, workers: int) -> Images:
    """A folder's images at the size of a model's; in memory where that is not square, as only such a training is."""
    cfg: Any = model.pretrained_cfg
    _, height, width = wanted = tuple(cfg["input_size"])
    if height == width:
        how = Recipe(img_size=height, crop_pct=cfg["crop_pct"])
        return open_images(data, how, workers=workers, in_chans=model.in_chans)
    images = open_images(data, Recipe())
    got = images.in_chans, *images.img_size
    if got != wanted:
        form = "{} x {} x {} (channels, height, width)".format
        raise ConfigError(f"the model is for images of {form(*wanted)}, but those of {data} are {form(*got)}; "
                          "evaluate on such as it was trained on")  # fmt: skip
    return images


def _check_classes(reference: str, known: Sequence[str], classes: Sequence[str]) -> None:
    """Raises ConfigError unless the classes of a model and of data are the same, as far as both have names."""
    model, data = tuple(map(str, known)), tuple(classes)
    differ = next((k for k, (a, b) in enumerate(zip(model, data)) if a != b), None)
    moved = sorted(model) == sorted(data)
    if differ is None or not (moved or all(any(not name.isdecimal() for name in side) for side in (model, data))):
        return
    what = "has the same classes in another order" if moved else "has other classes"
    raise ConfigError(f"the data {what} than {reference}: class {differ} is {data[differ]!r:.60} in the data and "
                      f"{model[differ]!r:.60} in the model; name them as in its training")  # fmt: skip
