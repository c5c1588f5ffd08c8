"""`fastdecode bench`: how fast a model decodes on this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from fastdecode.cli.options import MODEL, STRATEGY, Json, group, opened
from fastdecode.cli.output import emit, show


@group("model", MODEL)
@group("strategy", STRATEGY)
def bench(
    model: dict[str, Any],
    strategy: dict[str, Any],
    batch: Annotated[
        list[int] | None,
        typer.Option(
            "--batch", "-b", help="Texts at a time. May be repeated.", show_default="1, 8 and 32"
        ),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", help="Tokens of each.")] = 64,
    repeats: Annotated[int, typer.Option("--repeats", help="Runs; the median is shown.")] = 3,
    as_json: Json = False,
) -> None:
    """Measure tokens a second and where the time goes, for --model and a way to draw."""
    from fastdecode.jobs import throughput as throughputs
    from fastdecode.options import checks, keywords
    from fastdecode.options.strategies import Beam

    chosen = keywords.read(strategy, None).strategy
    if isinstance(chosen, Beam):
        raise TypeError("a beam search has no throughput by batch")
    checks.integer("--max-new-tokens", max_new_tokens, 1)
    for size in batch or ():
        checks.integer("--batch", size, 1)
    found = throughputs.measure(
        opened(model),
        batch or (1, 8, 32),
        strategy=chosen,
        max_new_tokens=max_new_tokens,
        repeats=checks.integer("--repeats", repeats, 1),
    )
    if not as_json:
        show(found)
        return
    for item in found:
        emit(asdict(item) | {"model": model["model"]} | found.environment)
