"""GEMNet's speed and size beside other small networks.

    python benchmarks/inference.py [--quick] [--compiled]

224 px, one thread, fp32; all models and backends of a batch size take turns. per_mac is the median of
(ms / MACs) / (mobilenetv2_100's ms / its MACs) on ONNX Runtime; `acts` are the elements of all convolution and
classifier outputs, `peak_mb` what ONNX Runtime takes at batch 1. Cells with a name in quotes are in our macro at
240 M MACs. With a CUDA device also images a second in bf16, channels last, batch 256: forward, and forward with
backward. `--compiled` adds torch.compile, which takes minutes.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import timm
import torch
from result import print_table, write_result
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gemnet.cell import Cell
from gemnet.export.form import Form
from gemnet.export.latency import machine, measure, peak_memory_mb
from gemnet.export.onnx import save, trace
from gemnet.export.plan import runner
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
CELLS = {
    '"two sepconvs"': Cell(("input", "sepconv3x3", "sepconv3x3"), ((0, 1), (1, 2))),
    '"ShrinkCNN"': Cell(
        ("input", "sepconv3x3", "sepconv3x3", "sepconv3x3", "conv1x1"), ((0, 1), (0, 2), (0, 3), (1, 3), (0, 4), (2, 4))
    ),
}


@click.command()
@click.option("--quick", is_flag=True, help="Three models, few runs.")
@click.option("--compiled", is_flag=True, help="Also torch.compile.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
@click.option("--seed", default=0, show_default=True)
def main(quick: bool, compiled: bool, out: Path | None, as_json: bool, seed: int) -> None:
    """Measure and write zoo/results/inference.json."""
    torch.set_num_threads(1)
    models = build(quick, seed)
    rows = [{"model": name, **sizes(model)} for name, model in models.items()]
    for batch, runs in ((1, 10 if quick else 40), (16, 3 if quick else 8)):
        times = measure(calls(models, batch, compiled), runs, limit_s=120)
        for row in rows:
            per_mac = rows[0]["macs"] / row["macs"]
            for name, found in times.items():
                model, backend = name.rsplit("/", 1)
                if model == row["model"]:
                    row[f"{backend}_p50_ms_b{batch}"] = round(found.p50_ms, 2)
                    row[f"{backend}_p90_ms_b{batch}"] = round(found.p90_ms, 2)
                    if backend.startswith("ort"):
                        row[f"{backend}_per_mac_b{batch}"] = round(found.ratio * per_mac, 3)
    if torch.cuda.is_available():
        for row in rows:
            row.update(throughput(models[row["model"]]))
    print_table([{key: row.get(key, "") for key in {key: 0 for each in rows for key in each}} for row in rows])
    result = write_result("inference", seed, rows, out, reference=REFERENCE, machine=machine())
    if as_json:
        click.echo(json.dumps(result))


def build(quick: bool, seed: int) -> dict[str, nn.Module]:
    """The models; the reference first."""
    names = (REFERENCE, "mnasnet_100", "gemnet_a") if quick else (*OTHERS, *OURS)
    models: dict[str, nn.Module] = {name: timm.create_model(name).eval() for name in names}
    cells = {} if quick else dict(CELLS)
    for nodes in () if quick else (8, 16):
        space = CellSpace(min_nodes=nodes, max_nodes=nodes)
        (cells[f'"random {nodes}"'],) = space.sample(1, np.random.default_rng([seed, nodes]))
    return models | {name: GemNet(cell, solve(cell, "imagenet", MACS)).eval() for name, cell in cells.items()}


def sizes(model: nn.Module) -> dict[str, Any]:
    """Parameters, MACs and activations of one image, and memory on ONNX Runtime."""
    acts = 0

    def add(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        nonlocal acts
        acts += output.numel()

    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, *IMAGE))
    for hook in hooks:
        hook.remove()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        save(trace(lean(model), Form(IMAGE)), path)
        peak = peak_memory_mb(path, (1, *IMAGE))
    params = sum(value.numel() for value in model.parameters())
    return {"params": params, "macs": int(counter.get_total_flops()) // 2, "acts": acts, "peak_mb": peak}


def lean(model: nn.Module) -> nn.Module:
    """The model as it is deployed."""
    return fuse(model) if isinstance(model, GemNet) else fold_batch_norm(model)


def calls(models: dict[str, nn.Module], batch: int, compiled: bool) -> dict[str, Callable[[], object]]:
    """What is timed, by `model/backend`; the first is the reference on ONNX Runtime."""
    images = torch.zeros(batch, *IMAGE)
    found = {f"{name}/ort": runner(lean(model), IMAGE, batch=batch) for name, model in models.items()}
    for name, model in models.items():
        forms = {"eager": model, "fused": lean(model)} | ({"compiled": torch.compile(lean(model))} if compiled else {})
        found |= {f"{name}/{form}": without_gradients(module, images) for form, module in forms.items()}
    return found


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
