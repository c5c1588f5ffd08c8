"""`fastdecode score`, `compare` and `surprising`: log-probabilities of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastdecode.cli.inputs import read
from fastdecode.cli.options import MODEL, File, Json, Texts, group, opened
from fastdecode.cli.output import emit, show

if TYPE_CHECKING:
    from fastdecode.results.scores import Score

CONDITION: dict[str, tuple[Any, Any]] = {
    "context": (
        Annotated[
            str, typer.Option("--context", help="Text before each of them, which is not scored.")
        ],
        "",
    ),
    "bos": (
        Annotated[bool, typer.Option("--bos/--no-bos", help="Begin with the BOS token.")],
        True,
    ),
    "eos": (
        Annotated[bool, typer.Option("--eos/--no-eos", help="Score the EOS token at the end.")],
        True,
    ),
}
Stride = Annotated[
    int | None,
    typer.Option("--stride", help="Score long texts in windows, so many tokens on each."),
]


@group("model", MODEL)
@group("condition", CONDITION)
def score(
    model: dict[str, Any],
    condition: dict[str, Any],
    texts: Texts = None,
    file: File = None,
    stride: Stride = None,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Show each text, coloured, and its tokens.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Give each TEXT its log-probability: sum, mean, perplexity, token by token."""
    inputs = read(texts, file, "text")
    decoder = opened(model)
    with inputs.named():
        found = decoder.score(inputs.texts, stride=stride, **condition)
    if as_json:
        for item in found:
            emit(_record(item))
    elif tokens:
        from fastdecode.results.scores import TokenRows

        for place, item in enumerate(found):
            print(end="\n" if place else "")
            show(TokenRows(item))
    else:
        show(found)


@group("model", MODEL)
@group("condition", CONDITION)
def compare(
    model: dict[str, Any],
    condition: dict[str, Any],
    texts: Texts = None,
    file: File = None,
    per_token: Annotated[
        bool, typer.Option("--per-token", help="Rank by the mean of a token, not by the sum.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Rank some TEXTs, the likeliest first, and say which token decides."""
    inputs = read(texts, file, "text")
    if len(inputs.texts) < 2:
        raise ValueError("there is one text; give two or more to compare")
    decoder = opened(model)
    with inputs.named():
        found = decoder.compare(inputs.texts, per_token=per_token, **condition)
    if not as_json:
        show(found)
        return
    for item in found:
        emit(
            {"index": item.index}
            | _record(item.score)
            | {
                "difference": item.difference,
                "probability": item.probability,
                "deciding": item.deciding,
            }
        )


@group("model", MODEL)
@group("condition", CONDITION)
def surprising(
    model: dict[str, Any],
    condition: dict[str, Any],
    texts: Texts = None,
    file: File = None,
    stride: Stride = None,
    top: Annotated[
        int | None, typer.Option("--top", help="Show so many, the most surprising.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Rank TEXTs by their surprisal a token, the most surprising first."""
    inputs = read(texts, file, "text")
    if top is not None and top < 1:
        raise ValueError(f"--top must be at least 1, not {top}")
    decoder = opened(model)
    with inputs.named():
        found = decoder.surprising(inputs.texts, stride=stride, **condition)
    if not as_json:
        show(found if top is None else found.top(top))
        return
    for item in found[:top]:
        emit(
            {
                "index": item.index,
                "place": inputs.place(item.index),
                "surprisal": item.surprisal,
                "token": item.token,
                "text": item.score.text,
            }
        )


def _record(item: Score) -> dict[str, Any]:
    return {
        "text": item.text,
        "logprob": item.logprob,
        "mean": item.mean,
        "perplexity": item.perplexity,
        "token_ids": item.token_ids,
        "token_logprobs": item.token_logprobs,
        "ranks": item.ranks,
    }
