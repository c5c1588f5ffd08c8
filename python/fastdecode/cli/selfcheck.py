"""`fastdecode selfcheck`: that what is promised holds on this machine."""

from __future__ import annotations

from dataclasses import asdict

import typer

from fastdecode.cli.options import Json
from fastdecode.cli.output import emit, show


def selfcheck(as_json: Json = False) -> None:
    """Check this machine: random numbers, law, draws, instruction sets, the demo model.

    Exit code 1 where a check fails.
    """
    from fastdecode.jobs import selfcheck as selfchecks

    found = selfchecks.selfcheck()
    if as_json:
        for check in found:
            emit(asdict(check))
    else:
        show(found)
    if not found.passed:
        raise typer.Exit(1)
