"""`fastdecode selfcheck`: check on this machine what fastdecode promises."""

from __future__ import annotations

from dataclasses import asdict

import click

from fastdecode.cli.options.sections import Command
from fastdecode.cli.output import emit, json_option, show


@click.command(cls=Command)
@json_option
def selfcheck(as_json: bool) -> None:
    """Check on this machine what fastdecode promises.

    Checks the random numbers, the law, the draws, all instruction sets and the demo model. Exit
    code 1: a check failed.
    """
    from fastdecode.jobs import selfcheck as selfchecks

    found = selfchecks.selfcheck()
    if as_json:
        for check in found:
            emit(asdict(check))
    else:
        show(found)
    if not found.passed:
        raise click.exceptions.Exit(1)
