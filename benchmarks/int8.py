"""What a trained net keeps when it leaves: answers, accuracy, size and latency in fp32, fp16 and int8.

    python benchmarks/int8.py MODEL --data npz:cifar10.npz --python lean/bin/python

MODEL is a folder that `gemnet train` wrote, or a name with weights. Accuracy is that of the validation split, on
which int8's limit was held, and of the first test images, which nothing has looked at before. The answers to these
come from the exported folder's own infer.py on PNG files, run by an interpreter that may have no more than
onnxruntime, numpy and Pillow; they are compared with PyTorch's.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from result import print_table, write_result

from gemnet.data import load
from gemnet.export.bundle import FILES, Plan, export_bundle
from gemnet.export.form import Form
from gemnet.export.parity import answer
from gemnet.export.samples import Samples
from gemnet.export.source import load_source

TOP = 5


@click.command()
@click.argument("model")
@click.option("--data", "name", required=True, help="What it was trained on.")
@click.option("--python", "interpreter", default=sys.executable, show_default=True, help="That runs infer.py.")
@click.option("--quick", is_flag=True, help="Few images.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
def main(model: str, name: str, interpreter: str, quick: bool, out: Path | None, as_json: bool) -> None:
    """Export in all precisions, let infer.py predict, and write zoo/results/int8.json."""
    torch.set_num_threads(1)
    data = load(name)
    part = data.test or data.val
    source = load_source(model, data=data)
    count = 100 if quick else 1000
    samples = Samples.of(data, source.image, data.num_classes, count, 32 if quick else 256)
    images, labels = part.images[:count], part.labels[:count]
    with tempfile.TemporaryDirectory() as place:
        bundle, pictures = Path(place) / "bundle", Path(place) / "pictures"
        report = export_bundle(source, bundle, Plan(Form(source.image), tuple(FILES)), samples)
        pictures.mkdir()
        for k, image in enumerate(images):
            Image.fromarray(image.squeeze()).save(pictures / f"{k:06d}.png")
        want = answer(source.model, images, source.scaling)
        rows: list[dict[str, Any]] = []
        for file, found in report["files"].items():
            times, said = report["latency"][file], compare(ask(interpreter, bundle, file, pictures), want, labels)
            rows.append({"file": file, "size_mb": round(found["size_mb"], 3), "val_acc": found["accuracy"], **said,
                         "p50_ms": round(times["p50_ms"], 3), "ratio": round(times["ratio"], 3)})  # fmt: skip
    print_table(rows)
    result = write_result("int8", 0, rows, out, model=source.name, images=len(images), data=name.rpartition("/")[2],
                          torch_test_acc=float((want.argmax(1) == labels).mean()), weights=report["weights"],
                          trials=report["int8"], machine=report["machine"], warnings=report["warnings"])  # fmt: skip
    if as_json:
        click.echo(json.dumps(result))


def ask(interpreter: str, bundle: Path, file: str, pictures: Path) -> list[list[dict[str, Any]]]:
    """The best answers of an exported folder's infer.py to each picture."""
    command = [interpreter, "-I", str(bundle / "infer.py"), str(pictures), "--model", str(bundle / file), "--json",
               "--top", str(TOP)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line)["top"] for line in done.stdout.splitlines()]


def compare(answers: list[list[dict[str, Any]]], want: "np.ndarray[Any, Any]", labels: Any) -> dict[str, float]:
    """Accuracy of answers, and how far they are from the logits wanted."""
    got = np.array([[item["index"] for item in top] for top in answers])
    order = np.argsort(-want, axis=1, kind="stable")[:, : got.shape[1]]
    logits = np.array([[item["logit"] for item in top] for top in answers])
    return {
        "test_acc": float((got[:, 0] == labels).mean()), "same_top1": float((got[:, 0] == order[:, 0]).mean()),
        "same_top5": float((got == order).all(1).mean()),
        "max_logit_diff": float(np.abs(logits - np.take_along_axis(want, got, 1)).max()),
    }  # fmt: skip


if __name__ == "__main__":
    main()
