"""GEMNet's speed and size beside other small networks.

    python benchmarks/inference.py [--only MODEL]... [--quick] [--compiled] [--again]

224 px, one thread, fp32. Backends: `eager` is the model as timm builds it, `fused` the same rewritten for inference
(`gemnet.fuse`, for others folded batch norms), `compiled` torch.compile of that (minutes a model; its cache is kept),
`ort` ONNX Runtime with that. Models are measured in pieces of a few, each piece beside the reference, all its models
and backends in turns; at batch 1 each run follows an untimed one of its own, as where a model runs alone. A piece is
written when it is done, and what the file holds already is not measured again. Milliseconds of different pieces may
differ by the machine's load; ratios do not: per_mac is the median of (ms / MACs) / (mobilenetv2_100's ms on ONNX
Runtime / its MACs) within a piece. `acts` are the elements of all convolution and classifier outputs, `peak_mb` what
ONNX Runtime takes at batch 1. Cells with a name in quotes are in our macro at 240 M MACs. With a CUDA device also
images a second in bf16, channels last, batch 256.
"""

import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import timm
import torch
from macs import count_macs
from result import LIBRARIES, print_table, write_result
from torch import nn

from gemnet import zoo
from gemnet.cell import Cell
from gemnet.errors import UnknownNameError
from gemnet.export.form import Form
from gemnet.export.latency import machine, measure, peak_memory_mb
from gemnet.export.onnx import save, trace
from gemnet.export.verify import session
from gemnet.fold import fold_batch_norm
from gemnet.fuse import fuse
from gemnet.network import GemNet
from gemnet.scale import solve
from gemnet.search.spaces.cells import CellSpace

REFERENCE = "mobilenetv2_100"
OTHERS = (
    REFERENCE, "mnasnet_100", "spnasnet_100", "mobilenetv3_large_100", "fbnetc_100", "tf_efficientnet_lite0",
    "resnet50",
)  # fmt: skip
OURS = ("gemnet_a", "gemnet_b")
IMAGE = (3, 224, 224)
MACS = 240_000_000
GPU_BATCH = 256
PIECE = 3  # models measured at a time beside the reference
CELLS = {
    '"two sepconvs"': Cell(("input", "sepconv3x3", "sepconv3x3"), ((0, 1), (1, 2))),
    '"ShrinkCNN"': Cell(
        ("input", "sepconv3x3", "sepconv3x3", "sepconv3x3", "conv1x1"), ((0, 1), (0, 2), (0, 3), (1, 3), (0, 4), (2, 4))
    ),
}


