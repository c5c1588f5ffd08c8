"""The command `fastdecode` itself: its subcommands, and how it ends."""

from __future__ import annotations

import sys
import warnings
from difflib import get_close_matches
from typing import NoReturn, TextIO

import click

import fastdecode
from fastdecode._interrupts import INTERRUPTED, raised
from fastdecode.cli.beam import beam
from fastdecode.cli.bench import bench
from fastdecode.cli.chat import chat
from fastdecode.cli.classify import classify
from fastdecode.cli.generate import generate
from fastdecode.cli.next import next_token
from fastdecode.cli.options.sections import Group
from fastdecode.cli.output import tell
from fastdecode.cli.pack import pack
from fastdecode.cli.replay import replay
from fastdecode.cli.scores import compare, score, surprising
from fastdecode.cli.selfcheck import selfcheck
from fastdecode.cli.sinks import streams
from fastdecode.cli.tokens import tokens

_LOST_OUTPUT = 1
_BAD_INPUT = 2
# How alike two names are, from 0 to 1, if one is a misspelling of the other.
_ALIKE = 0.8


@click.group(
    cls=Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(
    fastdecode.__version__, message="%(prog)s %(version)s", help="Print the version."
)
@click.pass_context
def app(context: click.Context) -> None:
    """Exact, replayable, fast text generation."""
    if context.invoked_subcommand is None:
        print(context.get_help())


for command in (
    generate,
    chat,
    beam,
    next_token,
    score,
    compare,
    classify,
    surprising,
    tokens,
    replay,
    selfcheck,
    bench,
    pack,
):
    app.add_command(command)


def main() -> NoReturn:
    """Run the command line and exit."""
    sys.exit(_run())


def _run() -> int:
    """Run a command; its exit code. What goes wrong is one line on standard error."""
    streams.complete()
    code = 0
    failure: Exception | None = None
    try:
        with raised(), warnings.catch_warnings():
            warnings.showwarning = _show
            ending = app.main(prog_name="fastdecode", standalone_mode=False)
        code = ending if isinstance(ending, int) else 0
    except (KeyboardInterrupt, click.Abort):
        code = INTERRUPTED
    except Exception as error:
        code, failure = _BAD_INPUT, error
    lost = streams.lost_output() or (failure if streams.is_of_output(failure) else None)
    if lost is not None and (failure is None or isinstance(failure, OSError)):
        # A reader that has closed the pipe, as `| head` does, needs no message.
        if not isinstance(lost, BrokenPipeError):
            tell(f"error: standard output: {lost.strerror}")
        return code if code == INTERRUPTED else _LOST_OUTPUT
    if failure is not None:
        message = _message(failure)
        if message is None:
            raise failure
        tell(f"error: {message}")
    return code


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show a warning of the package in one line, and any other as Python does."""
    if category is UserWarning:
        text = f"warning: {' '.join(str(message).split())}"
    else:
        text = warnings.formatwarning(message, category, filename, lineno, line)
    tell(text.rstrip("\n"))


def _message(error: Exception) -> str | None:
    """One line for an error that the user can fix; None for a bug."""
    if isinstance(error, click.NoSuchOption):
        # click's own wording is not the same in all of its versions.
        text = f"No such option: {error.option_name}"
        # click suggests names that are less alike, too.
        near = get_close_matches(error.option_name, error.possibilities or (), cutoff=_ALIKE)
        if near:
            text += f"; did you mean {' or '.join(sorted(near))}?"
    elif isinstance(error, click.ClickException):
        text = error.format_message()
    elif isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.filename}: {error.strerror}"
    elif isinstance(error, ValueError | TypeError | OSError):
        text = str(error)
    elif isinstance(error, MemoryError):
        text = str(error) or "there is not enough memory"
    else:
        return None
    return " ".join(text.split())
