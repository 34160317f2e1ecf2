"""The WL Gram matrix of random cells of 30 nodes, against GraKeL.

    python benchmarks/wl_gram.py [--quick]

Undirected, three rounds, plain and normalised, which is what GraKeL's WeisfeilerLehman(n_iter=3,
VertexHistogram, normalize=True) gives. Both get graphs in their own form and one thread, and are timed in
turn, by processor time, whose ratio holds when the machine is busy, and by the clock. `least` are the
quickest of all repeats; other figures are medians. The largest matrix is made in a process of its own,
whose peak memory is its whole resident set.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from result import print_table, write_result

from gemnet.search import wl
from gemnet.search.graphs import GraphBatch
from gemnet.search.spaces.cells import CellSpace

SPACE = CellSpace(min_nodes=30)
ROUNDS = 3


@click.command()
@click.option("--quick", is_flag=True, help="200 and 1,000 cells, two repeats.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
@click.option("--seed", default=0, show_default=True)
@click.option("--alone", type=int, hidden=True, help="Only make one matrix of so many cells and print its figures.")
def main(quick: bool, out: Path | None, as_json: bool, seed: int, alone: int | None) -> None:
    """Time both and write zoo/results/wl_gram.json."""
    if alone is not None:
        click.echo(json.dumps(lone(alone, seed)))
        return
    rows = [compare(count, seed, 2 if quick else 5) for count in ((200,) if quick else (500, 1000, 2000))]
    print_table(rows)
    command = [sys.executable, __file__, "--seed", str(seed), "--alone", "1000" if quick else "10000"]
    large = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    print_table([large])
    notes = {"nodes": 30, "rounds_of_labels": ROUNDS, "large": large}
    result = write_result("wl_gram", seed, rows, out, **notes)
    if as_json:
        click.echo(json.dumps(result))


def sample(count: int, seed: int) -> GraphBatch:
    """Random cells of 30 nodes."""
    return SPACE.sample_batch(count, np.random.Generator(np.random.Philox(key=[seed, count])))


def compare(count: int, seed: int, repeats: int) -> dict[str, Any]:
    """Median times of both, and how far their matrices differ."""
    graphs = sample(count, seed)
    theirs = grakel_graphs(graphs)
    wl.gram(graphs[:2])  # imports
    mine, grakel, ours, expected = [], [], np.empty(0), np.empty(0)
    for _ in range(repeats):
        taken, expected = timed(lambda: grakel_gram(theirs))
        grakel.append(taken)
        for _ in range(4):
            taken, ours = timed(lambda: wl.gram(graphs[:], ROUNDS, directed=False, form="plain"))
            mine.append(taken)
    row: dict[str, Any] = {"cells": count}
    for k, clock in enumerate(("cpu", "wall")):
        us, them = ([1000 * taken[k] for taken in times] for times in (mine, grakel))
        row |= {f"gemnet_{clock}_ms": statistics.median(us), f"gemnet_{clock}_ms_least": min(us),
                f"grakel_{clock}_ms": statistics.median(them), f"grakel_{clock}_ms_least": min(them),
                f"times_as_fast_{clock}": statistics.median(them) / statistics.median(us),
                f"times_as_fast_{clock}_least": min(them) / min(us)}  # fmt: skip
    return row | {"largest_difference": float(np.abs(ours - expected).max())}


def lone(count: int, seed: int) -> dict[str, Any]:
    """CPU time and peak resident memory of one matrix, and of the process before it."""
    graphs = sample(count, seed)
    wl.gram(graphs[:2])  # imports
    before_mb = peak_mb()
    (taken, _), matrix = timed(lambda: wl.gram(graphs, ROUNDS, directed=False, form="plain"))
    return {"cells": count, "cpu_s": taken, "matrix_mb": matrix.nbytes / 1e6, "before_mb": before_mb,
            "peak_mb": peak_mb()}  # fmt: skip


def grakel_graphs(graphs: GraphBatch) -> list[Any]:
    """The cells as GraKeL's graphs."""
    from grakel import Graph

    return [
        Graph({pair: 1 for i, j in cell.edges for pair in ((i, j), (j, i))}, node_labels=dict(enumerate(cell.ops)))
        for cell in graphs.cells()
    ]


def grakel_gram(graphs: list[Any]) -> np.ndarray:
    """GraKeL's matrix."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from grakel.kernels import VertexHistogram, WeisfeilerLehman

        kernel = WeisfeilerLehman(n_iter=ROUNDS, base_graph_kernel=VertexHistogram, normalize=True)
        return np.asarray(kernel.fit_transform(graphs))


def timed(make: Callable[[], np.ndarray]) -> tuple[tuple[float, float], np.ndarray]:
    """Processor seconds and seconds by the clock, and what was made."""
    cpu, wall = time.process_time(), time.perf_counter()
    made = make()
    return (time.process_time() - cpu, time.perf_counter() - wall), made


def peak_mb() -> float:
    """Largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main()
