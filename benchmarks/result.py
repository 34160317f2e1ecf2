"""How a benchmark's figures are kept: one JSON file that says what made them."""

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gemnet import zoo
from gemnet.durable import write_atomic
from gemnet.machine import gpus, system, versions

SCHEMA = "gemnet.result/1"
LIBRARIES = ("torch", "timm", "onnxruntime", "numpy")


def write_result(
    name: str, seed: int, rows: Sequence[Mapping[str, Any]], out: Path | None, **notes: Any
) -> dict[str, Any]:
    """Writes `zoo/results/NAME.json` (or `out`) and returns what it holds.

    Args:
        name: of the benchmark.
        seed: what its randomness came from.
        rows: its figures.
        out: another file.
        notes: anything else that is needed to read the figures.
    """
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *map(_portable, sys.argv[1:])])
    result = {
        "schema": SCHEMA, "name": name, "command": command, "seed": seed,
        "versions": versions(LIBRARIES), "hardware": {**system(), "cpus": os.cpu_count(), **gpus()},
        **notes, "rows": list(rows),
    }  # fmt: skip
    path = out or zoo.path("results", f"{name}.json")
    write_atomic(path, json.dumps(result, indent=1) + "\n")
    return result


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints rows under their first row's names."""
    table = [list(rows[0]), *([f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows)]
    widths = [max(len(line[k]) for line in table) for k in range(len(table[0]))]
    for line in table:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip())


def _portable(argument: str) -> str:
    """An argument without the folders of one machine."""
    return Path(argument).name if os.path.isabs(argument) else argument
