"""The command `gemnet card`; everything heavy is imported inside it."""

import json
from pathlib import Path

import click

from gemnet.cli_options import JSON


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True), metavar="DIR")
@click.option("--repo", metavar="ORG/NAME", help="On the Hub; DIR's own name without.")
@click.option("--tag", metavar="TAG", help="Of the release, which the card's examples then ask for.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write the card there and leave DIR as it is.")
@click.option("--check", is_flag=True, help="Write nothing; compare the card of DIR with the files beside it.")
@JSON
def card(folder: Path, repo: str | None, tag: str | None, out: Path | None, check: bool, as_json: bool) -> None:
    """Write the model card of a release, README.md in DIR.

    DIR holds report.json of `gemnet export` and train.json of `gemnet train`. Every figure of the card comes from
    these files or the zoo, and a comment behind it says from which field; --check fails when one does not.
    """
    from .card import CARD, check_card, release_card, write_card

    name = repo or folder.resolve().name
    if check:
        path, count = folder / CARD, check_card(folder)
    elif out is not None:
        text = release_card(folder, name, tag)
        out.write_text(text, encoding="utf-8")
        path, count = out, text.count("<!-- ")
    else:
        path = write_card(folder, name, tag)
        count = check_card(folder)
    if as_json:
        click.echo(json.dumps({"card": str(path), "figures": count, "checked": check}))
        return
    click.echo(f"{path}: {count} figures, each as its source says")


COMMANDS = (card,)
