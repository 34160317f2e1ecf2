"""How long a large study takes to look at.

    python benchmarks/study_size.py [--quick]

A random search of 10,000 cells with made-up accuracies; the commands are timed as they are called, the start of
Python included. `check` is what every command reads before it answers: all rows, with their checksums.
"""

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from fault_cases import gemnet_search
from result import print_table, write_result

from gemnet.search.compose import compose
from gemnet.search.journal import Journal
from gemnet.search.study import Study

REPEATS = 3


@click.command()
@click.option("--quick", is_flag=True, help="500 trials.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
def main(quick: bool, out: Path | None, as_json: bool) -> None:
    """Write zoo/results/study_size.json."""
    trials = 500 if quick else 10_000
    sections: dict[str, Any] = {
        "data": {"name": "none"}, "space": {"name": "cells"}, "evaluator": {"name": "synthetic"},
        "strategy": {"name": "random", "samples": trials},
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="gemnet-") as folder:
        study, page = Path(folder) / "study", Path(folder) / "report.html"
        start = time.perf_counter()
        with Study.create(study, compose(sections)) as made:
            made.run()
        search_s = time.perf_counter() - start
        row = {
            "trials": trials, "search_s": round(search_s, 1),
            "journal_mb": round((study / "journal.db").stat().st_size / 1e6, 1),
            "check_s": checked(study / "journal.db"), "status_s": told("status", study),
            "report_s": told("report", study, "--out", page), "report_mb": round(page.stat().st_size / 1e6, 1),
        }  # fmt: skip
    print_table([row])
    result = write_result("study_size", 0, [row], out)
    if as_json:
        click.echo(json.dumps(result))


def checked(journal: Path) -> float:
    """Seconds to open a journal, the least of a few."""
    took = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        Journal.open(journal, read_only=True).close()
        took.append(time.perf_counter() - start)
    return round(min(took), 2)


def told(*words: str | Path) -> float:
    """Seconds of a command, the least of a few."""
    took = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run(gemnet_search(*map(str, words)), check=True, capture_output=True)
        took.append(time.perf_counter() - start)
    return round(min(took), 2)


if __name__ == "__main__":
    main()
