"""The standard streams of the process: missing, closed, full, or in order."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any, TypeGuard

# How a stream is replaced that the process was started without. The null device is opened the wrong
# way round, so that reading from a missing input and writing to a missing output are errors; what
# would have gone to a missing standard error is lost.
_MISSING = (("stdin", os.O_WRONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY))


def complete() -> None:
    """Give the process the standard streams that it was started without.

    A file that is opened later would have the number of the stream, and would get what others write
    to it.
    """
    for number, (name, flags) in enumerate(_MISSING):
        if getattr(sys, name) is not None:
            continue
        descriptor = os.open(os.devnull, flags)
        if descriptor != number and not _is_open(number):
            os.dup2(descriptor, number)
            os.close(descriptor)
            descriptor = number
        mode = "r" if name == "stdin" else "w"
        errors = "backslashreplace" if name == "stderr" else "strict"
        stream = open(descriptor, mode, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)


def is_of_output(error: Exception | None) -> TypeGuard[OSError]:
    """Whether an error is one of writing to standard output, the only file without a name."""
    return isinstance(error, OSError) and error.errno is not None and error.filename is None


def lost_output() -> OSError | None:
    """Why standard output cannot take what was printed; None where it has taken everything."""
    error = _flushed(sys.stdout)
    _flushed(sys.stderr)
    return error


def _flushed(stream: Any) -> OSError | None:
    """Flush; a stream that fails takes no more, so that the flush at exit does not fail again."""
    try:
        stream.flush()
    except OSError as error:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            stream.flush()
        return error
    except ValueError:
        # The stream is closed, as under some test runners.
        return None
    return None


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
