"""A full training into a folder: validated every epoch, stopped and resumed at will, tested once at the end.

    DIR/train.json          what was asked for, by what it was run, the curve, the result
    DIR/checkpoints/        the last few and the best, see `gemnet.checkpoint`
    DIR/model.safetensors, config.json      the chosen weights, at the end
    DIR/curve.html          the learning curve, at the end
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import settings
from .checkpoint import Checkpoints
from .devices import accelerator
from .durable import file_sha256
from .errors import CheckpointError, TrainingError
from .evaluation import Scores, score
from .images import Images
from .outcome import Journal, Row, save_batch, write_curve, write_scalars
from .randomness import borrowed
from .recipe import Recipe
from .saving import WEIGHTS
from .snapshot import Snapshot
from .stopping import Stop
from .trainer import Trainer

AGREE_EVERY = 10  # steps between two questions whether any of several processes was told to stop


@dataclass(frozen=True)
class Plan:
    """How a training is looked after; nothing here changes its weights.

    Args:
        keep: how many of the latest checkpoints stay, beside the best.
        save_every_s: seconds between two checkpoints inside an epoch; there is one after each epoch.
        on_epoch: called with each epoch's row.
        save_model: writes the chosen model into a folder, as `model.safetensors`.
    """

    keep: int = 2
    save_every_s: float = 600.0
    on_epoch: Callable[[Row], None] | None = None
    save_model: Callable[[Any, Path], None] | None = None


def fit(
    model: nn.Module, images: Images, recipe: Recipe, seed: int, folder: Path, *, about: Mapping[str, Any],
    device: str = "auto", resume: bool = False, plan: Plan | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Trains a model, in place, and returns the result that `train.json` holds.

    The weights of the epoch with the best validation accuracy are chosen, and scored on the test split once.

    Args:
        model: maps float images [N, C, H, W] to scores [N, num_classes].
        images: train is trained on, val chooses, test is scored once at the end if there is one.
        recipe: how to train.
        seed: decides the order of the images, their augmentation and the model's own random layers.
        folder: where everything is kept.
        about: what the model is, as a JSON object; a resumed training must say the same.
        device: `auto`, `cpu` or `cuda`.
        resume: go on with what the folder holds, if it holds a training.
        plan: how to look after it.

    Raises:
        CheckpointError: the folder holds a training already, or another one, or cannot be written.
        TrainingError: the loss became infinite or not a number; the batch is in the folder.
        KeyboardInterrupt: it was asked to stop; a checkpoint of the last step is in the folder.
    """
    runner = accelerator(device, recipe.precision, recipe.accumulate)
    asked = {"model": dict(about), "recipe": settings.to_dict(recipe), "seed": seed, "data": _describe(images),
             "processes": runner.num_processes}  # fmt: skip
    journal = Journal.open(folder, asked, resume)
    if journal.result is not None:
        return journal.result
    stop = Stop()
    with borrowed(seed, runner.process_index, runner.device) as rng, stop.heard():
        run = _Run(Trainer(model, images, recipe, runner, rng), folder, journal, stop, plan or Plan())
        try:
            run.begin()
            while not run.over:
                run.epoch()
        except TrainingError as error:
            raise TrainingError(f"{error}; the batch is in {save_batch(folder, run.trainer)}") from None
        return run.finish()


def _describe(images: Images) -> dict[str, Any]:
    return {
        "fingerprint": images.fingerprint, "counts": dict(images.counts), "classes": list(images.classes),
        "img_size": list(images.img_size), "mean": list(images.mean), "std": list(images.std),
    }  # fmt: skip


