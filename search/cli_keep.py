"""Commands that check a study and carry its results elsewhere: verify, replay, export, promote."""

import json
from pathlib import Path

import click

from gemnet.cli_options import FILE, FOLDER, JSON

from .cli_look import DIRECTORY


@click.command()
@DIRECTORY
@JSON
def verify(directory: Path, as_json: bool) -> None:
    """Check every row of the journal and every file of the artifacts in DIR; exit with 1 when one is damaged."""
    from .verify import verify as look

    found = look(directory)
    if as_json:
        click.echo(json.dumps(found.to_dict()))
    else:
        for problem in found.problems:
            click.echo(problem)
        counts = f"{found.rows} rows, {found.trials} trials and {found.artifacts} artifacts"
        bad = len(found.problems)
        click.echo(f"{bad} problems; {counts} were read" if bad else f"{counts} are whole")
    if found.problems:
        raise SystemExit(1)


@click.command()
@DIRECTORY
@click.option("--trials", type=click.IntRange(1), default=3, show_default=True, help="How many to measure again.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Chooses them.")
@click.option("--workers", metavar="N|ray", default="1", show_default=True, help="As for run.")
@JSON
def replay(directory: Path, trials: int, seed: int, workers: str, as_json: bool) -> None:
    """Measure random finished trials of DIR again; exit with 1 when a number comes out differently."""
    from .cli import workforce
    from .compose import compose
    from .record import surroundings_changed
    from .remeasure import replay as again
    from .standing import standing

    found = standing(directory)
    changed = surroundings_changed(found.record)
    if changed:
        click.echo(f"Warning: {'; '.join(changed)}: other numbers are to be expected", err=True)
    repeated = again(found, compose(found.record.settings), trials, seed, workforce(workers))
    if as_json:
        click.echo(json.dumps([one.to_dict() for one in repeated]))
    else:
        for one in repeated:
            differs = [f"{name} was {then}, is {now}" for name, (then, now) in one.differs.items()]
            click.echo(f"trial {one.trial[:12]}: {'the same' if one.same else one.error or '; '.join(differs)}")
    if not all(one.same for one in repeated):
        raise SystemExit(1)


@click.command()
@DIRECTORY
@click.option("--jsonl", "lines", type=FILE, help="Write settings and trials for 'resume --from' to this file.")
@click.option("--csv", "table", type=FILE, help="Write a table of all trials to this file.")
def export(directory: Path, lines: Path | None, table: Path | None) -> None:
    """Write the trials of DIR as text; may be asked while it runs. /dev/stdout is a file, too."""
    from gemnet.durable import write_atomic

    from .standing import standing
    from .transfer import csv_text, jsonl

    if lines is None and table is None:
        raise click.UsageError("give --jsonl FILE or --csv FILE")
    found = standing(directory)
    if lines is not None:
        write_atomic(lines, jsonl(found))
    if table is not None:
        write_atomic(table, csv_text(found))
    click.echo(f"{found.trials} trials written.", err=True)


@click.command()
@DIRECTORY
@click.argument("name")
@click.option("--zoo", "folder", type=FOLDER,
              help="Zoo to write to; by default the checkout's, or the user's own.")  # fmt: skip
@click.option("--rank", type=click.IntRange(1), default=1, show_default=True, help="1 is the winner.")
@click.option("--provisional", is_flag=True, help="Mark the cell as one that will be replaced.")
@click.option("--force", is_flag=True, help="Replace a cell of that name.")
def promote(directory: Path, name: str, folder: Path | None, rank: int, provisional: bool, force: bool) -> None:
    """Put the winner of DIR into the zoo as NAME."""
    from .promote import promote as write
    from .standing import standing

    path = write(standing(directory), name, folder, rank=rank, provisional=provisional, force=force)
    click.echo(str(path))


COMMANDS = (verify, replay, export, promote)
