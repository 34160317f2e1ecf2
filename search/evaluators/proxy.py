"""The proxy task: a small network of the cell is trained briefly on part of a training set."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gemnet import settings
from gemnet.cell import Cell
from gemnet.config import NetConfig, Stage
from gemnet.cost import Cost, cost
from gemnet.errors import CellError, ConfigError
from gemnet.machine import DEVICES
from gemnet.recipe import Recipe
from gemnet.scale import get_macro, solve
from gemnet.search.trial import Arch

if TYPE_CHECKING:
    from gemnet.data import Dataset
    from gemnet.search.batch_cost import BatchCost
    from gemnet.search.graphs import GraphBatch

VERSION = 1  # raised when the same settings would measure something else
MACRO = "proxy"


@dataclass(frozen=True)
class ProxyTask:
    """Measures a cell by the validation accuracy of a proxy network (NASGEM: three stages of one cell).

    Only the data set's training split is used, for training and for validation, unless it has a
    validation split of its own; the test split is never looked at.

    Args:
        data: name of the data set, as `gemnet.data.load` takes it.
        macs: MACs the width of every proxy network is solved for.
        equal_macs: whether to solve it; else all networks have the widths `widths`.
        widths: channels per node of the three stages when `equal_macs` is off.
        merge: as in `NetConfig`.
        train_images, val_images: how many images to train and to validate with.
        recipe: how to train.
        device: where to train: `cpu`, `cuda` (the first GPU the process sees) or `auto` (a GPU where there is one).

    Raises:
        ConfigError: a number is not positive, a stage's width is missing, or the device is another.
    """

    data: str
    macs: int = 12_000_000
    equal_macs: bool = True
    widths: tuple[int, ...] = (16, 32, 64)
    merge: str = "sum"
    train_images: int = 5000
    val_images: int = 5000
    recipe: Recipe = field(default_factory=Recipe)
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("macs", "train_images", "val_images"):
            if getattr(self, name) < 1:
                raise ConfigError(f"evaluator.{name} must be at least 1, got {getattr(self, name)}")
        if len(self.widths) != len(get_macro(MACRO).strides):
            raise ConfigError(f"evaluator.widths lists three widths, got {list(self.widths)}")
        if self.device not in DEVICES:
            raise ConfigError(
                f"evaluator.device must be {', '.join(DEVICES)}, got {self.device!r}; "
                "--devices or CUDA_VISIBLE_DEVICES chooses GPUs, which workers then see as cuda"
            )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "ProxyTask":
        """The task a JSON object gives; raises ConfigError or UnknownNameError."""
        return settings.from_dict(cls, data, "evaluator")

    def to_dict(self) -> dict[str, Any]:
        """A JSON object from which `from_dict` gives an equal task."""
        return settings.to_dict(self)

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the images and of every setting that a measurement depends on."""
        kept = {name: value for name, value in self.to_dict().items() if name not in ("data", "device")}
        content = {"version": VERSION, "images": self.dataset().fingerprint, **kept, "recipe": self.recipe.identity}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def dataset(self) -> "Dataset":
        """The images the task trains and validates with; read once per process."""
        images = self.data, self.train_images, self.val_images
        return _ADOPTED.get(images) or _dataset(*images)

    def shared(self) -> "Dataset":
        """What another machine needs to measure as this one: the images."""
        return self.dataset()

    def adopt(self, data: "Dataset") -> None:
        """Makes `dataset()` give these images in this process, wherever their file is."""
        _ADOPTED[self.data, self.train_images, self.val_images] = data

    def net(self, cell: Cell) -> NetConfig:
        """The proxy network of a cell; raises CellError when it cannot be made that small."""
        data = self.dataset()
        if self.equal_macs:
            return solve(cell, MACRO, self.macs, self.merge, data.img_size, data.in_chans, data.num_classes)
        return self._fixed_net()

    def cost(self, cell: Cell) -> Cost:
        """The cost of a cell's proxy network."""
        data = self.dataset()
        return cost(cell, self.net(cell), data.img_size, data.in_chans, data.num_classes)

    def batch_cost(self, graphs: "GraphBatch") -> "BatchCost | None":
        """The costs of many cells' proxy networks; None with `equal_macs`, which solves each by itself."""
        from gemnet.search.batch_cost import batch_cost

        if self.equal_macs:
            return None
        data = self.dataset()
        return batch_cost(graphs, self._fixed_net(), data.img_size, data.in_chans, data.num_classes)

    def _fixed_net(self) -> NetConfig:
        """The network of `widths`."""
        form = get_macro(MACRO)
        stages = tuple(Stage(1, width, 2 * width, stride) for width, stride in zip(self.widths, form.strides))
        return NetConfig(form.stem_chs, stages, stages[-1].out_chs, form.stem_stride, self.merge)

    def evaluate(self, arch: Arch, seed: int) -> dict[str, float]:
        """Accuracy, cost and time of one training of the cell's normal form.

        Raises:
            CellError: the architecture is no cell, or cannot be made as small as `macs`.
            TrainingError: the loss became infinite or not a number.
        """
        from gemnet.network import GemNet
        from gemnet.train import seeded, train

        if not isinstance(arch, Cell):
            raise CellError(f"the proxy task measures cells, got {type(arch).__name__}")
        data, cell = self.dataset(), arch.normal_form()  # so that isomorphic cells give the same numbers
        with seeded(seed):
            model = GemNet(cell, self.net(cell), data.num_classes, data.in_chans)
        result = train(model, data, self.recipe, seed, self.device)
        price = self.cost(cell)
        return {
            "val_acc": result.val_acc, "train_loss": result.train_loss, "epochs_run": result.epochs_run,
            "macs": price.macs, "params": price.params, "acts": price.acts, "peak_acts": price.peak_acts,
            "train_s": result.train_s,
        }  # fmt: skip


_ADOPTED: dict[tuple[str, int, int], "Dataset"] = {}


@lru_cache(maxsize=2)
def _dataset(name: str, train_images: int, val_images: int) -> "Dataset":
    from gemnet.data import load, subset

    return subset(load(name), train_images, val_images)
