"""The command `gemnet card`; everything heavy is imported inside it."""

import json
from pathlib import Path

import click

from gemnet.cli_options import FILE, JSON, UserPath


@click.command()
@click.argument("folder", type=UserPath(file_okay=False, exists=True), metavar="DIR")
@click.option("--repo", metavar="ORG/NAME", help="On the Hub; needed unless --check.")
@click.option("--tag", metavar="TAG", help="Of the release, which the card's examples then ask for.")
@click.option("--out", type=FILE, metavar="FILE",
              help="Write the card there and leave DIR as it is.")
@click.option("--check", is_flag=True, help="Write nothing; compare the card of DIR with the files beside it.")
@JSON
def card(folder: Path, repo: str | None, tag: str | None, out: Path | None, check: bool, as_json: bool) -> None:
    """Write the model card of a release, README.md in DIR.

    DIR holds report.json of `gemnet export` and train.json of `gemnet train`. Every figure of the card comes from
    these files or the zoo, and a comment behind it says from which field; --check fails when one does not.
    """
    from .card import CARD, check_card

    if check:
        path, count = folder / CARD, check_card(folder)
    else:
        path, count = _write(folder, repo, tag, out)
    if as_json:
        click.echo(json.dumps({"card": str(path), "figures": count, "checked": check}))
        return
    click.echo(f"{path}: {count} figures, each as its source says")


def _write(folder: Path, repo: str | None, tag: str | None, out: Path | None) -> tuple[Path, int]:
    """Writes a card; its path and how many figures it has."""
    from gemnet.errors import UsageError
    from gemnet.manifest import FILE

    from .card import check_card, release_card, write_card
    from .release import Wish

    if repo is None:
        raise UsageError("which release the card is of, say by --repo ORG/NAME")
    wish = Wish(repo, tag)
    if out is not None:
        text = release_card(folder, wish.repo, wish.tag)
        out.write_text(text, encoding="utf-8")
        return out, text.count("<!-- ")
    if (folder / FILE).exists():
        of = f"--repo {wish.repo}" + (f" --tag {wish.tag}" if wish.tag else "")
        raise UsageError(
            f"{folder} is a release, whose {FILE} lists its card; gemnet publish MODEL {of} --dry-run --out {folder} "
            f"writes it anew, gemnet card {folder} {of} --out FILE the card alone"
        )
    return write_card(folder, wish.repo, wish.tag), check_card(folder)


COMMANDS = (card,)
