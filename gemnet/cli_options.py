"""Options that several commands of `gemnet` share."""

import math
from typing import Any

import click

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
