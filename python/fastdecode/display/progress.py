"""Progress: a bar on standard error for long work."""

from __future__ import annotations

import sys
from typing import Any

# From this many texts on, a bar is shown on a terminal.
_MANY = 20


def progress_bar(wanted: bool | None, texts: int, name: str, *, each: int = 1) -> Any:
    """A tqdm bar, or None.

    Args:
        wanted: True, False, or None for many texts on a terminal.
        texts: how many there are.
        name: what is done with them.
        each: how often the bar moves for each of them.
    """
    if wanted is None:
        wanted = texts >= _MANY and sys.stderr.isatty()
    if not wanted:
        return None
    from tqdm import tqdm

    return tqdm(total=texts * each, unit="text", desc=name)
