"""`fastdecode next`: the likeliest next tokens, what a strategy keeps of them, and draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from fastdecode.cli.inputs.texts import file_option, prompts_argument, read
from fastdecode.cli.options.model import model_options, opened
from fastdecode.cli.options.parameters import EPILOG, given, parameter_options
from fastdecode.cli.options.sections import Command
from fastdecode.cli.output import emit, json_option, show

if TYPE_CHECKING:
    from fastdecode.results.candidates import Candidates


@click.command("next", cls=Command, epilog=EPILOG)
@prompts_argument
@model_options
@file_option
@click.option("-k", type=int, default=10, help="Number of candidates.")
@click.option("--draw", is_flag=True, help="Draw one, and show the ticket that won.")
@click.option("--samples", type=int, metavar="N", help="Draw N tokens, with replacement.")
@click.option("--seed", type=int, help="Seed of the draws; without it a fresh one, which is shown.")
@json_option
@parameter_options
def next_token(
    prompts: Sequence[str],
    model: str,
    engine: str,
    dtype: str | None,
    file: str | None,
    kind: str | None,
    k: int,
    draw: bool,
    samples: int | None,
    seed: int | None,
    as_json: bool,
    **parameters: Any,
) -> None:
    """Show the likeliest next tokens after each PROMPT.

    With options that say how to choose a token, also what remains of them. A PROMPT of - is read
    from standard input.
    """
    from fastdecode.options import checks, keywords

    if draw and samples is not None:
        raise ValueError("--draw shows one draw, --samples counts many; give one of the two")
    inputs = read(prompts, file, "prompt", kind)
    sampling = given(parameters)
    strategy = None
    if sampling:
        # Logits processors alone would mean greedy decoding; their effect shows in a draw.
        strategy = keywords.read({**sampling, "do_sample": True}, None).strategy
    if samples is not None:
        checks.integer("--samples", samples, 1, checks.U32)
    decoder = opened(model, engine, dtype)
    for index, prompt in enumerate(inputs.texts):
        with inputs.named(index):
            found: Candidates = decoder.next_token(prompt, k, strategy=strategy, seed=seed)
        if as_json:
            emit(inputs.record(index, _record(found, draw, samples)))
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
