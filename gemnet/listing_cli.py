"""The commands `list` and `info` of `gemnet`; everything heavy is imported inside them."""

import json
from pathlib import Path
from typing import Any

import click

from .cli_options import FILE, JSON, MODEL, count_macs, size_options


@click.command("list")
@click.option("--html", type=FILE, metavar="FILE", help="Write the index as a page that needs no network.")
@JSON
def list_models(html: Path | None, as_json: bool) -> None:
    """List the models: what they cost, what their weights scored and where these are."""
    from . import zoo
    from .listing import list_models, table

    entries, cells = list_models(), zoo.names("cells")
    if html is not None:
        from .listing_page import to_html

        html.write_text(to_html(entries), encoding="utf-8")
    if as_json:
        click.echo(json.dumps({"models": [{"name": e.name, **e.to_dict()} for e in entries], "cells": cells}))
        return
    _print_table(table(entries))
    click.echo("\nLatency: ONNX Runtime, one image, one thread; gemnet bench measures it here.")
    click.echo(f"Cells in the zoo: {', '.join(cells)}")


@click.command()
@MODEL
@size_options
@JSON
def info(model: str, macro: str | None, macs: float | None, as_json: bool) -> None:
    """Show a model's cell, its stages, what it costs, its weights and where the cell comes from.

    Besides, NAME_OR_CELL may be a folder with a trained model.
    """
    from .description import describe

    found = describe(model, macro, count_macs(macs))
    if as_json:
        click.echo(json.dumps({"model": model, **found.to_dict()}))
        return
    price, size = found.price, "x".join(map(str, dict.fromkeys(found.img_size)))
    click.echo(f"{model}: {size} px, {found.num_classes} classes")
    click.echo(f"  MACs {price.macs / 1e6:.1f} M, parameters {price.params / 1e6:.2f} M, "
               f"activations {price.acts / 1e6:.2f} M, peak {price.peak_acts / 1e6:.2f} M")  # fmt: skip
    for line in map(_weights, found.weights):
        click.echo(f"  {line}")
    provisional = " (provisional)" if found.notes.get("provisional") else ""
    for cell in found.cells:
        click.echo(f"  cell {cell.key[:12]}, {len(cell.ops)} nodes{provisional}")
        for j, (op, preds) in enumerate(zip(cell.ops, cell.predecessors)):
            reads = f" <- {', '.join(map(str, preds))}" if preds else ""
            click.echo(f"    {j:2d} {op}{reads}{'  (leaf)' if j in cell.leaves else ''}")
    if "provenance" in found.notes:
        click.echo(f"  found by {_origin(found.notes['provenance'])}")
    stages = [[str(k), str(s.depth), str(s.node_chs), str(s.out_chs), str(s.stride)]
              for k, s in enumerate(found.net.stages)]  # fmt: skip
    _print_table([["stage", "cells", "node channels", "output channels", "stride"], *stages])


def _weights(entry: dict[str, Any]) -> str:
    time = "" if entry["latency_ms"] is None else f"; {entry['latency_ms']:.2f} ms in ONNX Runtime on one thread"
    result = entry["result"]
    if not entry["weights"]:
        return f"no weights{time}"
    where = f"{result['data'] or 'its data set'}, {result['split']} split" if result else ""
    scored = f"top-1 {100 * result['top1']:.2f} % on {where}" if result else "not scored"
    name = f"weights {entry['model']}.{entry['tag']}" if entry["tag"] else "weights"
    return f"{name}: {scored}; {entry['weights']}{time}"


def _origin(provenance: dict[str, Any]) -> str:
    settings, metrics = provenance["settings"], provenance["metrics"]
    accuracy, study = f"{100 * metrics['val_acc']:.2f} %", provenance["study_id"][:12]
    where = f"{settings['strategy']['name']} on {settings['data']['name']}, seed {provenance['seed']}"
    return f"{where}, rank {provenance['rank']}: val_acc {accuracy}, study {study}"


def _print_table(rows: list[list[str]]) -> None:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    for row in [rows[0], ["-" * width for width in widths], *rows[1:]]:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())


COMMANDS = (list_models, info)
