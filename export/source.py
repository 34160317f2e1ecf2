"""The model to export, with all that a reader of the file must know."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from gemnet import __version__
from gemnet.catalog import FAMILY, resolve
from gemnet.cell import Cell
from gemnet.config import NetConfig
from gemnet.cost import checked_cost, cost
from gemnet.data import Dataset
from gemnet.errors import ConfigError
from gemnet.gemnet import CIFAR10_MEAN, CIFAR10_STD
from gemnet.network import GemNet
from gemnet.release import is_folder
from gemnet.saved import LOCAL
from gemnet.scale import MACROS
from gemnet.train import seeded
from gemnet.weights import load_weights

from .parity import Scaling
from .samples import Samples
from .trained import as_path, is_trained_folder, load_trained, misfit, own_labels

CROP = {"imagenet": 0.875}  # share of the resized image that is cut out; all of it in the other macros
LICENSE = "apache-2.0"
RANDOM = "random, seed 0"
CALIBRATED = 32  # images that the batch norms of random weights see


@dataclass(frozen=True, eq=False)
class Source:
    """A model and what it needs to be used.

    Args:
        name: what the user called it.
        cell, net: what it was built from.
        model: in eval mode.
        image: C, H and W of its images.
        scaling: of its images.
        resize: pixels that the shorter side of a picture is resized to before H x W are cut out.
        labels: of its classes.
        weights: where they are from, with a sha256 where there is one.
        license: of the weights, by the Hub's identifier.
        unused: why these are not the weights published under the name; empty when they are, or there are none.
    """

    name: str
    cell: Cell
    net: NetConfig
    model: GemNet
    image: tuple[int, int, int]
    scaling: Scaling
    resize: int
    labels: tuple[str, ...]
    weights: str
    license: str = LICENSE
    unused: str = ""

    @property
    def warnings(self) -> list[str]:
        """What whoever exports it may not have meant."""
        return [f"{self.unused}; these are {self.weights}"] if self.unused else []

    @property
    def least_side(self) -> int:
        """Smallest height and width of an image the network takes."""
        for side in range(1, max(self.image[1:])):
            try:
                cost(self.cell, self.net, side, self.image[0])
            except ConfigError:
                continue
            return side
        return min(self.image[1:])

    def preprocessing(self, as_bytes: bool) -> dict[str, Any]:
        """How a picture becomes the file's input, as `infer.py` reads it."""
        return {
            "layout": "NHWC" if as_bytes else "NCHW", "dtype": "uint8" if as_bytes else "float32",
            "size": list(self.image[1:]), "channels": self.image[0], "resize": self.resize,
            "interpolation": "bicubic", "mean": list(self.scaling.mean), "std": list(self.scaling.std),
        }  # fmt: skip

    def metadata(self, as_bytes: bool, metrics: dict[str, Any]) -> dict[str, str]:
        """What the file says of itself."""
        return {
            "model": self.name, "cell_key": self.cell.key, "cell": json.dumps(self.cell.to_dict()),
            "net": json.dumps(self.net.to_dict()), "weights": self.weights, "version": f"gemnet {__version__}",
            "license": self.license, "labels": json.dumps(self.labels), "metrics": json.dumps(metrics),
            "preprocessing": json.dumps(self.preprocessing(as_bytes)),
        }  # fmt: skip


