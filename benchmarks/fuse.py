"""What rewriting a GemNet for inference gains, and what its time goes into.

    python benchmarks/fuse.py [--part PART]... [--quick]

ONNX Runtime, one thread, batch 1, fp32, 224 px; models of a table take turns, each run behind an untimed one of its
own. Parts take a minute or two each and replace their tables in the file:

models    plain is the file of the model as timm builds it (ONNX Runtime folds its batch norms when it loads the
          file), fused that of `gemnet.fuse`. speed_up = plain ms / fused ms;
          per_mac = (ms / MACs) / (mobilenetv2_100's ms / its MACs).
rewrites  each rewrite on top of those that paid, taken when its ratio of times is at most 0.99.
profile   what each kind of operation takes of the fused gemnet_a: its share, how many microseconds one of them, and at
          what rate, beside that of a large 1x1 convolution and of a large matrix product alone. `without` gives the
          speed-up if parts were left out, outputs then being wrong: no rewrite of them can gain more.
widths    nets of the same cell and MACs whose widths are multiples of 8 and of 16.
"""

import dataclasses
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from timeit import repeat
from typing import Any

import click
import numpy as np
import onnxruntime
import timm
import torch
from macs import count_macs
from result import print_table, write_result
from threadpoolctl import threadpool_limits
from torch import nn

from gemnet import zoo
from gemnet.catalog import FAMILY, resolve
from gemnet.export.form import Form
from gemnet.export.latency import measure
from gemnet.export.onnx import save, trace
from gemnet.export.plan import choose_plan, runner
from gemnet.fold import fold_batch_norm
from gemnet.fuse import fuse
from gemnet.network import GemNet
from gemnet.scale import MACROS, solve
from gemnet.search.spaces.cells import CellSpace

REFERENCE = "mobilenetv2_100"
IMAGE = (3, 224, 224)
MACS = 240_000_000
RANDOM = ((8, "concat"), (16, "sum"), (30, "sum"))  # nodes and merge of random cells
PLANNED = ("gemnet_a", "gemnet_b", "random 8 concat")  # whose rewrites are tried one by one
KEPT = ("reference_macs", "rows", "rewrites", "profile", "bounds", "mmacs_per_ms", "widths")
DEPTHWISE = "depthwise convolution"
PEAK = (256, 28)  # channels and side of the convolution whose rate is the most that can be hoped for


def build(quick: bool, seed: int) -> dict[str, GemNet]:
    """The networks: registered ones, and random cells at 240 M MACs."""
    models = {name: timm.create_model(name).eval() for name in (("gemnet_a",) if quick else ("gemnet_a", "gemnet_b"))}
    for nodes, merge in () if quick else RANDOM:
        space = CellSpace(min_nodes=nodes, max_nodes=nodes)
        (cell,) = space.sample(1, np.random.default_rng([seed, nodes]))
        models[f"random {nodes} {merge}"] = GemNet(cell, solve(cell, "imagenet", MACS, merge)).eval()
    return models


def compare(models: Mapping[str, GemNet], runs: int) -> dict[str, Any]:
    """A row for each model. Ratios are medians over runs that took turns."""
    reference = timm.create_model(REFERENCE).eval()
    runners = {REFERENCE: runner(fold_batch_norm(reference), IMAGE)}
    for name, model in models.items():
        runners |= {f"{name} plain": runner(model, IMAGE), f"{name} fused": runner(fuse(model), IMAGE)}
    times = measure(runners, runs, warm=True)
    rows, image = [], torch.zeros(1, *IMAGE)
    reference_macs = count_macs(reference, image)
    for name, model in models.items():
        plain, fused, macs = times[f"{name} plain"], times[f"{name} fused"], count_macs(model, image)
        per_mac = reference_macs / macs
        rows.append(
            {"model": name, "macs": macs, "plain_ms": round(plain.p50_ms, 2), "fused_ms": round(fused.p50_ms, 2),
             "reference_ms": round(times[REFERENCE].p50_ms, 2), "speed_up": round(plain.ratio / fused.ratio, 3),
             "plain_per_mac": round(plain.ratio * per_mac, 3), "fused_per_mac": round(fused.ratio * per_mac, 3)}
        )  # fmt: skip
    return {"reference_macs": reference_macs, "rows": rows}


def try_rewrites(models: Mapping[str, GemNet], runs: int) -> dict[str, Any]:
    """What each rewrite gains or costs."""
    planned = [(name, models[name]) for name in PLANNED if name in models]
    rows = [{"model": name, **row} for name, model in planned for row in choose_plan(model, IMAGE, runs)[1]]
    return {"rewrites": rows}


def compare_widths(models: Mapping[str, GemNet], runs: int) -> dict[str, Any]:
    """The registered 224 px networks with widths that are multiples of 8 and of 16, fused."""
    reference = timm.create_model(REFERENCE).eval()
    runners, nets = {REFERENCE: runner(fold_batch_norm(reference), IMAGE)}, {}
    for name in (name for name in models if name in FAMILY):
        for divisor in (8, 16):
            form = dataclasses.replace(MACROS["imagenet"], divisor=divisor)
            net = solve(FAMILY[name].load(), form, FAMILY[name].macs)
            nets[name, divisor] = GemNet(resolve(name)[0], net).eval()
            runners[f"{name} {divisor}"] = runner(fuse(nets[name, divisor]), IMAGE)
    times, image = measure(runners, runs, warm=True), torch.zeros(1, *IMAGE)
    rows, reference_macs = [], count_macs(reference, image)
    for (name, divisor), model in nets.items():
        macs, time = count_macs(model, image), times[f"{name} {divisor}"]
        widths = "/".join(str(stage.node_chs) for stage in model.net.stages)
        rows.append({"model": name, "divisor": divisor, "widths": widths, "macs": macs, "ms": round(time.p50_ms, 2),
                     "per_mac": round(time.ratio * reference_macs / macs, 3)})  # fmt: skip
    return {"widths": rows}


