"""The command line `gemnet`; everything heavy is imported inside the commands."""

import json
from typing import Any

import click

from . import __version__
from .cli_base import GemnetGroup
from .cli_options import JSON


@click.group(cls=GemnetGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gemnet")
def main() -> None:
    """Look at GEMNet models and export them.

    NAME_OR_CELL is a model such as gemnet_a, a cell of the zoo, or the path of a cell's JSON file.
    """


@main.group()
def plugin() -> None:
    """Let timm know the models in programs that do not import gemnet."""


@plugin.command()
@JSON
def enable(as_json: bool) -> None:
    """Switch it on for this Python environment."""
    from . import plugin as plugins

    _tell(plugins.enable(), as_json)


@plugin.command()
@JSON
def disable(as_json: bool) -> None:
    """Switch it off and leave nothing behind."""
    from . import plugin as plugins

    _tell(plugins.disable(), as_json)


@plugin.command("status")
@JSON
def show_status(as_json: bool) -> None:
    """Say whether it is on."""
    from . import plugin as plugins

    _tell(plugins.status(), as_json)


def _tell(status: Any, as_json: bool) -> None:
    click.echo(json.dumps(vars(status)) if as_json else f"{status.state} in {status.folder}")


def _attach() -> None:
    """Adds the commands of other modules, which import nothing heavy before they run."""
    from gemnet.export import card_cli, cli, publish_cli

    from . import doctor_cli, listing_cli, load_cli, train_cli

    for module in (listing_cli, train_cli, cli, card_cli, publish_cli, load_cli, doctor_cli):
        for command in module.COMMANDS:
            main.add_command(command)


_attach()

if __name__ == "__main__":
    main()
