"""Sinks: print texts that are generated at the same time one after another."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Protocol

from fastdecode.cli.inputs.texts import Inputs
from fastdecode.cli.output import emit, printable, tolerant
from fastdecode.jobs.records import Record
from fastdecode.results.step import Step


class Sink(Protocol):
    """Takes texts, one after another."""

    def begin(self, prompt: str, first: Step) -> None:
        """Begin the text whose first step this is."""
        ...

    def step(self, step: Step) -> None:
        """Add a token to it."""
        ...

    def end(self, finish_reason: str | None) -> None:
        """End the text; None where the run stopped before it had a reason to end."""
        ...


class InOrder:
    """Passes interleaved steps on in the order of the texts, the first unfinished text as it grows.

    Attributes:
        seed: the seed of the run; None before the first step.
    """

    def __init__(self, sink: Sink, prompts: list[str], n: int) -> None:
        """Begin with nothing printed."""
        self._sink = sink
        self._prompts = prompts
        self._n = n
        self._count = len(prompts) * n
        self._front = 0
        self._begun = False
        self._waiting: dict[tuple[int, int], list[Step]] = {}
        self.seed: int | None = None

    def _key(self) -> tuple[int, int]:
        """Prompt and sample of the text that is being passed on."""
        return divmod(self._front, self._n)

    def run(self, steps: Iterable[Step]) -> None:
        """Pass all steps on."""
        for step in steps:
            self.seed = step.seed
            key = (step.prompt_index, step.sample)
            if key == self._key():
                self._give(step)
                self._catch_up()
            else:
                self._waiting.setdefault(key, []).append(step)

    def finish(self, reason: str | None) -> None:
        """Pass on all waiting steps, and end unfinished texts with `reason`."""
        while self._front < self._count:
            self._catch_up()
            if self._begun:
                self._end(reason)
            else:
                self._front += 1

    def _catch_up(self) -> None:
        """Pass on the waiting steps of the text whose turn it is."""
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


class Json:
    """One JSON object a line, each when its text is complete."""

    def __init__(self, inputs: Inputs, logprobs: int | None = None) -> None:
        """Print texts of these prompts; `logprobs` as for `fastdecode.generate`."""
        self._inputs = inputs
        self._logprobs = logprobs
        self._index = 0
        self._record: Record | None = None

    def begin(self, prompt: str, first: Step) -> None:
        """See `Sink`."""
        self._record = Record(prompt, first, self._logprobs)
        self._index = first.prompt_index

    def step(self, step: Step) -> None:
        """See `Sink`."""
        if self._record is not None:
            self._record.step(step)

    def end(self, finish_reason: str | None) -> None:
        """See `Sink`."""
        if self._record is not None:
            emit(self._inputs.record(self._index, self._record.ended(finish_reason)))


class Plain:
    """Prompt and text, unchanged, with an empty line between two texts."""

    def __init__(self) -> None:
        """Begin with nothing printed."""
        self._first = True

    def begin(self, prompt: str, first: Step) -> None:
        """See `Sink`."""
        if not self._first:
            print()
        self._first = False
        print(prompt, end="", flush=True)

    def step(self, step: Step) -> None:
        """See `Sink`."""
        print(step.text, end="", flush=True)

    def end(self, finish_reason: str | None) -> None:
        """See `Sink`."""
        print(flush=True)


class Terminal:
    """Like `Plain`, with a dim prompt, and with headings for several texts."""

    def __init__(self, prompts: int, n: int) -> None:
        """Begin with nothing printed."""
        from rich.console import Console

        self._console = Console(highlight=False)
        self._prompts = prompts
        self._n = n
        self._first = True

    def begin(self, prompt: str, first: Step) -> None:
        """See `Sink`."""
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
        self._console.out(printable(prompt), style="dim", end="")

    def step(self, step: Step) -> None:
        """See `Sink`."""
        print(printable(step.text), end="", flush=True)

    def end(self, finish_reason: str | None) -> None:
        """See `Sink`."""
        print()


def sink(prompts: int, n: int) -> Sink:
    """The sink for readers: `Terminal` on a terminal, else `Plain`."""
    if sys.stdout.isatty():
        return Terminal(prompts, n)
    tolerant()
    return Plain()
