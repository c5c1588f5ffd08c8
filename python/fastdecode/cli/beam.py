"""`fastdecode beam`: beam search, and the tree of its candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

import fastdecode
from fastdecode.cli.generate import stop_option
from fastdecode.cli.inputs.texts import file_option, prompts_argument, read
from fastdecode.cli.options.model import model_options, opened
from fastdecode.cli.options.parameters import EPILOG, beam_parameter_options, given
from fastdecode.cli.options.sections import Command
from fastdecode.cli.output import emit, json_option, printable, save_option, show, tell, tolerant
from fastdecode.cli.sinks.file import answer, out_option, refuse_beside_out
from fastdecode.jobs.records import of_generation

if TYPE_CHECKING:
    from fastdecode.results.beam_tree import BeamTree
    from fastdecode.results.generations import Generations

_EARLY_STOPPING: dict[str, Any] = {"no": False, "yes": True, "never": "never"}


@click.command(cls=Command, epilog=EPILOG)
@prompts_argument
@model_options
@file_option
@click.option("--max-new-tokens", type=int, default=20, help="Maximum new tokens of each sequence.")
@click.option("--num-beams", "-k", type=int, default=4, help="Sequences kept at each step.")
@click.option("-n", type=int, default=1, help="Sequences to return, best first.")
@click.option("--length-penalty", type=float, default=1.0, help="Above 0 favours long sequences.")
@click.option(
    "--early-stopping",
    type=click.Choice(list(_EARLY_STOPPING)),
    default="no",
    help="Stop when enough sequences have ended.",
)
@click.option("--groups", type=int, default=1, help="Groups of beams that are kept different.")
@click.option(
    "--diversity-penalty",
    type=float,
    default=0.0,
    help="Nats subtracted from a token that an earlier group chose.",
)
@click.option("--stochastic", is_flag=True, help="Draw the sequences, without replacement.")
@click.option("--seed", type=int, help="Seed of the draws; without it a fresh one, printed.")
@stop_option
@click.option("--tree", is_flag=True, help="Show every candidate that was compared.")
@click.option(
    "--as",
    "drawing",
    type=click.Choice(["text", "svg", "dot", "mermaid"]),
    default="text",
    help="Format of --tree.",
)
@json_option
@save_option
@out_option
@beam_parameter_options
def beam(
    prompts: Sequence[str],
    model: str,
    engine: str,
    dtype: str | None,
    file: str | None,
    kind: str | None,
    max_new_tokens: int,
    num_beams: int,
    n: int,
    length_penalty: float,
    early_stopping: str,
    groups: int,
    diversity_penalty: float,
    stochastic: bool,
    seed: int | None,
    stop: Sequence[str],
    tree: bool,
    drawing: str,
    as_json: bool,
    save: str | None,
    out: str | None,
    **parameters: Any,
) -> None:
    """Search for the likeliest continuations of each PROMPT.

    With temperature or a truncation, the beams are drawn from the distribution that they leave
    (beam sampling). A PROMPT of - is read from standard input.
    """
    from fastdecode.options import checks, keywords

    for option, count in (("-n", n), ("--groups", groups)):
        checks.integer(option, count, 1, checks.U32)
    processors, truncations = keywords.split(given(parameters))
    strategy = fastdecode.Beam(
        num_beams,
        length_penalty,
        _EARLY_STOPPING[early_stopping],
        n,
        num_beam_groups=groups,
        diversity_penalty=diversity_penalty,
        stochastic=stochastic,
        sample=fastdecode.Sample(**truncations) if truncations else None,
        **processors,
    )
    if save is not None and out is not None:
        raise ValueError("--save and --out are two ways to keep a run; give one of the two")
    refuse_beside_out(out, {"--tree": tree})
    inputs = read(prompts, file, "prompt", kind)
    if tree and len(inputs.texts) > 1:
        raise ValueError(
            f"--tree shows the search of one prompt, and there are {len(inputs.texts)}"
        )
    call: dict[str, Any] = {
        "strategy": strategy,
        "max_new_tokens": max_new_tokens,
        "seed": seed,
        "stop": list(stop) or None,
    }
    with inputs.named():
        decoder = opened(model, engine, dtype)
        if out is not None:
            from fastdecode.jobs.questions.beams import Beams

            answer(out, Beams(decoder, inputs.texts, **call), inputs)
            return
        found = fastdecode.generate(inputs.texts, model=decoder, logprobs=0, trace=tree, **call)
    if save is not None:
        found.save(save)
    if (stochastic or truncations) and seed is None:
        tell(f"seed {found.seed}")
    if tree:
        _show(found.tree, drawing)
    elif as_json:
        for item in found:
            # The streams of a run are the indices of its prompts.
            emit(inputs.record(item.stream, of_generation(item)))
    else:
        _list(found)


def _show(tree: BeamTree, drawing: str) -> None:
    if drawing == "svg":
        print(tree.to_svg())
    elif drawing == "dot":
        print(tree.to_dot())
    elif drawing == "mermaid":
        print(tree.to_mermaid())
    else:
        show(tree)


def _list(found: Generations) -> None:
    """A line for each sequence: its score, and its inclusion probability if it was drawn."""
    tolerant()
    for item in found:
        notes = f"{item.score:9.4f}"
        if item.inclusion is not None:
            notes += f"  {item.inclusion:.4f}"
        text = (item.prompt + item.text).replace("\n", "⏎")
        print(f"{notes}  {printable(text)}")
