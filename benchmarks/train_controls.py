"""The same recipe on GEMNet-A and on reference cells, all at equal MACs, several seeds each.

    python benchmarks/train_controls.py --data npz:cifar10.npz --work controls [--part 1/2] [--quick]
    python benchmarks/train_controls.py --data npz:cifar10.npz --work long --set epochs=30 --seeds 1 \
        --net gemnet_a --net "mobilenetv2 blocks" --out zoo/results/train_long.json

References: a chain of two separable convolutions (MobileNet-like), ShrinkCNN, the best of 8 random cells (by the
search's proxy task, which sees no test image), and timm's mobilenetv2 blocks at width 32 px. Every training has a
folder of its own in --work and is resumed where it stopped, or refused if it was asked for otherwise; two processes
may share the work by --part 1/2 and --part 2/2. The table is printed, and zoo/results/train_controls.json written,
once all are done.
"""

import json
import statistics
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from kept import read_kept, write_kept
from macs import count_macs
from result import print_table, write_result
from timm.models._efficientnet_builder import decode_arch_def, round_channels
from timm.models.efficientnet import EfficientNet
from torch import Tensor, nn

from gemnet.catalog import find_cell
from gemnet.cell import Cell
from gemnet.cli_base import GemnetGroup
from gemnet.data import Dataset, load
from gemnet.fit import Plan, fit
from gemnet.images import MemoryImages
from gemnet.machine import DEVICES
from gemnet.network import GemNet
from gemnet.outcome import FILE
from gemnet.recipe import Recipe, override
from gemnet.recipe import load as load_recipe
from gemnet.scale import solve
from gemnet.search.evaluators.proxy import ProxyTask
from gemnet.search.spaces.cells import CellSpace
from gemnet.train import seeded

CHAIN = Cell(("input", "sepconv3x3", "sepconv3x3"), ((0, 1), (1, 2)))
SHRINKCNN = Cell(
    ("input", "sepconv3x3", "sepconv3x3", "sepconv3x3", "conv1x1"), ((0, 1), (0, 2), (0, 3), (0, 4), (1, 3), (2, 4))
)
MOBILENETV2 = [
    ["ds_r1_k3_s1_c16"], ["ir_r2_k3_s1_e6_c24"], ["ir_r3_k3_s2_e6_c32"], ["ir_r4_k3_s2_e6_c64"],
    ["ir_r3_k3_s1_e6_c96"], ["ir_r3_k3_s2_e6_c160"], ["ir_r1_k3_s1_e6_c320"],
]  # fmt: skip
RANDOM_CELLS = 8
NAMES = ("gemnet_a", "chain", "shrinkcnn", "best of 8 random", "mobilenetv2 blocks")


@dataclass(frozen=True, eq=False)
class Common:
    """What all trainings have in common; `macs` is the most that a net may have."""

    data: str
    images: Dataset
    recipe: Recipe
    macro: str
    macs: int
    device: str
    work: Path


