"""Images per second in training: of every recipe, and beside a plain loop of timm's parts.

    python benchmarks/throughput.py [--recipe NAME]... [--device cuda] [--threads 1] [--workers 2] [--quick]

recipes   each recipe of the zoo with the net it is for, on images made up at random: in memory, or JPEG files of
          500 x 375 pixels in folders where the recipe has an `img_size`.
loop      mobilenetv2_100 at 224 px in bf16, by `gemnet.trainer` and by a loop that anyone would write of timm's loader,
          optimiser and moving average; both read the same files with as many workers, or (memory) have images on the
          device, ours still to be moved and normalised, the loop's one ready batch. They take turns.

A figure is the median of --repeats passes, each of --steps steps behind two untimed ones. Batches are those of the
recipe, but on a CPU of at most 128 images in memory, or --batch-size from files.
"""

import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from result import print_table, write_result
from timm.data import create_dataset, create_loader
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from gemnet.cost import cost
from gemnet.data import Dataset, Split
from gemnet.devices import accelerator
from gemnet.images import Images, MemoryImages
from gemnet.recipe import Recipe
from gemnet.recipe import load as load_recipe
from gemnet.task import build_model, open_images
from gemnet.trainer import Trainer

NETS: dict[str, tuple[str, str | None, int | None]] = {  # what each recipe is for: name, macro form, MACs
    "cifar-cpu": ("gemnet_a_cifar", None, None), "cifar-cpu-short": ("gemnet_a", "proxy", 12_000_000),
    "cifar-gpu": ("gemnet_b_cifar", None, None), "imagenet": ("gemnet_a", None, None),
    "finetune": ("gemnet_a", None, None),
}  # fmt: skip
REFERENCE, SIDE = "mobilenetv2_100", 224
UNTIMED = 2  # steps at the start of a pass
CLASSES = 10
MOST_IN_MEMORY = 128  # images of a batch on a CPU, which larger ones do not make faster
FILES = 64  # different JPEG files; further ones are links to them


