"""The command line `gemnet-search`; everything heavy is imported inside the commands."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gemnet import __version__
from gemnet.cli_base import INTERRUPTED, GemnetGroup

if TYPE_CHECKING:
    from .compose import Parts
    from .study import Study
    from .trial import Trial

F = TypeVar("F", bound=Callable[..., Any])
DIRECTORY = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as one line of JSON.")


def search_options(command: F) -> F:
    """The options that `run` and `resume` have in common."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for option in reversed((
        click.option("--data", metavar="NAME", help="Data set, such as cifar10, npz:FILE or folder:DIR."),
        click.option("--preset", metavar="NAME", help="Settings to start from: a name such as demo, or a JSON file."),
        click.option("--set", "changes", multiple=True, metavar="NAME=VALUE",
                     help="Change one setting, such as strategy.samples=24. May be repeated."),
        click.option("--workers", type=click.IntRange(0, 1024), default=cpus, show_default="the processors",
                     help="Processes that measure, one thread each; 0 measures in the main process."),
        click.option("--quiet", is_flag=True, help="Show no progress."),
        JSON,
    )):  # fmt: skip
        command = option(command)
    return command


@click.group(cls=GemnetGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gemnet-search")
def main() -> None:
    """Search for network cells.

    A search lives in a directory. It can be stopped at any moment and resumed, and gives the same
    cell as if it had not been stopped.
    """


@main.command()
@DIRECTORY
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of everything random.")
@search_options
def run(
    directory: Path,
    seed: int,
    data: str | None,
    preset: str | None,
    changes: tuple[str, ...],
    workers: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Start a search in the new directory DIR."""
    from . import presets
    from .compose import compose
    from .opening import refuse_occupied
    from .progress import Progress
    from .study import Study

    refuse_occupied(directory)
    sections = _changed(presets.load(preset or "demo"), data, changes)
    parts = compose(sections)

    def start() -> "Study":
        return Study.create(
            directory,
            parts.settings,
            seed=seed,
            space=parts.space,
            evaluator=parts.evaluator,
            objective=parts.objective,
            workers=workers,
            progress=Progress(quiet),
        )

    _search(directory, start, parts, as_json)


@main.command()
@DIRECTORY
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Must be the study's when given.")
@search_options
@click.option("--retry-failed", is_flag=True, help="Measure trials again that a time limit or a dead worker ended.")
def resume(
    directory: Path,
    seed: int | None,
    data: str | None,
    preset: str | None,
    changes: tuple[str, ...],
    workers: int,
    quiet: bool,
    as_json: bool,
    retry_failed: bool,
) -> None:
    """Go on with the search in DIR.

    Settings need not be repeated; those that are given must be the ones it was started with.
    """
    from . import presets
    from .compose import compose
    from .opening import refuse_other_settings
    from .progress import Progress
    from .record import read_record
    from .study import Study

    record, _ = read_record(directory)
    if preset or data or changes:
        wanted = _changed(presets.load(preset) if preset else record.settings, data, changes)
        refuse_other_settings(record, compose(wanted).settings, seed)
    refuse_other_settings(record, None, seed)
    parts = compose(record.settings)

    def start() -> "Study":
        return Study.open(
            directory,
            space=parts.space,
            evaluator=parts.evaluator,
            objective=parts.objective,
            workers=workers,
            progress=Progress(quiet),
            retry_failed=retry_failed,
        )

    _search(directory, start, parts, as_json)


@main.command()
@DIRECTORY
@JSON
def status(directory: Path, as_json: bool) -> None:
    """Show how far the search in DIR is; may be asked while it runs."""
    from .standing import standing

    found = standing(directory)
    if as_json:
        click.echo(json.dumps(found.to_dict()))
        return
    by = f" ({found.worker})" if found.state == "running" else ""
    click.echo(f"{directory}: {found.state}{by}, strategy {found.strategy}, seed {found.record.seed}")
    for phase in found.phases:
        notes = [f"{phase.failed} failed"] if phase.failed else []
        notes += [f"{phase.infra} failed:infra (resume --retry-failed)"] if phase.infra else []
        click.echo(f"  {phase.name}: " + ", ".join([f"{phase.done} of {phase.asked} measured", *notes]))
    if found.ranking:
        click.echo(f"  best {'' if found.state == 'finished' else 'so far '}{_described(*found.best())}")


@main.command()
@DIRECTORY
@click.option("--cell", "file", type=click.Path(path_type=Path, dir_okay=False),
              help="Write the cell, as JSON, to this file.")
@JSON
def best(directory: Path, file: Path | None, as_json: bool) -> None:
    """Show the best cell that the search in DIR has found."""
    from .standing import standing

    found = standing(directory)
    trial, score = found.best()
    if file is not None:
        from .durable import write_atomic
        from .promote import best_cell

        write_atomic(file, json.dumps(best_cell(found).to_dict()) + "\n")
    if as_json:
        click.echo(json.dumps(found.best_dict()))
    else:
        click.echo(_described(trial, score))
        if found.state != "finished":
            click.echo(f"The search is {found.state}: this is the best of {found.trials} trials so far.", err=True)


@main.command()
@DIRECTORY
@click.argument("name")
@click.option("--zoo", "folder", type=click.Path(path_type=Path, file_okay=False),
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


@main.command()
@click.argument("table")
@click.option("--strategy", metavar="NAME", default="nasgem", show_default=True, help="Such as random or evolution.")
@click.option("--seeds", type=click.IntRange(1), default=20, show_default=True, help="How many runs.")
@click.option("--queries", type=click.IntRange(1), default=200, show_default=True, help="The most a run may make.")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE",
              help="Change one setting, such as strategy.finalists=1. May be repeated.")  # fmt: skip
@click.option("--workers", type=click.IntRange(0, 1024), default=0, show_default=True,
              help="Processes that share the runs; 0 runs them in the main process.")  # fmt: skip
@click.option("--out", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write the result to this file.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@JSON
def benchmark(
    table: str,
    strategy: str,
    seeds: int,
    queries: int,
    changes: tuple[str, ...],
    workers: int,
    file: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Count the queries after which a strategy finds a best cell of TABLE.

    TABLE is nasbench201:FILE (CSV), nats:DIR, nasbench101:FILE (TFRecord), ecnas:FILE, csv:FILE or
    parquet:FILE. Options of a table follow a question mark: csv:FILE?arch=cell&val_acc=accuracy&scale=0.01.
    """
    from . import presets
    from .benchmark import benchmark as run_all
    from .benchmark import describe
    from .durable import write_atomic
    from .progress import Progress

    section = presets.override({"strategy": {"name": strategy}}, changes)["strategy"]
    with Progress(quiet).phase("runs", seeds) as phase:
        report = run_all(table, section, seeds, queries, workers, lambda _: phase.advance())
    if file is not None:
        write_atomic(file, json.dumps(report.to_dict(), indent=1) + "\n")
    for line in [json.dumps(report.to_dict())] if as_json else describe(report):
        click.echo(line)


def _changed(sections: dict[str, Any], data: str | None, changes: tuple[str, ...]) -> dict[str, Any]:
    from . import presets

    given = presets.override(sections, changes)
    return given | {"data": {"name": presets.data_name(data)}} if data else given


def _search(directory: Path, start: "Callable[[], Study]", parts: "Parts", as_json: bool) -> None:
    from .standing import standing

    try:
        with start() as study:
            trial = study.run(parts.strategy)
            score = study.score(trial)
    except KeyboardInterrupt:
        click.echo(f"Interrupted. Go on with: gemnet-search resume {directory}", err=True)
        raise SystemExit(INTERRUPTED) from None
    if as_json:
        click.echo(json.dumps(standing(directory).best_dict()))
    else:
        click.echo(f"best {_described(trial, score)}")


def _described(trial: "Trial", score: float) -> str:
    metrics = trial.metrics
    parts = [f"val_acc {100 * metrics['val_acc']:.2f} %"]
    parts += [f"{metrics[name] / 1e6:.2f} M {name}" for name in ("macs", "params") if name in metrics]
    return f"cell {trial.arch_key[:12]}: {', '.join(parts)}, score {score:.4f}"


if __name__ == "__main__":
    main()
