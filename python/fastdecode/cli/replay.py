"""`fastdecode replay`: run a saved run again, and compare it with what was saved."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from fastdecode._interrupts import unraised
from fastdecode.cli.options.model import (
    cache_option,
    dtype_option,
    engine_option,
    quiet_loading,
    trust_option,
)
from fastdecode.cli.options.sections import Command
from fastdecode.cli.output import emit, json_option, show

if TYPE_CHECKING:
    from fastdecode.jobs.replay import Replay

_NOT_THE_SAME = 1


@click.command(cls=Command)
@click.argument("path", metavar="RUN.JSON")
@click.option("--model", "-m", metavar="NAME", help="Use this model, not the one of the file.")
@engine_option(None, "Use this engine, not the one of the file.")
@dtype_option("Use this number format, not the one of the file.")
@cache_option("Use this format of the KV cache, not the one of the file.")
@trust_option("Run the Python code that the model of --model brings with it.")
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
    kv_cache_dtype: str | None,
    trust_remote_code: bool,
    tolerance: float,
    everything: bool,
    as_json: bool,
) -> None:
    """Run a saved run again, and report whether it is the same.

    RUN.JSON is a file that --save wrote. The model that it names is loaded, unless --model names
    another; if it is not demo, standard error says which. Exit code 0: every token is the same. 1:
    not every token is the same; the first that differs is shown, with both tokens and their
    log-probabilities, and whether the weights, the tokenizer or the number format are others.
    """
    quiet_loading(model or "")
    with unraised():
        from fastdecode.jobs.replay import verify
    found = verify(
        path,
        model=model,
        tokenizer=None,
        engine=engine,
        dtype=dtype,
        kv_cache_dtype=kv_cache_dtype,
        trust_remote_code=trust_remote_code,
        tolerance=tolerance,
    )
    if as_json:
        emit(_record(found))
    else:
        show(found.explain())
        if everything:
            for difference in found.differences[1:]:
                show(difference.explain())
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
