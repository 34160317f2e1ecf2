"""The command line `gemnet-search`; everything heavy is imported inside the commands."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gemnet import __version__
from gemnet.cli_base import GemnetGroup
from gemnet.cli_options import FILE, JSON
from gemnet.stopping import Stop

from . import cli_keep, cli_look
from .cli_look import DIRECTORY, described

if TYPE_CHECKING:
    from .compose import Parts
    from .study import Study
    from .workforce import Workforce

SIGNALLED = 128  # a shell's exit code for a process that a signal ended, to which the signal's number is added


@dataclass(frozen=True)
class Options:
    """What `run` and `resume` are told alike; see `search_options`."""

    data: str | None
    preset: str | None
    changes: tuple[str, ...]
    workers: str | None
    devices: str | None
    cpus: float
    gpus: float
    quiet: bool
    as_json: bool

    def changed(self, sections: dict[str, Any]) -> dict[str, Any]:
        """Sections of settings with --set and --data."""
        from . import presets

        given = presets.override(sections, self.changes)
        name = self.data or given["data"].get("name")
        return given | {"data": {"name": presets.data_name(name)} if isinstance(name, str) else given["data"]}

    def workforce(self) -> "Workforce":
        """Who measures."""
        return workforce(self.workers, self.devices, self.cpus, self.gpus)


def workforce(workers: str | None, devices: str | None = None, cpus: float = 1.0, gpus: float = 0.0) -> "Workforce":
    """The workforce that `--workers` and the options beside it name."""
    from .workforce import LOCAL, RAY, Workforce, processors

    if workers is not None and workers != RAY and not workers.isdecimal():
        raise click.BadParameter(f"expected a number or 'ray', got {workers!r}", param_hint="'--workers'")
    count = 0 if workers == RAY else processors() if workers is None else int(workers)
    listed = tuple(name.strip() for name in devices.split(",")) if devices else ()
    return Workforce(count, RAY if workers == RAY else LOCAL, listed, cpus, gpus)


WORKERS = click.option("--workers", metavar="N|ray", show_default="the processors",
                       help="Processes that measure, one thread each, 0 for the main process; "
                            "or ray: the Ray cluster there is, or that RAY_ADDRESS names.")  # fmt: skip


def search_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that `run` and `resume` have in common, given to a command as `options`."""

    @functools.wraps(command)
    def bundled(**given: Any) -> None:
        options = Options(**{field.name: given.pop(field.name) for field in fields(Options)})
        command(options=options, **given)

    for option in reversed((
        click.option("--data", metavar="NAME", help="Data set, such as cifar10, npz:FILE or folder:DIR."),
        click.option("--preset", metavar="NAME", help="Settings to start from: a name such as demo, or a JSON file."),
        click.option("--set", "changes", multiple=True, metavar="NAME=VALUE",
                     help="Change one setting, such as strategy.samples=24. May be repeated."),
        WORKERS,
        click.option("--devices", metavar="LIST", help="CUDA devices, such as 0,1: the workers share them evenly."),
        click.option("--cpus", type=float, default=1.0, show_default=True, help="Processors per trial, with Ray."),
        click.option("--gpus", type=float, default=0.0, show_default=True, help="GPUs per trial, with Ray; 0.5 is two "
                     "trials on each."),
        click.option("--quiet", is_flag=True, help="Show no progress."),
        JSON,
    )):  # fmt: skip
        bundled = option(bundled)
    return bundled


