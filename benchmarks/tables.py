"""Renders the tables of README.md and MODEL_CARD.md from zoo/results and the zoo's cells.

    python benchmarks/tables.py [--check]

A table stands between `<!-- table: NAME -->` and `<!-- /table -->`.
"""

import json
import re
import sys
from pathlib import Path

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
    """The search that found the cells: zoo/results/search_cifar10_small.json."""
    result = json.loads(zoo.path("results", "search_cifar10_small.json").read_text(encoding="utf-8"))
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


TABLES = {"models": models, "search": search}


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
