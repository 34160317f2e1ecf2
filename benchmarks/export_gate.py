"""The gate's table: the small models in each opset, precision and set of free axes, the large ones as they are.

    python benchmarks/export_gate.py --pieces FOLDER [--model NAME] [--quick]

The small models get random weights under a classifier fitted by least squares to 600 images of fashion-mini, which
makes accuracy and its loss mean something. Their cells' branches count a fifth beside the shortcuts, as trained ones
do not amplify noise either: at full weight int8 kept 66 % of gemnet_a_cifar's answers, so 95 %. The 224 px models keep
random weights. For int8 the ranges from minimum to maximum are tried first, or what held for the form before;
more is searched only where that does not hold.

Each export is kept in FOLDER as soon as it is done and not made again, so that a run that was stopped goes on and
models can be run apart; the table is written when all are there.
"""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import click
import torch
from result import print_table, write_result

from gemnet.data import Dataset, load
from gemnet.export.bundle import FILES, Plan, export_bundle
from gemnet.export.form import OPSET, Form
from gemnet.export.infer import normalise
from gemnet.export.quantize import Setting, Trial
from gemnet.export.samples import Samples
from gemnet.export.source import Source, load_source, show_images

SMALL, LARGE = ("gemnet_a_cifar", "gemnet_b_cifar"), ("gemnet_a", "gemnet_b")
OPSETS, AXES = (18, 19, 20, 21), (("batch",), ("batch", "height", "width"))
FITTED, BRANCHES, IMAGES, CALIBRATION, MAX_DROP = 600, 0.2, 200, 32, 0.01
PIECES = (
    *((name, opset, axes, tuple(FILES)) for name in SMALL for axes in AXES for opset in OPSETS),
    *((name, OPSET, AXES[0], ("fp32", "fp16")) for name in LARGE),
)
Piece = tuple[str, int, tuple[str, ...], tuple[str, ...]]


@click.command()
@click.option("--pieces", "folder", type=click.Path(path_type=Path, file_okay=False), help="Keeps finished exports.")
@click.option("--model", "models", multiple=True, type=click.Choice(SMALL + LARGE), help="Export these alone now.")
@click.option("--quick", is_flag=True, help="One form of the smallest model.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
def main(folder: Path | None, models: tuple[str, ...], quick: bool, out: Path | None, as_json: bool) -> None:
    """Export them all and write zoo/results/export_gate.json."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        kept = folder or Path(scratch)
        kept.mkdir(parents=True, exist_ok=True)
        pieces: tuple[Piece, ...] = PIECES[:1] if quick else PIECES
        for name in dict.fromkeys(piece[0] for piece in pieces if piece[0] in (models or SMALL + LARGE)):
            finish(name, [piece for piece in pieces if piece[0] == name], kept)
        missing = [piece[:3] for piece in pieces if not file_of(piece, kept).exists()]
        if missing:
            click.echo(f"{len(missing)} of {len(pieces)} exports are still to be made", err=True)
            return
        rows = [row for piece in pieces for row in json.loads(file_of(piece, kept).read_text())["rows"]]
    print_table(rows)
    result = write_result("export_gate", 0, rows, out, data="fashion-mini", fitted=FITTED, branches=BRANCHES,
                          calibration=CALIBRATION, max_drop=MAX_DROP)  # fmt: skip
    if as_json:
        click.echo(json.dumps(result))


def file_of(piece: Piece, folder: Path) -> Path:
    """Where the rows of an export are kept; the name tells apart what it depends on."""
    digest = hashlib.sha256(json.dumps([piece, FITTED, BRANCHES, IMAGES, CALIBRATION, MAX_DROP]).encode()).hexdigest()
    return folder / f"{piece[0]}-{piece[1]}-{'+'.join(piece[2])}-{digest[:8]}.json"


def finish(name: str, pieces: list[Piece], folder: Path) -> None:
    """Makes the exports of a model that are not there yet."""
    start = Trial(Setting(), ())
    prepared: tuple[Source, Samples] | None = None
    for piece in pieces:
        file = file_of(piece, folder)
        if not file.exists():
            prepared = prepared or prepare(name)
            rows, int8 = export(*prepared, piece, start)
            draft = file.with_suffix(".part")
            draft.write_text(json.dumps({"rows": rows, "int8": int8}))
            draft.replace(file)
            click.echo(file.stem, err=True)
        found = json.loads(file.read_text())["int8"]
        if found:
            setting = Setting(found["method"], found["per_channel"], found["reduce_range"])
            start = Trial(setting, tuple(found["excluded"]))


def prepare(name: str) -> tuple[Source, Samples]:
    """A model with the images it is tried on."""
    if name in LARGE:
        source = load_source(name)
        return source, Samples.packaged(source.image, 16, 16)
    data = load("fashion-mini")
    source = load_source(name, data=data)
    samples = Samples.of(data, source.image, 10, IMAGES, CALIBRATION)
    return fitted(source, data, samples), samples


def fitted(source: Source, data: Dataset, samples: Samples) -> Source:
    """The source with weaker branches and a classifier that knows the data's classes."""
    model, scaling = source.model, {"mean": source.scaling.mean, "std": source.scaling.std}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("project.bn.weight"):
                weight.mul_(BRANCHES)
    show_images(model, samples.calibration, source.scaling)
    images = torch.from_numpy(normalise(data.train.images[:FITTED], scaling))
    wanted = torch.nn.functional.one_hot(torch.from_numpy(data.train.labels[:FITTED]), 10).float()
    with torch.no_grad():
        features = torch.cat([model.forward_head(model.forward_features(x), pre_logits=True) for x in images.split(50)])
        columns = torch.cat([features, torch.ones(len(features), 1)], 1).double()
        count = columns.shape[1]
        ridge = columns.T @ columns + torch.eye(count) * columns.square().mean() * 10
        weights = 10 * torch.linalg.solve(ridge, columns.T @ wanted.double())
        model.head.fc.weight.copy_(weights[:-1].T)
        model.head.fc.bias.copy_(weights[-1])
    return source


def export(
    source: Source, samples: Samples, piece: Piece, start: Trial
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """A row for each file of one export, and the int8 setting that held."""
    _, opset, axes, precisions = piece
    plan = Plan(Form(source.image, opset, axes, least_side=source.least_side), precisions, MAX_DROP, start)
    with tempfile.TemporaryDirectory() as folder:
        report = export_bundle(source, Path(folder), plan, samples)
    tried = report["int8"]
    rows = [
        {"model": source.name, "opset": file["opset"], "ir": file["ir_version"], "free": "+".join(axes),
         "file": name, "size_mb": round(file["size_mb"], 2), "shapes": len(file["differences"]),
         "max_rel_diff": file["max_rel_diff"], "agreement": file["agreement"], "accuracy": file["accuracy"],
         "model_accuracy": file["model_accuracy"], "images": file["images"],
         "nodes_in_floats": len(tried[-1]["excluded"]) if "int8" in name else None}
        for name, file in report["files"].items()
    ]  # fmt: skip
    return rows, tried[-1] if tried else None


if __name__ == "__main__":
    main()
