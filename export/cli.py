"""The commands of `gemnet` that export, run and time models; everything heavy is imported inside them."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import click

from gemnet.cli_options import FILE, FOLDER, JSON, MODEL, UserPath, count_macs, size_options

PRECISIONS = ("fp32", "fp16", "int8")
AXES = ("batch", "height", "width")
WEIGHTS = click.option("--weights", type=FILE, metavar="FILE",
                       help="Weights as .safetensors; without, the model's own or else random ones.")  # fmt: skip
SHAPES = (
    click.option("--num-classes", type=click.IntRange(1, 100_000), help="Outputs; the data's or model's by default."),
    click.option("--in-chans", type=click.IntRange(1, 64), help="Image channels; the data's, or 3, by default."),
    click.option("--image-size", type=click.IntRange(8, 4096), help="Side of the images; the model's by default."),
)


def shape_options(command: Any) -> Any:
    """The options that change a model's input and output."""
    for option in reversed(SHAPES):
        command = option(command)
    return command


def several(allowed: tuple[str, ...]) -> Any:
    """A callback that splits `a,b` and refuses names that are not allowed."""

    def split(_context: Any, _parameter: Any, text: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
        for name in names:
            if name not in (*allowed, "none"):
                raise click.BadParameter(f"{name!r} is not one of {', '.join(allowed)}")
        if not names:
            raise click.BadParameter(f"it names none of {', '.join(allowed)}")
        return tuple(name for name in names if name != "none")

    return split


def finite(_context: Any, _parameter: Any, value: float) -> float:
    """Refuses what passes for a number in any range."""
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is no number")
    return value


@click.command()
@MODEL
@click.option("--out", type=FOLDER, required=True, metavar="DIR",
              help="Folder to write; an older export's files in it are replaced.")
@click.option("--precision", "precisions", default="fp32", show_default=True, callback=several(PRECISIONS),
              metavar="LIST", help="Of fp32, fp16 and int8; fp32 is always written.")
@click.option("--opset", type=click.IntRange(18, 23), default=20, show_default=True, help="Of the ONNX operators.")
@click.option("--dynamic", default="batch", show_default=True, callback=several(AXES), metavar="LIST",
              help="Free axes: of batch, height and width, or none.")
@click.option("--normalize", is_flag=True, help="Take bytes [N, H, W, C] and normalise them inside the file.")
@click.option("--fuse", is_flag=True, help="Rewrite the network for speed; its outputs stay equal to 1e-5.")
@size_options
@shape_options
@WEIGHTS
@click.option("--data", metavar="NAME", help="What the model was trained on: gives classes and normalisation, and "
              "images to try the files on.")
@click.option("--samples", type=click.IntRange(1, 100_000), default=256, show_default=True, help="Images to try.")
@click.option("--calibration", type=click.IntRange(1, 10_000), default=128, show_default=True,
              help="Training images that set the ranges of int8.")
@click.option("--max-drop", type=click.FloatRange(0, 1), default=0.01, show_default=True,
              callback=finite, help="Accuracy that int8 may lose.")
@JSON
def export(model: str, out: Path, as_json: bool, **given: Any) -> None:
    """Write a model as ONNX with all that a deployment needs.

    NAME_OR_CELL may also be a folder that gemnet train wrote. DIR gets model.onnx (and its fp16 and int8 forms),
    config.json, labels.json, report.json, report.html, README.md and infer.py. Every file is compared with the model
    first; when one fails, DIR stays as it is.
    """
    from gemnet.fuse import Plan as Rewrites

    from .bundle import Plan, export_bundle
    from .form import Form
    from .samples import Samples
    from .source import load_source

    data = _load_data(given["data"])
    source = load_source(
        model, given["macro"], count_macs(given["macs"]), given["num_classes"], given["in_chans"],
        given["image_size"], given["weights"], data,
    )  # fmt: skip
    for line in source.warnings:
        click.echo(f"Warning: {line}", err=True)
    form = Form(source.image, given["opset"], given["dynamic"], given["normalize"], source.least_side)
    counts = given["samples"], given["calibration"]
    samples = (Samples.of(data, source.image, source.model.num_classes, *counts) if data
               else Samples.packaged(source.image, *counts))  # fmt: skip
    plan = Plan(form, given["precisions"], given["max_drop"], rewrites=Rewrites() if given["fuse"] else None)
    report = export_bundle(source, out, plan, samples, _say)
    click.echo(json.dumps({"folder": str(out), **report}) if as_json else _summary(out, report))


def _load_data(name: str | None) -> Any:
    if name is None:
        return None
    from gemnet.data import load

    return load(name)


def _say(what: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"{what} ...", err=True)


def _summary(out: Path, report: dict[str, Any]) -> str:
    cost = report["cost"]
    lines = [f"{out}: {report['model']}, {cost['macs'] / 1e6:.1f} M MACs, weights: {report['weights']}"]
    for name, file in report["files"].items():
        lines.append(
            f"  {name}: opset {file['opset']}, {file['size_mb']:.2f} MB, {report['latency'][name]['p50_ms']:.2f} ms; "
            f"differs by {file['max_rel_diff']:.1e} of the largest output in {len(file['differences'])} shapes; "
            f"same class on {100 * file['agreement']:.1f} % of {file['images']} images of {file['data']}"
        )
        if file["accuracy"] is not None:
            lines[-1] += f", accuracy {100 * file['accuracy']:.1f} % (model {100 * file['model_accuracy']:.1f} %)"
    return "\n".join([*lines, *(f"  {line}" for line in report["warnings"])])


@click.command()
@click.argument("model", metavar="NAME_OR_BUNDLE")
@click.argument("images", nargs=-1, required=True, type=UserPath(exists=True))
@click.option("--top", type=click.IntRange(1, 1000), default=5, show_default=True, help="Labels an image.")
@size_options
@shape_options
@WEIGHTS
@click.option("--data", metavar="NAME", help="What a named model was trained on.")
@JSON
@click.pass_context
def predict(
    context: click.Context, /, model: str, images: tuple[Path, ...], top: int, as_json: bool, **given: Any
) -> None:
    """Say what images show: with an exported or trained folder, an ONNX file, or a model by its name.

    IMAGES are files and folders of files. With --json one object a line.
    """
    from gemnet.release import is_folder

    from .infer import Model, predict, show
    from .trained import is_trained_folder

    if model.endswith(".onnx") or (is_folder(model) and not is_trained_folder(model)):
        try:
            loaded: Any = Model(model)
        except ValueError as error:
            raise click.ClickException(str(error)) from None
    else:
        from .live import LiveModel
        from .source import load_source

        source = load_source(
            model, given["macro"], count_macs(given["macs"]), given["num_classes"], given["in_chans"],
            given["image_size"], given["weights"], _load_data(given["data"]),
        )  # fmt: skip
        loaded = LiveModel(source)
    context.exit(show(predict(loaded, images, top), as_json))


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="NAME_OR_FILE...")
@click.option("--backend", "backends", default="onnxruntime", show_default=True, metavar="LIST",
              callback=several(("onnxruntime", "torch")), help="Of onnxruntime and torch; torch takes names only.")
