"""Renders MODEL_CARD.md, docs/zoo.html and the tables of README.md and docs/training.md from the zoo.

    python benchmarks/tables.py [--check]

Such a table stands between `<!-- table: NAME -->` and `<!-- /table -->`.
"""

import json
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gemnet import zoo
from gemnet.export.card import family_card
from gemnet.export.card_figures import without_sources
from gemnet.listing import list_models
from gemnet.listing_page import to_html

ROOT = Path(__file__).resolve().parents[1]
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- /table -->)", re.DOTALL)


def of_card(name: str) -> Callable[[], list[str]]:
    """A table of the family's card, without its sources."""

    def table() -> list[str]:
        found = {m[2]: m[0].splitlines()[1:-1] for m in MARKED.finditer(without_sources(family_card()))}
        return found[name]

    return table


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
    two, r = gram["rows"][-2:]
    text = (
        f"The WL Gram matrix of {r['cells']:,} cells of {gram['nodes']} nodes takes {r['gemnet_wall_ms']:.0f} ms on "
        f"one thread, GraKeL's {r['grakel_wall_ms']:,.0f} ms ({r['times_as_fast_wall']:.0f} times as long); with two "
        f"threads each it is {two['gemnet_wall_ms']:.0f} and {two['grakel_wall_ms']:,.0f} ms "
        f"({two['times_as_fast_wall']:.0f} times). They differ by {r['largest_difference']:.1e} at most."
    )
    return [*rows, "", text]


def pair() -> list[str]:
    """What nets of equal MACs reach in one long training."""
    return trained("train_long")


def controls() -> list[str]:
    """What nets of equal MACs reach in several short trainings."""
    return trained("train_controls")


def trained(name: str) -> list[str]:
    """The summary of a result of `train_controls.py`."""
    result = read(name)
    seeds = len({row["seed"] for row in result["rows"]})
    rows = heading("net", "MACs (M)", "params (k)", f"top-1, {seeds} seed{'s' if seeds > 1 else ''}", "images/s")
    for r in result["summary"]:
        pace = statistics.median(row["images_per_s"] for row in result["rows"] if row["net"] == r["net"])
        spread = f" ± {r['test_acc_sd']:.2f}" if seeds > 1 else ""
        rows.append(f"| {r['net']} | {r['macs_m']:.1f} | {r['params_k']:.1f} | {r['test_acc_mean']:.2f}{spread} % | "
                    f"{pace:.0f} |")  # fmt: skip
    return rows


def precision() -> list[str]:
    """What the same trainings come to in bf16 and in 32 bit."""
    plain = read("train_precision")["rows"]
    nets = {(row["net"], row["seed"]) for row in plain}
    half = [row for row in read("train_controls")["rows"] if (row["net"], row["seed"]) in nets]
    rows = heading("precision", *(f"{row['net']}, seed {row['seed']}" for row in plain), "images/s")
    for name, found in (("bf16", half), ("32 bit", plain)):
        scores = " | ".join(f"{100 * row['test_acc']:.2f} %" for row in found)
        rows.append(f"| {name} | {scores} | {statistics.median(row['images_per_s'] for row in found):.0f} |")
    return rows


def detection() -> list[str]:
    """What detectors on GEMNet's features find, beside those on the reference's."""
    rows = heading("detector", "features", "their MACs (M)", "all MACs (M)", "params (M)", "AP", "AP50", "minutes")
    for r in read("detection")["rows"]:
        millions = f"{r['backbone_macs'] / 1e6:.0f} | {r['macs'] / 1e6:,.0f} | {r['params'] / 1e6:.2f}"
        rows.append(f"| {r['detector']} | {r['backbone']} | {millions} | {r['ap']:.3f} | {r['ap50']:.3f} | "
                    f"{r['train_s'] / 60:.0f} |")  # fmt: skip
    return rows


def throughput() -> list[str]:
    """Images per second that every recipe trains at."""
    result = read("throughput")
    rows = heading("recipe", "net", "MACs (M)", "image", "batch", "precision", "images/s")
    for r in result["rows"]:
        precision = "32 bit" if r["precision"] == "no" else r["precision"]
        rows.append(f"| `{r['recipe']}` | `{r['net']}` | {r['macs'] / 1e6:.0f} | {r['img_size']} px, {r['images']} | "
                    f"{r['batch_size']} | {precision} | {r['images_per_s']:.0f} |")  # fmt: skip
    return rows


def forms() -> list[str]:
    """Images per second of the recipes for CPUs, by threads and precision."""
    rates: dict[str, list[str]] = {}
    columns: list[str] = []
    for r in read("throughput")["cpu"]:
        column = f"{r['threads']} thread{'s' * (r['threads'] > 1)}, {'32 bit' if r['precision'] == 'no' else 'bf16'}"
        columns += [column] * (column not in columns)
        rates.setdefault(f"`{r['net']}`, {r['macs'] / 1e6:.0f} M MACs", []).append(f"{r['images_per_s']:.0f}")
    return [*heading("net", *columns), *(f"| {net} | {' | '.join(row)} |" for net, row in rates.items())]


def loop() -> list[str]:
    """Images per second of the trainer beside those of a plain loop."""
    rows = heading("images", "batch", "images/s", "plain loop", "ratio")
    for r in read("throughput")["loop"]:
        rows.append(f"| {r['images']} | {r['batch_size']} | {r['images_per_s']:.1f} | {r['loop_images_per_s']:.1f} | "
                    f"{r['ratio']:.2f} |")  # fmt: skip
    return rows


def heading(*names: str) -> list[str]:
    """The first two lines of a table."""
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]


def read(name: str) -> dict[str, Any]:
    """A published result."""
    found: dict[str, Any] = json.loads(zoo.path("results", f"{name}.json").read_text(encoding="utf-8"))
    return found


TABLES: dict[str, Callable[[], list[str]]] = {
    "models": of_card("models"), "weights": of_card("weights"), "search": of_card("search"), "queries": queries,
    "tau": tau, "encoder": encoder, "engine": engine, "pair": pair, "controls": controls, "detection": detection,
    "throughput": throughput, "forms": forms, "precision": precision, "loop": loop,
}  # fmt: skip


def render(text: str) -> str:
    """The text with every table rendered anew."""
    return MARKED.sub(lambda m: f"{m[1]}{chr(10).join(TABLES[m[2]]())}\n{m[3]}", text)


FILES: dict[str, Callable[[str], str]] = {  # what a file should hold, from what it holds
    "README.md": render,
    "docs/training.md": render,
    "MODEL_CARD.md": lambda _: family_card(),
    "docs/zoo.html": lambda _: to_html(list_models()),
}


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; fail when a file is stale.")
def main(check: bool) -> None:
    """Render the files."""
    for name, wanted in FILES.items():
        path = ROOT / name
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        new = wanted(old)
        if new != old and check:
            sys.exit(f"{name} is stale; make cards renders it")
        path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
