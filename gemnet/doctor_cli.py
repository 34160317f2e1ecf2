"""The command `gemnet doctor`, which works where nothing else does."""

import json

import click

from .cli_options import JSON


@click.command()
@JSON
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Look for what is wrong with this installation; each finding has the command that mends it.

    Exit code 1 when something is broken, 0 otherwise.
    """
    from dataclasses import asdict

    from .doctor import BROKEN, examine

    findings = examine()
    broken = [finding for finding in findings if finding.state == BROKEN]
    if as_json:
        click.echo(json.dumps({"ok": not broken, "findings": [asdict(finding) for finding in findings]}))
    else:
        width = max(len(finding.about) for finding in findings)
        for finding in findings:
            click.echo(f"{finding.state:6}  {finding.about.ljust(width)}  {finding.text}")
            if finding.fix:
                click.echo(f"{'':6}  {'':{width}}  mend it: {finding.fix}")
    context.exit(1 if broken else 0)


COMMANDS = (doctor,)
