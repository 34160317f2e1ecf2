"""The command line `gemnet`; everything heavy is imported inside the commands."""

import json
import math
from pathlib import Path
from typing import Any

import click

from . import __version__
from .cli_base import GemnetGroup

JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as one line of JSON.")
MODEL = click.argument("model", metavar="NAME_OR_CELL")
MACROS = ("imagenet", "small", "proxy")


def size_options(command: Any) -> Any:
    """The options that scale a cell to a network."""
    for option in (
        click.option("--macs", type=click.FloatRange(min=0, min_open=True), metavar="MILLIONS",
                     help="Scale the network to at most that many million multiply-adds."),
        click.option("--macro", type=click.Choice(MACROS), help="Form of the network: imagenet is 224 px, small 32."),
    ):  # fmt: skip
        command = option(command)
    return command


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

    cell, net, form_name = resolve(model, macro, _count(macs))
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


@main.command()
@MODEL
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="DIR",
              help="Folder for model.onnx and report.json.")
@size_options
@click.option("--num-classes", type=click.IntRange(1, 100_000), help="Outputs; the model's own by default.")
@click.option("--in-chans", type=click.IntRange(1, 64), default=3, show_default=True, help="Image channels.")
@click.option("--image-size", type=click.IntRange(8, 4096), help="Side of the images; the model's own by default.")
@click.option("--opset", type=click.IntRange(18, 23), default=20, show_default=True, help="Of the ONNX operators.")
@click.option("--weights", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Weights as .safetensors; random ones without.")
@JSON
def export(
    model: str, out: Path, macro: str | None, macs: float | None, num_classes: int | None, in_chans: int,
    image_size: int | None, opset: int, weights: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Write a model as ONNX, compared with the model before it appears.

    The batch is free and batch norms are folded. A file that differs from its model is not written.
    """
    from .catalog import resolve
    from .cost import cost
    from .scale import MACROS as FORMS

    cell, net, form_name = resolve(model, macro, _count(macs))
    form = FORMS[form_name]
    classes, size = num_classes or form.num_classes, image_size or form.img_size
    price = cost(cell, net, size, in_chans, classes)  # an image too small for the network is refused here
    from dataclasses import asdict

    from gemnet.export.onnx import export_onnx
    from gemnet.export.report import write_report

    from .network import GemNet
    from .train import seeded
    from .weights import load_weights

    with seeded(0):
        network = GemNet(cell, net, classes, in_chans)
    source = load_weights(network, weights) if weights else "random, seed 0"
    checked = export_onnx(network, out / "model.onnx", (in_chans, size, size), opset)
    report = {"model": model, "cell_key": cell.key, "weights": source, **asdict(price), "onnx": asdict(checked)}
    write_report(out / "report.json", report)
    if as_json:
        click.echo(json.dumps({"file": str(out / "model.onnx"), **report}))
        return
    click.echo(f"{out / 'model.onnx'}: opset {checked.opset}, {checked.size_mb:.1f} MB, {price.macs / 1e6:.1f} M MACs, "
               f"weights: {source}")  # fmt: skip
    click.echo(f"equal to the model at batch {', '.join(map(str, checked.batches))}: "
               f"largest difference {checked.max_rel_diff:.1e} of the largest output")  # fmt: skip


def _count(millions: float | None) -> int | None:
    if millions is None:
        return None
    if not math.isfinite(millions):
        raise click.BadParameter(f"{millions} is no number of MACs", param_hint="--macs")
    return round(millions * 1e6)


def _origin(provenance: dict[str, Any]) -> str:
    settings, metrics = provenance["settings"], provenance["metrics"]
    accuracy, study = f"{100 * metrics['val_acc']:.2f} %", provenance["study_id"][:12]
    where = f"{settings['strategy']['name']} on {settings['data']['name']}, seed {provenance['seed']}"
    return f"{where}, rank {provenance['rank']}: val_acc {accuracy}, study {study}"


def _print_table(header: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]
    for row in [header, ["-" * width for width in widths], *rows]:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())


if __name__ == "__main__":
    main()
