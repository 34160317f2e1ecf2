"""What `gemnet plugin enable` costs a Python that never imports timm.

    python benchmarks/startup.py [--quick]

`python -c pass` in fresh environments that take turns in random order: one without the plugin (the reference) and
again one without (what remains is noise), one with a `.pth` file that does nothing, and one with the plugin enabled.
extra_ms is the median of the differences to the reference's run of the same round, low_ms and high_ms its 95 %
interval by bootstrap.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from result import print_table, write_result
from scipy.stats import bootstrap

from gemnet import plugin

REFERENCE = "without"
ENVIRONMENTS = (REFERENCE, "without, again", "empty .pth file", "plugin enabled")
NOTHING = "import sys\n"


@click.command()
@click.option("--quick", is_flag=True, help="Few rounds.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
@click.option("--seed", default=0, show_default=True)
def main(quick: bool, out: Path | None, as_json: bool, seed: int) -> None:
    """Measure and write zoo/results/startup.json."""
    rounds, rng = 20 if quick else 400, np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        pythons = {name: create(Path(folder) / str(k), name) for k, name in enumerate(ENVIRONMENTS)}
        times = {name: np.zeros(rounds) for name in pythons}
        for k in range(-5, rounds):  # the first rounds are not counted
            for name in rng.permutation(ENVIRONMENTS):
                times[name][max(k, 0)] = start_ms(pythons[name])
    rows = [summary(name, times[name], times[REFERENCE], rng) for name in ENVIRONMENTS]
    print_table(rows)
    result = write_result("startup", seed, rows, out, rounds=rounds)
    if as_json:
        click.echo(json.dumps(result))


def create(folder: Path, name: str) -> Path:
    """A fresh environment's Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = (folder / "lib").glob("python*/site-packages")
    if name == ENVIRONMENTS[2]:
        (site / "nothing.pth").write_text(NOTHING)
    elif name == ENVIRONMENTS[3]:
        plugin.enable(site)
    return folder / "bin" / "python"


def start_ms(python: Path) -> float:
    """How long a program takes that does nothing."""
    begin = time.perf_counter()
    subprocess.run([python, "-c", "pass"], check=True, env={})
    return 1000 * (time.perf_counter() - begin)


def summary(name: str, times: "np.ndarray[Any, Any]", reference: "np.ndarray[Any, Any]", rng: Any) -> dict[str, Any]:
    """One environment's row."""
    extra = times - reference
    low, high = (0.0, 0.0)
    if name != REFERENCE:
        low, high = bootstrap((extra,), np.median, n_resamples=2000, method="percentile", rng=rng).confidence_interval
    return {
        "environment": name, "p50_ms": round(float(np.median(times)), 2), "extra_ms": round(float(np.median(extra)), 2),
        "low_ms": round(float(low), 2), "high_ms": round(float(high), 2),
    }  # fmt: skip


if __name__ == "__main__":
    main()
