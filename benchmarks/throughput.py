"""Images per second in training: of every recipe, and beside a plain loop of timm's parts.

    python benchmarks/throughput.py [--recipe NAME]... [--device cuda] [--threads 1] [--workers 2] [--quick]

recipes   each recipe of the zoo with the net it is for, on images made up at random: in memory, or JPEG files of
          500 x 375 pixels in folders where the recipe has an `img_size`.
loop      mobilenetv2_100 at 224 px in bf16, by `gemnet.trainer` and by a loop that anyone would write of timm's loader,
          optimiser and moving average; both read the same files with as many workers, or (memory) have images on the
          device, ours still to be moved and normalised, the loop's one ready batch. They take turns.
cpu       the two recipes for CPUs in 32 bit and bf16, with one thread and with two (on a CPU only).

A figure is the median of --repeats passes, each of --steps steps behind two untimed ones. Where processes read files,
as many steps as there are processes are untimed, since what they read ahead meanwhile costs the timed ones nothing,
and at least four for each process are timed. Batches are those of the recipe, but from files at most --batch-size, and
in memory on a CPU at most 128.
"""

import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import timm
import torch
import torch.nn.functional as F
from noise import CLASSES, make_images
from result import print_table, write_result
from timm.data import create_dataset, create_loader
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from gemnet.cost import cost
from gemnet.devices import accelerator, tuned
from gemnet.doctor_machine import usable_cores
from gemnet.images import Images, MemoryImages
from gemnet.machine import DEVICES
from gemnet.recipe import Recipe
from gemnet.recipe import load as load_recipe
from gemnet.task import build_model
from gemnet.trainer import Trainer

NETS: dict[str, tuple[str, str | None, int | None]] = {  # what each recipe is for: name, macro form, MACs
    "cifar-cpu": ("gemnet_a_cifar", None, None), "cifar-cpu-short": ("gemnet_a", "proxy", 12_000_000),
    "cifar-gpu": ("gemnet_b_cifar", None, None), "imagenet": ("gemnet_a", None, None),
    "finetune": ("gemnet_a", None, None),
}  # fmt: skip
FOR_CPU = ("cifar-cpu-short", "cifar-cpu")
REFERENCE, SIDE = "mobilenetv2_100", 224
UNTIMED = 2  # steps at the start of a pass
STEPS_PER_WORKER = 4
MOST_IN_MEMORY = 128  # images of a batch on a CPU, which larger ones do not make faster


