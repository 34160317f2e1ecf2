"""What workers gain, and what journal and workers cost.

    python benchmarks/workers.py [--quick]

Speed-up: the demo's measuring phase with one worker and with two. Cost: what a trial takes whose measurement takes no
time, as a share of one of 30 s. Both want a machine with two idle processors.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from result import print_table, write_result

from gemnet.search import presets
from gemnet.search.compose import compose
from gemnet.search.study import Study

TRIAL_S = 30.0


@click.command()
@click.option("--quick", is_flag=True, help="Fewer trials.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
def main(quick: bool, out: Path | None, as_json: bool) -> None:
    """Write zoo/results/workers.json."""
    demo = presets.load("demo")
    samples = 4 if quick else int(demo["strategy"]["samples"])
    trained = demo | {"strategy": {"name": "random", "samples": samples}}
    nothing = trained | {"evaluator": {"name": "synthetic"}, "strategy": {"name": "random", "samples": 300}}
    rows = []
    for workers in (1, 2):
        took_s = measured(trained, workers)
        overhead_s = measured(nothing, workers, started=True) / 300
        rows.append({"workers": workers, "trials": samples, "measuring_s": round(took_s, 1),
                     "speed_up": rows[0]["measuring_s"] / took_s if rows else 1.0,
                     "overhead_ms": 1e3 * overhead_s, "overhead_share": overhead_s / TRIAL_S})  # fmt: skip
    print_table(rows)
    result = write_result("workers", 0, rows, out, trial_s=TRIAL_S)
    if as_json:
        click.echo(json.dumps(result))


def measured(sections: dict[str, Any], workers: int, started: bool = False) -> float:
    """Seconds of a search's measuring phase, the start of the workers included unless they run already."""
    with (
        tempfile.TemporaryDirectory(prefix="gemnet-") as folder,
        Study.create(Path(folder) / "study", compose(sections), workers=workers) as study,
    ):
        archs = study.space.sample(sections["strategy"]["samples"], study.rng("sample"))
        if started:
            study.evaluate("first", study.space.sample(2 * workers, study.rng("first")))
        start = time.perf_counter()
        study.evaluate("measured", archs)
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
