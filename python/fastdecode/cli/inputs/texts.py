"""Texts from arguments, from a file and from standard input, and where each was given."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

from fastdecode.cli.inputs.lines import FORMATS, Line, file_format, read_lines
from fastdecode.cli.options.sections import combined
from fastdecode.files.reading import read_stream
from fastdecode.jobs.records import joined

# In the messages of the package: one of several texts.
_PLACE = re.compile(r"\b(?:prompts?|texts?|labels)\[(\d+)\]")
# In the messages of the package: the text of a call that takes one.
_ALONE = re.compile(r"^(?:prompt|text)\b(?=[ =])")


texts_argument = click.argument("texts", nargs=-1, metavar="[TEXT]...")
prompts_argument = click.argument("prompts", nargs=-1, metavar="[PROMPT]...")
file_option = combined(
    click.option(
        "--file",
        "-f",
        metavar="FILE",
        help="Read more of them, one a line, as text or JSON Lines; - is standard input.",
    ),
    click.option(
        "--file-format",
        "kind",
        type=click.Choice(FORMATS),
        show_default="by its name",
        help='Format of FILE. Each JSON object has a string "prompt" or "text"; its other fields '
        "are copied to the output.",
    ),
)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Texts in their order: those of the arguments, then the lines of the file."""

    lines: Sequence[Line]
    arguments: Sequence[str]
    source: str
    what: str

    @property
    def texts(self) -> list[str]:
        """The texts."""
        return [line.text for line in self.lines]

    @property
    def fields(self) -> list[Mapping[str, Any]]:
        """The fields of each text's object beside the text; empty for plain text."""
        return [line.fields for line in self.lines]

    def record(self, index: int, record: Mapping[str, Any]) -> dict[str, Any]:
        """A result for the text `index` as a JSON object, with the fields of the text's object."""
        return joined(self.lines[index].fields, record)

    def place(self, index: int) -> str:
        """Where a text was given: "prompts.txt, line 3"."""
        if index >= len(self.arguments):
            return f"{self.source}, line {index - len(self.arguments) + 1}"
        if self.arguments[index] == "-":
            return "standard input"
        return f"{self.what} {index + 1}"

    @contextmanager
    def named(self, alone: int | None = None) -> Iterator[None]:
        """Let errors name a text by where it was given.

        Args:
            alone: the index of the only text of the call, where it takes one.
        """
        try:
            yield
        except (ValueError, TypeError) as error:
            told = _PLACE.sub(lambda found: self.place(int(found[1])), str(error))
            if alone is not None:
                told = _ALONE.sub(lambda _: self.place(alone), told)
            if told == str(error):
                raise
            raise type(error)(told) from error


def read(
    given: Sequence[str] | None, file: str | None, what: str, kind: str | None = None
) -> Inputs:
    """The texts of the command line, then the lines of the file.

    Args:
        given: arguments; "-" stands for the whole of standard input.
        file: a UTF-8 file with a text a line, or "-".
        what: what a text is called: "prompt".
        kind: the format of the file, one of `FORMATS`; None: by its name.

    Raises:
        ValueError: where there is none, for an empty line, for a file that is not UTF-8 or of
            another format, and where standard input would be read twice.
        OSError: where the file cannot be read.
    """
    arguments = list(given or ())
    if arguments.count("-") + (file == "-") > 1:
        raise ValueError("standard input (-) can be read only once")
    if kind is not None and file is None:
        raise ValueError(f"--file-format {kind} is the format of --file FILE; give both")
    lines = [
        Line(_standard_input().removesuffix("\n") if argument == "-" else argument)
        for argument in arguments
    ]
    source = "standard input" if file in ("-", None) else str(file)
    if file == "-":
        lines += read_lines(_standard_input(), source, what, kind)
    elif file is not None:
        raw = read_stream(file)
        kind = file_format(source, kind)
        lines += read_lines(_decoded(raw, source), source, what, kind)
    if not lines:
        raise ValueError(f"no {what}; give one, or --file FILE, or - to read standard input")
    return Inputs(lines, arguments, source, what)


def _standard_input() -> str:
    raw = getattr(sys.stdin, "buffer", None)
    try:
        return str(sys.stdin.read()) if raw is None else _decoded(raw.read(), "standard input")
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard input") from error


def _decoded(raw: bytes, source: str) -> str:
    """UTF-8 text, with or without a byte order mark, with any line ends."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{source}, line {line}: it is not UTF-8 text (byte {error.object[error.start]:#04x}); "
            "save it as UTF-8"
        ) from None
    return text.replace("\r\n", "\n")