@click.group(cls=GemnetGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gemnet-search")
def main() -> None:
    """Search for network cells.

    A search lives in a directory. It can be stopped at any moment and resumed, and gives the same
    cell as if it had not been stopped.
    """


for _command in (*cli_look.COMMANDS, *cli_keep.COMMANDS):
    main.add_command(_command)


@main.command()
@DIRECTORY
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of everything random.")
@click.option("--dry-run", is_flag=True, help="Start nothing: say what time, memory and disk it would take.")
@search_options
def run(directory: Path, seed: int, dry_run: bool, options: Options) -> None:
    """Start a search in the new directory DIR."""
    from . import presets
    from .checking import check
    from .compose import compose
    from .opening import refuse_occupied

    refuse_occupied(directory)
    team = options.workforce()
    parts = compose(options.changed(presets.load(options.preset or "demo")))
    _check_team(parts, team)
    check(parts)
    if dry_run:
        _tell_cost(parts, team, options.as_json)
        return

    def start(**how: Any) -> "Study":
        from .study import Study

        return Study.create(directory, parts, seed=seed, **how)

    _search(directory, start, team, options)


@main.command()
@DIRECTORY
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Must be the study's when given.")
@click.option("--retry-failed", is_flag=True,
              help="Measure trials again that a time limit, a dead worker or a lost GPU ended.")  # fmt: skip
@click.option("--from", "source", type=FILE, metavar="FILE",
              help="Take over the trials that export --jsonl wrote, and the settings when DIR is new.")  # fmt: skip
@search_options
def resume(directory: Path, seed: int | None, retry_failed: bool, source: Path | None, options: Options) -> None:
    """Go on with the search in DIR.

    Settings need not be repeated; those that are given must be the ones it was started with.
    """
    from . import presets
    from .compose import compose
    from .opening import refuse_other_settings
    from .record import FILE, read_record
    from .study import Study
    from .transfer import carry_over, read_jsonl

    team, carried = options.workforce(), read_jsonl(source) if source else None
    if carried is not None and not (directory / FILE).exists():
        parts = compose(options.changed(carried.settings))
        Study.create(directory, parts, seed=carried.seed).close()
    record, _ = read_record(directory)
    if options.preset or options.data or options.changes:
        wanted = options.changed(presets.load(options.preset) if options.preset else record.settings)
        refuse_other_settings(record, compose(wanted).settings, seed)
    refuse_other_settings(record, None, carried.seed if carried and seed is None else seed)
    parts = compose(record.settings)
    _check_team(parts, team)
    if carried is not None:
        new = carry_over(directory, parts, carried)
        click.echo(f"{new} of {len(carried.trials)} trials of {source} are new here and taken over.", err=True)
    _search(directory, functools.partial(Study.open, directory, parts, retry_failed=retry_failed), team, options)


def _check_team(parts: "Parts", team: "Workforce") -> None:
    """Raises ConfigError when the devices that are asked for are not here; a cluster's are on its other machines."""
    from .checking import check_device, check_devices
    from .workforce import RAY

    check_devices(parts, team.devices)
    if team.kind != RAY:
        check_device(parts, team.devices)


@main.command()
@click.argument("table")
@click.option("--strategy", metavar="NAME", default="nasgem", show_default=True, help="Such as random or evolution.")
@click.option("--seeds", type=click.IntRange(1), default=20, show_default=True, help="How many runs.")
@click.option("--queries", type=click.IntRange(1), default=200, show_default=True, help="The most a run may make.")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE",
              help="Change one setting, such as strategy.finalists=1. May be repeated.")  # fmt: skip
@click.option("--workers", type=click.IntRange(0, 1024), default=0, show_default=True,
              help="Processes that share the runs; 0 runs them in the main process.")  # fmt: skip
@click.option("--out", "file", type=FILE, help="Write the result to this file.")
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
    from gemnet.durable import write_atomic
    from gemnet.errors import ConfigError

    from . import presets
    from .benchmark import benchmark as run_all
    from .benchmark import describe
    from .progress import Progress

    sections = presets.override({"strategy": {"name": strategy}}, changes)
    others = [name for name in sections if name != "strategy"]
    if others or sections["strategy"]["name"] != strategy:
        got = f"{others[0]}.*" if others else "strategy.name, which --strategy says"
        raise ConfigError(f"a benchmark's --set takes the settings of its strategy, strategy.*, got {got}")
    if file is not None and not file.absolute().parent.is_dir():
        raise ConfigError(f"there is no folder {file.parent} to write {file.name} to")
    with Progress(quiet).phase("runs", seeds) as phase:
        report = run_all(table, sections["strategy"], seeds, queries, workers, lambda _: phase.advance())
    if file is not None:
        write_atomic(file, json.dumps(report.to_dict(), indent=1) + "\n")
    for line in [json.dumps(report.to_dict())] if as_json else describe(report):
        click.echo(line)


def _search(directory: Path, start: "Callable[..., Study]", team: "Workforce", options: Options) -> None:
    from .progress import Progress
    from .standing import standing

    stop = Stop()
    try:
        with stop.heard(), start(workers=team, progress=Progress(options.quiet), stop=stop) as study:
            trial = study.run()
            score = study.score(trial)
    except KeyboardInterrupt:
        click.echo(f"Interrupted. Go on with: gemnet-search resume {directory}", err=True)
        raise SystemExit(SIGNALLED + stop.signal) from None
    if options.as_json:
        click.echo(json.dumps(standing(directory).best_dict()))
    else:
        click.echo(f"best {described(trial, score)}")


def _tell_cost(parts: "Parts", team: "Workforce", as_json: bool) -> None:
    from .rehearsal import rehearse

    found = rehearse(parts, team.count)
    if as_json:
        click.echo(json.dumps(found.to_dict()))
        return
    driver = "unknown" if found.driver_s is None else cli_look.span(found.driver_s)
    click.echo(f"time    about {cli_look.span(found.total_s)}: {found.trials} trials of {cli_look.span(found.trial_s)} "
               f"with {max(team.count, 1)} at a time, and {driver} for what lies between them")  # fmt: skip
    click.echo(f"memory  about {found.memory_mb / 1e3:.1f} GB")
    click.echo(f"disk    about {found.disk_mb:.1f} MB")


if __name__ == "__main__":
    main()
