"""A full training into a folder: validated every epoch, stopped and resumed at will, tested once at the end.

    DIR/train.json          what was asked for, by what it was run, the curve, the result
    DIR/checkpoints/        the last few and the best, see `gemnet.checkpoint`
    DIR/model.safetensors, config.json      the chosen weights, at the end
    DIR/curve.html          the learning curve, at the end
    DIR/.lock               held while one runs
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
from .checkpoint import FOLDER, Checkpoints
from .devices import accelerator
from .durable import file_sha256
from .errors import CheckpointError, ConfigError, TrainingError
from .evaluation import Scores, score
from .images import Images
from .outcome import Journal, Row, save_batch, write_curve, write_scalars
from .processes import Questions, alone, total
from .randomness import borrowed
from .recipe import Recipe
from .saving import CONFIG, WEIGHTS
from .snapshot import UNPACKABLE, Snapshot
from .stopping import Stop
from .trainer import REMEDY, Trainer

ANEW = "train anew in another folder"  # since what a folder's training was asked for stays


@dataclass(frozen=True)
class Plan:
    """How a training is looked after; nothing here changes its weights.

    Args:
        keep: how many of the latest checkpoints stay, beside the best.
        save_every_s: seconds between two checkpoints inside an epoch; there is one after each epoch.
        on_start: called with the device when it begins or goes on.
        on_epoch: called with each epoch's row.
        tell: called with a line on anything the user should know besides.
        save_model: writes the chosen model into a folder, as `model.safetensors`.
    """

    keep: int = 2
    save_every_s: float = 600.0
    on_start: Callable[[torch.device], None] | None = None
    on_epoch: Callable[[Row], None] | None = None
    tell: Callable[[str], None] | None = None
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
        CheckpointError: the folder holds a training already, or another one, one runs in it, or it cannot be written.
        ConfigError: the recipe does not fit the data or the machine, or its optimiser's state cannot be saved.
        TrainingError: the loss or the outputs became infinite or not a number; the batch is in the folder.
        KeyboardInterrupt: it was asked to stop; a checkpoint of the last step is in the folder.
    """
    if recipe.opt.lower() in UNPACKABLE:
        raise ConfigError(f"the state of the optimiser {recipe.opt} cannot be saved in checkpoints; set another opt")
    folder = Path(folder)
    runner, plan = accelerator(device, recipe.precision, recipe.accumulate), plan or Plan()
    asked = {"model": dict(about), "recipe": settings.to_dict(recipe), "seed": seed, "data": _describe(images),
             "processes": runner.num_processes}  # fmt: skip
    journal = Journal.open(folder, asked, resume)
    if journal.result is not None and (plan.save_model is None or not _lacking(folder, journal.result)):
        return journal.result
    stop = Stop()
    with borrowed(seed, runner.process_index, runner.device) as rng, stop.heard():
        run = _Run(Trainer(model, images, recipe, runner, rng), folder, journal, stop, plan)
        with alone(folder, runner):
            run.begin()
            if plan.on_start is not None and runner.is_main_process:
                plan.on_start(runner.device)
            while not run.over:
                run.epoch()
            return run.finish()


def _describe(images: Images) -> dict[str, Any]:
    return {
        "fingerprint": images.fingerprint, "counts": dict(images.counts), "classes": list(images.classes),
        "img_size": list(images.img_size), "mean": list(images.mean), "std": list(images.std),
    }  # fmt: skip


def _lacking(folder: Path, result: Mapping[str, Any]) -> str:
    """The file of a saved model that is not there or damaged; empty when it is whole."""
    for name in result.get("files", [WEIGHTS]):
        if not (folder / name).is_file():
            return f"no {name}"
    told = result.get("weights_sha256")  # earlier versions do not say
    return "" if told in (None, file_sha256(folder / WEIGHTS)) else f"a damaged {WEIGHTS}"