@click.option("--batch", type=click.IntRange(1, 4096), default=1, show_default=True, help="Images in a run.")
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="Threads of a run.")
@click.option("--runs", type=click.IntRange(5, 100_000), default=50, show_default=True, help="Runs of each model.")
@click.option("--limit-s", type=click.FloatRange(1), default=120, show_default=True, callback=finite,
              help="Seconds for all runs.")
@click.option("--weights", type=FILE, metavar="FILE",
              help="Weights of the GEMNet named, as .safetensors.")
@click.option("--fuse", "fused", is_flag=True, help="Time each GEMNet named also rewritten for speed.")
@click.option("--layers", is_flag=True, help="Show the time of each part of each ONNX file.")
@click.option("--plot", type=FILE, metavar="FILE", help="Write a page of bars.")
@JSON
def bench(models: tuple[str, ...], as_json: bool, plot: Path | None, **given: Any) -> None:
    """Time models side by side: names, timm:NAME, ONNX files, exported and trained folders.

    Runs are taken in turn, so that a machine's changing speed meets all models alike; ratios are to the first.
    """
    from .bench import bench_models, to_plot

    result = bench_models(models, **given)
    if plot:
        plot.write_text(to_plot(result), encoding="utf-8")
    click.echo(json.dumps(result) if as_json else _bench_table(result))


def _bench_table(result: dict[str, Any]) -> str:
    lines = [f"{'model':40}{'backend':>12}{'p50 ms':>10}{'p90 ms':>10}{'IQR ms':>9}{'ratio':>8}{'peak MB':>9}"]
    for row in result["rows"]:
        peak = "" if row["peak_memory_mb"] is None else f"{row['peak_memory_mb']:.0f}"
        lines.append(f"{row['model'][-39:]:40}{row['backend']:>12}{row['p50_ms']:>10.2f}{row['p90_ms']:>10.2f}"
                     f"{row['iqr_ms']:>9.2f}{row['ratio']:>8.2f}{peak:>9}")  # fmt: skip
        lines += [f"    {name:36}{ms:>22.3f}" for name, ms in row.get("layers", {}).items()]
    machine = result["machine"]
    lines.append(f"{machine['processor']}, {machine['cpus']} processors, threads {result['threads']}, "
                 f"batch {result['batch']}")  # fmt: skip
    if machine["busy"]:
        lines.append(f"Other work goes on at the same time (load {machine['load']}): trust ratios, not times.")
    return "\n".join(lines)


COMMANDS = (export, predict, bench)
