"""What int8 costs and gains on a trained small net: size, accuracy and latency against fp32 and fp16.

    python benchmarks/int8.py WEIGHTS --data fashion-mini --macs 8

WEIGHTS are those of gemnet_a's cell in the small macro (`--macs` as given), trained on `--data`; the published ones
with `Recipe(epochs=6, warmup_epochs=0.5, stop_epochs=0)` and seed 0. Accuracy is that of
the validation split, on which the limit was held, and of the test split, which nothing has looked at before.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from result import print_table, write_result

from gemnet.data import load
from gemnet.export.bundle import FILES, Plan, export_bundle
from gemnet.export.form import Form
from gemnet.export.infer import Model
from gemnet.export.parity import accuracy, answer
from gemnet.export.samples import Samples
from gemnet.export.source import load_source


@click.command()
@click.argument("weights", type=click.Path(path_type=Path, exists=True))
@click.option("--data", "name", default="fashion-mini", show_default=True)
@click.option("--macs", default=8.0, show_default=True, metavar="MILLIONS")
@click.option("--quick", is_flag=True, help="Few images.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
def main(weights: Path, name: str, macs: float, quick: bool, out: Path | None, as_json: bool) -> None:
    """Export in all precisions and write zoo/results/int8.json."""
    torch.set_num_threads(1)
    data = load(name)
    assert data.test is not None
    source = load_source("gemnet_a", "small", round(macs * 1e6), weights=weights, data=data)
    count = 100 if quick else 1000
    samples = Samples.of(data, source.image, data.num_classes, count, 32 if quick else 256)
    test = data.test.images[:count]
    with tempfile.TemporaryDirectory() as folder:
        report = export_bundle(source, Path(folder), Plan(Form(source.image), tuple(FILES)), samples)
        torch_logits = answer(source.model, test, source.scaling)
        rows: list[dict[str, Any]] = []
        for file, found in report["files"].items():
            logits = Model(Path(folder) / file, 1).logits(test)
            times = report["latency"][file]
            top = np.argsort(-logits, 1)[:, :5], np.argsort(-torch_logits, 1)[:, :5]
            rows.append({
                "file": file, "size_mb": round(found["size_mb"], 3), "val_acc": found["accuracy"],
                "test_acc": accuracy(logits, data.test.labels[:count]),
                "same_top1": float((top[0][:, 0] == top[1][:, 0]).mean()),
                "same_top5": float((top[0] == top[1]).all(1).mean()),
                "p50_ms": round(times["p50_ms"], 3), "ratio": round(times["ratio"], 3),
            })  # fmt: skip
    print_table(rows)
    result = write_result("int8", 0, rows, out, images=count, data=name.rpartition("/")[2], weights=report["weights"],
                          trials=report["int8"], machine=report["machine"], warnings=report["warnings"])  # fmt: skip
    if as_json:
        click.echo(json.dumps(result))


if __name__ == "__main__":
    main()