@click.command()
@click.option("--recipe", "names", type=click.Choice(list(NETS)), multiple=True, help="Only these; all without it.")
@click.option("--steps", default=10, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--workers", default=0, show_default=True, help="Processes that read files.")
@click.option("--batch-size", default=32, show_default=True, help="Of the loop; and of files at most, on a CPU.")
@click.option("--quick", is_flag=True, help="One short recipe, two steps, tiny batches.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
def main(
    names: tuple[str, ...], steps: int, repeats: int, device: str, threads: int, workers: int, batch_size: int,
    quick: bool, out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Write zoo/results/throughput.json."""
    torch.set_num_threads(threads)
    if quick:
        names, steps, repeats, batch_size = ("cifar-cpu-short",), 2, 1, 8
    rows = [of_recipe(name, device, steps, repeats, batch_size, workers) for name in names or NETS]
    print_table(rows)
    loop = [beside_loop(kind, device, steps, repeats, batch_size, workers) for kind in ("memory", "files")]
    print_table(loop)
    found = accelerator(device).device
    result = write_result(
        "throughput", 0, rows, out, loop=loop, threads=threads, workers=workers, steps=steps, repeats=repeats,
        device=torch.cuda.get_device_name(found) if found.type == "cuda" else found.type,
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps(result))


def of_recipe(name: str, device: str, steps: int, repeats: int, most: int, workers: int) -> dict[str, Any]:
    """What one recipe reaches with the net it is for."""
    recipe = load_recipe(name)
    if accelerator(device).device.type == "cpu":
        recipe = replace(recipe, batch_size=min(recipe.batch_size, most if recipe.img_size else MOST_IN_MEMORY))
    reference, macro, macs = NETS[name]
    with images_for(recipe, steps, workers) as images:
        model = build_model(reference, images, recipe, macro=macro, macs=macs)
        run = trainer_pass(model, images, recipe, device)
        rates = [run() for _ in range(repeats)]
        price = cost(model.cells, model.net, images.img_size, images.in_chans, CLASSES)
    return {
        "recipe": name, "net": reference, "macs": price.macs, "img_size": images.img_size[0],
        "images": "files" if recipe.img_size else "memory", "batch_size": recipe.batch_size, "opt": recipe.opt,
        "precision": recipe.precision, "images_per_s": round(statistics.median(rates), 1),
    }  # fmt: skip


def beside_loop(kind: str, device: str, steps: int, repeats: int, batch_size: int, workers: int) -> dict[str, Any]:
    """Ours and the plain loop on the same net, in turn."""
    recipe = Recipe(batch_size=batch_size, lr=0.01, ema_decay=0.999, precision="bf16", crop_padding=0,
                    img_size=SIDE if kind == "files" else 0)  # fmt: skip
    with images_for(recipe, steps, workers, SIDE) as images:
        ours = trainer_pass(reference_net(), images, recipe, device)
        plain = plain_pass(reference_net(), images, recipe, accelerator(device).device, workers)
        pairs = [(ours(), plain()) for _ in range(repeats)]
    return {
        "images": kind, "net": REFERENCE, "batch_size": batch_size,
        "images_per_s": round(statistics.median(a for a, _ in pairs), 1),
        "loop_images_per_s": round(statistics.median(b for _, b in pairs), 1),
        "ratio": round(statistics.median(a / b for a, b in pairs), 3),
    }  # fmt: skip


def reference_net() -> nn.Module:
    """The net of the loop, with few classes."""
    return timm.create_model(REFERENCE, num_classes=CLASSES)


def images_for(recipe: Recipe, steps: int, workers: int, side: int = 32) -> AbstractContextManager[Images]:
    """Random images enough for a pass; its files are gone after the block."""
    count = recipe.batch_size * (UNTIMED + steps)
    return in_files(count, recipe, workers) if recipe.img_size else nullcontext(in_memory(count, recipe, side))


def in_memory(count: int, recipe: Recipe, side: int) -> Images:
    """Random images that memory holds."""
    rng = np.random.default_rng(0)

    def split(n: int) -> Split:
        return Split(rng.integers(0, 256, (n, side, side, 3), np.uint8), np.arange(n) % CLASSES)

    names = tuple(f"class {k}" for k in range(CLASSES))
    return MemoryImages(Dataset("random", split(max(count, CLASSES)), split(CLASSES), None, names), recipe)


@contextmanager
def in_files(count: int, recipe: Recipe, workers: int) -> Iterator[Images]:
    """Random JPEG files of some 60 kB, coarse noise made large, in a folder that is gone after the block."""
    rng, made = np.random.default_rng(0), list[Path]()
    with tempfile.TemporaryDirectory() as folder:
        for part, number in (("train", max(count, CLASSES)), ("val", CLASSES)):
            for k in range(number):
                path = Path(folder) / part / f"class{k % CLASSES}" / f"{k}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                if len(made) == FILES:
                    path.hardlink_to(made[k % FILES])
                    continue
                coarse = Image.fromarray(rng.integers(0, 256, (94, 125, 3), np.uint8))
                coarse.resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=90)
                made.append(path)
        yield open_images(f"folder:{folder}", recipe, workers=workers)


def trainer_pass(model: nn.Module, images: Images, recipe: Recipe, device: str) -> Callable[[], float]:
    """A pass of `gemnet.trainer`, which returns its images per second."""
    runner = accelerator(device, recipe.precision, recipe.accumulate)
    trainer = Trainer(model, images, recipe, runner, torch.Generator().manual_seed(0))

    def run() -> float:
        clock = Clock(runner.device)
        trainer.run_epoch(clock.tick)
        return clock.rate(images.counts["train"] / trainer.batches)

    return run


def plain_pass(
    model: nn.Module, images: Images, recipe: Recipe, device: torch.device, workers: int
) -> Callable[[], float]:
    """A pass of the loop that anyone would write of timm's parts."""
    model = model.to(device, memory_format=torch.channels_last).train()
    optimizer = create_optimizer_v2(model, opt=recipe.opt, lr=recipe.lr, weight_decay=recipe.weight_decay)
    ema = ModelEmaV3(model, decay=recipe.ema_decay, use_warmup=True)
    steps = -(-images.counts["train"] // recipe.batch_size)
    feed = ready(recipe, device) if isinstance(images, MemoryImages) else loader(images, recipe, device, workers)
    numbers = itertools.count()

    def run() -> float:
        clock = Clock(device)
        for batch, labels in itertools.islice(feed(), steps):
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
    """Times the steps of a pass behind the untimed ones."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.steps, self.start = device, 0, 0.0

    def tick(self) -> None:
        """To be called after each step."""
        self.steps += 1
        if self.steps == UNTIMED:
            self.start = self._now()

    def rate(self, per_step: float) -> float:
        """Images per second at so many images a step."""
        return per_step * (self.steps - UNTIMED) / (self._now() - self.start)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


if __name__ == "__main__":
    main()
