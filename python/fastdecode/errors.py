"""The package's own exceptions. Bad input raises plain `ValueError` and `TypeError`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastdecode.results.generations import Generations


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