@click.command()
@click.option("--only", multiple=True, metavar="MODEL", help="Models to measure; all by default.")
@click.option("--quick", is_flag=True, help="Two models, few runs.")
@click.option("--compiled", is_flag=True, help="Also torch.compile.")
@click.option("--again", is_flag=True, help="Measure anew what the file holds.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
@click.option("--seed", default=0, show_default=True)
def main(
    only: tuple[str, ...], quick: bool, compiled: bool, again: bool, out: Path | None, as_json: bool, seed: int
) -> None:
    """Measure and write zoo/results/inference.json."""
    torch.set_num_threads(1)
    models = build(seed)
    names = list(only) or (["mnasnet_100", "gemnet_a"] if quick else [name for name in models if name != REFERENCE])
    for name in names:
        if name not in models:
            raise UnknownNameError("model", name, models)
    rows = {} if again or quick else read(out or zoo.path("results", "inference.json"))
    column = "compiled_p50_ms_b16" if compiled else "ort_p50_ms_b16"
    waiting = [name for name in names if column not in rows.get(name, {})]
    for k in range(0, len(waiting), PIECE):
        piece = {name: models[name]().eval() for name in [REFERENCE, *waiting[k : k + PIECE]]}
        for name, row in measure_piece(piece, quick, compiled).items():
            rows[name] = rows.get(name, {}) | row
        kept = [rows[name] for name in models if name in rows]
        result = write_result("inference", seed, kept, out, reference=REFERENCE, machine=machine())
        print_table([row for row in kept if row["model"] in piece])
        if as_json:
            click.echo(json.dumps(result))


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The rows measured so far with the libraries of now, by model."""
    if not path.is_file():
        return {}
    result = json.loads(path.read_text(encoding="utf-8"))
    same = all(result["versions"][library] == version(library) for library in LIBRARIES)
    return {row["model"]: row for row in result["rows"]} if same else {}


def measure_piece(models: dict[str, nn.Module], quick: bool, compiled: bool) -> dict[str, dict[str, Any]]:
    """All columns of some models, the reference first."""
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{k}.onnx" for k, name in enumerate(models)}
        for name, model in models.items():
            save(trace(lean(model), Form(IMAGE)), files[name])
        rows = {name: {"model": name, **sizes(model, files[name])} for name, model in models.items()}
        for batch, runs, limit_s in ((1, 40, 40.0), (16, 8, 60.0)):
            timed = calls(models, files, batch, compiled)
            for name, found in measure(timed, runs // 4 if quick else runs, limit_s, warm=batch == 1).items():
                model_name, backend = name.rsplit("/", 1)
                row, per_mac = rows[model_name], rows[REFERENCE]["macs"] / rows[model_name]["macs"]
                row[f"{backend}_p50_ms_b{batch}"] = round(found.p50_ms, 2)
                row[f"{backend}_p90_ms_b{batch}"] = round(found.p90_ms, 2)
                row[f"{backend}_per_mac_b{batch}"] = round(found.ratio * per_mac, 3)
    if torch.cuda.is_available():
        for name, model in models.items():
            rows[name] |= throughput(model)
    return rows


def build(seed: int) -> dict[str, Callable[[], nn.Module]]:
    """What makes each model; the reference first."""
    makers: dict[str, Callable[[], nn.Module]] = {name: partial(timm.create_model, name) for name in (*OTHERS, *OURS)}
    cells = dict(CELLS)
    for nodes in (8, 16):
        space = CellSpace(min_nodes=nodes, max_nodes=nodes)
        (cells[f'"random {nodes}"'],) = space.sample(1, np.random.default_rng([seed, nodes]))
    return makers | {name: partial(in_our_macro, cell) for name, cell in cells.items()}


def in_our_macro(cell: Cell) -> GemNet:
    """A network of a cell, of the size of gemnet_a."""
    return GemNet(cell, solve(cell, "imagenet", MACS))


def sizes(model: nn.Module, file: Path) -> dict[str, Any]:
    """Parameters, MACs and activations of one image, and memory on ONNX Runtime."""
    acts = 0

    def add(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        nonlocal acts
        acts += output.numel()

    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    macs = count_macs(model, torch.zeros(1, *IMAGE))
    for hook in hooks:
        hook.remove()
    params = sum(value.numel() for value in model.parameters())
    return {"params": params, "macs": macs, "acts": acts,
            "peak_mb": peak_memory_mb(file, (1, *IMAGE))}  # fmt: skip


def lean(model: nn.Module) -> nn.Module:
    """The model as it is deployed."""
    return fuse(model) if isinstance(model, GemNet) else fold_batch_norm(model)


def calls(
    models: dict[str, nn.Module], files: dict[str, Path], batch: int, compiled: bool
) -> dict[str, Callable[[], object]]:
    """What is timed, by `model/backend`; the first is the reference on ONNX Runtime."""
    images = torch.zeros(batch, *IMAGE)
    found = {f"{name}/ort": on_runtime(file, images) for name, file in files.items()}
    for name, model in models.items():
        forms = {"eager": model, "fused": lean(model)} | ({"compiled": torch.compile(lean(model))} if compiled else {})
        found |= {f"{name}/{form}": without_gradients(module, images) for form, module in forms.items()}
    return found


def on_runtime(file: Path, images: torch.Tensor) -> Callable[[], object]:
    """A function that runs a file once on one thread."""
    runtime = session(file, 1)
    feed = {runtime.get_inputs()[0].name: images.numpy()}
    return lambda: runtime.run(None, feed)


def without_gradients(module: Callable[[torch.Tensor], Any], images: torch.Tensor) -> Callable[[], object]:
    """A function that runs a module once."""

    def call() -> object:
        with torch.inference_mode():
            return module(images)

    return call


def throughput(model: nn.Module, rounds: int = 20) -> dict[str, float]:
    """Images a second on the GPU."""
    model = model.cuda().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.zeros(GPU_BATCH, *IMAGE, device="cuda").contiguous(memory_format=torch.channels_last)

    def forward() -> torch.Tensor:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            logits: torch.Tensor = model(images)
        return logits

    def rate(step: Callable[[], object]) -> float:
        for _ in range(5):
            step()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(rounds):
            step()
        torch.cuda.synchronize()
        return round(GPU_BATCH * rounds / (time.perf_counter() - start))

    with torch.no_grad():
        found = {"gpu_forward_per_s": rate(forward)}
    model.train()
    found["gpu_forward_backward_per_s"] = rate(lambda: forward().sum().backward())  # type: ignore[no-untyped-call]
    return found


if __name__ == "__main__":
    main()
