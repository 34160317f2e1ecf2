"""The gate's table: the small models in each opset and set of free axes, the large ones as they are.

    python benchmarks/export_gate.py [--quick]

There are no trained weights for the registered names yet. The small models get random weights under a classifier
fitted by least squares to 2,000 images of fashion-mini, which makes accuracy and its loss mean something; the
224 px models keep random weights. int8, whose settings are searched for a minute, is tried in one form of each.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import torch
from result import print_table, write_result

from gemnet.data import Dataset, load
from gemnet.export.bundle import FILES, Plan, export_bundle
from gemnet.export.form import OPSET, Form
from gemnet.export.infer import normalise
from gemnet.export.samples import Samples
from gemnet.export.source import Source, load_source

SMALL, LARGE = ("gemnet_a_cifar", "gemnet_b_cifar"), ("gemnet_a", "gemnet_b")
OPSETS = (18, 19, 20, 21)
AXES = (("batch",), ("batch", "height", "width"))
IMAGES, CALIBRATION, MAX_DROP = 200, 32, 0.01


@click.command()
@click.option("--model", "models", multiple=True, type=click.Choice(SMALL + LARGE), help="These alone.")
@click.option("--quick", is_flag=True, help="One opset.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
def main(models: tuple[str, ...], quick: bool, out: Path | None, as_json: bool) -> None:
    """Export them all and write zoo/results/export_gate.json."""
    torch.set_num_threads(1)
    data = load("fashion-mini")
    rows: list[dict[str, Any]] = []
    for name in [name for name in SMALL if name in (models or SMALL)]:
        source = fitted(load_source(name, data=data), data)
        samples = Samples.of(data, source.image, 10, IMAGES, CALIBRATION)
        for opset in OPSETS[2:3] if quick else OPSETS:
            for axes in AXES[1:] if quick else AXES:
                precisions = tuple(FILES) if opset == OPSET and axes == AXES[-1] else ("fp32", "fp16")
                rows += export(source, samples, opset, axes, precisions)
    for name in [name for name in LARGE if name in (models or LARGE)]:
        source = load_source(name)
        rows += export(source, Samples.packaged(source.image, 16, 16), 20, ("batch",), ("fp32",))
    print_table(rows)
    result = write_result("export_gate", 0, rows, out, data="fashion-mini", calibration=CALIBRATION, max_drop=MAX_DROP)
    if as_json:
        click.echo(json.dumps(result))


def fitted(source: Source, data: Dataset) -> Source:
    """The source with a classifier that knows the data's classes."""
    model, scaling = source.model, {"mean": source.scaling.mean, "std": source.scaling.std}
    images = torch.from_numpy(normalise(data.train.images[:2000], scaling))
    wanted = torch.nn.functional.one_hot(torch.from_numpy(data.train.labels[:2000]), 10).float()
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
    source: Source, samples: Samples, opset: int, axes: tuple[str, ...], precisions: tuple[str, ...]
) -> list[dict[str, Any]]:
    """A row for each file of one export."""
    start = time.perf_counter()
    plan = Plan(Form(source.image, opset, axes, least_side=source.least_side), precisions, MAX_DROP)
    with tempfile.TemporaryDirectory() as folder:
        report = export_bundle(source, Path(folder), plan, samples)
    seconds = round(time.perf_counter() - start, 1)
    rows = [
        {"model": source.name, "opset": file["opset"], "ir": file["ir_version"], "free": "+".join(axes),
         "file": name, "size_mb": round(file["size_mb"], 2), "shapes": len(file["differences"]),
         "max_rel_diff": file["max_rel_diff"], "agreement": file["agreement"], "accuracy": file["accuracy"],
         "model_accuracy": file["model_accuracy"], "images": file["images"], "export_s": seconds}
        for name, file in report["files"].items()
    ]  # fmt: skip
    click.echo(f"{source.name} opset {opset} {'+'.join(axes)}: {seconds} s", err=True)
    return rows


if __name__ == "__main__":
    main()
