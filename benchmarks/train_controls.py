"""The same recipe on GEMNet-A and on reference cells, all at equal MACs, several seeds each.

    python benchmarks/train_controls.py --data npz:cifar10.npz --work controls [--part 1/2] [--quick]
    python benchmarks/train_controls.py --data npz:cifar10.npz --work long --set epochs=30 --seeds 1 \
        --net gemnet_a --net "mobilenetv2 blocks" --out zoo/results/train_long.json

References: a chain of two separable convolutions (MobileNet-like), ShrinkCNN, the best of 8 random cells (by the
search's proxy task, which sees no test image), and timm's mobilenetv2 blocks at width 32 px. Every training has a
folder of its own in --work and is resumed where it stopped; two processes may share the work by --part 1/2 and
--part 2/2. The table is printed, and zoo/results/train_controls.json written, once all are done.
"""

import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from result import print_table, write_result
from timm.models._efficientnet_builder import decode_arch_def, round_channels
from timm.models.efficientnet import EfficientNet
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gemnet.catalog import find_cell
from gemnet.cell import Cell
from gemnet.cli_base import GemnetGroup
from gemnet.data import Dataset, load
from gemnet.fit import Plan, fit
from gemnet.images import MemoryImages
from gemnet.network import GemNet
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


@click.group(cls=GemnetGroup, invoke_without_command=True)
@click.option("--data", default="cifar10", show_default=True)
@click.option("--work", type=click.Path(path_type=Path, file_okay=False), required=True, help="Holds the trainings.")
@click.option("--recipe", default="cifar-cpu-short", show_default=True)
@click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE")
@click.option("--macs", default=12.0, show_default=True, help="Millions, of each net.")
@click.option("--macro", default="proxy", show_default=True, help="Form of the cells' nets.")
@click.option("--net", "names", type=click.Choice(NAMES), multiple=True, help="Only these; all without it.")
@click.option("--seeds", default=3, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--part", default="1/1", show_default=True, metavar="K/N", help="Train every N-th net from the K-th on.")
@click.option("--quick", is_flag=True, help="Two tiny nets, one epoch, the embedded images.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
def main(
    data: str, work: Path, recipe: str, changes: tuple[str, ...], macs: float, macro: str, names: tuple[str, ...],
    seeds: int, threads: int, part: str, quick: bool, out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Train and write zoo/results/train_controls.json."""
    torch.set_num_threads(threads)
    names, limit = names or NAMES, round(1e6 * macs)
    if quick:
        data, names, limit, macro, seeds = "fashion-mini", ("chain", "mobilenetv2 blocks"), 4_500_000, "proxy", 1
        changes = (*changes, "epochs=1", "warmup_epochs=0", "precision=no")
    how, images = override(load_recipe(recipe), changes), load(data)
    first, count = (int(number) for number in part.split("/"))
    asked = [(name, seed) for seed in range(seeds) for name in names]
    for name, seed in asked[first - 1 :: count]:
        build = partial(build_net, name, images, macro, limit, data, work)
        row = run(name, seed, build, images, how, work)
        click.echo(row, err=True)
    rows = [row for name, seed in asked if (row := read(work, name, seed)) is not None]
    if len(rows) < len(asked):
        click.echo(f"{len(rows)} of {len(asked)} trainings are done; the table follows when all are", err=True)
        return
    spread = [summary(name, [row for row in rows if row["net"] == name]) for name in names]
    print_table(spread)
    result = write_result("train_controls", 0, rows, out, summary=spread, data=data.split(":")[0], recipe=recipe,
                          changes=list(changes), target_macs=limit, macro=macro)  # fmt: skip
    if as_json:
        click.echo(json.dumps(result))


def run(
    name: str, seed: int, build: Callable[[], nn.Module], images: Dataset, recipe: Recipe, work: Path
) -> dict[str, Any]:
    """Trains a net, or goes on with it, or reads what it came to."""
    found = read(work, name, seed)
    if found is not None:
        return found
    with seeded(seed):
        model = build()
    sizes = {"macs": count_macs(model, images), "params": sum(p.numel() for p in model.parameters())}
    folder = place(work, name, seed)
    result = fit(
        model, MemoryImages(images, recipe), recipe, seed, folder, about={"name": name, **sizes}, device="cpu",
        resume=True, plan=Plan(keep=1),
    )  # fmt: skip
    row = {
        "net": name, "seed": seed, **sizes, "val_acc": result["val_acc"],
        "test_acc": None if result["test"] is None else result["test"]["top1"],
        "train_s": result["train_s"], "images_per_s": result["images_per_s"],
    }  # fmt: skip
    (folder / "row.json").write_text(json.dumps(row) + "\n", encoding="utf-8")
    return row


def read(work: Path, name: str, seed: int) -> dict[str, Any] | None:
    """The row of a finished training."""
    path = place(work, name, seed) / "row.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def place(work: Path, name: str, seed: int) -> Path:
    """The folder of a training."""
    return work / f"{name.replace(' ', '-')}-{seed}"


def build_net(name: str, images: Dataset, macro: str, macs: int, data: str, work: Path) -> nn.Module:
    """A net of that name with at most `macs` MACs."""
    if name == "mobilenetv2 blocks":
        return mobilenetv2(images, macs)
    cells = {"gemnet_a": lambda: find_cell("gemnet_a"), "chain": lambda: CHAIN, "shrinkcnn": lambda: SHRINKCNN}
    cell = cells[name]() if name in cells else best_random(data, work)
    net = solve(cell, macro, macs, "sum", images.img_size, images.in_chans, images.num_classes)
    return GemNet(cell, net, images.num_classes, images.in_chans)


def best_random(data: str, work: Path) -> Cell:
    """The best of a few random cells by the proxy task of the small search; measured once and kept."""
    path = work / "random.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    task = ProxyTask(data, train_images=5000, val_images=2500, recipe=Recipe(epochs=6, warmup_epochs=0.5))
    cells = CellSpace().sample(RANDOM_CELLS, np.random.default_rng(0))
    for cell in cells[len(found) :]:
        found.append({"cell": cell.to_dict(), "val_acc": task.evaluate(cell, 0)["val_acc"]})
        work.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found) + "\n", encoding="utf-8")
    return Cell.from_dict(max(found, key=lambda row: row["val_acc"])["cell"])


def mobilenetv2(images: Dataset, macs: int) -> nn.Module:
    """timm's mobilenetv2 for small images (stem and second stage of stride 1), as wide as the MACs allow."""
    for hundredths in range(100, 5, -1):
        with torch.random.fork_rng(devices=[]):
            model = _mobilenetv2(images, hundredths / 100)
            fits = count_macs(model, images) <= macs
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


def count_macs(model: nn.Module, images: Dataset) -> int:
    """Multiply-adds of convolutions and linear layers for one image."""
    training = model.training
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, images.in_chans, *images.img_size))
    model.train(training)
    return int(counter.get_total_flops()) // 2


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
