"""`fastdecode bench`: how fast a model decodes on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from fastdecode.cli.options.model import model_options, opened
from fastdecode.cli.options.parameters import EPILOG, given, parameter_options
from fastdecode.cli.options.sections import Command
from fastdecode.cli.output import emit, json_option, show

# More would not be measured within a day.
_MOST = 2**20


@click.command(cls=Command, epilog=EPILOG)
@model_options
@click.option(
    "--batch",
    "-b",
    type=int,
    multiple=True,
    show_default="1, 8 and 32",
    help="Texts at a time. May be repeated.",
)
@click.option("--max-new-tokens", type=int, default=64, help="New tokens of each text.")
@click.option("--repeats", type=int, default=3, help="Runs, of which the median is shown.")
@json_option
@parameter_options
def bench(
    model: str,
    engine: str,
    dtype: str | None,
    batch: Sequence[int],
    max_new_tokens: int,
    repeats: int,
    as_json: bool,
    **parameters: Any,
) -> None:
    """Measure tokens per second, and where the time goes.

    Greedy decoding is measured where no option says how to choose tokens.
    """
    from fastdecode.jobs import throughput as throughputs
    from fastdecode.options import checks, keywords
    from fastdecode.options.strategies import Beam

    chosen = keywords.read(given(parameters), None).strategy
    if isinstance(chosen, Beam):
        raise TypeError("a beam search has no throughput by batch")
    checks.integer("--max-new-tokens", max_new_tokens, 1)
    for size in batch:
        _counted("--batch", size)
    found = throughputs.measure(
        opened(model, engine, dtype),
        batch or (1, 8, 32),
        strategy=chosen,
        max_new_tokens=max_new_tokens,
        repeats=_counted("--repeats", repeats),
    )
    if not as_json:
        show(found)
        return
    for item in found:
        emit(asdict(item) | {"model": model} | found.environment)


def _counted(option: str, count: int) -> int:
    """A count that can be measured, refused by the option's name."""
    from fastdecode.options import checks

    if checks.integer(option, count, 1) > _MOST:
        raise ValueError(
            f"{option}={checks.shown(count)} is above {_MOST}, the most that is measured"
        )
    return count
