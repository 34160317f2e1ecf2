"""What the command lines share: errors as one line on stderr, with the exit code they carry."""

from typing import Any

import click

from .errors import GemnetError

INTERRUPTED = 130


class GemnetGroup(click.Group):
    """A click group whose commands fail with one line `Error: ...` instead of a traceback.

    `GemnetError` exits with its `exit_code`, a file that cannot be read or written with 1, Ctrl-C
    with 130. Usage errors are click's own and exit with 2.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command; see click."""
        try:
            return super().invoke(ctx)
        except GemnetError as error:
            raise OneLine(str(error), error.exit_code) from None
        except BrokenPipeError:
            raise  # the reader of stdout has gone; click ends quietly
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise OneLine(f"{where}{error.strerror or error}", 1) from None
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(INTERRUPTED)


class OneLine(click.ClickException):
    """An error that click shows as `Error: ...` on one line of stderr."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(" ".join(message.split()))
        vars(self)["exit_code"] = exit_code  # click declares it a class's, reads it from the instance
