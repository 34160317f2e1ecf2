"""The command line `gemnet`; everything heavy is imported inside the commands."""

import json
from typing import Any

import click

from . import __version__
from .cli_base import GemnetGroup
from .cli_options import JSON, MODEL, count_macs, size_options


@click.group(cls=GemnetGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gemnet")
def main() -> None:
    """Look at GEMNet models and export them.

    NAME_OR_CELL is a model such as gemnet_a, a cell of the zoo, or the path of a cell's JSON file.
    """


@main.command("list")
@JSON
def list_models(as_json: bool) -> None:
    """List the models and the cells they are made of."""
    from . import zoo
    from .catalog import FAMILY, cell_notes
    from .cost import cost
    from .scale import MACROS as FORMS

    rows: list[dict[str, Any]] = []
    for name, variant in FAMILY.items():
        form = FORMS[variant.macro]
        price = cost(variant.load(), variant.net(), form.img_size, 3, form.num_classes)
        provisional = bool(cell_notes(name).get("provisional"))
        rows.append({
            "model": name, "cell": variant.cell, "img_size": form.img_size, "params": price.params,
            "macs": price.macs, "provisional": provisional,
        })  # fmt: skip
    cells = zoo.names("cells")
    if as_json:
        click.echo(json.dumps({"models": rows, "cells": cells}))
        return
    cells_of_rows = [
        [r["model"], r["cell"], f"{r['img_size']} px", f"{r['params'] / 1e6:.2f}", f"{r['macs'] / 1e6:.1f}",
         "provisional cell" if r["provisional"] else ""]
        for r in rows
    ]  # fmt: skip
    _print_table(["model", "cell", "image", "params (M)", "MACs (M)", "note"], cells_of_rows)
    click.echo(f"\nCells in the zoo: {', '.join(cells)}")


@main.command()
@MODEL
@size_options
@JSON
def info(model: str, macro: str | None, macs: float | None, as_json: bool) -> None:
    """Show a model's cell, its stages, what it costs and where the cell comes from."""
    from .catalog import cell_notes, resolve
    from .cost import cost
    from .scale import MACROS as FORMS

    cell, net, form_name = resolve(model, macro, count_macs(macs))
    form = FORMS[form_name]
    price = cost(cell, net, form.img_size, 3, form.num_classes)
    notes = cell_notes(model)
    result = {
        "model": model, "macro": form_name, "img_size": form.img_size, "num_classes": form.num_classes,
        "macs": price.macs, "params": price.params, "acts": price.acts, "peak_acts": price.peak_acts,
        "key": cell.key, "cell": cell.to_dict(), "net": net.to_dict(), **notes,
    }  # fmt: skip
    if as_json:
        click.echo(json.dumps(result))
        return
    click.echo(f"{model}: {form.img_size} px, {form.num_classes} classes")
    click.echo(f"  MACs {price.macs / 1e6:.1f} M, parameters {price.params / 1e6:.2f} M, "
               f"activations {price.acts / 1e6:.2f} M, peak {price.peak_acts / 1e6:.2f} M")  # fmt: skip
    provisional = " (provisional)" if notes.get("provisional") else ""
    click.echo(f"  cell {cell.key[:12]}, {len(cell.ops)} nodes{provisional}")
    for j, (op, preds) in enumerate(zip(cell.ops, cell.predecessors)):
        reads = f" <- {', '.join(map(str, preds))}" if preds else ""
        click.echo(f"    {j:2d} {op}{reads}{'  (leaf)' if j in cell.leaves else ''}")
    if "provenance" in notes:
        click.echo(f"  found by {_origin(notes['provenance'])}")
    stages = [[str(k), str(s.depth), str(s.node_chs), str(s.out_chs), str(s.stride)] for k, s in enumerate(net.stages)]
    _print_table(["stage", "cells", "node channels", "output channels", "stride"], stages)


@main.group()
def plugin() -> None:
    """Let timm know the models in programs that do not import gemnet."""


@plugin.command()
@JSON
def enable(as_json: bool) -> None:
    """Switch it on for this Python environment."""
    from . import plugin as plugins

    _tell(plugins.enable(), as_json)


@plugin.command()
@JSON
def disable(as_json: bool) -> None:
    """Switch it off and leave nothing behind."""
    from . import plugin as plugins

    _tell(plugins.disable(), as_json)


@plugin.command("status")
@JSON
def show_status(as_json: bool) -> None:
    """Say whether it is on."""
    from . import plugin as plugins

    _tell(plugins.status(), as_json)


def _tell(status: Any, as_json: bool) -> None:
    click.echo(json.dumps(vars(status)) if as_json else f"{status.state} in {status.folder}")


def _origin(provenance: dict[str, Any]) -> str:
    settings, metrics = provenance["settings"], provenance["metrics"]
    accuracy, study = f"{100 * metrics['val_acc']:.2f} %", provenance["study_id"][:12]
    where = f"{settings['strategy']['name']} on {settings['data']['name']}, seed {provenance['seed']}"
    return f"{where}, rank {provenance['rank']}: val_acc {accuracy}, study {study}"


def _print_table(header: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]
    for row in [header, ["-" * width for width in widths], *rows]:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())


def _attach() -> None:
    """Adds the commands of other modules, which import nothing heavy before they run."""
    from gemnet.export.cli import COMMANDS

    from .train_cli import COMMANDS as TRAINING

    for command in (*TRAINING, *COMMANDS):
        main.add_command(command)


_attach()

if __name__ == "__main__":
    main()