@dataclass(frozen=True)
class Plan:
    """How passes are made.

    Args:
        batch_size: of the loop, and the most from files.
        in_memory: the most from memory; None for those of the recipe.
        workers: processes that read files.
    """

    device: str
    steps: int
    repeats: int
    batch_size: int
    in_memory: int | None
    workers: int

    @property
    def where(self) -> torch.device:
        """The device that `device` is here."""
        return accelerator(self.device).device

    def lengths(self, recipe: Recipe) -> tuple[int, int]:
        """Untimed and timed steps of a pass."""
        if not recipe.img_size:
            return UNTIMED, self.steps
        workers = max(1, self.workers)
        rounds = max(STEPS_PER_WORKER, -(-self.steps // workers))
        return max(UNTIMED, workers), rounds * workers


@click.command()
@click.option("--recipe", "names", type=click.Choice(list(NETS)), multiple=True, help="Only these; all without it.")
@click.option("--steps", default=10, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--workers", default=0, show_default="0; on a GPU the cores but one", help="Processes that read files.")
@click.option("--batch-size", type=int, show_default="32; on a GPU 256", help="Of the loop; and of files at most.")
@click.option("--quick", is_flag=True, help="One short recipe, two steps, tiny batches.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
def main(
    names: tuple[str, ...], steps: int, repeats: int, device: str, threads: int, workers: int, batch_size: int | None,
    quick: bool, out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Write zoo/results/throughput.json."""
    torch.set_num_threads(threads)
    where = accelerator(device).device
    on_gpu = where.type == "cuda"
    in_memory = None if on_gpu else MOST_IN_MEMORY
    if quick:
        names, steps, repeats, batch_size, in_memory = ("cifar-cpu-short",), 2, 1, 8, 8
    workers = workers or (max(1, usable_cores() - 1) if on_gpu else 0)  # a GPU would wait for its own process
    plan = Plan(device, steps, repeats, batch_size or (256 if on_gpu else 32), in_memory, workers)
    rows = [of_recipe(name, plan) for name in names or NETS]
    print_table(rows)
    loop = [beside_loop(kind, plan) for kind in ("memory", "files")]
    print_table(loop)
    forms = on_cpu(plan, quick) if where.type == "cpu" else []
    if forms:
        print_table(forms)
    result = write_result(
        "throughput", 0, rows, out, loop=loop, cpu=forms, threads=threads, workers=workers, steps=steps,
        repeats=repeats, device=torch.cuda.get_device_name(where) if on_gpu else where.type,
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps(result))


def of_recipe(name: str, plan: Plan, **changes: Any) -> dict[str, Any]:
    """What one recipe reaches with the net it is for."""
    recipe = replace(load_recipe(name), **changes)
    most = plan.batch_size if recipe.img_size else plan.in_memory
    recipe = replace(recipe, batch_size=min(recipe.batch_size, most or recipe.batch_size))
    reference, macro, macs = NETS[name]
    untimed, timed = plan.lengths(recipe)
    with make_images(recipe, untimed + timed, plan.workers) as images:
        model = build_model(reference, images, recipe, macro=macro, macs=macs)
        run = trainer_pass(model, images, recipe, plan)
        rates = [run() for _ in range(plan.repeats)]
        price = cost(model.cells, model.net, images.img_size, images.in_chans, CLASSES)
    return {
        "recipe": name, "net": reference, "macs": price.macs, "img_size": images.img_size[0],
        "images": "files" if recipe.img_size else "memory", "batch_size": recipe.batch_size, "opt": recipe.opt,
        "precision": recipe.precision, "timed_steps": timed, "images_per_s": round(statistics.median(rates), 1),
    }  # fmt: skip


def on_cpu(plan: Plan, quick: bool) -> list[dict[str, Any]]:
    """The recipes for CPUs with other numbers of threads and in other precisions."""
    before, rows = torch.get_num_threads(), []
    for name, threads, precision in itertools.product(FOR_CPU[:1] if quick else FOR_CPU, (1, 2), ("no", "bf16")):
        torch.set_num_threads(threads)
        rows.append({"threads": threads, **of_recipe(name, plan, precision=precision)})
    torch.set_num_threads(before)
    return rows


def beside_loop(kind: str, plan: Plan) -> dict[str, Any]:
    """Ours and the plain loop on the same net, in turn."""
    recipe = Recipe(batch_size=plan.batch_size, lr=0.01, ema_decay=0.999, precision="bf16", crop_padding=0,
                    img_size=SIDE if kind == "files" else 0)  # fmt: skip
    untimed, timed = plan.lengths(recipe)
    with make_images(recipe, untimed + timed, plan.workers, SIDE) as images:
        ours = trainer_pass(reference_net(), images, recipe, plan)
        plain = plain_pass(reference_net(), images, recipe, plan)
        pairs = [(ours(), plain()) for _ in range(plan.repeats)]
    return {
        "images": kind, "net": REFERENCE, "batch_size": recipe.batch_size, "timed_steps": timed,
        "images_per_s": round(statistics.median(a for a, _ in pairs), 1),
        "loop_images_per_s": round(statistics.median(b for _, b in pairs), 1),
        "ratio": round(statistics.median(a / b for a, b in pairs), 3),
    }  # fmt: skip


def reference_net() -> nn.Module:
    """The net of the loop, with few classes."""
    return timm.create_model(REFERENCE, num_classes=CLASSES)


def trainer_pass(model: nn.Module, images: Images, recipe: Recipe, plan: Plan) -> Callable[[], float]:
    """A pass of `gemnet.trainer`, which returns its images per second."""
    runner = accelerator(plan.device, recipe.precision, recipe.accumulate)
    trainer = Trainer(model, images, recipe, runner, torch.Generator().manual_seed(0))

    def run() -> float:
        clock = Clock(runner.device, plan.lengths(recipe)[0], trainer.batches)
        trainer.run_epoch(clock.tick)
        return clock.rate(images.counts["train"] / trainer.batches)

    return run


def plain_pass(model: nn.Module, images: Images, recipe: Recipe, plan: Plan) -> Callable[[], float]:
    """A pass of the loop that anyone would write of timm's parts."""
    device = plan.where
    model = model.to(device, memory_format=torch.channels_last).train()
    optimizer = create_optimizer_v2(model, opt=recipe.opt, lr=recipe.lr, weight_decay=recipe.weight_decay)
    ema = ModelEmaV3(model, decay=recipe.ema_decay, use_warmup=True)
    feed = ready(recipe, device) if isinstance(images, MemoryImages) else loader(images, recipe, device, plan.workers)
    untimed, timed = plan.lengths(recipe)
    numbers = itertools.count()

    def run() -> float:
        clock = Clock(device, untimed, untimed + timed)
        with tuned(device):
            for batch, labels in itertools.islice(feed(), untimed + timed):
                with torch.autocast(device.type, torch.bfloat16):
                    loss = F.cross_entropy(model(batch), labels, label_smoothing=recipe.label_smoothing)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                ema.update(model, next(numbers))
                clock.tick()
        return clock.rate(recipe.batch_size)

    return run


def ready(recipe: Recipe, device: torch.device) -> Callable[[], Iterator[tuple[Tensor, Tensor]]]:
    """The same batch again and again."""
    batch = torch.randn(recipe.batch_size, 3, SIDE, SIDE, device=device).to(memory_format=torch.channels_last)
    return lambda: itertools.repeat((batch, torch.arange(recipe.batch_size, device=device) % CLASSES))


def loader(
    images: Any, recipe: Recipe, device: torch.device, workers: int
) -> Callable[[], Iterator[tuple[Tensor, Tensor]]]:
    """timm's loader of the same files, with the same augmentation."""
    made = create_loader(
        create_dataset("", root=str(images.root), split="train"), (3, SIDE, SIDE), recipe.batch_size, is_training=True,
        scale=(recipe.crop_scale, 1.0), color_jitter=recipe.color_jitter, interpolation="bicubic",
        num_workers=workers, device=device, pin_memory=device.type == "cuda", persistent_workers=workers > 0,
    )  # fmt: skip
    return lambda: ((x.to(memory_format=torch.channels_last), y) for x, y in made)


class Clock:
    """Times the steps of a pass behind the untimed ones, of so many in all."""

    def __init__(self, device: torch.device, untimed: int, steps: int) -> None:
        self.device, self.untimed, self.steps = device, untimed, steps
        self.done, self.start, self.end = 0, 0.0, 0.0

    def tick(self) -> None:
        """To be called after each step."""
        self.done += 1
        if self.done == self.untimed:
            self.start = self._now()
        elif self.done == self.steps:  # not later: processes that read must then end, which takes a while
            self.end = self._now()

    def rate(self, per_step: float) -> float:
        """Images per second at so many images a step."""
        return per_step * (self.steps - self.untimed) / (self.end - self.start)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


if __name__ == "__main__":
    main()
