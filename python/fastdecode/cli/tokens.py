"""`fastdecode tokens`: what texts are cut into, and slices of the vocabulary."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastdecode.cli.inputs import read
from fastdecode.cli.options import MODEL, File, Json, Texts, group, opened
from fastdecode.cli.output import emit, show

if TYPE_CHECKING:
    from fastdecode.results.tokens import Token, Tokens

_SLICE = re.compile(r"(\d*):(\d*)")


@group("model", MODEL)
def tokens(
    model: dict[str, Any],
    texts: Texts = None,
    file: File = None,
    ids: Annotated[
        str | None,
        typer.Option("--ids", metavar="A:B", help="Show these of the vocabulary instead."),
    ] = None,
    containing: Annotated[
        str | None,
        typer.Option("--containing", metavar="TEXT", help="Show the tokens that have this."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what each TEXT is cut into: ids, pieces and bytes."""
    if ids is None and containing is None:
        inputs = read(texts, file, "text")
        decoder = opened(model)
        for place, text in enumerate(inputs.texts):
            found = decoder.tokens(text)
            if as_json:
                emit({"text": text, "tokens": [_record(token) for token in found]})
                continue
            if len(inputs.texts) > 1:
                print(("\n" if place else "") + repr(text))
            show(found)
        return
    if texts or file or (ids is not None and containing is not None):
        raise ValueError("give texts, or --ids, or --containing; one of the three")
    wanted = None if ids is None else _SLICE.fullmatch(ids)
    if ids is not None and wanted is None:
        raise ValueError(f"--ids {ids!r} is no slice; give two numbers, as 100:110")
    vocabulary = opened(model).vocabulary
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
