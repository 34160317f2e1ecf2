"""The whole path on real images: search a cell, train its network, export it, let the ONNX file predict.

    python benchmarks/demo.py --out demo-out

A study that was interrupted is resumed; a finished one is read. Nothing is downloaded.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import click
import numpy as np

from gemnet.cell import Cell
from gemnet.cli_base import GemnetGroup
from gemnet.cost import cost
from gemnet.data import Dataset, load
from gemnet.recipe import Recipe
from gemnet.scale import solve
from gemnet.search import cli as search_cli
from gemnet.search.standing import Standing, standing
from gemnet.search.trial import Trial

DATA = "fashion-mini"
MACS = 4_000_000
RECIPE = Recipe(epochs=4, batch_size=64, crop_padding=2, stop_epochs=0, warmup_epochs=0.5)


@click.group(cls=GemnetGroup, invoke_without_command=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="demo-out", show_default=True)
@click.option("--workers", type=int, help="Processes that measure; the processors by default.")
def main(out: Path, workers: int | None) -> None:
    """Search, train, export, predict."""
    start = time.perf_counter()
    study = out / "study"
    click.echo(f"1. Searching a cell for {DATA} images ({study}) ...")
    search(study, workers)
    found = standing(study)
    show_search(found)
    cell = Cell.from_dict(found.best()[0].arch)
    click.echo(f"\n2. Training the found cell's network on all of {DATA} ...")
    data = load(DATA)
    path = train_and_export(cell, data, out)
    click.echo("\n3. What the ONNX file says of the test images, which nothing has looked at so far:")
    predict(path, data)
    click.echo(f"\nDone in {time.perf_counter() - start:.0f} s. Look further: gemnet-search status {study}, "
               f"gemnet info {out / 'cell.json'}")  # fmt: skip


def search(study: Path, workers: int | None) -> None:
    """Runs or resumes the study through the command line's own entry."""
    task = ["resume", str(study)] if (study / "study.json").exists() else ["run", str(study), "--preset", "demo"]
    search_cli.main(task + (["--workers", str(workers)] if workers is not None else []), standalone_mode=False)


def show_search(found: Standing) -> None:
    """Prints every measured cell, the found one and the random ones' median."""
    winner = found.best()[0]
    random, finalists = (found.trials_of(name) for name in ("measured", "finalists"))
    click.echo(f"\n{'cell':14}{'chosen by':>12}{'val_acc':>10}{'MACs':>10}{'params':>10}")
    for trial in sorted(random + finalists, key=lambda t: t.metrics.get("val_acc", 0.0)):
        how = "random" if trial in random else "predictor"
        click.echo(row(trial, how) + ("   <- found" if trial.key == winner.key else ""))
    done = [trial.metrics["val_acc"] for trial in random if trial.done]
    click.echo(f"median of {len(done)} random cells {100 * statistics.median(done):.1f} %, "
               f"found {100 * winner.metrics['val_acc']:.1f} %")  # fmt: skip


def row(trial: Trial, how: str) -> str:
    """One line of the table."""
    if not trial.done:
        return f"{trial.arch_key[:12]:14}{how:>12}{trial.status:>10}"
    m = trial.metrics
    return (f"{trial.arch_key[:12]:14}{how:>12}{100 * m['val_acc']:>8.1f} %"
            f"{m['macs'] / 1e6:>8.2f} M{m['params'] / 1e3:>8.1f} k")  # fmt: skip


def train_and_export(cell: Cell, data: Dataset, out: Path) -> Path:
    """Writes cell.json, model.safetensors and model.onnx; returns the last."""
    from gemnet.export.onnx import export_onnx
    from gemnet.network import GemNet
    from gemnet.train import seeded, train
    from gemnet.weights import save_weights

    net = solve(cell, "proxy", MACS, "sum", data.img_size, data.in_chans, data.num_classes)
    price = cost(cell, net, data.img_size, data.in_chans, data.num_classes)
    with seeded(0):
        model = GemNet(cell, net, data.num_classes, data.in_chans)
    result = train(model, data, RECIPE, seed=0)
    click.echo(f"   {RECIPE.epochs} epochs in {result.train_s:.0f} s: val_acc {100 * result.val_acc:.1f} %, "
               f"{price.macs / 1e6:.2f} M MACs, {price.params / 1e3:.1f} k parameters")  # fmt: skip
    (out / "cell.json").write_text(json.dumps(cell.to_dict()) + "\n", encoding="utf-8")
    save_weights(model, out / "model.safetensors")
    path = out / "model.onnx"
    checked = export_onnx(model, path, (data.in_chans, *data.img_size))
    click.echo(f"   exported to {path}: opset {checked.opset}, {checked.size_mb:.2f} MB, equal to the model at batch "
               f"{', '.join(map(str, checked.batches))} (largest difference {checked.max_rel_diff:.1e})")  # fmt: skip
    return path


def predict(path: Path, data: Dataset) -> None:
    """Runs the file on the test images with ONNX Runtime alone, prints ten of them and the accuracy."""
    import onnxruntime

    assert data.test is not None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    mean, std = (np.asarray(v, np.float32) for v in (data.mean, data.std))
    images = ((data.test.images / np.float32(255) - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    labels = data.test.labels
    chosen = session.run(None, {session.get_inputs()[0].name: images})[0].argmax(1)
    click.echo(f"   {'image':>5}  {'predicted':14}{'true':14}")
    for k in range(10):
        mark = "" if chosen[k] == labels[k] else "wrong"
        click.echo(f"   {k:>5}  {data.classes[chosen[k]]:14}{data.classes[labels[k]]:14}{mark}".rstrip())
    click.echo(f"   accuracy on all {len(labels)} test images: {100 * float((chosen == labels).mean()):.1f} %")


if __name__ == "__main__":
    sys.exit(main())