def load_source(
    name: str, macro: str | None = None, macs: int | None = None, num_classes: int | None = None,
    in_chans: int | None = None, size: int | None = None, weights: Path | None = None, data: Dataset | None = None,
) -> Source:  # fmt: skip
    """The model of a name, a cell file or a folder that `gemnet train` wrote.

    Without `weights` a name or cell is scaled to `macs` at the images it is exported for; with them it is the
    network that `gemnet train` makes of it, scaled at the macro's own images. A registered name's published weights
    are those of its own network, classes and channels; asked for others it is a network of random weights, and says so.

    Args:
        name: a trained folder, or as `gemnet.catalog.resolve` takes it.
        macro, macs: as there.
        num_classes, in_chans, size: those of the data when None, else of the folder or macro.
        weights: a safetensors file. Without, a folder's own or those published under the name; else random ones
            whose batch norms have seen some images.
        data: what the model was trained on: gives classes and normalisation, unless the model brings them.

    Raises:
        GemnetError: no such model, or an image, data set or weights that do not fit it.
    """
    sized, unused = macro is not None or macs is not None, ""
    if is_trained_folder(as_path(name)) and (sized or weights is not None):
        raise ConfigError(f"{name} brings its own network and weights; leave out --macro, --macs and --weights")
    trained = load_trained(name) if weights is None else None
    if trained is not None:
        reason = misfit(trained[0], num_classes, in_chans, data, sized)
        if not reason:
            return _of_trained(name, *trained, size)
        unused = f"the weights of {name} {reason}"
        if name not in FAMILY:
            raise ConfigError(f"{unused}; leave that out, or name a model that was trained for it")
    if is_folder(name):
        raise ConfigError(f"{name} is a folder without a model; name a model, a cell or a folder of gemnet train")
    asked = (size, size) if size else (data.img_size if data else None)
    classes, chans = num_classes or (data.num_classes if data else None), in_chans or (data.in_chans if data else 3)
    scaled_for = () if weights else (asked, chans, classes)
    cell, net, form_name = resolve(name, macro, macs, *scaled_for)
    form = MACROS[form_name]
    height, width = asked or (form.img_size, form.img_size)
    classes = classes or form.num_classes
    checked_cost(cell, net, (height, width), chans, classes)
    with seeded(0):
        model = GemNet(cell, net, classes, chans)
    image = (chans, height, width)
    scaling = _scaling(form_name, chans, data)
    if weights is None:
        origin = RANDOM
        show_images(model, Samples.packaged(image, 1, CALIBRATED).calibration, scaling)
    else:
        origin = load_weights(model, weights)
    fits = data is not None and data.num_classes == classes
    labels = data.classes if data is not None and fits else _labels(classes)
    crop = 1.0 if data else CROP.get(form_name, 1.0)
    resize = int(min(height, width) / crop)
    return Source(name, cell, net, model.eval(), image, scaling, resize, labels, origin, unused=unused)


def _of_trained(name: str, model: GemNet, origin: str, size: int | None) -> Source:
    """The source of a model that knows its images and classes."""
    cfg: Any = model.pretrained_cfg
    _, height, width = cfg["input_size"]
    height, width = (size, size) if size else (height, width)
    cost(model.cells[0], model.net, (height, width), model.in_chans, model.num_classes)
    scaling = Scaling(tuple(map(float, cfg["mean"])), tuple(map(float, cfg["std"])))
    resize = int(min(height, width) / cfg["crop_pct"])
    labels = own_labels(model) or _labels(model.num_classes)
    image = (model.in_chans, height, width)
    known_as = Path(name.removeprefix(LOCAL)).absolute().name
    return Source(
        known_as, model.cells[0], model.net, model, image, scaling, resize, labels, origin,
        str(cfg.get("license") or LICENSE),
    )  # fmt: skip


def _labels(classes: int) -> tuple[str, ...]:
    """The 1,000 ImageNet classes by their names, others by their numbers."""
    if classes != 1000:
        return tuple(str(k) for k in range(classes))
    from timm.data import ImageNetInfo

    names = ImageNetInfo()
    return tuple(names.index_to_description(k) for k in range(classes))


def _scaling(macro: str, chans: int, data: Dataset | None) -> Scaling:
    if data is not None and data.in_chans == chans:
        return Scaling(tuple(map(float, data.mean)), tuple(map(float, data.std)))
    imagenet = macro == "imagenet"
    mean = IMAGENET_DEFAULT_MEAN if imagenet else CIFAR10_MEAN
    std = IMAGENET_DEFAULT_STD if imagenet else CIFAR10_STD
    if chans == 3:
        return Scaling(tuple(mean), tuple(std))
    return Scaling((float(np.mean(mean)),) * chans, (float(np.mean(std)),) * chans)


def show_images(model: nn.Module, images: Any, scaling: Scaling) -> None:
    """Lets batch norms estimate their statistics, without which a random network's values grow without bound.

    Args:
        model: left in eval mode.
        images: bytes [N, H, W, C].
        scaling: of them.
    """
    from .infer import normalise

    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()
        model(torch.from_numpy(normalise(images, {"mean": scaling.mean, "std": scaling.std})))
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    model.eval()
