"""Ctrl-C while the command line starts: the process ends at once, without a traceback.

Imported before all else, because an interrupt may come while the package is being imported.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

INTERRUPTED = 130
_NAMES = ("fastdecode", "fastdecode.exe", "fastdecode-script.py")


def end_at_once(*_: Any) -> None:
    """A signal handler that ends the process, which has nothing to lose yet, or any more."""
    os._exit(INTERRUPTED)


def watch() -> None:
    """End at an interrupt, if this process is the command `fastdecode`."""
    if _is_the_command():
        _handle(signal.default_int_handler, end_at_once)


@contextmanager
def raised() -> Iterator[None]:
    """Let an interrupt be a `KeyboardInterrupt`, as in any other program, for a while."""
    if _handle(end_at_once, signal.default_int_handler):
        try:
            yield
        finally:
            _handle(signal.default_int_handler, end_at_once)
    else:
        yield


@contextmanager
def unraised() -> Iterator[None]:
    """Let an interrupt end the command at once within `raised`, as while a model loads."""
    if _is_the_command() and _handle(signal.default_int_handler, end_at_once):
        try:
            yield
        finally:
            _handle(end_at_once, signal.default_int_handler)
    else:
        yield


def _is_the_command() -> bool:
    first = sys.argv[0] if sys.argv else ""
    if first == "-m":
        # As long as Python looks for the module.
        return ("-m", "fastdecode") in zip(sys.orig_argv, sys.orig_argv[1:], strict=False)
    name, folder = os.path.basename(first), os.path.basename(os.path.dirname(first))
    return name in _NAMES or (folder, name) == ("fastdecode", "__main__.py")


def _handle(before: Any, after: Any) -> bool:
    """Replace one handler by another; false where another is set or this is no main thread."""
    with suppress(ValueError):
        if signal.getsignal(signal.SIGINT) == before:
            signal.signal(signal.SIGINT, after)
            return True
    return False
