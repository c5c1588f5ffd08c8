"""Ctrl-C while the command line starts: the process ends at once, without a traceback.

Imported before all else, because an interrupt may come while the package is being imported. So it
imports nothing that the interpreter does not have in memory anyway; `signal` would take longer.
"""

from __future__ import annotations

import os
import sys

# Type checkers take this name for the one in `typing`, which is not imported here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal

INTERRUPTED = 130
_NAMES = ("fastdecode", "fastdecode.exe", "fastdecode-script.py")


def end_at_once(*_: object) -> None:
    """A signal handler that ends the process, which has nothing to lose yet, or any more."""
    os._exit(INTERRUPTED)


def watch() -> None:
    """End at an interrupt, if this process is the command `fastdecode`."""
    if _is_the_command():
        _handle(signal.default_int_handler, end_at_once)


class _Replaced:
    """For a while, another handler in place of one, if that one is set."""

    def __init__(self, before: object, after: object) -> None:
        self._before, self._after = before, after
        self._done = False

    def __enter__(self) -> None:
        self._done = _handle(self._before, self._after)

    def __exit__(self, *_: object) -> None:
        if self._done:
            _handle(self._after, self._before)


def raised() -> _Replaced:
    """Let an interrupt be a `KeyboardInterrupt`, as in any other program, for a while."""
    return _Replaced(end_at_once, signal.default_int_handler)


def unraised() -> _Replaced:
    """Let an interrupt end the command at once within `raised`, as while a model loads."""
    ends = end_at_once if _is_the_command() else signal.default_int_handler
    return _Replaced(signal.default_int_handler, ends)


def _is_the_command() -> bool:
    first = sys.argv[0] if sys.argv else ""
    if first == "-m":
        # As long as Python looks for the module.
        return ("-m", "fastdecode") in zip(sys.orig_argv, sys.orig_argv[1:], strict=False)
    name, folder = os.path.basename(first), os.path.basename(os.path.dirname(first))
    return name in _NAMES or (folder, name) == ("fastdecode", "__main__.py")


def _handle(before: object, after: object) -> bool:
    """Replace one handler by another; false where another is set or this is not the main thread."""
    try:
        if signal.getsignal(signal.SIGINT) != before:
            return False
        signal.signal(signal.SIGINT, after)  # type: ignore[arg-type]
    except ValueError:
        return False
    return True
