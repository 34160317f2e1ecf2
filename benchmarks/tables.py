"""Renders the tables of README.md and MODEL_CARD.md from zoo/results and the zoo's cells.

    python benchmarks/tables.py [--check]

A table stands between `<!-- table: NAME -->` and `<!-- /table -->`.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import click

from gemnet import zoo
from gemnet.catalog import FAMILY, cell_notes
from gemnet.cost import cost
from gemnet.scale import MACROS

ROOT = Path(__file__).resolve().parents[1]
FILES = ("README.md", "MODEL_CARD.md")
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- /table -->)", re.DOTALL)


def models() -> list[str]:
    """The registered models with what they cost."""
    rows = ["| model | image | classes | params (M) | MACs (M) | cell |", "|---|---|---|---|---|---|"]
    for name, variant in FAMILY.items():
        form = MACROS[variant.macro]
        price = cost(variant.load(), variant.net(), form.img_size, 3, form.num_classes)
        provisional = " (provisional)" if cell_notes(name).get("provisional") else ""
        rows.append(f"| `{name}` | {form.img_size} px | {form.num_classes} | {price.params / 1e6:.2f} | "
                    f"{price.macs / 1e6:.1f} | `{variant.cell}`{provisional} |")  # fmt: skip
    return rows


def search() -> list[str]:
    """The search that found the cells."""
    result = read("search_cifar10_small")
    s, strategy = result["summary"], result["settings"]["strategy"]
    what = (
        f"Search on {result['data']}, preset `{result['preset']}`, seed {result['seed']}: {s['samples']} random cells "
        f"and {s['finalists']} finalists trained on {result['train_images']:,} images, {s['candidates']:,} candidates "
        f"ranked (encoder `{strategy['encoder']['form']}`, predictor `{strategy['predictor']['form']}`, the defaults "
        f"then), {s['hours']:.1f} h on {result['hardware']['cpus']} processors ({result['hardware']['model']})."
    )
    tau = (
        f"Kendall tau of predicted against measured scores: {s['tau_cross_validated']:.2f} "
        f"({s['folds']}-fold over the random cells)."
    )
    how = "a random one" if s["found_by"] == "random" else "chosen by the predictor"
    return [
        what,
        "",
        "| | validation accuracy | MACs of the proxy net (M) |",
        "|---|---|---|",
        f"| found cell ({how}) | {100 * s['best_val_acc']:.2f} % | {s['best_macs'] / 1e6:.2f} |",
        f"| best random cell | {100 * s['best_random_val_acc']:.2f} % | {s['best_random_macs'] / 1e6:.2f} |",
        f"| median random cell | {100 * s['median_random_val_acc']:.2f} % | {s['median_random_macs'] / 1e6:.2f} |",
        f"| median finalist | {100 * s['median_finalist_val_acc']:.2f} % | {s['median_finalist_macs'] / 1e6:.2f} |",
        "",
        tau,
    ]


def queries() -> list[str]:
    """How many architectures each strategy measures until it has a best one."""
    result = read("query_efficiency")
    names = [name for name in result["architectures"] if any(row["table"] == name for row in result["rows"])]
    rows = heading("strategy", *(f"{name}: mean, median (found)" for name in names))
    for strategy in dict.fromkeys(row["strategy"] for row in result["rows"]):
        found = {row["table"]: row for row in result["rows"] if row["strategy"] == strategy}
        cells = []
        for row in map(found.get, names):
            counts = f"{row['mean']:.1f} ± {row['mean_error']:.1f}, {row['median']:g}" if row else ""
            cells.append(f"{counts} ({100 * row['found']:.0f} %)" if row else "not run")
        rows.append(f"| {strategy} | {' | '.join(cells)} |")
    return rows


def tau() -> list[str]:
    """Kendall's tau of every predictor."""
    result = read("predictor_tau")
    sizes = list(dict.fromkeys(row["cells"] for row in result["rows"]))
    found = {(row["predictor"], row["embedding"], row["cells"]): row["tau"] for row in result["rows"]}
    rows = heading("predictor", "embedding", *(f"{size} cells" for size in sizes))
    for form, embedding in dict.fromkeys((form, embedding) for form, embedding, _ in found):
        taus = " | ".join(f"{found[form, embedding, size]:.3f}" for size in sizes)
        rows.append(f"| `{form}` | {embedding} | {taus} |")
    return rows


def encoder() -> list[str]:
    """How well each encoder keeps WL similarity, and its decoder the graph."""
    result = read("encoder")
    rows = heading("encoder", "random pairs", "edited pairs", "edge F1", "exact")
    by_form: dict[str, dict[str, dict[str, Any]]] = {}
    for row in result["rows"]:
        by_form.setdefault(row["form"], {})[row["cells"]] = row
    for form, both in by_form.items():
        cells = [" / ".join(f"{row[name]:.3f}" for row in both.values() if row[name] is not None)
                 for name in ("random", "edited", "edge_f1", "exact_rate")]  # fmt: skip
        rows.append(f"| {form} | {' | '.join(cell or '-' for cell in cells)} |")
    return rows


def engine() -> list[str]:
    """What the graph engine does in a second."""
    result, gram = read("bootstrap"), read("wl_gram")
    rows = heading("a million candidates of", "predictor", "cells/s", "times graph by graph", "memory (MB)")
    for r in result["rows"]:
        if r["candidates"] == 1_000_000:
            rows.append(f"| {r['space']} | `{r['predictor']}` | {r['cells_per_s']:,.0f} | {r['times_as_fast']:.0f} | "
                        f"{r['pss_mb']:,.0f} |")  # fmt: skip
    r = gram["rows"][-1]
    text = (
        f"The WL Gram matrix of {r['cells']:,} cells of {gram['nodes']} nodes takes {r['gemnet_wall_ms']:.0f} ms, "
        f"GraKeL's {r['grakel_wall_ms']:,.0f} ms on the same thread ({r['times_as_fast_wall']:.0f} times as long); "
        f"they differ by {r['largest_difference']:.1e} at most."
    )
    return [*rows, "", text]


def heading(*names: str) -> list[str]:
    """The first two lines of a table."""
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]


def read(name: str) -> dict[str, Any]:
    """A published result."""
    found: dict[str, Any] = json.loads(zoo.path("results", f"{name}.json").read_text(encoding="utf-8"))
    return found


TABLES = {"models": models, "search": search, "queries": queries, "tau": tau, "encoder": encoder, "engine": engine}


def render(text: str) -> str:
    """The text with every table rendered anew."""
    return MARKED.sub(lambda m: f"{m[1]}{chr(10).join(TABLES[m[2]]())}\n{m[3]}", text)


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; fail when a file is stale.")
def main(check: bool) -> None:
    """Render the tables."""
    for name in FILES:
        old = (ROOT / name).read_text(encoding="utf-8")
        new = render(old)
        if new != old and check:
            sys.exit(f"{name} is stale; make cards renders it")
        (ROOT / name).write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
