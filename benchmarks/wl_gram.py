"""The WL Gram matrix of random cells of 30 nodes, against GraKeL.

    python benchmarks/wl_gram.py [--quick]

Undirected, three rounds, plain and normalised, which is what GraKeL's WeisfeilerLehman(n_iter=3,
VertexHistogram, normalize=True) gives. Both get graphs in their own form and are timed in turn, by processor
time, whose ratio holds when the machine is busy, and by the clock: with two threads (GraKeL with two jobs or with one,
whichever takes it less time by the clock) and with one. `least` are the quickest of all repeats, `iqr` the distance of
their quartiles; other figures are medians.
The largest matrix is made on one thread in a process of its own, whose peak memory is its whole resident set.
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
from gemnet.search.threads import torch_threads

Times = tuple[float, float]  # seconds of processor time and by the clock
SPACE = CellSpace(min_nodes=30)
ROUNDS = 3
SHOWN = {"cells", "threads", "gemnet_wall_ms", "gemnet_wall_ms_iqr", "grakel_jobs", "grakel_wall_ms",
         "grakel_wall_ms_iqr", "times_as_fast_cpu", "times_as_fast_wall", "largest_difference"}  # fmt: skip
THREADS = (2, 1)  # in the order of the rows; the last row is the one the tables show


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
    counts, repeats = ((200,), 2) if quick else ((500, 1000, 2000), 9)
    rows = [row for count in counts for row in compare(count, seed, repeats)]
    print_table([{name: value for name, value in row.items() if name in SHOWN} for row in rows])
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


def compare(count: int, seed: int, repeats: int) -> list[dict[str, Any]]:
    """Times of both, and how far their matrices differ: a row for each number of gemnet's threads."""
    graphs = sample(count, seed)
    theirs = grakel_graphs(graphs)
    wl.gram(graphs[:2])  # imports
    mine, grakel = ({threads: [] for threads in THREADS} for _ in range(2))
    for _ in range(repeats):
        for threads in THREADS:
            with torch_threads(threads):
                taken, expected = timed(lambda jobs=None if threads == 1 else threads: grakel_gram(theirs, jobs))
                grakel[threads].append(taken)
                for _ in range(4):
                    taken, ours = timed(lambda: wl.gram(graphs[:], ROUNDS, directed=False, form="plain"))
                    mine[threads].append(taken)
    difference = float(np.abs(ours - expected).max())
    allowed = {threads: {jobs: times for jobs, times in grakel.items() if jobs <= threads} for threads in THREADS}
    return [{"cells": count, "threads": threads, **figures(mine[threads], allowed[threads]),
             "largest_difference": difference} for threads in THREADS]  # fmt: skip


def figures(mine: list[Times], grakel: dict[int, list[Times]]) -> dict[str, Any]:
    """Medians, quickest and spread of both, GraKeL with the number of jobs that takes it least time."""
    medians = {jobs: statistics.median(wall for _, wall in times) for jobs, times in grakel.items()}
    jobs = min(medians, key=medians.__getitem__)
    row: dict[str, Any] = {"grakel_jobs": jobs}
    for k, clock in enumerate(("cpu", "wall")):
        us, them = ([1000 * taken[k] for taken in times] for times in (mine, grakel[jobs]))
        for name, times in (("gemnet", us), ("grakel", them)):
            low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
            row |= {f"{name}_{clock}_ms": middle, f"{name}_{clock}_ms_least": min(times),
                    f"{name}_{clock}_ms_iqr": high - low}  # fmt: skip
        row |= {f"times_as_fast_{clock}": statistics.median(them) / statistics.median(us),
                f"times_as_fast_{clock}_least": min(them) / min(us)}  # fmt: skip
    return row | {"grakel_wall_ms_of_jobs": {j: 1000 * median for j, median in medians.items()}}


def lone(count: int, seed: int) -> dict[str, Any]:
    """CPU time and peak resident memory of one matrix, and of the process before it."""
    graphs = sample(count, seed)
    with torch_threads(1):
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


def grakel_gram(graphs: list[Any], jobs: int | None) -> np.ndarray:
    """GraKeL's matrix, made by so many jobs of its own; None is its default."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from grakel.kernels import VertexHistogram, WeisfeilerLehman

        kernel = WeisfeilerLehman(jobs, n_iter=ROUNDS, base_graph_kernel=VertexHistogram, normalize=True)
        return np.asarray(kernel.fit_transform(graphs))


def timed(make: Callable[[], np.ndarray]) -> tuple[Times, np.ndarray]:
    """Processor seconds and seconds by the clock, and what was made."""
    cpu, wall = time.process_time(), time.perf_counter()
    made = make()
    return (time.process_time() - cpu, time.perf_counter() - wall), made


def peak_mb() -> float:
    """Largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main()
