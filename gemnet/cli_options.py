"""Options that several commands share."""

import math
import os
from pathlib import Path
from typing import Any

import click


class UserPath(click.Path):
    """A path, as `pathlib.Path`, in which `~` is the home folder, as shells leave it in `--out=~/net`.

    An empty one is refused: it would stand for the folder one is in.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(path_type=Path, **kwargs)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Checks and converts; see click."""
        if not os.fspath(value):
            self.fail("it is empty; name a file or a folder", param, ctx)
        return super().convert(os.path.expanduser(value), param, ctx)


FILE, FOLDER = UserPath(dir_okay=False), UserPath(file_okay=False)
MACROS = ("imagenet", "small", "proxy")
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as one line of JSON.")
MODEL = click.argument("model", metavar="NAME_OR_CELL")


def size_options(command: Any) -> Any:
    """The options that scale a cell to a network."""
    for option in (
        click.option("--macs", type=click.FloatRange(min=0, min_open=True), metavar="MILLIONS",
                     help="Scale the network to at most that many million multiply-adds."),
        click.option("--macro", type=click.Choice(MACROS), help="Form of the network: imagenet is 224 px, small 32."),
    ):  # fmt: skip
        command = option(command)
    return command


def count_macs(millions: float | None) -> int | None:
    """The number of MACs that `--macs` means; raises click.BadParameter when it is not finite."""
    if millions is None:
        return None
    if not math.isfinite(millions):
        raise click.BadParameter(f"{millions} is no number of MACs", param_hint="--macs")
    return round(millions * 1e6)
