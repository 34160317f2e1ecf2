"""Latency per MAC of forms of GEMNet at 240 M MACs, against timm's mobilenetv2_100.

    python benchmarks/latency_pilot.py [--quick]

Fixes merge, depths and in-degree cap before any search. ONNX Runtime, one thread, batch 1, batch norms
folded; each form is timed in turn with the reference, so that the ratio holds when the machine's speed
drifts. ratio = (form's median ms / its MACs) / (reference's median ms / its MACs).
"""

import dataclasses
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import timm
import torch
from macs import count_macs
from result import print_table, write_result

from gemnet.cell import Cell
from gemnet.cost import cost
from gemnet.errors import CellError
from gemnet.export.onnx import trace
from gemnet.export.verify import session
from gemnet.fold import fold_batch_norm
from gemnet.network import GemNet
from gemnet.scale import MACROS, solve
from gemnet.search.spaces.cells import CellSpace

MACS = 240_000_000
REFERENCE = "mobilenetv2_100"
IMAGE = (3, 224, 224)
LOOSE = dataclasses.replace(MACROS["imagenet"], least_widths=(8, 16, 16, 16), aim_op_nodes=130, divisor=8)
DEPTHS = ((1, 1, 1, 1), (1, 2, 2, 1), (1, 2, 3, 2), (1, 3, 6, 4))


@click.command()
@click.option("--quick", is_flag=True, help="Two forms, few runs.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
@click.option("--seed", default=0, show_default=True)
def main(quick: bool, out: Path | None, as_json: bool, seed: int) -> None:
    """Time the forms and write zoo/results/latency_pilot.json."""
    torch.set_num_threads(1)
    runs = 10 if quick else 40
    reference = timm.create_model(REFERENCE).eval()
    reference_macs = count_macs(reference, torch.zeros(1, *IMAGE))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        timed = load(reference, Path(folder))
        for nodes in (8,) if quick else (8, 16, 30):
            for cap in (4,) if quick else (2, 4):
                space = CellSpace(min_nodes=nodes, max_nodes=nodes, max_in_degree=cap)
                (cell,) = space.sample(1, np.random.default_rng([seed, nodes, cap]))
                for depths in DEPTHS[:1] if quick else DEPTHS:
                    for merge in ("sum", "concat"):
                        form = {"depths": "/".join(map(str, depths)), "merge": merge}
                        row: dict[str, Any] = {"nodes": nodes, "max_in_degree": cap, **form}
                        row |= measure(cell, depths, merge, timed, reference_macs, runs, Path(folder))
                        rows.append(row)
                        click.echo(row, err=True)
    print_table(rows)
    result = write_result("latency_pilot", seed, rows, out, reference=REFERENCE, reference_macs=reference_macs,
                          runs=runs, target_macs=MACS)  # fmt: skip
    if as_json:
        click.echo(json.dumps(result))


def measure(
    cell: Cell, depths: tuple[int, ...], merge: str, reference: Any, reference_macs: int, runs: int, folder: Path
) -> dict[str, Any]:
    """Widths, MACs, medians and ratio of one form; what refused it when it cannot be built."""
    empty = {"widths": "", "macs": 0, "ms": 0.0, "reference_ms": 0.0, "ratio": 0.0}
    try:
        net = solve(cell, dataclasses.replace(LOOSE, depths=(depths,)), MACS, merge)
    except CellError as error:
        return empty | {"note": str(error)}
    macs = cost(cell, net).macs
    form = load(GemNet(cell, net), folder)
    times = [(run(form), run(reference)) for _ in range(runs + 3)][3:]
    ms, reference_ms = (1000 * statistics.median(column) for column in zip(*times))
    ratio = (ms / macs) / (reference_ms / reference_macs)
    return {
        "widths": "/".join(str(stage.node_chs) for stage in net.stages), "macs": macs,
        "ms": round(ms, 2), "reference_ms": round(reference_ms, 2), "ratio": round(ratio, 3), "note": "",
    }  # fmt: skip


def load(model: torch.nn.Module, folder: Path) -> Any:
    """An ONNX Runtime session of a model."""
    path = folder / "model.onnx"
    trace(fold_batch_norm(model), path, IMAGE)
    return session(path)


def run(loaded: Any) -> float:
    """Seconds of one run."""
    feed = {loaded.get_inputs()[0].name: np.zeros((1, *IMAGE), np.float32)}
    start = time.perf_counter()
    loaded.run(None, feed)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
