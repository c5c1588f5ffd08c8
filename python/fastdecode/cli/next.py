"""`fastdecode next`: the likeliest next tokens, what a strategy keeps of them, and draws."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastdecode.cli.inputs import read
from fastdecode.cli.options import MODEL, STRATEGY, File, Json, group, opened
from fastdecode.cli.output import emit, show

if TYPE_CHECKING:
    from fastdecode.results.candidates import Candidates


@group("model", MODEL)
@group("strategy", STRATEGY)
def next_token(
    model: dict[str, Any],
    strategy: dict[str, Any],
    prompts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PROMPT...", help="Texts; - reads one from stdin.", show_default=False
        ),
    ] = None,
    file: File = None,
    k: Annotated[int, typer.Option("-k", help="How many candidates.")] = 10,
    draw: Annotated[
        bool, typer.Option("--draw", help="Draw one, and show the ticket that won.")
    ] = False,
    samples: Annotated[
        int | None, typer.Option("--samples", help="Draw so many, with replacement.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="For the draws. Left out: a fresh one, shown.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the likeliest next tokens behind each PROMPT.

    With a strategy (--temperature to --no-repeat-ngram), also what it keeps of them.
    """
    from fastdecode.options import checks, keywords

    if draw and samples is not None:
        raise ValueError("--draw shows one draw, --samples counts many; give one of the two")
    inputs = read(prompts, file, "prompt")
    if strategy:
        # Penalties and bans are shown as what they do to a draw.
        chosen = keywords.read({**strategy, "do_sample": True}, None).strategy
        strategy = {"strategy": chosen}
    if samples is not None:
        checks.integer("--samples", samples, 1)
    decoder = opened(model)
    for index, prompt in enumerate(inputs.texts):
        with inputs.named(index):
            found: Candidates = decoder.next_token(prompt, k, seed=seed, **strategy)
        if as_json:
            emit(_record(found, draw, samples))
            continue
        if len(inputs.texts) > 1:
            print(("\n" if index else "") + repr(prompt))
        show(found)
        if draw:
            show(found.draw())
        if samples is not None:
            show(found.sample(samples))


def _record(found: Candidates, draw: bool, samples: int | None) -> dict[str, Any]:
    record: dict[str, Any] = {
        "prompt": found.prompt,
        "entropy": found.entropy,
        "entropy_after": found.entropy_after,
        "kept": found.kept,
        "kept_mass": found.kept_mass,
        "candidates": [asdict(candidate) for candidate in found],
    }
    if draw:
        raffle = found.draw()
        record["draw"] = {
            "token_id": raffle.winner.id,
            "shown": raffle.winner.shown,
            "ticket": raffle.ticket,
            "total": raffle.total,
            "probability": raffle.probability,
            "seed": raffle.seed,
        }
    if samples is not None:
        tally = found.sample(samples)
        record["samples"] = {"token_ids": tally.token_ids, "seed": tally.seed}
    return record