class _Run:
    """A trainer with its folder."""

    def __init__(self, trainer: Trainer, folder: Path, journal: Journal, stop: Stop, plan: Plan) -> None:
        self.trainer, self.folder, self.journal, self.stop, self.plan = trainer, folder, journal, stop, plan
        self.checkpoints = Checkpoints(folder / "checkpoints", plan.keep)
        self.curve: list[Row] = []
        self.runner = trainer.accelerator
        self.before_s, self.start, self.saved = 0.0, time.perf_counter(), time.perf_counter()

    @property
    def over(self) -> bool:
        """Whether all epochs are run, or so few images are right that it is given up."""
        done, recipe = self.trainer.epoch, self.trainer.recipe
        hopeless = recipe.hopeless_below(len(self.trainer.images.classes))
        return done == recipe.epochs or (0 < done == recipe.stop_epochs and self.curve[-1].val_acc < hopeless)

    @property
    def best(self) -> Row | None:
        """The epoch with the best validation accuracy, the first of equals."""
        return max(self.curve, key=lambda row: row.val_acc, default=None)

    def begin(self) -> None:
        """Goes on from the latest checkpoint, if there is one; else begins the journal."""
        self.runner.wait_for_everyone()  # all have looked whether the folder holds a training
        steps = self.checkpoints.steps()
        if not steps:
            if self.runner.is_main_process:
                self.journal.write([])
            return
        snapshot = self.checkpoints.load(steps[-1])
        self.trainer.restore(snapshot)
        self.curve = [settings.from_dict(Row, row) for row in snapshot.record["curve"]]
        self.before_s = snapshot.record["train_s"]

    def epoch(self) -> None:
        """Runs an epoch, or the rest of one, validates it and saves."""
        trainer, start, first = self.trainer, time.perf_counter(), self.trainer.position
        loss = trainer.run_epoch(self._after_step)
        seconds = time.perf_counter() - start
        scores = self._score("val")
        seen = trainer.images.counts["train"] * (1 - first / trainer.batches)
        row = Row(
            trainer.epoch, trainer.step, loss, scores.top1, scores.top5, trainer.optimizer.param_groups[-1]["lr"],
            seen / seconds, self._train_s(),
        )  # fmt: skip
        self.curve.append(row)
        self._save()
        if self.runner.is_main_process:
            self.journal.write(self.curve)
        if self.plan.on_epoch is not None and self.runner.is_main_process:
            self.plan.on_epoch(row)
        if self._agreed(self.stop.requested):
            raise KeyboardInterrupt

    def finish(self) -> dict[str, Any]:
        """Scores the best epoch's weights on the test split, writes the outcome and returns the result."""
        best = self.best
        assert best is not None, "there is at least one epoch"
        model = self.runner.unwrap_model(self.trainer.model, keep_fp32_wrapper=False)
        tensors = self.checkpoints.load(best.step).tensors
        model.load_state_dict(tensors["ema"] if "ema" in tensors else tensors["model"])
        test = self._score("test", model) if "test" in self.trainer.images.counts else None
        result = {
            "epoch": best.epoch, "val_acc": best.val_acc, "epochs_run": self.trainer.epoch,
            "train_s": round(self.curve[-1].train_s, 1),
            "images_per_s": round(statistics.median(row.images_per_s for row in self.curve), 1),
            "test": None if test is None else {**asdict(test), "per_class": list(test.per_class)},
        }  # fmt: skip
        if self.runner.is_main_process:
            self._write(model, result)
        self.runner.wait_for_everyone()
        return result

    def _write(self, model: nn.Module, result: dict[str, Any]) -> None:
        """Writes the outcome, the result last."""
        try:
            if self.plan.save_model is not None:
                self.plan.save_model(model.to(memory_format=torch.contiguous_format), self.folder)
                result["weights_sha256"] = file_sha256(self.folder / WEIGHTS)
            result["data_set"] = self.trainer.images.data_set
            write_curve(self.folder / "curve.html", self.curve)
            write_scalars(self.folder, self.curve)
        except OSError as error:
            raise CheckpointError(
                f"the outcome cannot be written to {self.folder} ({error.strerror}); make room and --resume"
            ) from None
        self.journal.write(self.curve, result)

    def _after_step(self) -> None:
        due = time.perf_counter() - self.saved >= self.plan.save_every_s
        if self.runner.num_processes > 1 and self.trainer.step % AGREE_EVERY:
            return
        stop = self._agreed(self.stop.requested)
        if self.trainer.position < self.trainer.batches and (stop or self._agreed(due)):
            self._save()
            if stop:
                raise KeyboardInterrupt

    def _agreed(self, wish: bool) -> bool:
        """Whether any of the processes wishes it."""
        if self.runner.num_processes == 1:
            return wish
        return bool(self.runner.reduce(torch.tensor(float(wish), device=self.runner.device), "sum") > 0)

    def _save(self) -> None:
        snapshot = self.trainer.snapshot()
        record = {**snapshot.record, "curve": [asdict(row) for row in self.curve], "train_s": self._train_s()}
        if self.runner.is_main_process:
            best = self.best
            self.checkpoints.save(Snapshot(snapshot.tensors, record), None if best is None else best.step)
        self.runner.wait_for_everyone()
        self.saved = time.perf_counter()

    def _score(self, part: str, model: nn.Module | None = None) -> Scores:
        trainer = self.trainer
        batches = trainer.images.plain(part, trainer.share, trainer.device)
        chosen, classes = model or trainer.chosen, len(trainer.images.classes)
        return score(chosen, batches, classes, trainer.device, self.runner)

    def _train_s(self) -> float:
        return self.before_s + time.perf_counter() - self.start
