"""Commands that look at studies and change nothing: status, best, report, compare."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gemnet.cli_options import FILE, JSON, UserPath

if TYPE_CHECKING:
    from .standing import Standing
    from .trial import Trial

DIRECTORY = click.argument("directory", metavar="DIR", type=UserPath())
WATCH_S = 2.0


@click.command()
@DIRECTORY
@click.option("--watch", is_flag=True, help="Show it again and again until the search ends.")
@JSON
def status(directory: Path, watch: bool, as_json: bool) -> None:
    """Show how far the search in DIR is; may be asked while it runs."""
    from .standing import standing

    found = standing(directory, archs=False)
    if watch:
        _watch(directory, found, as_json)
    else:
        click.echo("\n".join(_lines(found, as_json)))


@click.command()
@DIRECTORY
@click.option("--cell", "file", type=FILE,
              help="Write the cell, as JSON, to this file.")
@JSON
def best(directory: Path, file: Path | None, as_json: bool) -> None:
    """Show the best cell that the search in DIR has found."""
    from .standing import standing

    found = standing(directory)
    trial, score = found.best()
    if file is not None:
        from gemnet.durable import write_atomic

        from .promote import best_cell

        write_atomic(file, json.dumps(best_cell(found).to_dict()) + "\n")
    if as_json:
        click.echo(json.dumps(found.best_dict()))
    else:
        click.echo(described(trial, score))
        if found.state != "finished":
            click.echo(f"The search is {found.state}: this is the best of {found.trials} trials so far.", err=True)


@click.command()
@DIRECTORY
@click.option("--out", "file", type=FILE,
              help="The file to write; by default report.html in DIR.")
def report(directory: Path, file: Path | None) -> None:
    """Write what the search in DIR did as one HTML file that needs no network."""
    from gemnet.durable import write_atomic

    from .report import report as page
    from .standing import standing

    path = file or directory / "report.html"
    write_atomic(path, page(standing(directory)))
    click.echo(str(path))


@click.command()
@click.argument("directories", metavar="DIR...", nargs=-1, required=True, type=UserPath())
@JSON
def compare(directories: tuple[Path, ...], as_json: bool) -> None:
    """Compare searches: those that differ in their seed alone are one line, with their spread."""
    from .compare import compare as grouped
    from .compare import table
    from .standing import standing

    groups = grouped([standing(directory, archs=False) for directory in directories])
    if as_json:
        click.echo(json.dumps([group.to_dict() for group in groups]))
    else:
        click.echo("\n".join(table(groups)))


COMMANDS = (status, best, report, compare)


def described(trial: "Trial", score: float) -> str:
    """A trial in a few words."""
    metrics = trial.metrics
    parts = [f"val_acc {100 * metrics['val_acc']:.2f} %"]
    parts += [f"{metrics[name] / 1e6:.2f} M {name}" for name in ("macs", "params") if name in metrics]
    return f"cell {trial.arch_key[:12]}: {', '.join(parts)}, score {score:.4f}"


def span(seconds: float) -> str:
    """A time a person can grasp: `8.5 s`, `12 min`, `3.4 h`."""
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _lines(found: "Standing", as_json: bool) -> list[str]:
    if as_json:
        return [json.dumps(found.to_dict())]
    by = f" ({found.worker})" if found.state == "running" else ""
    lines = [f"{found.directory}: {found.state}{by}, strategy {found.strategy}, seed {found.record.seed}"]
    for phase in found.phases:
        notes = [f"{phase.failed} failed"] if phase.failed else []
        notes += [f"{phase.infra} failed:infra (resume --retry-failed)"] if phase.infra else []
        lines.append(f"  {phase.name}: " + ", ".join([f"{phase.done} of {phase.asked} measured", *notes]))
    if found.now is not None:
        steps = "" if found.now.total is None else f" {found.now.done:,.0f} of {found.now.total:,}"
        notes = [f"{found.running} running"] if found.running else []
        left_s = found.left_s()
        notes += ["time left unknown" if left_s is None else f"about {span(left_s)} left"]
        lines.append(f"  now {found.now.phase}{steps}, {', '.join(notes)}")
    if found.ranking:
        lines.append(f"  best {'' if found.state == 'finished' else 'so far '}{described(*found.best())}")
    return lines


def _watch(directory: Path, found: "Standing", as_json: bool) -> None:
    """Shows a status until the search does not run any more: in place on a terminal, else what is new."""
    from rich.live import Live
    from rich.text import Text

    from .standing import standing

    lines = _lines(found, as_json)
    if as_json or not sys.stdout.isatty():
        click.echo("\n".join(lines))
        while found.state == "running":
            time.sleep(WATCH_S)
            found = standing(directory, archs=False)
            before, lines = lines, _lines(found, as_json)
            if lines != before:
                click.echo("\n".join(lines))
        return
    with Live(Text("\n".join(lines)), auto_refresh=False) as live:
        while found.state == "running":
            time.sleep(WATCH_S)
            found = standing(directory, archs=False)
            live.update(Text("\n".join(_lines(found, as_json))), refresh=True)
