"""What the registered models cost and how long they take, beside a well-known network.

    python benchmarks/models.py

Latency is of ONNX Runtime, fp32, one image, one thread; the models run in turn. Weights do not change it.
"""

import json
from pathlib import Path

import click
from result import print_table, write_result

from gemnet.catalog import FAMILY
from gemnet.cost import cost
from gemnet.export.bench import bench_models
from gemnet.scale import MACROS

REFERENCE = "timm:mobilenetv2_100"


@click.command()
@click.option("--runs", type=click.IntRange(5), default=60, show_default=True, help="Of each model.")
@click.option("--quick", is_flag=True, help="Few runs.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
def main(runs: int, quick: bool, out: Path | None, as_json: bool) -> None:
    """Write zoo/results/models.json."""
    names = [REFERENCE, *FAMILY]
    timed = bench_models(names, ("onnxruntime",), 1, 1, 5 if quick else runs, 120, False)
    times = {row["model"]: row for row in timed["rows"]}
    rows = []
    for name, variant in FAMILY.items():
        form, cell = MACROS[variant.macro], variant.load()
        price = cost(cell, variant.net(), form.img_size, 3, form.num_classes)
        rows.append({
            "model": name, "cell": variant.cell, "cell_key": cell.key, "img_size": form.img_size,
            "num_classes": form.num_classes, **vars(price),
            **{key: times[name][key] for key in ("p50_ms", "p90_ms", "iqr_ms", "ratio", "runs", "peak_memory_mb")},
        })  # fmt: skip
    print_table(rows)
    reference = {"model": REFERENCE.partition(":")[2], "p50_ms": times[REFERENCE]["p50_ms"]}
    result = write_result("models", 0, rows, out, reference=reference, busy=timed["machine"]["busy"])
    if as_json:
        click.echo(json.dumps(result))


if __name__ == "__main__":
    main()
