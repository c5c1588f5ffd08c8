"""`fastdecode generate`: texts as they come, into a saved run, or into a file that can go on."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

import fastdecode
from fastdecode.cli import sinks
from fastdecode.cli.inputs import Inputs, read
from fastdecode.cli.options import DRAWING, MODEL, STRATEGY, File, Json, flags, group, opened
from fastdecode.cli.output import emit, printable, tolerant
from fastdecode.results.step import Step

if TYPE_CHECKING:
    from fastdecode.results.generations import Generation

_INTERRUPTED = 130


@group("model", MODEL)
@group("strategy", STRATEGY)
def generate(
    model: dict[str, Any],
    strategy: dict[str, Any],
    prompts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PROMPT...",
            help="Texts to go on from; - reads one from standard input.",
            show_default=False,
        ),
    ] = None,
    file: File = None,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", help="Tokens at most, each.")
    ] = 20,
    n: Annotated[int, typer.Option("-n", help="Samples of each prompt.")] = 1,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Same seed, same texts. Without it a fresh one, printed."),
    ] = None,
    sample: Annotated[
        bool | None,
        typer.Option(
            "--sample/--greedy",
            help="Draw tokens, or take the likeliest. Left out: draw if --seed, -n above 1, or an "
            "option that shapes the draw (--temperature to --top-n-sigma) is there.",
            show_default=False,
        ),
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", help="End before this text. May be repeated.", show_default=False),
    ] = None,
    logprobs: Annotated[
        int | None,
        typer.Option(
            "--logprobs", help="Note each token's log-probability and so many alternatives."
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Texts at a time, at most.")
    ] = None,
    as_json: Json = False,
    save: Annotated[
        str | None,
        typer.Option("--save", metavar="FILE", help="Save the run, for fastdecode replay."),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Write JSON lines there; the same command goes on with a run that was cut.",
        ),
    ] = None,
) -> None:
    """Go on from each PROMPT, printing the text as it comes.

    Several texts appear one after another, prompts in order and the samples of each in order,
    though all are generated at once.
    """
    shaping = {name: value for name, value in strategy.items() if name in DRAWING}
    if sample is False and shaping:
        raise ValueError(
            f"--greedy takes the likeliest token, so {flags(shaping)} would do nothing"
        )
    if sample is None:
        sample = bool(shaping) or seed is not None or n > 1
    if save is not None and out is not None:
        raise ValueError("--save and --out are two ways to keep a run; give one of the two")
    if logprobs is not None and not (as_json or save or out):
        raise ValueError("--logprobs are noted in --json, --out or --save; give one of these")
    from fastdecode.options import keywords

    inputs = read(prompts, file, "prompt")
    said = {**strategy, "do_sample": sample}
    # A bad value is refused before a model has loaded.
    chosen = keywords.read(said, None, n).strategy
    call: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "n": n,
        "seed": seed,
        "stop": stop or None,
        "logprobs": logprobs,
        "batch_size": batch_size,
    }
    given = {name: value for name, value in call.items() if value is not None or name == "seed"}
    with inputs.named():
        if out is not None:
            from fastdecode.jobs.resumable import write

            code = write(out, opened(model), inputs.texts, chosen, call)
            if code:
                raise typer.Exit(code)
        elif save is not None:
            _save(save, inputs, model, given | said, as_json)
        else:
            report = sample and seed is None and not as_json
            _stream(inputs, model, given | said, as_json, report)


def _stream(
    inputs: Inputs, model: dict[str, Any], call: Mapping[str, Any], as_json: bool, report: bool
) -> None:
    """Print each text as it grows."""
    n = call["n"]
    sink = sinks.Json(call.get("logprobs")) if as_json else sinks.sink(len(inputs.texts), n)
    shown = sinks.InOrder(sink, inputs.texts, n)
    try:
        steps = fastdecode.stream(inputs.texts, model=opened(model), **call)
        shown.run(_counted(steps, len(inputs.texts), n))
        shown.finish(None)
    except KeyboardInterrupt:
        shown.finish("interrupted")
        raise typer.Exit(_INTERRUPTED) from None
    finally:
        sys.stdout.flush()
        if report and shown.seed is not None:
            print(f"seed {shown.seed}", file=sys.stderr)


def _counted(steps: Iterable[Step], prompts: int, n: int) -> Iterator[Step]:
    """The steps, with a bar for many texts, unless the texts themselves are on the screen."""
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


def _save(
    path: str, inputs: Inputs, model: dict[str, Any], call: Mapping[str, Any], as_json: bool
) -> None:
    """Generate all texts, save the run, then print them."""
    code = 0
    try:
        found = fastdecode.generate(inputs.texts, model=opened(model), **call)
    except fastdecode.Interrupted as interrupted:
        found, code = interrupted.generations, _INTERRUPTED
    found.save(path)
    tolerant()
    for place, item in enumerate(found):
        if as_json:
            emit(record(item))
        else:
            whole = item.prompt + item.text
            print(end="\n" if place else "")
            print(printable(whole) if sys.stdout.isatty() else whole, flush=True)
    texts = "1 text" if len(found) == 1 else f"{len(found):,} texts"
    print(f"{path}: {texts}, seed {found.seed}", file=sys.stderr)
    if code:
        raise typer.Exit(code)


def record(item: Generation) -> dict[str, Any]:
    """A generation as one object of JSON, with the fields that it has."""
    names = ("prompt", "text", "token_ids", "finish_reason", "seed", "stream", "sample")
    fields = {name: getattr(item, name) for name in names}
    more = ("logprobs", "alternatives", "score", "inclusion")
    return fields | {n: getattr(item, n) for n in more if getattr(item, n) is not None}
