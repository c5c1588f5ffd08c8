"""The command `fastdecode` itself: its commands, and how it ends."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

import fastdecode
from fastdecode.cli.beam import beam
from fastdecode.cli.bench import bench
from fastdecode.cli.classify import classify
from fastdecode.cli.generate import generate
from fastdecode.cli.next import next_token
from fastdecode.cli.replay import replay
from fastdecode.cli.scores import compare, score, surprising
from fastdecode.cli.selfcheck import selfcheck
from fastdecode.cli.tokens import tokens

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
    elif isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.filename}: {error.strerror}"
    elif isinstance(error, ValueError | TypeError | OSError):
        text = str(error)
    else:
        return None
    return " ".join(text.split())


def _version(wanted: bool) -> None:
    if wanted:
        print(f"fastdecode {fastdecode.__version__}")
        raise typer.Exit


def _help(context: typer.Context, wanted: bool) -> None:
    if wanted:
        print(context.get_help())
        raise typer.Exit


# A help option of our own: where typer's is not given, it is None instead of False, and typer loads
# pydantic, a tenth of a second and more, to make a bool of it.
@app.callback(invoke_without_command=True, add_help_option=False)
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
    wants_help: Annotated[
        bool,
        typer.Option(
            "--help", "-h", help="Show this message and exit.", callback=_help, is_eager=True
        ),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


app.command()(generate)
app.command()(beam)
app.command("next")(next_token)
app.command()(score)
app.command()(compare)
app.command()(classify)
app.command()(surprising)
app.command()(tokens)
app.command()(replay)
app.command()(selfcheck)
app.command()(bench)
