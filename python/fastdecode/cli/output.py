"""Output: JSON lines, and results as a terminal or a file takes them."""

from __future__ import annotations

import io
import sys
from typing import Any

import click

from fastdecode.display.terminal import printable, tell
from fastdecode.jobs.records import line

__all__ = ["emit", "json_option", "line", "printable", "save_option", "show", "tell", "tolerant"]

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")


def _path(_: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """The path of a file, refused by the option's name before any work."""
    from fastdecode.options import checks

    return None if value is None else checks.path(option.opts[0], value)


save_option = click.option(
    "--save", metavar="FILE", callback=_path, help="Save the run, for fastdecode replay."
)


def emit(record: dict[str, Any]) -> None:
    """Print a record as one line of JSON."""
    print(line(record), flush=True)


def show(view: Any) -> None:
    """Print a result: in colour and as wide as the terminal, or plain without one."""
    if sys.stdout.isatty():
        from rich.console import Console

        Console(highlight=False).print(view)
        return
    tolerant()
    print(printable(str(view)))


def tolerant() -> None:
    """Let standard output print a question mark for a character that it cannot encode."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