class _Run:
    """A trainer with its folder."""

    def __init__(self, trainer: Trainer, folder: Path, journal: Journal, stop: Stop, plan: Plan) -> None:
        self.trainer, self.folder, self.journal, self.stop, self.plan = trainer, folder, journal, stop, plan
        self.checkpoints = Checkpoints(folder / FOLDER, plan.keep)
        self.curve: list[Row] = []
        self.runner = trainer.accelerator
        self.before_s = 0.0
        self.start = self.saved = time.perf_counter()
        self.questions = Questions(self.runner)

    @property
    def over(self) -> bool:
        """Whether all epochs are run, or so few images are right that it is given up."""
        done, recipe = self.trainer.epoch, self.trainer.recipe
        hopeless = recipe.hopeless_below(len(self.trainer.images.classes))
        return done >= recipe.epochs or (0 < done == recipe.stop_epochs and self.curve[-1].val_acc < hopeless)

    @property
    def best(self) -> Row | None:
        """The epoch with the best validation accuracy, the first of equals."""
        return max(self.curve, key=lambda row: row.val_acc, default=None)

    def begin(self) -> None:
        """Goes on from the latest checkpoint, if there is one; else begins the journal."""
        self.runner.wait_for_everyone()  # all have looked whether the folder holds a training
        steps = self.checkpoints.steps()
        if self.journal.result is not None:
            lacking = _lacking(self.folder, self.journal.result)
            if not steps:
                raise CheckpointError(f"{self.folder} holds a training that is over, with {lacking} and without "
                                      "checkpoints to write it from; train anew in another folder")  # fmt: skip
            self._tell(f"{self.folder} has {lacking}: it is written again from the checkpoints")
        if not steps:
            if self.journal.found:
                self._tell(f"{self.checkpoints.folder} holds no checkpoint: the training begins with epoch 1")
            if self.runner.is_main_process:
                self.journal.write([])
            return
        self._go_on(self.checkpoints.load(steps[-1]))

    def _go_on(self, snapshot: Snapshot) -> None:
        """Restores a snapshot; raises CheckpointError when it is not this training's."""
        wrong, remedy = f"{self.checkpoints.folder} holds checkpoints of another", "remove it, or choose another folder"
        if snapshot.record["asked_sha256"] != self.journal.asked_sha256:
            raise CheckpointError(f"{wrong} model, data set, recipe, seed or number of processes; {remedy}")
        try:
            self.trainer.restore(snapshot)
        except (RuntimeError, KeyError, ValueError) as error:  # two models may be told by the same `about`
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{wrong} model ({reason:.200}); {remedy}") from None
        self.curve = [settings.from_dict(Row, row) for row in snapshot.record["curve"]]
        self.before_s = snapshot.record["train_s"]
        self.questions.begin(self.trainer.step)

    def epoch(self) -> None:
        """Runs an epoch, or the rest of one, validates it and saves."""
        trainer, start, first = self.trainer, time.perf_counter(), self.trainer.position
        try:
            loss = trainer.run_epoch(self._after_step)
        except TrainingError as error:
            batch = save_batch(self.folder, trainer)
            raise TrainingError(f"{error}; {ANEW}; the batch is in {batch}") from None
        seconds = time.perf_counter() - start
        try:
            scores = self._score("val")
        except TrainingError as error:
            where = f"after epoch {trainer.epoch} of {trainer.recipe.epochs} at learning rate {trainer.recipe.lr}"
            raise TrainingError(f"{error} {where}; {REMEDY}; {ANEW}") from None
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
        (stop,) = total(self.runner, self.stop.requested)
        if stop:
            raise KeyboardInterrupt

    def finish(self) -> dict[str, Any]:
        """Scores the best epoch's weights on the test split, writes the outcome and returns the result."""
        best = self._kept_best()
        model = self.trainer.bare
        self.trainer.release()
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

    def _kept_best(self) -> Row:
        """The epoch with the best validation accuracy of those whose checkpoints are there."""
        best, there = self.best, self.checkpoints.steps()
        assert best is not None, "there is at least one epoch"
        kept = max((row for row in self.curve if row.step in there), key=lambda row: row.val_acc, default=best)
        if kept != best:
            self._tell(f"the checkpoint of epoch {best.epoch}, the best, is gone: epoch {kept.epoch} is chosen")
        return kept

    def _write(self, model: nn.Module, result: dict[str, Any]) -> None:
        """Writes the outcome, the result last."""
        try:
            if self.plan.save_model is not None:
                self.plan.save_model(model.to(memory_format=torch.contiguous_format), self.folder)
                result["weights_sha256"] = file_sha256(self.folder / WEIGHTS)
                result["files"] = [name for name in (CONFIG, WEIGHTS) if (self.folder / name).exists()]
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
        answer = self.questions.ask(self.trainer.step, self.stop.requested, due)
        if answer is None:
            return
        stop, save = answer
        if self.trainer.position < self.trainer.batches and (stop or save):
            self._save()
            if stop:
                raise KeyboardInterrupt

    def _save(self) -> None:
        snapshot = self.trainer.snapshot()
        record = {**snapshot.record, "curve": [asdict(row) for row in self.curve], "train_s": self._train_s(),
                  "asked_sha256": self.journal.asked_sha256}  # fmt: skip
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

    def _tell(self, line: str) -> None:
        if self.plan.tell is not None and self.runner.is_main_process:
            self.plan.tell(line)

    def _train_s(self) -> float:
        return self.before_s + time.perf_counter() - self.start
