"""`fastdecode replay`: run a saved run again, and compare it with what was saved."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

import fastdecode
from fastdecode.cli.options.model import dtype_option, engine_option, quiet_loading
from fastdecode.cli.options.sections import Command
from fastdecode.cli.output import emit, json_option, tolerant

if TYPE_CHECKING:
    from fastdecode.jobs.replay import Replay

_NOT_THE_SAME = 1


@click.command(cls=Command)
@click.argument("path", metavar="RUN.JSON")
@click.option("--model", "-m", metavar="NAME", help="Use this model, not the one of the file.")
@engine_option(None, "Use this engine, not the one of the file.")
@dtype_option("Use this number format, not the one of the file.")
@click.option(
    "--tolerance",
    type=float,
    default=1e-3,
    help="Largest accepted difference of a saved log-probability, in nats.",
)
@click.option("--all", "everything", is_flag=True, help="Show the first difference of every text.")
@json_option
def replay(
    path: str,
    model: str | None,
    engine: str | None,
    dtype: str | None,
    tolerance: float,
    everything: bool,
    as_json: bool,
) -> None:
    """Run a saved run again, and report whether it is the same.

    RUN.JSON is a file that --save wrote. Exit code 0: every token is the same. 1: not every token
    is the same; the first that differs is shown, with both tokens and their log-probabilities, and
    whether the weights, the tokenizer or the number format are others.
    """
    quiet_loading(model or "")
    found = fastdecode.verify(
        path,
        model=model,
        engine=engine,
        dtype=dtype,
        tolerance=tolerance,
    )
    if as_json:
        emit(_record(found))
    else:
        tolerant()
        print(found.explain())
        if everything:
            for difference in found.differences[1:]:
                print(difference.explain())
    if not found.same:
        raise click.exceptions.Exit(_NOT_THE_SAME)


def _record(found: Replay) -> dict[str, Any]:
    return {
        "path": found.path,
        "same": found.same,
        "texts": len(found.saved),
        "tokens": sum(len(item.token_ids) for item in found.saved),
        "differences": [asdict(difference) for difference in found.differences],
        "largest": found.largest,
        "model": {name: {"then": then, "now": now} for name, (then, now) in found.model.items()},
        "note": found.note or None,
        "environment": {
            name: {"then": then, "now": now} for name, (then, now) in found.environment.items()
        },
    }
