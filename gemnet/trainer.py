"""The one training loop: a model, its optimiser and schedule, advanced a step at a time.

The search's short trainings and the full ones both run here (`gemnet.train`, `gemnet.fit`). A step takes one
batch over all processes; each process runs its micro-batches of it, gradients are averaged, and the optimiser
moves. Everything that a further step depends on can be taken out (`snapshot`) and put back (`restore`).
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import gather_object
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3, distribute_bn
from torch import Tensor, nn

from . import randomness
from .devices import tuned
from .errors import ConfigError, TrainingError, UnknownNameError
from .evaluation import check_shape
from .images import Batch, Images, Share
from .recipe import Recipe
from .snapshot import Snapshot, pack_optimizer, unpack_optimizer

REMEDY = "lower lr or add warmup_epochs"  # when a training diverges
SECOND_ORDER = ("adahessian",)  # of timm's list; these need backward passes that keep their graph


class Trainer:
    """One training.

    Args:
        model: maps float images [N, C, H, W] to scores [N, num_classes]; it ends on the accelerator's device,
            channels last.
        images: what to train on.
        recipe: how to train.
        accelerator: where, see `gemnet.devices`.
        rng: decides the order of the images and their moves; the same in all processes.

    Attributes:
        bare: the model itself.
        last: the latest micro-batch: numbers of its images, and these and their labels as the loss took them.
        epoch: finished passes over the images.
        step: steps done in all.
        position: steps done in the pass that is under way.

    Raises:
        ConfigError: a batch is too small for the micro-batches it is cut into, or there is no such optimiser.
    """

    def __init__(
        self, model: nn.Module, images: Images, recipe: Recipe, accelerator: Accelerator, rng: torch.Generator
    ) -> None:
        self.images, self.recipe, self.accelerator, self.rng = images, recipe, accelerator, rng
        self.device = accelerator.device
        self.share = Share(accelerator.process_index, accelerator.num_processes, recipe.accumulate)
        self.batches = math.ceil(images.counts["train"] / recipe.batch_size)
        if images.counts["train"] // self.batches < 2 * self.share.parts:
            raise ConfigError(
                f"batches of at most {recipe.batch_size} of {images.counts['train']} images are too small for "
                f"{self.share.parts} micro-batches of at least 2; raise batch_size or lower accumulate"
            )
        model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = _optimizer(model, recipe)
        self.ema = ModelEmaV3(model, decay=recipe.ema_decay, use_warmup=True) if recipe.ema_decay else None
        self.bare = model
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.scheduler = _schedule(optimizer, recipe, self.batches)
        self.mix, self.erase = _mixup(recipe, len(images.classes)), _erasing(recipe, self.device)
        self.epoch = self.step = self.position = 0
        self._order_state = rng.get_state()
        self._total = torch.zeros((), device=self.device)
        self._latest = _LatestLoss(self.device)
        self.last: tuple[Tensor, Tensor, Tensor] | None = None

    @property
    def chosen(self) -> nn.Module:
        """What is validated and kept: the moving average if there is one, else the model."""
        return self.bare if self.ema is None else self.ema.module

    def release(self) -> None:
        """Takes from the model what mixed precision put around its forward pass; at the end of the training."""
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        own = vars(self.bare).get("forward")
        if getattr(own, "__func__", None) is type(self.bare).forward:  # accelerate puts back a bound method
            del self.bare.forward

    def run_epoch(self, after_step: Callable[[], None] | None = None) -> float:
        """The mean loss of a pass, or of all of it when its first part was run before a restore.

        Args:
            after_step: called after each step; what it raises leaves the training as it is after that step.

        Raises:
            TrainingError: the loss of `last` became infinite or not a number.
            ConfigError: the model's scores do not fit the data's classes.
        """
        self.model.train()
        remaining = self._order().tensor_split(self.batches)[self.position :]
        feed = self.images.training(remaining, self.share, self.epoch, self.rng, self.device)
        with tuned(self.device):
            for numbers in remaining:
                self._run_step(numbers, feed)
                if after_step is not None:
                    after_step()
        self._check()
        if self.share.world > 1:
            # the first process's statistics, which a snapshot has; in the same order in all processes, unlike a set
            for model in dict.fromkeys((self.bare, self.chosen)):
                distribute_bn(model, self.share.world, reduce=False)  # type: ignore[no-untyped-call]
        loss = float(self.accelerator.reduce(self._total, "sum")) / self.images.counts["train"]
        self.epoch, self.position = self.epoch + 1, 0
        self._total.zero_()
        return loss

    def _order(self) -> Tensor:
        """The numbers of the training images in the order of the pass that is under way."""
        count = self.images.counts["train"]
        if self.position == 0:
            self._order_state = self.rng.get_state()
            return torch.randperm(count, generator=self.rng)
        again = torch.Generator()
        again.set_state(self._order_state)
        return torch.randperm(count, generator=again)

    def _run_step(self, numbers: Tensor, feed: Iterator[Batch]) -> None:
        self.scheduler.step_update(self.step)
        for part in self.share.slices(len(numbers)):
            images, labels = next(feed)
            self._check()
            with self.accelerator.accumulate(self.model):
                count = len(labels)  # which mixing in pairs may leave one of out
                images, labels = self._prepare(images, labels)
                loss = self._loss(images, labels)
                self._latest.put(loss.detach())
                self.last = numbers[part][: len(images)], images, labels
                # the mean over the parts that follows would give the images of a smaller part more weight
                self.accelerator.backward(loss * (count * self.share.parts / len(numbers)))
                if self.recipe.clip_grad and self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad)
                self.optimizer.step()
                self.optimizer.zero_grad()
            self._total += loss.detach() * count
        self.step, self.position = self.step + 1, self.position + 1
        if self.ema is not None:
            self.ema.update(self.bare, self.step)

    def _prepare(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images with parts erased, mixed in pairs, as the recipe asks; mixed labels are shares [N, num_classes]."""
        if self.erase is not None:
            images = self.erase(images)
        if self.mix is not None:
            images, labels = self.mix(*(rows[: len(rows) // 2 * 2].clone() for rows in (images, labels)))
        return images, labels

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        scores = self.model(images)
        check_shape(scores, len(images), len(self.images.classes))
        if self.mix is not None:
            loss: Tensor = SoftTargetCrossEntropy()(scores, labels)  # type: ignore[no-untyped-call]
            return loss
        return F.cross_entropy(scores, labels, label_smoothing=self.recipe.label_smoothing)

    def _check(self) -> None:
        """Raises TrainingError unless the latest loss is a number; a step late, when a GPU is in its backward pass."""
        if self.last is not None and not math.isfinite(loss := self._latest.get()):
            raise TrainingError(
                f"the loss became {loss} in epoch {self.epoch + 1} of {self.recipe.epochs} at learning rate "
                f"{self.recipe.lr}; {REMEDY}"
            )

    def snapshot(self) -> Snapshot:
        """All that the next step depends on; every process must call it, and the generators of all are in it.

        Raises:
            TrainingError: as `run_epoch`, so that nothing broken is kept.
        """
        self._check()
        optimizer, groups = pack_optimizer(self.optimizer.optimizer)
        total = self.accelerator.reduce(self._total, "sum") / self.share.world  # as each process takes it up again
        tensors = {"model": self.bare.state_dict(), "optimizer": optimizer, "loss": {"total": total}}
        if self.ema is not None:
            tensors["ema"] = self.ema.module.state_dict()
        scaler = self.accelerator.scaler
        record = {
            "epoch": self.epoch, "step": self.step, "position": self.position, "param_groups": groups,
            "rng": randomness.encode(self.rng.get_state()), "order": randomness.encode(self._order_state),
            "generators": gather_object([randomness.capture(self.device)]),
            "scaler": None if scaler is None else scaler.state_dict(),
        }  # fmt: skip
        return Snapshot(tensors, record)

    def restore(self, snapshot: Snapshot) -> None:
        """Goes on from a snapshot of a training of the same model, images, recipe and number of processes."""
        record = snapshot.record
        self.bare.load_state_dict(snapshot.tensors["model"])
        if self.ema is not None:
            self.ema.module.load_state_dict(snapshot.tensors["ema"])
        unpack_optimizer(self.optimizer.optimizer, snapshot.tensors["optimizer"], record["param_groups"])
        if self.accelerator.scaler is not None and record["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(record["scaler"])
        self.epoch, self.step, self.position = record["epoch"], record["step"], record["position"]
        self._total.copy_(snapshot.tensors["loss"]["total"])
        self.rng.set_state(randomness.decode(record["rng"]))
        self._order_state = randomness.decode(record["order"])
        randomness.restore(record["generators"][self.share.rank], self.device)


class _LatestLoss:
    """A loss that was computed on a device, and is read on the CPU when it is needed."""

    def __init__(self, device: torch.device) -> None:
        self._event = torch.cuda.Event() if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._value = torch.zeros((), pin_memory=self._event is not None)

    def put(self, loss: Tensor) -> None:
        """Takes a loss; a GPU goes on."""
        self._value.copy_(loss, non_blocking=self._event is not None)
        if self._event is not None:
            self._event.record()

    def get(self) -> float:
        """The loss put last; waits for what a GPU had to do until then, and for nothing later."""
        if self._event is not None:
            self._event.synchronize()
        return float(self._value)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    known = [str(name) for name in list_optimizers() if name not in SECOND_ORDER]
    if recipe.opt.lower() not in known:
        raise UnknownNameError("optimiser", recipe.opt, known)
    nesterov = recipe.opt.lower() in ("sgd", "nesterov")
    name = "momentum" if nesterov and not recipe.momentum else recipe.opt  # Nesterov's needs some
    try:
        made: torch.optim.Optimizer = create_optimizer_v2(
            model, opt=name, lr=recipe.lr, weight_decay=recipe.weight_decay, momentum=recipe.momentum,
            layer_decay=recipe.layer_decay if recipe.layer_decay < 1 else None,
        )  # fmt: skip
    except (AssertionError, ImportError, RuntimeError, TypeError, ValueError) as error:  # CUDA, say, is missing
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError(f"the optimiser {recipe.opt} cannot be made here: {reason:.200}; set another opt") from None
    return made


def _schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, batches: int) -> Any:
    """The schedule whose `step_update(t)` sets the rate of step t; the first step already learns."""
    warmup = round(recipe.warmup_epochs * batches)
    name = "step" if recipe.sched == "constant" else recipe.sched  # timm 1.0.25 has no constant one
    schedule, _ = create_scheduler_v2(
        optimizer, name, num_epochs=max(1, recipe.epochs * batches - warmup), min_lr=recipe.min_lr, decay_rate=1.0,
        warmup_epochs=warmup, warmup_lr=recipe.lr / (warmup + 1), warmup_prefix=True,
        step_on_epochs=False, updates_per_epoch=1,
    )  # fmt: skip
    return schedule


def _mixup(recipe: Recipe, num_classes: int) -> Any:
    if not recipe.mixup and not recipe.cutmix:
        return None
    smoothing = recipe.label_smoothing
    return Mixup(recipe.mixup, recipe.cutmix, label_smoothing=smoothing, num_classes=num_classes)  # type: ignore[no-untyped-call]


def _erasing(recipe: Recipe, device: torch.device) -> Any:
    if not recipe.random_erase:
        return None
    return RandomErasing(recipe.random_erase, mode="pixel", device=device)  # type: ignore[no-untyped-call]
