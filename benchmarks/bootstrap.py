"""Candidates per second of the bootstrap, against the same steps done graph by graph.

    python benchmarks/bootstrap.py [--quick]

Every candidate is sampled, deduplicated, held against a limit of MACs that half of the cells keep, embedded
and ranked. The encoder is briefly trained (its speed does not depend on that), the predictor fitted on 200
cells and a formula: "gp-all", which looks at the embedding, the WL kernel and the path traits, and at the
largest count also "combined", the default, which looks at no embedding.

Graph by graph is what is written without batches: a networkx graph drawn node by node, its networkx WL hash,
the cost of its cell, then embedding and prediction of that one graph. The second form embeds and predicts 128
graphs at a time; the third has this project's parts on one cell at a time. All have one thread.
`times_as_fast` is the ratio of `cells_per_s`, by the clock, from the start of the processes on, to the first
form; `times_as_fast_cpu` that of the candidates per second of processor time of all processes together.

0 workers means that the driver does everything. Memory is looked at every quarter second, for the driver and
its workers together: `pss_mb` counts a shared page once (proportional set size), `private_mb` not at all
(resident less shared). The driver holds what it trained the encoder with, torch among it.
"""

import json
import os
import resource
import statistics
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from result import print_table, write_result

from gemnet.cell import Cell
from gemnet.config import NetConfig, Stage
from gemnet.cost import Cost, cost
from gemnet.search import wl
from gemnet.search.bootstrap import Portable, top_candidates
from gemnet.search.learning import EncoderSettings, PredictorSettings
from gemnet.search.limits import CostLimits
from gemnet.search.objective import Objective
from gemnet.search.predictor import build_predictor
from gemnet.search.spaces.cells import CellSpace

SPACES = {"8-30 nodes": CellSpace(), "30 nodes": CellSpace(min_nodes=30)}
NET = NetConfig(16, (Stage(1, 16, 32, 1), Stage(1, 32, 64, 2), Stage(1, 64, 128, 2)), 128, 1)
BEST = 10
Step = Callable[[CellSpace, Portable, CostLimits, np.random.Generator, int], None]


@dataclass(frozen=True)
class Proxy:
    """Costs of the proxy network at fixed widths."""

    def cost(self, cell: Cell) -> Cost:
        return cost(cell, NET, 32, 3, 10)


