"""Publishes what trainings came to: zoo/results/trained.json, one row per folder of `gemnet train`.

    python benchmarks/trained.py DIR... --data cifar10 --recipe cifar-cpu

The figures are those of each folder's train.json; parameters and MACs are counted anew. Rows of other models that the
file holds already stay.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import click
from result import print_table, write_result

from gemnet import settings, zoo
from gemnet.cell import Cell
from gemnet.config import NetConfig
from gemnet.cost import cost
from gemnet.errors import ConfigError
from gemnet.recipe import load as load_recipe

SHOWN = ("model", "recipe", "macs", "params", "epochs", "val_acc", "test_acc", "test_top5", "train_s", "images_per_s")


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--data", required=True, help="Name of the data they were trained on.")
@click.option("--recipe", required=True, help="Of the zoo, that they were trained by.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
def main(folders: tuple[Path, ...], data: str, recipe: str, out: Path | None) -> None:
    """Write zoo/results/trained.json."""
    rows = [row_of(folder, data, recipe) for folder in folders]
    path = out or zoo.path("results", "trained.json")
    before = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    fresh = {key(row) for row in rows}
    rows = [*(row for row in before if key(row) not in fresh), *rows]
    print_table([{name: row[name] for name in SHOWN} for row in rows])
    write_result("trained", rows[-1]["seed"], rows, out)


def key(row: dict[str, Any]) -> tuple[str, str, str, int]:
    """What tells two rows apart."""
    return row["model"], row["data"], row["recipe"], row["seed"]


def row_of(folder: Path, data: str, recipe: str) -> dict[str, Any]:
    """The row of a finished training."""
    told = json.loads((folder / "train.json").read_text(encoding="utf-8"))
    asked, result = told["asked"], told["result"]
    if result is None:
        raise ConfigError(f"the training in {folder} is not over; finish it with gemnet train --resume")
    model, images = asked["model"], asked["data"]
    cells = tuple(Cell.from_dict(cell) for cell in model["cells"])
    net = settings.from_dict(NetConfig, model["net"])
    price = cost(cells, net, tuple(images["img_size"]), len(images["mean"]), len(images["classes"]))
    plain = settings.to_dict(load_recipe(recipe))
    return {
        "model": model["name"], "data": data, "recipe": recipe,
        "changes": {name: value for name, value in asked["recipe"].items() if plain[name] != value},
        "seed": asked["seed"], "macs": price.macs, "params": price.params, "epochs": result["epochs_run"],
        "epoch": result["epoch"], "val_acc": result["val_acc"],
        "test_acc": result["test"]["top1"], "test_top5": result["test"]["top5"],
        "per_class": result["test"]["per_class"], "train_s": result["train_s"],
        "images_per_s": result["images_per_s"], "counts": images["counts"],
        "fingerprint": images["fingerprint"], "processes": asked["processes"],
        "sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        "trained_with": {"versions": told["versions"], "hardware": told["hardware"]},
    }  # fmt: skip


if __name__ == "__main__":
    main()
