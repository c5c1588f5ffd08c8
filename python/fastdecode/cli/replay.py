"""`fastdecode replay`: a saved run made again, and checked against what was saved."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

import fastdecode
from fastdecode.cli.options import EngineName, Json, quiet_loading
from fastdecode.cli.output import emit, tolerant

if TYPE_CHECKING:
    from fastdecode.jobs.replay import Replay

_NOT_THE_SAME = 1


def replay(
    path: Annotated[str, typer.Argument(metavar="RUN.JSON", help="A run that --save wrote.")],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Another model than the one that the file names."),
    ] = None,
    engine: Annotated[
        EngineName | None,
        typer.Option("--engine", help="Another engine than the one that it was made on."),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="Other weights than it was made with.")
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option("--tolerance", help="Nats that a log-probability may be off, where saved."),
    ] = 1e-3,
    everything: Annotated[
        bool, typer.Option("--all", help="Name the first difference of every text.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a saved run again and verify it.

    Exit code 0: every token came out as it was saved. 1: one did not; the first that differs is
    named, with both tokens and their log-probabilities.
    """
    quiet_loading(model or "")
    found = fastdecode.verify(
        path,
        model=model,
        engine=None if engine is None else str(engine),
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
        raise typer.Exit(_NOT_THE_SAME)


def _record(found: Replay) -> dict[str, Any]:
    return {
        "path": found.path,
        "same": found.same,
        "texts": len(found.saved),
        "tokens": sum(len(item.token_ids) for item in found.saved),
        "differences": [asdict(difference) for difference in found.differences],
        "largest": found.largest,
        "environment": {
            name: {"then": then, "now": now} for name, (then, now) in found.environment.items()
        },
    }
