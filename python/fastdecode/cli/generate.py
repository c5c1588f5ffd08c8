"""`fastdecode generate`: texts, printed as they are generated, saved, or in a resumable file."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

import fastdecode
from fastdecode._interrupts import INTERRUPTED
from fastdecode.cli.inputs.texts import Inputs, file_option, prompts_argument, read
from fastdecode.cli.options.escapes import ESCAPES, unescaped
from fastdecode.cli.options.model import model_options, opened
from fastdecode.cli.options.parameters import EPILOG, TRUNCATION, chosen, parameter_options
from fastdecode.cli.options.sections import Command
from fastdecode.cli.output import emit, json_option, printable, save_option, tell, tolerant
from fastdecode.cli.sinks import printed
from fastdecode.cli.sinks.file import answer, out_option
from fastdecode.jobs.records import of_generation
from fastdecode.results.step import Step

stop_option = click.option(
    "--stop",
    type=unescaped,
    metavar="TEXT",
    multiple=True,
    help=f"End before this text. {ESCAPES} May be repeated.",
)


@click.command(cls=Command, epilog=EPILOG)
@prompts_argument
@model_options
@file_option
@click.option("--max-new-tokens", type=int, default=20, help="Maximum new tokens of each text.")
@click.option("-n", type=int, default=1, help="Samples of each prompt.")
@click.option(
    "--seed",
    type=int,
    help="The same seed gives the same texts; without it a fresh one, printed.",
)
@click.option(
    "--sample/--greedy",
    default=None,
    help="Draw tokens, or take the likeliest. Without either, draw if there is --seed, -n above 1, "
    f'or an option of "{TRUNCATION}".',
)
@stop_option
@click.option(
    "--logprobs",
    type=int,
    metavar="M",
    help="Record each token's log-probability, and those of the M likeliest.",
)
@click.option("--batch-size", type=int, help="Maximum number of texts at a time.")
@json_option
@save_option
@out_option
@parameter_options
def generate(
    prompts: Sequence[str],
    model: str,
    engine: str,
    dtype: str | None,
    file: str | None,
    kind: str | None,
    max_new_tokens: int,
    n: int,
    seed: int | None,
    sample: bool | None,
    stop: Sequence[str],
    logprobs: int | None,
    batch_size: int | None,
    as_json: bool,
    save: str | None,
    out: str | None,
    **parameters: Any,
) -> None:
    """Continue each PROMPT, printing the text as it is generated.

    Several texts are generated at the same time and printed one after another, in the order of the
    prompts and their samples. A PROMPT of - is read from standard input.
    """
    from fastdecode.options import keywords

    strategy = chosen(parameters, sample, drawn=seed is not None or n > 1)
    if save is not None and out is not None:
        raise ValueError("--save and --out are two ways to keep a run; give one of the two")
    if logprobs is not None and not (as_json or save or out):
        raise ValueError("--logprobs are noted in --json, --out or --save; give one of these")
    inputs = read(prompts, file, "prompt", kind)
    # A bad value is refused before a model is loaded.
    checked = keywords.read(strategy, None, n).strategy
    call: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "n": n,
        "seed": seed,
        "stop": list(stop) or None,
        "logprobs": logprobs,
        "batch_size": batch_size,
    }
    keywords_given = {k: v for k, v in call.items() if v is not None or k == "seed"} | strategy
    with inputs.named():
        if out is not None:
            from fastdecode.jobs.questions.continuations import Continuations

            decoder = opened(model, engine, dtype)
            answer(out, Continuations(decoder, inputs.texts, strategy=checked, **call), inputs)
        elif save is not None:
            _save(save, inputs, opened(model, engine, dtype), keywords_given, as_json)
        else:
            report = strategy["do_sample"] and seed is None and not as_json
            _stream(inputs, opened(model, engine, dtype), keywords_given, as_json, report)


def _stream(
    inputs: Inputs, decoder: Any, call: Mapping[str, Any], as_json: bool, report: bool
) -> None:
    """Print each text as it grows."""
    n, count = call["n"], len(inputs.texts)
    sink = printed.Json(inputs, call.get("logprobs")) if as_json else printed.sink(count, n)
    shown = printed.InOrder(sink, inputs.texts, n)
    try:
        steps = fastdecode.stream(inputs.texts, model=decoder, **call)
        shown.run(_counted(steps, count, n))
        shown.finish(None)
    except KeyboardInterrupt:
        shown.finish("interrupted")
        raise click.exceptions.Exit(INTERRUPTED) from None
    finally:
        sys.stdout.flush()
        if report and shown.seed is not None:
            tell(f"seed {shown.seed}")


def _counted(steps: Iterable[Step], prompts: int, n: int) -> Iterator[Step]:
    """The steps, with a progress bar for many texts, unless standard output is a terminal."""
    from fastdecode.display.progress import progress_bar

    meter = progress_bar(False if sys.stdout.isatty() else None, prompts, "generate", each=n)
    try:
        for step in steps:
            if meter is not None and step.finish_reason is not None:
                meter.update()
            yield step
    finally:
        if meter is not None:
            meter.close()


def _save(path: str, inputs: Inputs, decoder: Any, call: Mapping[str, Any], as_json: bool) -> None:
    """Generate all texts, save the run, then print them."""
    code = 0
    try:
        found = fastdecode.generate(inputs.texts, model=decoder, **call)
    except fastdecode.Interrupted as interrupted:
        found, code = interrupted.generations, INTERRUPTED
    found.save(path)
    tolerant()
    for place, item in enumerate(found):
        if as_json:
            # The streams of a run are the indices of its prompts.
            emit(inputs.record(item.stream, of_generation(item)))
        else:
            whole = item.prompt + item.text
            print(end="\n" if place else "")
            print(printable(whole) if sys.stdout.isatty() else whole, flush=True)
    texts = "1 text" if len(found) == 1 else f"{len(found):,} texts"
    tell(f"{path}: {texts}, seed {found.seed}")
    if code:
        raise click.exceptions.Exit(code)
