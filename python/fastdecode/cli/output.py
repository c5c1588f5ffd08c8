"""Output: JSON lines, and views as a terminal or a file takes them."""

from __future__ import annotations

import io
import sys
from typing import Any

from fastdecode.display.tables import printable
from fastdecode.jobs.records import line

__all__ = ["emit", "line", "printable", "show", "tolerant"]


def emit(record: dict[str, Any]) -> None:
    """Print a record as one line of JSON."""
    print(line(record), flush=True)


def show(view: Any) -> None:
    """Print a view: in colour, as wide as the terminal, or plain where there is none."""
    if sys.stdout.isatty():
        from rich.console import Console

        Console(highlight=False).print(view)
        return
    tolerant()
    print(view)


def tolerant() -> None:
    """Where standard output cannot encode a character, it gets a question mark, not an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
