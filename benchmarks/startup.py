"""What `gemnet plugin enable` costs a Python that never imports timm.

    python benchmarks/startup.py [--quick]

`python -c pass` in fresh environments that take turns in random order: one without the plugin (the reference) and
again one without (what remains is noise), one whose `.pth` file does nothing, one whose `.pth` file arms a hook on
imports that does nothing (what no plugin can go below), and one with the plugin enabled. extra_ms is the median of the
differences to the reference's run of the same round, low_ms and high_ms its 95 % interval by bootstrap; iqr_ms is the
spread of single starts, slower the share of rounds in which this start took longer than the reference's.
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
HOOK = "import sys; sys.meta_path.insert(0, type(sys.implementation)(find_spec=lambda *name: None))\n"
PTH = {
    REFERENCE: None, "without, again": None, "a line that does nothing": "import sys\n",
    "a hook that does nothing": HOOK,
}  # fmt: skip
ENABLED = "plugin enabled"
ENVIRONMENTS = (*PTH, ENABLED)


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
    if name == ENABLED:
        plugin.enable(site)
    elif line := PTH[name]:
        (site / "other.pth").write_text(line)
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
        "iqr_ms": round(float(np.subtract(*np.percentile(times, [75, 25]))), 2),
        "slower": round(float((extra > 0).mean()), 3),
    }  # fmt: skip


if __name__ == "__main__":
    main()