@click.group(cls=GemnetGroup, invoke_without_command=True)
@click.option("--data", default="cifar10", show_default=True)
@click.option("--work", type=click.Path(path_type=Path, file_okay=False), required=True, help="Holds the trainings.")
@click.option("--recipe", default="cifar-cpu-short", show_default=True)
@click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE")
@click.option("--macs", default=12.0, show_default=True, help="Millions, of each net.")
@click.option("--macro", default="proxy", show_default=True, help="Form of the cells' nets.")
@click.option("--net", "names", type=click.Choice(NAMES), multiple=True, help="Only these; all without it.")
@click.option("--seeds", default=3, show_default=True)
@click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--part", default="1/1", show_default=True, metavar="K/N", help="Train every N-th net from the K-th on.")
@click.option("--quick", is_flag=True, help="Two tiny nets, one epoch, the embedded images.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
def main(
    data: str, work: Path, recipe: str, changes: tuple[str, ...], macs: float, macro: str, names: tuple[str, ...],
    seeds: int, device: str, threads: int, part: str, quick: bool, out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Train and write zoo/results/train_controls.json."""
    torch.set_num_threads(threads)
    names, limit = names or NAMES, round(1e6 * macs)
    if quick:
        data, names, limit, macro, seeds = "fashion-mini", ("chain", "mobilenetv2 blocks"), 4_500_000, "proxy", 1
        changes = (*changes, "epochs=1", "warmup_epochs=0", "precision=no")
    common = Common(data, load(data), override(load_recipe(recipe), changes), macro, limit, device, work)
    first, count = (int(number) for number in part.split("/"))
    asked = [(name, seed) for seed in range(seeds) for name in names]
    found = {job: run(*job, common) for job in asked[first - 1 :: count]}
    done = sum(is_finished(place(work, *job)) for job in asked)
    if done < len(asked):
        click.echo(f"{done} of {len(asked)} trainings are done; the table follows when all are", err=True)
        return
    rows = [found.get(job) or run(*job, common) for job in asked]
    spread = [summary(name, [row for row in rows if row["net"] == name]) for name in names]
    print_table(spread)
    result = write_result("train_controls", 0, rows, out, summary=spread, data=data.split(":")[0], recipe=recipe,
                          changes=list(changes), target_macs=limit, macro=macro)  # fmt: skip
    if as_json:
        click.echo(json.dumps(result))


def run(name: str, seed: int, common: Common) -> dict[str, Any]:
    """Trains a net, or goes on with it, or reads what it came to.

    Raises:
        CheckpointError: its folder holds a training of another net, data set or recipe.
    """
    images, recipe = common.images, common.recipe
    with seeded(seed):
        model = build_net(name, common)
    sizes = {"macs": count_macs(model, blank(images)), "params": sum(p.numel() for p in model.parameters())}
    result = fit(
        model, MemoryImages(images, recipe), recipe, seed, place(common.work, name, seed),
        about={"name": name, **sizes}, device=common.device, resume=True, plan=Plan(keep=1),
    )  # fmt: skip
    row = {
        "net": name, "seed": seed, **sizes, "val_acc": result["val_acc"],
        "test_acc": None if result["test"] is None else result["test"]["top1"],
        "train_s": result["train_s"], "images_per_s": result["images_per_s"],
    }  # fmt: skip
    click.echo(row, err=True)
    return row


def is_finished(folder: Path) -> bool:
    """Whether the folder's training has come to a result."""
    path = folder / FILE
    return path.exists() and json.loads(path.read_text(encoding="utf-8"))["result"] is not None


def place(work: Path, name: str, seed: int) -> Path:
    """The folder of a training."""
    return work / f"{name.replace(' ', '-')}-{seed}"


def build_net(name: str, common: Common) -> nn.Module:
    """A net of that name with at most the MACs that all may have."""
    images = common.images
    if name == "mobilenetv2 blocks":
        return mobilenetv2(images, common.macs)
    cells = {"gemnet_a": lambda: find_cell("gemnet_a"), "chain": lambda: CHAIN, "shrinkcnn": lambda: SHRINKCNN}
    cell = cells[name]() if name in cells else best_random(common)
    net = solve(cell, common.macro, common.macs, "sum", images.img_size, images.in_chans, images.num_classes)
    return GemNet(cell, net, images.num_classes, images.in_chans)


def best_random(common: Common) -> Cell:
    """The best of a few random cells by the proxy task of the small search; measured once and kept.

    Raises:
        CheckpointError: what is kept was measured on other images or by another task.
    """
    short = Recipe(epochs=6, warmup_epochs=0.5)
    task = ProxyTask(common.data, train_images=5000, val_images=2500, recipe=short, device=common.device)
    settings = {"images": common.images.fingerprint, **task.to_dict()}
    for where in ("data", "device"):  # the same images may lie elsewhere
        del settings[where]
    path = common.work / "random.json"
    found = read_kept(path, settings) or []
    for cell in CellSpace().sample(RANDOM_CELLS, np.random.default_rng(0))[len(found) :]:
        found.append({"cell": cell.to_dict(), "val_acc": task.evaluate(cell, 0)["val_acc"]})
        write_kept(path, settings, found)
    return Cell.from_dict(max(found, key=lambda row: row["val_acc"])["cell"])


def mobilenetv2(images: Dataset, macs: int) -> nn.Module:
    """timm's mobilenetv2 for small images (stem and second stage of stride 1), as wide as the MACs allow."""
    for hundredths in range(100, 5, -1):
        with torch.random.fork_rng(devices=[]):
            model = _mobilenetv2(images, hundredths / 100)
            fits = count_macs(model, blank(images)) <= macs
        if fits:
            return _mobilenetv2(images, hundredths / 100)
    raise click.ClickException(f"no width of mobilenetv2 has at most {macs} MACs")


def _mobilenetv2(images: Dataset, width: float) -> nn.Module:
    rounded = partial(round_channels, multiplier=width, divisor=4)  # as the proxy form's
    model = EfficientNet(
        decode_arch_def(MOBILENETV2), num_classes=images.num_classes, in_chans=images.in_chans, stem_size=32,
        num_features=max(1280, rounded(1280)) if width > 1 else rounded(1280), round_chs_fn=rounded,
        act_layer=nn.ReLU6,
    )  # fmt: skip
    model.conv_stem.stride = (1, 1)
    return model


def blank(images: Dataset) -> Tensor:
    """One image [1, C, H, W] of nothing."""
    return torch.zeros(1, images.in_chans, *images.img_size)


def summary(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over the seeds, in percent."""
    tests = [100 * (row["val_acc"] if row["test_acc"] is None else row["test_acc"]) for row in rows]
    return {
        "net": name, "macs_m": round(rows[0]["macs"] / 1e6, 2), "params_k": round(rows[0]["params"] / 1e3, 1),
        "test_acc_mean": round(statistics.mean(tests), 2),
        "test_acc_sd": round(statistics.stdev(tests), 2) if len(tests) > 1 else 0.0,
        "train_minutes": round(statistics.mean(row["train_s"] for row in rows) / 60, 1),
    }  # fmt: skip


if __name__ == "__main__":
    main()
