"""`fastdecode score`, `compare` and `surprising`: log-probabilities of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from fastdecode.cli.inputs.texts import file_option, read, texts_argument
from fastdecode.cli.options.model import model_options, opened
from fastdecode.cli.options.sections import Command, combined
from fastdecode.cli.output import emit, json_option, show
from fastdecode.cli.sinks.file import answer, out_option, refuse_beside_out
from fastdecode.jobs.records import of_score, of_surprise

condition_options = combined(
    click.option(
        "--context", metavar="TEXT", default="", help="Text before each of them, not scored itself."
    ),
    click.option(
        "--bos/--no-bos", default=None, help="Begin with the BOS token, which is the default."
    ),
    click.option(
        "--eos/--no-eos",
        default=None,
        help="Score the EOS token at the end, which is the default.",
    ),
)
stride_option = click.option(
    "--stride", type=int, metavar="N", help="Score long texts in windows, N tokens apart."
)


@click.command(cls=Command)
@texts_argument
@model_options
@condition_options
@file_option
@stride_option
@click.option("--tokens", is_flag=True, help="Show each text, coloured, and its tokens.")
@json_option
@out_option
def score(
    texts: Sequence[str],
    model: str,
    engine: str,
    dtype: str | None,
    file: str | None,
    kind: str | None,
    stride: int | None,
    tokens: bool,
    as_json: bool,
    out: str | None,
    **condition: Any,
) -> None:
    """Compute the log-probability of each TEXT.

    Shows its sum and mean over the tokens, and the perplexity.
    """
    refuse_beside_out(out, {"--tokens": tokens})
    inputs = read(texts, file, "text", kind)
    decoder = opened(model, engine, dtype)
    with inputs.named():
        if out is not None:
            from fastdecode.jobs.questions.scores import Likelihoods

            answer(out, Likelihoods(decoder, inputs.texts, stride=stride, **condition), inputs)
            return
        found = decoder.score(inputs.texts, stride=stride, **condition)
    if as_json:
        for index, item in enumerate(found):
            emit(inputs.record(index, of_score(item)))
    elif tokens:
        from fastdecode.results.scores import TokenRows

        for place, item in enumerate(found):
            print(end="\n" if place else "")
            show(TokenRows(item))
    else:
        show(found)


@click.command(cls=Command)
@texts_argument
@model_options
@condition_options
@file_option
@click.option("--per-token", is_flag=True, help="Rank by the mean over the tokens, not the sum.")
@json_option
def compare(
    texts: Sequence[str],
    model: str,
    engine: str,
    dtype: str | None,
    file: str | None,
    kind: str | None,
    per_token: bool,
    as_json: bool,
    **condition: Any,
) -> None:
    """Rank TEXTs, the likeliest first, with the token that decides."""
    inputs = read(texts, file, "text", kind)
    if len(inputs.texts) < 2:
        raise ValueError("there is one text; give two or more to compare")
    decoder = opened(model, engine, dtype)
    with inputs.named():
        found = decoder.compare(inputs.texts, per_token=per_token, **condition)
    if not as_json:
        show(found)
        return
    for item in found:
        record = {
            "index": item.index,
            **of_score(item.score),
            "difference": item.difference,
            "probability": item.probability,
            "deciding": item.deciding,
        }
        emit(inputs.record(item.index, record))


@click.command(cls=Command)
@texts_argument
@model_options
@condition_options
@file_option
@stride_option
@click.option("--top", type=int, metavar="N", help="Show only the N most surprising.")
@json_option
@out_option
def surprising(
    texts: Sequence[str],
    model: str,
    engine: str,
    dtype: str | None,
    file: str | None,
    kind: str | None,
    stride: int | None,
    top: int | None,
    as_json: bool,
    out: str | None,
    **condition: Any,
) -> None:
    """Rank TEXTs by surprisal per token, the most surprising first.

    With --out, FILE has all of them, in their own order.
    """
    refuse_beside_out(out, {"--top": top})
    inputs = read(texts, file, "text", kind)
    if top is not None and top < 1:
        raise ValueError(f"--top must be at least 1, not {top}")
    decoder = opened(model, engine, dtype)
    with inputs.named():
        if out is not None:
            from fastdecode.jobs.questions.scores import Surprisals

            answer(out, Surprisals(decoder, inputs.texts, stride=stride, **condition), inputs)
            return
        found = decoder.surprising(inputs.texts, stride=stride, **condition)
    if not as_json:
        show(found if top is None else found.top(top))
        return
    for item in found[:top]:
        record = of_surprise(item, place=inputs.place(item.index))
        emit(inputs.record(item.index, record))
