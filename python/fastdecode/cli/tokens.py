"""`fastdecode tokens`: how texts are split into tokens, and slices of the vocabulary."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from fastdecode.cli.inputs.texts import file_option, read, texts_argument
from fastdecode.cli.options.model import model_options, opened
from fastdecode.cli.options.sections import Command
from fastdecode.cli.output import emit, json_option, show

if TYPE_CHECKING:
    from fastdecode.results.tokens import Token, Tokens

_SLICE = re.compile(r"(\d*):(\d*)")


@click.command(cls=Command)
@texts_argument
@model_options
@file_option
@click.option("--ids", metavar="A:B", help="Show the tokens with these ids instead.")
@click.option("--containing", metavar="TEXT", help="Show the tokens that contain this instead.")
@json_option
def tokens(
    texts: Sequence[str],
    model: str,
    engine: str,
    dtype: str | None,
    file: str | None,
    kind: str | None,
    ids: str | None,
    containing: str | None,
    as_json: bool,
) -> None:
    """Show how each TEXT is split: ids, pieces and bytes."""
    if ids is None and containing is None:
        inputs = read(texts, file, "text", kind)
        decoder = opened(model, engine, dtype)
        for index, text in enumerate(inputs.texts):
            found = decoder.tokens(text)
            if as_json:
                record = {"text": text, "tokens": [_record(token) for token in found]}
                emit(inputs.record(index, record))
                continue
            if len(inputs.texts) > 1:
                print(("\n" if index else "") + repr(text))
            show(found)
        return
    if texts or file or (ids is not None and containing is not None):
        raise ValueError("give texts, or --ids, or --containing; one of the three")
    wanted = None if ids is None else _SLICE.fullmatch(ids)
    if ids is not None and wanted is None:
        raise ValueError(f"--ids {ids!r} is not a slice; give two numbers, as 100:110")
    vocabulary = opened(model, engine, dtype).vocabulary
    some: Tokens
    if wanted is not None:
        some = vocabulary[slice(*(int(end) if end else None for end in wanted.groups()))]
    else:
        some = vocabulary.containing(containing)
    if as_json:
        for token in some:
            emit(_record(token))
    elif len(some) == 0:
        raise ValueError(f"none of the {len(vocabulary):,} tokens is that")
    else:
        show(some)


def _record(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "piece": token.piece,
        "bytes": token.bytes.hex(),
        "shown": token.shown,
        "special": token.special,
    }
