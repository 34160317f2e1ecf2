"""What a training leaves behind besides its weights: `train.json`, the learning curve, a batch that went wrong."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkpoint import FOLDER as CHECKPOINTS
from .durable import write_atomic, write_synced
from .errors import CheckpointError
from .machine import gpus, processor, versions

if TYPE_CHECKING:
    from .trainer import Trainer

SCHEMA = "gemnet.train/1"
FILE = "train.json"
LIBRARIES = ("torch", "timm", "accelerate", "numpy")


@dataclass(frozen=True)
class Row:
    """One epoch of a curve.

    Args:
        epoch, step: how many were finished.
        train_loss: mean over the epoch's images, as they were augmented.
        val_acc, val_top5: of the validation split, in [0, 1].
        lr: learning rate of the last step.
        images_per_s: trained on.
        train_s: seconds since the training began, with every validation, without what was lost in a kill.
    """

    epoch: int
    step: int
    train_loss: float
    val_acc: float
    val_top5: float
    lr: float
    images_per_s: float
    train_s: float


class Journal:
    """The file `train.json` of a training's folder.

    Attributes:
        found: whether it was there already.
        result: what the training came to; None while it is not over.
    """

    def __init__(
        self, path: Path, head: Mapping[str, Any], found: bool = False, result: dict[str, Any] | None = None
    ) -> None:
        self.path, self.head, self.found, self.result = path, head, found, result

    @property
    def asked_sha256(self) -> str:
        """sha256 (hex) of what is asked for, by which each checkpoint is known to belong to it."""
        return hashlib.sha256(json.dumps(self.head["asked"], sort_keys=True).encode()).hexdigest()

    @classmethod
    def open(cls, folder: Path, asked: Mapping[str, Any], resume: bool) -> "Journal":
        """The journal of a folder, which need not be there; nothing is written yet.

        Args:
            folder: of the training.
            asked: the model, data, recipe and seed.
            resume: whether the folder may hold a training, which must have been asked for the same.

        Raises:
            CheckpointError: it holds a training and is not to be resumed, or holds another one.
        """
        path, asked = folder / FILE, json.loads(json.dumps(asked))
        head = {"schema": SCHEMA, "asked": asked, "versions": versions(LIBRARIES), "hardware": hardware()}
        if not resume and (path.exists() or (folder / CHECKPOINTS).exists()):
            raise CheckpointError(f"{folder} holds a training; go on with it by --resume, or choose another folder")
        if not path.exists():
            return cls(path, head)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            before, result = found["asked"], found["result"]
        except (OSError, ValueError, KeyError, TypeError):
            remedy = "remove it, and --resume goes on from the checkpoints"
            raise CheckpointError(f"{path} cannot be read; {remedy}") from None
        differs = _difference(before, asked)
        if differs:
            raise CheckpointError(f"{folder} holds another training: {differs}; choose another folder")
        return cls(path, head, True, result)

    def write(self, curve: Sequence[Row], result: dict[str, Any] | None = None) -> None:
        """Writes the curve so far, and the result at the end; raises CheckpointError."""
        data = {**self.head, "curve": [asdict(row) for row in curve], "result": result}
        try:
            write_atomic(self.path, json.dumps(data, indent=1) + "\n")
        except OSError as error:
            kept = "; the checkpoints are kept" if curve else ""
            raise CheckpointError(f"{self.path} cannot be written ({error.strerror}){kept}") from None


def hardware() -> dict[str, Any]:
    """Processor, its number of cores, torch's threads, GPUs."""
    import torch

    cores, threads = os.cpu_count(), torch.get_num_threads()
    return {"processor": processor(), "cpus": cores, "torch_threads": threads, "gpus": [], **gpus()}


def _difference(before: Any, now: Any, where: str = "") -> str:
    """The first thing that two JSON values differ in; empty when nothing."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in sorted({*before, *now}):
            found = _difference(before.get(name), now.get(name), f"{where}.{name}" if where else name)
            if found:
                return found
        return ""
    return "" if before == now else f"{where} was {before!r:.60} and is now {now!r:.60}"


def save_batch(folder: Path, trainer: "Trainer") -> Path:
    """Writes the micro-batch that a training ended at, and returns the file's path.

    It holds `images` as the net got them, `labels` as the loss did (mixed ones are shares of each class), and
    `numbers`: which training images they are.
    """
    import safetensors.torch

    path = folder / f"bad_batch-{trainer.accelerator.process_index}.safetensors"
    assert trainer.last is not None
    numbers, images, labels = trainer.last
    tensors = {"numbers": numbers, "images": images.contiguous(), "labels": labels}
    try:
        write_synced(path, safetensors.torch.save(tensors, {"epoch": str(trainer.epoch + 1)}))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written ({error.strerror})") from None
    return path


def write_curve(path: Path, curve: Sequence[Row]) -> None:
    """Writes the learning curve as an HTML page that needs no network."""
    from plotly.subplots import make_subplots

    epochs = [row.epoch for row in curve]
    figure = make_subplots(specs=[[{"secondary_y": True}]])
    figure.add_scatter(x=epochs, y=[row.train_loss for row in curve], name="training loss")
    percent = [100 * row.val_acc for row in curve]
    figure.add_scatter(x=epochs, y=percent, name="validation accuracy (%)", secondary_y=True)
    figure.update_layout(title=path.resolve().parent.name, xaxis_title="epoch")
    figure.write_html(path, include_plotlyjs=True)


def write_scalars(folder: Path, curve: Sequence[Row]) -> None:
    """Writes the curve for TensorBoard, if it is installed."""
    if find_spec("tensorboard") is None:
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard")) as writer:
        for row in curve:
            for field in dataclasses.fields(Row)[2:]:
                writer.add_scalar(field.name, getattr(row, field.name), row.epoch)
