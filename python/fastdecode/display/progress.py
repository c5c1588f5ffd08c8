"""A progress bar on standard error."""

from __future__ import annotations

import sys
import threading
from typing import Any

from fastdecode import forks

# On a terminal, a bar is shown for at least this many texts.
_MANY = 20


def progress_bar(wanted: bool | None, texts: int, name: str, *, each: int = 1) -> Any:
    """A tqdm bar, or None.

    Args:
        wanted: True, False, or None for many texts on a terminal.
        texts: the number of texts.
        name: the label of the bar.
        each: how often the bar advances for each text.
    """
    if wanted is None:
        wanted = texts >= _MANY and sys.stderr.isatty()
    if not wanted:
        return None
    from tqdm import tqdm

    return tqdm(total=texts * each, unit="text", desc=name)


@forks.in_child
def _start_over() -> None:
    """In a forked child: another thread of the parent may have been drawing a bar, under a lock."""
    bars = getattr(sys.modules.get("tqdm"), "tqdm", None)
    if bars is not None:
        bars.set_lock(threading.RLock())
