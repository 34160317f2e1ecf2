"""The commands `verify`, `fetch` and `promote-weights` of `gemnet`; everything heavy is imported inside them."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from .cli_options import JSON, UserPath

REF = click.argument("ref", metavar="REF")
REVISION = click.option("--revision", metavar="NAME", help="Tag, branch or commit on the Hub.")

SHOWN = 3  # files that are named where there are many


@click.command()
@REF
@REVISION
@JSON
@click.pass_context
def verify(context: click.Context, ref: str, revision: str | None, as_json: bool) -> None:
    """Compare every file of a release with its manifest.

    REF is ORG/NAME or ORG/NAME@TAG on the Hub, a folder, or the name of weights in a zoo.
    """
    from . import fetching

    rows = []
    for row in fetching.verify(ref, revision):
        rows.append(row)
        if not as_json:
            click.echo(f"{'BAD' if row.problem else 'ok ':3}  {row.sha256[:12]}  {row.size:>12,}  {row.name}")
    extra = fetching.unlisted(ref) if revision is None else []
    bad = [row for row in rows if row.problem]
    if as_json:
        click.echo(json.dumps({"ref": ref, "ok": not bad, "files": [asdict(row) for row in rows], "unlisted": extra}))
    if extra:
        names = ", ".join([*map(ascii, extra[:SHOWN]), *["..."] * (len(extra) > SHOWN)])
        count = f"{len(extra)} file{'s' * (len(extra) > 1)}"
        click.echo(f"not in the manifest, not compared: {count} ({names})", err=True)
    if not bad and not as_json:
        click.echo(f"{ref}: {len(rows)} files, as they should be")
    for row in bad:
        click.echo(f"Error: {row.problem}", err=True)
    if bad:
        context.exit(1)


@click.command()
@REF
@click.option("--to", type=UserPath(), required=True, metavar="DIR", help="Folder to write.")
@REVISION
@click.option("--force", is_flag=True, help="Replace a DIR that is not empty.")
@JSON
def fetch(ref: str, to: Path, revision: str | None, force: bool, as_json: bool) -> None:
    """Write a release into a folder, for machines without a network.

    DIR appears whole and verified, or not at all. There, gemnet.from_pretrained("DIR") and
    timm.create_model("local-dir:DIR", pretrained=True) load it.
    """
    from . import fetching

    files = fetching.fetch(ref, to, revision, force=force).files
    size = sum(record.size for record in files.values())
    if as_json:
        click.echo(json.dumps({"ref": ref, "to": str(to), "files": len(files), "bytes": size}))
        return
    click.echo(f"{to}: {len(files)} files, {size / 1e6:.1f} MB, all as the manifest says")


@click.command("promote-weights")
@click.argument("folder", metavar="DIR", type=UserPath(exists=True, file_okay=False))
@click.argument("name", metavar="MODEL.TAG")
@click.option("--data", metavar="NAME",
              help="Data set they were trained on; by default the public set that the training knew, else the name "
                   "in train.json, else TAG.")
@click.option("--license", "licence", metavar="ID",
              help="Of the weights; by default what gemnet publish says of weights from that data.")
@click.option("--zoo", "target", type=UserPath(exists=True, file_okay=False), metavar="FOLDER",
              help="Zoo to write to; by default that of GEMNET_ZOO, else a checkout's, else the user's own.")
@click.option("--force", is_flag=True, help="Replace weights of that name.")
@JSON
def promote_weights(
    folder: Path, name: str, data: str | None, licence: str | None, target: Path | None, force: bool, as_json: bool
) -> None:
    """Put the weights that gemnet train left in DIR into the zoo, where timm finds them as MODEL.TAG."""
    from .packing import pack

    weights = pack(folder, name, data=data, licence=licence, target=target, force=force)
    if as_json:
        click.echo(json.dumps({"name": name, **weights.to_dict(), "path": str(weights.path)}))
        return
    scored = f", test top-1 {100 * weights.result.top1:.2f} % on {weights.result.data}" if weights.result else ""
    click.echo(f"{name}: {weights.path}, sha256 {weights.sha256[:12]}{scored}")


COMMANDS = (verify, fetch, promote_weights)
