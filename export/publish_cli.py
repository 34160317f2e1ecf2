"""The command `gemnet publish`; everything heavy is imported inside it."""

import json
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from gemnet.cli_options import FOLDER, JSON
from gemnet.errors import HubError, UsageError

from .cli import PRECISIONS, several

WRITING = {"precisions": "--precision", "data": "--data", "benchmark": "--benchmark", "out": "--out"}


@click.command()
@click.argument("model", metavar="DIR_OR_MODEL")
@click.option("--repo", required=True, metavar="ORG/NAME", help="Repository on the Hub; made when it is not there.")
@click.option("--tag", metavar="vX.Y.Z", help="Set on the commit, last.")
@click.option("--dry-run", is_flag=True, help="Write and check the release, say what would change, send nothing.")
@click.option("--private", is_flag=True, help="Let a repository that is made now be private.")
@click.option("--force", is_flag=True, help="Move the tag when it is set on another commit.")
@click.option("--precision", "precisions", default="fp32", show_default=True, callback=several(PRECISIONS),
              metavar="LIST", help="Of the ONNX files: fp32, fp16 and int8; fp32 is always written.")
@click.option("--data", metavar="NAME", help="What the model was trained on, to try the ONNX files on.")
@click.option("--benchmark", metavar="ORG/DATASET:TASK", help="On the Hub, that the accuracy is reported to.")
@click.option("--out", type=FOLDER, metavar="DIR",
              help="Folder to keep the release in; DIR_OR_MODEL/release, or MODEL-release here, by default.")
@JSON
def publish(
    model: str, repo: str, tag: str | None, dry_run: bool, private: bool, force: bool, precisions: tuple[str, ...],
    data: str | None, benchmark: str | None, out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Publish a trained model on the Hub, whole or not at all.

    DIR_OR_MODEL is a folder that gemnet train wrote (DIR or local-dir:DIR), a registered name with weights (NAME or
    NAME.TAG), or a release's folder, which is published as it is, without options for what is in it. What is published
    is one commit, read back before the tag is set; what is there already is not sent again. The token is the Hub
    client's: hf auth login, or HF_TOKEN.
    """
    from huggingface_hub.utils.tqdm import disable_progress_bars

    from gemnet.release import is_folder

    from .fitness import check_onnx, check_release, check_trained
    from .hub import publish as send
    from .release import Wish, assemble, is_release
    from .trained import as_path

    if not sys.stderr.isatty():
        disable_progress_bars()
    wish, model = Wish(repo, tag, precisions, data, benchmark), as_path(model)
    if is_release(model):
        _refuse_options(model)
        folder = Path(model)
        check_release(folder, repo, tag)
        check_trained(folder)
        check_onnx(folder)
    else:
        folder = out or (Path(model, "release") if is_folder(model) else Path(f"{model}-release"))
        assemble(model, folder, wish, _say)
    try:
        outcome = send(folder, repo, tag, private=private, force=force, dry_run=dry_run, say=_say)
    except HubError as error:
        raise HubError(f"{error}; the release itself is whole and in {folder}") from None
    click.echo(json.dumps(_to_dict(folder, outcome)) if as_json else _summary(folder, outcome, dry_run))


def _refuse_options(folder: str) -> None:
    """Raises UsageError naming the options given that only say how a release is written."""
    source = click.get_current_context().get_parameter_source
    given = [option for name, option in WRITING.items() if source(name) is not ParameterSource.DEFAULT]
    if given:
        raise UsageError(f"{folder} is a release, published as it is; leave out {', '.join(given)}")


def _say(what: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"{what} ...", err=True)


def _to_dict(folder: Path, outcome: Any) -> dict[str, Any]:
    return {"folder": str(folder), **vars(outcome), "difference": vars(outcome.difference)}


def _summary(folder: Path, outcome: Any, dry_run: bool) -> str:
    difference = outcome.difference
    lines = [f"{folder}: the release is whole", *outcome.notes]
    marks = (("+", difference.added), ("~", difference.changed), ("-", difference.removed))
    lines += [f"  {mark} {path}" for mark, paths in marks for path in paths]
    commit = (outcome.commit or "")[:8]
    if dry_run:
        lines.append(f"{outcome.url}: nothing was sent; " + ("the files above would change" if difference else
                     f"commit {commit} holds it already"))  # fmt: skip
    elif outcome.committed:
        lines.append(f"{outcome.url}: commit {commit}, read back")
    else:
        lines.append(f"{outcome.url}: commit {commit} holds it already, nothing was sent")
    if outcome.tag and not dry_run:
        lines.append(f"tag {outcome.tag} {'was set' if outcome.tagged else 'was there already'}")
    return "\n".join(lines)


COMMANDS = (publish,)