@click.command()
@click.option("--quick", is_flag=True, help="A few thousand candidates.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
@click.option("--seed", default=0, show_default=True)
@click.option("--workers", default=2, show_default=True)
def main(quick: bool, out: Path | None, as_json: bool, seed: int, workers: int) -> None:
    """Time the bootstrap and write zoo/results/bootstrap.json."""
    counts = (2000, 8000) if quick else (10_000, 100_000, 1_000_000)
    rows: list[dict[str, Any]] = []
    for name, space in list(SPACES.items())[: 1 if quick else 2]:
        found = []
        every, default = fitted(space, seed, 20 if quick else 200)
        limits = half_of(space, seed)
        for how, step in STEPS.items():
            figures = alone(step, space, every, limits, seed, 128 if quick else 512)
            found.append({"space": name, "how": how, "predictor": every.settings.form, **figures})
            click.echo(found[-1], err=True)
        runs = [*((every, count, 0) for count in counts[:2]), *((every, count, workers) for count in counts)]
        for predict, count, crew in [*runs, (default, counts[-1], workers)]:
            figures = stream(space, predict, limits, seed, count, crew)
            how = f"bootstrap, {crew} workers"
            found.append({"space": name, "how": how, "predictor": predict.settings.form, **figures})
            click.echo(found[-1], err=True)
        rows += [row | faster(row, found[0]) for row in found]
    print_table(rows)
    shares = {name: doubles(space, seed, counts[-1]) for name, space in SPACES.items()}
    result = write_result("bootstrap", seed, rows, out, kept=BEST, share_of_doubles=shares)
    if as_json:
        click.echo(json.dumps(result))


def fitted(space: CellSpace, seed: int, steps: int) -> list[Portable]:
    """The predictor that looks at everything, and the default one, fitted on 200 graphs and a formula."""
    from gemnet.search.embedding import train_encoder  # here, since workers import this file, and need no torch

    encoder = train_encoder(space, EncoderSettings(steps=steps), seed)
    graphs, made = space.sample_batch(200, generator(seed, 1)), []
    for settings in (PredictorSettings("gp-all"), PredictorSettings()):
        predictor = build_predictor(settings, encoder, seed)
        predictor.fit(graphs, graphs.in_degree.mean(1) - graphs.leaves.mean(1))
        made.append(Portable(predictor, settings, encoder, seed))
    return made


def half_of(space: CellSpace, seed: int) -> CostLimits:
    """A limit of MACs that half of the space's cells keep."""
    macs = [Proxy().cost(cell).macs for cell in space.sample(101, generator(seed, 2))]
    return CostLimits(Objective(max_macs=int(statistics.median(macs))), Proxy(), space)


def stream(
    space: CellSpace, predict: Portable, limits: CostLimits, seed: int, count: int, workers: int
) -> dict[str, Any]:
    """Figures of one bootstrap over `count` candidates."""
    with Memory() as memory:
        cpu, start = cpu_s(), time.perf_counter()
        best = top_candidates(space, predict, generator(seed, 3), count, BEST, limits=limits, workers=workers)
        wall_s, used_s = time.perf_counter() - start, cpu_s() - cpu
    assert limits(best.graphs).all()
    return rates(count, wall_s, used_s) | memory.peak_mb


def alone(step: Step, space: CellSpace, predict: Portable, limits: CostLimits, seed: int, count: int) -> dict[str, Any]:
    """Figures of `count` candidates taken graph by graph."""
    step(space, predict, limits, generator(seed, 4), 32)  # imports and first calls
    with Memory() as memory:
        cpu, start = cpu_s(), time.perf_counter()
        step(space, predict, limits, generator(seed, 5), count)
        wall_s, used_s = time.perf_counter() - start, cpu_s() - cpu
    return rates(count, wall_s, used_s) | memory.peak_mb


def one_cell(space: CellSpace, predict: Portable, limits: CostLimits, rng: np.random.Generator, count: int) -> None:
    """The steps with this project's parts, one cell at a time."""
    seen, ranked = set(), []
    for _ in range(count):
        (cell,) = space.sample(1, rng)
        if cell.key in seen or Proxy().cost(cell).macs > limits_macs(limits):
            continue
        seen.add(cell.key)
        ranked.append((float(predict(space.batch([cell]))[0][0]), cell.key))
    sorted(ranked, reverse=True)[:BEST]


def networkx_graphs(
    space: CellSpace, predict: Portable, limits: CostLimits, rng: np.random.Generator, count: int, at_once: int = 1
) -> None:
    """The steps with networkx graphs, embedded and ranked `at_once` at a time."""
    import networkx as nx

    warnings.filterwarnings("ignore", message="The hashes produced for directed graphs changed")
    seen, waiting, scores = set(), [], []
    for k in range(count):
        graph = draw_networkx(space, rng)
        key = nx.weisfeiler_lehman_graph_hash(graph, node_attr="op", iterations=wl.HASH_ROUNDS)
        cell = Cell(tuple(op for _, op in graph.nodes(data="op")), tuple(graph.edges))
        if key not in seen and Proxy().cost(cell).macs <= limits_macs(limits):
            seen.add(key)
            waiting.append(cell)
        if waiting and (len(waiting) == at_once or k == count - 1):
            scores += predict(space.batch(waiting))[0].tolist()
            waiting = []
    sorted(scores, reverse=True)[:BEST]


def draw_networkx(space: CellSpace, rng: np.random.Generator) -> Any:
    """A random cell of the space, drawn node by node."""
    import networkx as nx

    graph = nx.DiGraph()
    graph.add_node(0, op=space.vocabulary[0])
    for j in range(1, int(rng.integers(space.min_nodes, space.max_nodes + 1))):
        graph.add_node(j, op=space.ops[rng.integers(len(space.ops))])
        degree = int(rng.integers(1, min(space.max_in_degree, j) + 1))
        graph.add_edges_from((int(i), j) for i in rng.choice(j, degree, replace=False))
    return graph


STEPS: dict[str, Step] = {
    "networkx, graph by graph": networkx_graphs,
    "networkx, batches of 128": partial(networkx_graphs, at_once=128),
    "one cell at a time": one_cell,
}


def doubles(space: CellSpace, seed: int, count: int) -> float:
    """Which share of `count` candidates has the WL hash of an earlier one, all blocks together."""
    rng = generator(seed, 6)
    hashes = [wl.graph_hash(space.sample_batch(min(4096, count - k), rng)) for k in range(0, count, 4096)]
    return (count - len(np.unique(np.concatenate(hashes)))) / count


def limits_macs(limits: CostLimits) -> int:
    """The limit as a number."""
    return int(limits.text.split("=")[1])


def faster(row: dict[str, Any], base: dict[str, Any]) -> dict[str, float]:
    """How many times as fast as another row, by the clock and by processor time."""
    return {
        "times_as_fast": row["cells_per_s"] / base["cells_per_s"],
        "times_as_fast_cpu": row["cells_per_cpu_s"] / base["cells_per_cpu_s"],
    }


def rates(count: int, wall_s: float, used_s: float) -> dict[str, Any]:
    """Times and rates of a run."""
    return {"candidates": count, "wall_s": round(wall_s, 2), "cpu_s": round(used_s, 2), "cells_per_s": count / wall_s,
            "cells_per_cpu_s": count / used_s}  # fmt: skip


def generator(seed: int, use: int) -> np.random.Generator:
    """A generator of its own for each use."""
    return np.random.Generator(np.random.Philox(key=[seed, use]))


def cpu_s() -> float:
    """Processor time of this process and of all that it has ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in used)


class Memory:
    """Within it, watches the memory of this process and its children; `peak_mb` is the most of each kind."""

    def __init__(self) -> None:
        self.peak_mb, self._done = {"pss_mb": 0.0, "private_mb": 0.0}, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            pids = [os.getpid(), *map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())]
            now = [resident_mb(pid) for pid in pids]
            for k, kind in enumerate(self.peak_mb):
                self.peak_mb[kind] = max(self.peak_mb[kind], round(sum(pair[k] for pair in now)))
            if self._done.wait(0.25):
                return


def resident_mb(pid: int) -> tuple[float, float]:
    """Memory of a process: shared pages divided among those who share them, and without these; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return 0.0, 0.0
    kb = {name: float(value.split()[0]) for name, value in (line.split(":") for line in lines)}
    return kb["Pss"] / 1e3, (kb["Private_Clean"] + kb["Private_Dirty"]) / 1e3


if __name__ == "__main__":
    main()
