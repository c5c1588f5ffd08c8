"""`fastdecode beam`: search, and show what the search looked at."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

import fastdecode
from fastdecode.cli.generate import record
from fastdecode.cli.inputs import read
from fastdecode.cli.options import MODEL, Json, group, opened
from fastdecode.cli.output import emit, printable, show, tolerant

if TYPE_CHECKING:
    from fastdecode.results.beam_tree import BeamTree
    from fastdecode.results.generations import Generations


class Drawing(StrEnum):
    """How a tree is written."""

    TEXT = "text"
    SVG = "svg"
    DOT = "dot"
    MERMAID = "mermaid"


class Stopping(StrEnum):
    """When a search is over; see `fastdecode.Beam`."""

    NO = "no"
    YES = "yes"
    NEVER = "never"


_STOPPING: dict[Stopping, Any] = {
    Stopping.NO: False,
    Stopping.YES: True,
    Stopping.NEVER: "never",
}


@group("model", MODEL)
def beam(
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT", help="Text to go on from; - reads standard input.")
    ],
    model: dict[str, Any],
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", help="Tokens at most, each.")
    ] = 20,
    num_beams: Annotated[
        int, typer.Option("--num-beams", "-k", help="Sequences kept at each step.")
    ] = 4,
    n: Annotated[int, typer.Option("-n", help="Sequences to return, best first.")] = 1,
    length_penalty: Annotated[
        float, typer.Option("--length-penalty", help="Above 0 favours long sequences.")
    ] = 1.0,
    early_stopping: Annotated[
        Stopping, typer.Option("--early-stopping", help="When enough sequences have ended.")
    ] = Stopping.NO,
    groups: Annotated[
        int, typer.Option("--groups", help="Groups of beams that are kept apart.")
    ] = 1,
    diversity_penalty: Annotated[
        float, typer.Option("--diversity-penalty", help="Nats off what an earlier group took.")
    ] = 0.0,
    stochastic: Annotated[
        bool,
        typer.Option("--stochastic", help="Draw the sequences, without replacement."),
    ] = False,
    seed: Annotated[
        int | None, typer.Option("--seed", help="For --stochastic. Left out: a fresh one.")
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", help="End before this text. May be repeated.", show_default=False),
    ] = None,
    tree: Annotated[
        bool, typer.Option("--tree", help="Show every candidate that was looked at.")
    ] = False,
    drawing: Annotated[Drawing, typer.Option("--as", help="How --tree is written.")] = Drawing.TEXT,
    as_json: Json = False,
    save: Annotated[
        str | None,
        typer.Option("--save", metavar="FILE", help="Save the run, for fastdecode replay."),
    ] = None,
) -> None:
    """Search for the likeliest sequences behind PROMPT."""
    strategy = fastdecode.Beam(
        num_beams,
        length_penalty,
        _STOPPING[early_stopping],
        n,
        num_beam_groups=groups,
        diversity_penalty=diversity_penalty,
        stochastic=stochastic,
    )
    inputs = read([prompt], None, "prompt")
    with inputs.named():
        found = fastdecode.generate(
            inputs.texts,
            model=opened(model),
            strategy=strategy,
            max_new_tokens=max_new_tokens,
            seed=seed,
            stop=stop or None,
            logprobs=0,
            trace=tree,
        )
    if save is not None:
        found.save(save)
    if stochastic and seed is None:
        print(f"seed {found.seed}", file=sys.stderr)
    if tree:
        _show(found.tree, drawing)
    elif as_json:
        for item in found:
            emit(record(item))
    else:
        _list(found)


def _show(tree: BeamTree, drawing: Drawing) -> None:
    if drawing is Drawing.SVG:
        print(tree.to_svg())
    elif drawing is Drawing.DOT:
        print(tree.to_dot())
    elif drawing is Drawing.MERMAID:
        print(tree.to_mermaid())
    else:
        show(tree)


def _list(found: Generations) -> None:
    """A line for each sequence: its score, and where there is one its inclusion probability."""
    tolerant()
    for item in found:
        notes = f"{item.score:9.4f}"
        if item.inclusion is not None:
            notes += f"  {item.inclusion:.4f}"
        text = (item.prompt + item.text).replace("\n", "⏎")
        print(f"{notes}  {printable(text)}")
