"""How many queries every strategy needs to find a best architecture of a benchmark table.

    python benchmarks/query_efficiency.py nasbench201:cifar10.csv.gz ecnas:ecnas_4epochs.csv.gz [--quick]

Architectures that compute the same function are one query. Every run is kept in a journal as it ends, so a
stopped benchmark goes on where it was. Runs that find no best architecture are cut, and count as cut.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import torch
from result import print_table, write_result

from gemnet.search.benchmark import Report, Run, benchmark
from gemnet.search.table import load_table
from gemnet.search.trial import digest

ENCODER = {"form": "mlp", "dim": 64, "waves": 0, "decoder_width": 512, "lr": 3e-3, "steps": 1000}
STRATEGIES: dict[str, dict[str, Any]] = {
    "random": {"name": "random"},
    "evolution": {"name": "evolution"},
    "local, best neighbour": {"name": "local"},
    "local, first better": {"name": "local", "until": "first"},
    "local, first better, best of 5 starts": {"name": "local", "until": "first", "starts": 5},
    "nasgem": {"name": "nasgem"},
    "nasgem, five at a time": {"name": "nasgem", "finalists": 5},
    "nasgem, predicted mean": {"name": "nasgem", "acquisition": "mean"},
    "nasgem, gp-wl": {"name": "nasgem", "predictor": {"form": "gp-wl"}},
    "nasgem, gp-embedding": {"name": "nasgem", "predictor": {"form": "gp-embedding"}, "encoder": ENCODER},
    "nasgem, gp-embedding, no WL term": {"name": "nasgem", "predictor": {"form": "gp-embedding"},
                                         "encoder": ENCODER | {"alpha": 0.0}},
}  # fmt: skip
QUICK = ("random", "local, first better", "nasgem")
POINTS = (10, 20, 50, 100, 200, 400)  # queries after which the best so far is reported


@click.command()
@click.argument("tables", nargs=-1, required=True, metavar="TABLE...")
@click.option("--quick", is_flag=True, help="Three strategies, three seeds, 50 queries.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
@click.option("--seeds", default=100, show_default=True, help="Runs of each strategy, with the seeds 0, 1, ...")
@click.option("--queries", default=1000, show_default=True, help="At which a run is cut.")
@click.option("--only", multiple=True, type=click.Choice(list(STRATEGIES)), help="A strategy; may be given again.")
@click.option("--journal", type=click.Path(path_type=Path, dir_okay=False), default="query_efficiency.jsonl",
              show_default=True, help="Keeps the runs.")  # fmt: skip
@click.option("--kept", "kept_only", is_flag=True, help="Run nothing; leave out what the journal does not hold whole.")
def main(
    tables: tuple[str, ...], quick: bool, out: Path | None, as_json: bool, seeds: int, queries: int,
    only: tuple[str, ...], journal: Path, kept_only: bool,
) -> None:  # fmt: skip
    """Measure and write zoo/results/query_efficiency.json."""
    torch.set_num_threads(1)
    if quick:
        seeds, queries, only = 3, 50, only or QUICK
    rows = []
    for table in tables:
        for label in only or STRATEGIES:
            if kept_only and len(list(kept(journal, key_of(table, label, queries)))) < seeds:
                continue
            rows.append(figures(table, label, run(table, label, seeds, queries, journal)))
            click.echo(rows[-1], err=True)
    shown = [{k: v for k, v in row.items() if k not in ("settings", "mean_best")} for row in rows]
    print_table([{k: f"{v:g}" if isinstance(v, float) else v for k, v in row.items()} for row in shown])
    architectures = {table.partition(":")[0]: len(load_table(table).representatives) for table in tables}
    result = write_result("query_efficiency", 0, rows, out, seeds=seeds, architectures=architectures)
    if as_json:
        click.echo(json.dumps(result))


def run(table: str, label: str, seeds: int, queries: int, journal: Path) -> Report:
    """The report of one strategy, of runs from the journal and new ones, which are added to it."""
    key = key_of(table, label, queries)

    def keep(one: Run) -> None:
        with journal.open("a", encoding="utf-8") as file:
            row = {"key": key, "seed": one.seed, "queries": one.queries, "curve": one.curve}
            file.write("\n" + json.dumps(row))  # in front, so that a line which a kill cut short ends there

    return benchmark(table, STRATEGIES[label], seeds, queries, on_run=keep, known=list(kept(journal, key)))


def key_of(table: str, label: str, queries: int) -> str:
    """What tells the runs of one strategy on one table from all others."""
    return digest(load_table(table).fingerprint, STRATEGIES[label], queries)


def kept(journal: Path, key: str) -> Iterator[Run]:
    """The runs of a key that a journal holds; what is no JSON is no run."""
    for line in journal.read_text(encoding="utf-8").splitlines() if journal.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row["key"] == key:
            yield Run(row["seed"], row["queries"], tuple(row["curve"]))


def figures(table: str, label: str, report: Report) -> dict[str, Any]:
    """One strategy's row."""
    curve = report.curve
    return {
        "table": table.partition(":")[0], "strategy": label,
        **{name: round(value, 1) for name, value in report.summary.items()},
        "found": report.found, "cut": report.queries,
        "mean_best": {n: round(curve[n - 1], 5) for n in POINTS if n <= len(curve)},
        "settings": report.strategy,
    }  # fmt: skip


if __name__ == "__main__":
    main()
