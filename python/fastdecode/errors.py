"""The package's own exception, and its warnings. Bad input raises `ValueError` and `TypeError`."""

from __future__ import annotations

import os
import sys
import warnings
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastdecode.results.generations import Generations

_PACKAGE = os.path.join(os.path.dirname(__file__), "")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during `generate`, with what there was by then.

    Attributes:
        generations: the finished generations as usual, and the ones in progress with what they have
            and `finish_reason="interrupted"`. Prompts that were not begun are absent.
    """

    def __init__(self, generations: Generations) -> None:
        """Keep `generations`, which the caller can read from the exception."""
        super().__init__(f"interrupted with {len(generations)} generations, finished or begun")
        self.generations = generations

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what it is made from, which is not its message."""
        return type(self), (self.generations,)


def warn(message: str) -> None:
    """Warn with a `UserWarning` at the line that called into the package."""
    level = 2
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)
