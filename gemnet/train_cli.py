"""The commands `train` and `eval` of `gemnet`; everything heavy is imported inside them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from .cli_options import FILE, FOLDER, JSON, MODEL, count_macs, size_options
from .errors import CheckpointError, ConfigError, GemnetError
from .machine import DEVICES
from .notices import is_first

DATA = click.option("--data", required=True, metavar="NAME", help="cifar10, npz:FILE, folder:DIR, ... (gemnet.data).")
DEVICE = click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True)
READERS = click.option("--workers", type=click.IntRange(0, 1024), default=4, show_default=True,
                       help="Processes that read images of a folder.")  # fmt: skip


@click.command()
@MODEL
@DATA
@click.option("--recipe", required=True, metavar="NAME", help="A recipe of the zoo, or a .json file.")
@click.option("--out", type=FOLDER, required=True, metavar="DIR",
              help="Folder for the weights, the checkpoints and train.json.")
@click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE", help="Change a field of the recipe.")
@click.option("--resume", is_flag=True, help="Go on with what DIR holds; begin if it holds nothing.")
@click.option("--pretrained", is_flag=True, help="Begin with the model's weights and, if need be, a new head.")
@size_options
@click.option("--seed", type=click.IntRange(0, 2**31), default=0, show_default=True)
@DEVICE
@READERS
@click.option("--threads", type=click.IntRange(1, 1024), help="Of the processor; torch's own choice by default.")
@click.option("--keep", type=click.IntRange(1), default=2, show_default=True, help="Latest checkpoints that stay.")
@click.option("--save-minutes", type=click.FloatRange(min=0), default=10.0, show_default=True,
              help="Between checkpoints inside an epoch.")
@JSON
def train(
    model: str, data: str, recipe: str, out: Path, changes: tuple[str, ...], resume: bool, pretrained: bool,
    macro: str | None, macs: float | None, seed: int, device: str, workers: int, threads: int | None, keep: int,
    save_minutes: float, as_json: bool,
) -> None:  # fmt: skip
    """Train a GEMNet into DIR, from which timm loads it as local-dir:DIR.

    NAME_OR_CELL may also be a trained model, as local-dir:DIR; without --pretrained only its architecture
    is taken. The training split is trained on, the validation split (a tenth of the training images where
    there is none) chooses the epoch, and the test split is scored once at the end. Ctrl-C and SIGTERM save
    first; --resume goes on.

    `accelerate launch -m gemnet.cli train ...` and `torchrun -m gemnet.cli train ...` use many GPUs.
    """
    from . import recipe as recipes

    how = recipes.override(recipes.load(recipe), changes)
    size = count_macs(macs)
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    from .cost import cost
    from .fit import Plan, fit
    from .task import build_model, describe_model, open_images, save_model

    with _told_once(GemnetError):
        _check_out(out, data)
        images = open_images(data, how, seed, workers)
        built = build_model(model, images, how, seed, macro=macro, macs=size, pretrained=pretrained)
    count, classes, chans = images.counts["train"], len(images.classes), images.in_chans
    million = cost(built.cells, built.net, images.img_size, chans, classes).macs / 1e6
    begun = f"{count:,} training images, {classes} classes, {million:,.1f} M MACs, recipe {recipe}, device"
    plan = Plan(
        keep, 60 * save_minutes, on_start=None if as_json else lambda where: _tell(f"{begun} {where}"),
        on_epoch=None if as_json else _show, tell=_tell, save_model=lambda best, to: save_model(best, to, images, how),
    )  # fmt: skip
    about = describe_model(model, built, pretrained)
    for name in recipes.without_effect(how, changes):
        _tell(f"{name} has no effect: it is for images {'in memory' if how.img_size else 'read while training'}")
    with _told_once(CheckpointError, ConfigError):
        result = fit(built, images, how, seed, out, about=about, device=device, resume=resume, plan=plan)
    if not is_first():
        return
    if as_json:
        click.echo(json.dumps({"out": str(out), **result}))
        return
    _show_result(out, how.epochs, how.hopeless_below(classes), result)


@click.command("eval")
@MODEL
@DATA
@click.option("--split", type=click.Choice(["train", "val", "test"]), help="test if there is one, else val.")
@click.option("--weights", type=FILE, metavar="FILE",
              help="Weights as .safetensors; the model's own without.")
@size_options
@DEVICE
@READERS
@JSON
def evaluate(
    model: str, data: str, split: str | None, weights: Path | None, macro: str | None, macs: float | None,
    device: str, workers: int, as_json: bool,
) -> None:  # fmt: skip
    """Score a trained model: top-1, top-5, each class, images per second.

    NAME_OR_CELL is a folder that `gemnet train` wrote, local-dir:DIR, a registered name with weights, or a
    name or cell with --weights. Images of folder:DIR are resized as the model wants them.
    """
    from .task import score_model

    name, scores, classes = score_model(model, data, split, weights, macro, count_macs(macs), device, workers)
    if as_json:
        from dataclasses import asdict

        click.echo(json.dumps({"model": model, "data": data, "split": name, "classes": classes, **asdict(scores)}))
        return
    click.echo(f"{model} on {data}, {name} split, {scores.images} images: top-1 {100 * scores.top1:.2f} %, "
               f"top-5 {100 * scores.top5:.2f} %, {scores.images_per_s:.0f} images/s")  # fmt: skip
    width = max(map(len, classes))
    for label, share in zip(classes, scores.per_class):
        click.echo(f"  {label.ljust(width)}  {'no image' if share is None else f'{100 * share:6.2f} %'}")


@contextmanager
def _told_once(*kinds: type[GemnetError]) -> Iterator[None]:
    """A block in which all of several launched processes meet errors of these kinds alike, and the first tells."""
    try:
        yield
    except kinds as error:
        if is_first():
            raise
        raise SystemExit(error.exit_code) from None


def _check_out(out: Path, data: str) -> None:
    """Raises ConfigError when what is trained would lie among the images it is trained on."""
    from .folder import parse_place

    kind, _, place = data.partition(":")
    if kind == "folder" and place:
        images = parse_place(place)[0].resolve()
        if images in (out.resolve(), *out.resolve().parents):
            raise ConfigError(f"--out {out} is in the folder of the images, {images}; choose another")


def _tell(line: str) -> None:
    if is_first():
        click.echo(line, err=True)


def _show(row: Any) -> None:
    _tell(
        f"epoch {row.epoch}: train_loss {row.train_loss:.4f}, val_acc {100 * row.val_acc:.2f} %, "
        f"lr {row.lr:.2g}, {row.images_per_s:.0f} images/s, {row.train_s / 60:.1f} minutes"
    )  # fmt: skip


def _show_result(out: Path, epochs: int, hopeless: float, result: dict[str, Any]) -> None:
    if result["epochs_run"] < epochs:
        click.echo(f"given up after epoch {result['epochs_run']} of {epochs}: val_acc is below {100 * hopeless:.2f} % "
                   "(stop_epochs, stop_factor)")  # fmt: skip
    click.echo(f"{out}: epoch {result['epoch']} of {epochs} chosen, val_acc {100 * result['val_acc']:.2f} %, "
               f"{result['train_s'] / 60:.1f} minutes, {result['images_per_s']:.0f} images/s")  # fmt: skip
    if result["test"] is not None:
        test = result["test"]
        click.echo(f"test: top-1 {100 * test['top1']:.2f} %, top-5 {100 * test['top5']:.2f} %, {test['images']} images")


COMMANDS = (train, evaluate)
