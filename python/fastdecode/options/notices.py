"""Warnings that point to the line that called the package."""

from __future__ import annotations

import inspect
import warnings

_PACKAGE = __name__.partition(".")[0]


def warn(message: str) -> None:
    """Give a `UserWarning` at the first line outside the package that led here.

    Args:
        message: what was given without effect, and what to write instead.
    """
    frame, level = inspect.currentframe(), 1
    while frame is not None and _is_own(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)


def _is_own(module: str) -> bool:
    return module.partition(".")[0] == _PACKAGE
