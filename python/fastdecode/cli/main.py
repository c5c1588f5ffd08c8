"""The command `fastdecode` itself: its subcommands, and how it ends."""

from __future__ import annotations

import os
import sys
import warnings
from difflib import get_close_matches
from typing import NoReturn, TextIO

import click

import fastdecode
from fastdecode.cli.beam import beam
from fastdecode.cli.bench import bench
from fastdecode.cli.chat import chat
from fastdecode.cli.classify import classify
from fastdecode.cli.generate import generate
from fastdecode.cli.next import next_token
from fastdecode.cli.options.sections import Group
from fastdecode.cli.replay import replay
from fastdecode.cli.scores import compare, score, surprising
from fastdecode.cli.selfcheck import selfcheck
from fastdecode.cli.tokens import tokens

_INTERRUPTED = 130
_CLOSED_PIPE = 1
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
):
    app.add_command(command)


def main() -> NoReturn:
    """Run the command line and exit."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show
            code = app.main(prog_name="fastdecode", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has closed the pipe, as `| head` does; the flush at exit must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = _CLOSED_PIPE
    except (KeyboardInterrupt, click.Abort):
        code = _INTERRUPTED
    except Exception as error:
        message = _message(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        code = _BAD_INPUT
    sys.exit(code if isinstance(code, int) else 0)


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
        text = f"warning: {' '.join(str(message).split())}\n"
    else:
        text = warnings.formatwarning(message, category, filename, lineno, line)
    # Without a standard error, `print` would take standard output.
    if (stream := file or sys.stderr) is not None:
        print(text, end="", file=stream)


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