def explain(models: Mapping[str, GemNet], runs: int) -> dict[str, Any]:
    """Where the fused gemnet_a's time goes, and how much of it any rewrite could save."""
    parts = profile(fuse(models["gemnet_a"]))
    whole = sum(part["ms"] for part in parts)
    conv = sum(part["ms"] for part in parts if part["mmacs_per_ms"])
    dense = sum(part["ms"] for part in parts if part["mmacs_per_ms"] and part["kind"] != DEPTHWISE)
    chans, side, n = *PEAK, 1024
    matrix = np.ones((n, n), np.float32)
    alone: dict[str, tuple[int, Callable[[], object]]] = {
        "large 1x1 convolution": (
            chans * chans * side * side, runner(nn.Conv2d(chans, chans, 1).eval(), (chans, side, side))
        ),
        "large matrix product": (n**3, lambda: matrix @ matrix),
    }  # fmt: skip
    with threadpool_limits(1):
        rates = {name: macs / 1e9 / min(repeat(run, number=1, repeat=runs)) for name, (macs, run) in alone.items()}
    return {
        "profile": parts,
        "bounds": [
            {"left_out": "all but convolutions and classifier", "speed_up": round(whole / conv, 3)},
            {"left_out": "these and depthwise convolutions", "speed_up": round(whole / dense, 3)},
        ],
        "mmacs_per_ms": {name: round(rate, 1) for name, rate in rates.items()},
    }


def profile(model: nn.Module) -> list[dict[str, Any]]:
    """Time of each kind of operation in one run, of each single one the least of all runs."""
    kinds: dict[str, dict[str, float]] = {}
    total: dict[str, list[float]] = {}
    facts: dict[str, tuple[str, int]] = {}
    for event in kernel_events(model):
        total.setdefault(event["name"], []).append(event["dur"] / 1000)
        facts[event["name"]] = kind_and_macs(event["args"])
    for name, times in total.items():
        kind, macs = facts[name]
        row = kinds.setdefault(kind, {"count": 0, "ms": 0.0, "mmacs": 0.0})
        row["count"] += 1
        row["ms"] += min(times)
        row["mmacs"] += macs / 1e6
    whole = sum(row["ms"] for row in kinds.values())
    return [
        {"kind": kind, "count": row["count"], "ms": round(row["ms"], 3), "share": round(row["ms"] / whole, 3),
         "us_each": round(1000 * row["ms"] / row["count"], 1), "mmacs_per_ms": round(row["mmacs"] / row["ms"], 1)}
        for kind, row in sorted(kinds.items(), key=lambda item: -item[1]["ms"])
    ]  # fmt: skip


def kernel_events(model: nn.Module, runs: int = 40) -> list[dict[str, Any]]:
    """What ONNX Runtime's profiler tells of each kernel."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        save(trace(model, Form(IMAGE)), path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level, options.enable_profiling = 3, True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: np.zeros((1, *IMAGE), np.float32)}
        for _ in range(runs):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return [event for event in events if event["name"].endswith("_kernel_time")]


def kind_and_macs(args: Mapping[str, Any]) -> tuple[str, int]:
    """What a kernel is, and its MACs with the channels that the runtime pads to its block."""
    (out,) = args["output_type_shape"][0].values()
    shapes = [next(iter(entry.values())) for entry in args["input_type_shape"]]
    if args["op_name"] == "Gemm":
        return "classifier", out[1] * shapes[0][1]
    if args["op_name"] != "Conv":
        return args["op_name"], 0
    _, chans, height, width = shapes[1]
    kind = "1x1 convolution" if height == 1 else DEPTHWISE if chans == 1 else "stem"
    return kind, chans * height * width * out[1] * out[2] * out[3]


PARTS: dict[str, Callable[[Mapping[str, GemNet], int], dict[str, Any]]] = {
    "models": compare, "rewrites": try_rewrites, "profile": explain, "widths": compare_widths,
}  # fmt: skip


@click.command()
@click.option("--part", multiple=True, type=click.Choice(PARTS), help="Tables to measure; all by default.")
@click.option("--quick", is_flag=True, help="gemnet_a alone, few runs.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
@click.option("--seed", default=0, show_default=True)
def main(part: tuple[str, ...], quick: bool, out: Path | None, as_json: bool, seed: int) -> None:
    """Measure and write zoo/results/fuse.json."""
    torch.set_num_threads(1)
    models, runs = build(quick, seed), 20 if quick else 60
    path = out or zoo.path("results", "fuse.json")
    old = json.loads(path.read_text(encoding="utf-8")) if part and path.is_file() else {}
    found = {name: old[name] for name in old if name in KEPT}
    for name in part or PARTS:
        new = PARTS[name](models, runs)
        found |= new
        for table in new.values():
            if isinstance(table, list):
                print_table(table)
    notes = {"reference": REFERENCE, "runs": runs, "target_macs": MACS, **found}
    result = write_result("fuse", seed, notes.pop("rows", []), path, **notes)
    if as_json:
        click.echo(json.dumps(result))


if __name__ == "__main__":
    main()
