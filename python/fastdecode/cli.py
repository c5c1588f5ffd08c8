"""The command line, `fastdecode`.

Texts go to standard output, everything else to standard error. Exit codes: 0, 2 for bad input
(one line, "error: ..."), 130 after Ctrl-C, with what there was by then, 1 for a closed pipe.
torch and transformers load when a command runs, not before.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, NoReturn, Protocol

import typer

import fastdecode
from fastdecode.cli_beam import beam
from fastdecode.steps import Step

app = typer.Typer(
    name="fastdecode",
    help="Exact, replayable, fast text generation.",
    add_completion=False,
    rich_markup_mode=None,  # plain help: quicker, and it fits in 80 columns
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_INTERRUPTED = 130
_CLOSED_PIPE = 1
_BAD_INPUT = 2


def main() -> NoReturn:
    """Run the command line and exit."""
    try:
        code = app(prog_name="fastdecode", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read us has stopped, as `| head` does; the interpreter's last flush must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = _CLOSED_PIPE
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except Exception as error:
        message = _message(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        code = _BAD_INPUT
    sys.exit(code if isinstance(code, int) else 0)


def _message(error: Exception) -> str | None:
    """One line for an error that the user can mend; None for one that is ours."""
    usage = getattr(error, "format_message", None)  # the parser's own errors
    if usage is not None:
        text = str(usage())
    elif isinstance(error, UnicodeDecodeError):
        text = f"the input is not UTF-8 text: byte {error.object[error.start]:#04x}"
    elif isinstance(error, ValueError | TypeError | OSError):
        text = str(error)
    else:
        return None
    return " ".join(text.split())


def _version(wanted: bool) -> None:
    if wanted:
        print(f"fastdecode {fastdecode.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


app.command()(beam)


@app.command()
def generate(
    prompts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PROMPT...",
            help="Texts to go on from; - reads one from standard input.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", metavar="FILE", help="Prompts, one a line; - for stdin."),
    ] = None,
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="A hub name, a folder, or demo: ships, works offline."),
    ] = "openai-community/gpt2",
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
            help="Draw tokens, or take the likeliest. Left out: draw if --seed, -n above 1, "
            "--temperature, --top-k or --top-p is there.",
            show_default=False,
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="Below 1 sharpens, above 1 flattens.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option("--top-k", help="Keep the k likeliest tokens.")
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option("--top-p", help="Keep the smallest set with this much probability."),
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", help="End before this text. May be repeated.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a text.")] = False,
) -> None:
    """Go on from each PROMPT, printing the text as it comes.

    Several texts appear one after another, prompts in order and the samples of each in order,
    though all are generated at once.
    """
    keywords: dict[str, Any] = {
        name: value
        for name, value in (("temperature", temperature), ("top_k", top_k), ("top_p", top_p))
        if value is not None
    }
    if sample is False and keywords:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in keywords)
        raise ValueError(f"--greedy takes the likeliest token, so {options} would do nothing")
    if sample is None:
        sample = bool(keywords) or seed is not None or n > 1
    texts = _prompts(prompts or [], file)
    sink: _Sink = _Json() if as_json else _sink(len(texts), n)
    shown = _InOrder(sink, texts, n)
    if not sys.stderr.isatty() or model == "demo" or Path(model).is_dir():
        # Bars are for people who wait for a download.
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        steps = fastdecode.stream(
            texts,
            model=model,
            max_new_tokens=max_new_tokens,
            n=n,
            seed=seed,
            stop=stop or None,
            do_sample=sample,
            **keywords,
        )
        shown.run(steps)
        shown.finish(None)
    except KeyboardInterrupt:
        shown.finish("interrupted")
        raise typer.Exit(_INTERRUPTED) from None
    finally:
        sys.stdout.flush()
        if sample and seed is None and not as_json and shown.seed is not None:
            print(f"seed {shown.seed}", file=sys.stderr)


def _prompts(given: list[str], file: str | None) -> list[str]:
    """The prompts of the command line, then those of the file."""
    if given.count("-") + (file == "-") > 1:
        raise ValueError("standard input (-) can be read only once")
    texts = [sys.stdin.read().removesuffix("\n") if text == "-" else text for text in given]
    if file is not None:
        whole = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        lines = [line for line in whole.split("\n") if line.strip()]
        if not lines:
            raise ValueError(f"{'standard input' if file == '-' else file} has no prompt in it")
        texts += lines
    if not texts:
        raise ValueError("no prompt; give one, or --file FILE, or - to read standard input")
    return texts


class _Sink(Protocol):
    """Where texts go, one after another."""

    def begin(self, prompt: str, first: Step) -> None: ...
    def step(self, step: Step) -> None: ...
    def end(self, finish_reason: str | None) -> None: ...


class _InOrder:
    """Steps come interleaved; texts go out in order, the first unfinished one as it grows.

    `seed` is the run's, known from the first step on.
    """

    def __init__(self, sink: _Sink, prompts: list[str], n: int) -> None:
        self._sink = sink
        self._prompts = prompts
        self._n = n
        self._count = len(prompts) * n
        self._front = 0
        self._begun = False
        self._waiting: dict[tuple[int, int], list[Step]] = {}
        self.seed: int | None = None

    def _key(self) -> tuple[int, int]:
        """Prompt and sample of the text that is at the front."""
        return divmod(self._front, self._n)

    def run(self, steps: Iterable[Step]) -> None:
        for step in steps:
            self.seed = step.seed
            key = (step.prompt_index, step.sample)
            if key == self._key():
                self._give(step)
                self._catch_up()
            else:
                self._waiting.setdefault(key, []).append(step)

    def finish(self, reason: str | None) -> None:
        """Give out what still waits; `reason` for the texts that had not come to their end."""
        while self._front < self._count:
            self._catch_up()
            if self._begun:
                self._end(reason)
            else:
                self._front += 1

    def _catch_up(self) -> None:
        """Give out what waits for its turn, if it has come."""
        while not self._begun and self._front < self._count:
            waiting = self._waiting.pop(self._key(), None)
            if waiting is None:
                return
            for step in waiting:
                self._give(step)

    def _give(self, step: Step) -> None:
        if not self._begun:
            self._sink.begin(self._prompts[step.prompt_index], step)
            self._begun = True
        self._sink.step(step)
        if step.finish_reason is not None:
            self._end(step.finish_reason)

    def _end(self, reason: str | None) -> None:
        self._sink.end(reason)
        self._front += 1
        self._begun = False


class _Json:
    """One JSON object a line, each when its text is complete."""

    def __init__(self) -> None:
        self._record: dict[str, Any] = {}

    def begin(self, prompt: str, first: Step) -> None:
        self._record = {"prompt": prompt, "text": "", "token_ids": [], "finish_reason": None}
        self._record |= {"seed": first.seed, "stream": first.stream, "sample": first.sample}

    def step(self, step: Step) -> None:
        self._record["text"] += step.text
        self._record["token_ids"].append(int(step.token_id))

    def end(self, finish_reason: str | None) -> None:
        self._record["finish_reason"] = finish_reason
        print(json.dumps(self._record), flush=True)


class _Plain:
    """Prompt and text as they are, an empty line between two texts."""

    def __init__(self) -> None:
        self._first = True

    def begin(self, prompt: str, first: Step) -> None:
        if not self._first:
            print()
        self._first = False
        print(prompt, end="", flush=True)

    def step(self, step: Step) -> None:
        print(step.text, end="", flush=True)

    def end(self, finish_reason: str | None) -> None:
        print(flush=True)


class _Terminal:
    """As `_Plain`, with the prompt dim and a heading where there are several texts."""

    def __init__(self, prompts: int, n: int) -> None:
        from rich.console import Console

        self._console = Console(highlight=False)
        self._prompts = prompts
        self._n = n
        self._first = True

    def begin(self, prompt: str, first: Step) -> None:
        if not self._first:
            print()
        self._first = False
        several = (
            (self._prompts, "prompt", first.prompt_index),
            (self._n, "sample", first.sample),
        )
        heading = ", ".join(f"{what} {i + 1} of {count}" for count, what, i in several if count > 1)
        if heading:
            self._console.out(heading, style="bold")
        self._console.out(_printable(prompt), style="dim", end="")

    def step(self, step: Step) -> None:
        print(_printable(step.text), end="", flush=True)

    def end(self, finish_reason: str | None) -> None:
        print()


# A model may write any byte. In a terminal, control characters are shown, not obeyed.
_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}


def _printable(text: str) -> str:
    return text.translate(_CONTROLS)


def _sink(prompts: int, n: int) -> _Sink:
    if sys.stdout.isatty():
        return _Terminal(prompts, n)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return _Plain()
