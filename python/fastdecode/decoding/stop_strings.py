"""Stop strings: where a text ends, whatever the token boundaries."""

from __future__ import annotations

from collections.abc import Sequence


class StopCutter:
    """Cuts a text, fed in pieces, before the first complete stop string.

    The cut does not depend on the pieces: read character by character, the first
    stop string to become complete wins (of two that end together, the longer), and the text ends
    before it. Text that may still turn out to begin a stop string is held back.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """Cut at any of `stops`, which are not empty."""
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def feed(self, piece: str) -> str:
        """Take the next piece; return the text that is final. Sets `stopped` at a cut."""
        if self.stopped:
            return ""
        text = self._held + piece
        cut = self._first_stop(text)
        if cut is not None:
            self.stopped = True
            self._held = ""
            return text[:cut]
        keep = self._possible_start(text)
        self._held = text[keep:]
        return text[:keep]

    def flush(self) -> str:
        """The text held back, once nothing can follow it."""
        text, self._held = self._held, ""
        return text

    def _first_stop(self, text: str) -> int | None:
        hits = []
        for stop in self._stops:
            start = text.find(stop)
            if start >= 0:
                hits.append((start + len(stop), start))
        return min(hits)[1] if hits else None

    def _possible_start(self, text: str) -> int:
        """The index at which `text` may begin a stop string; its length if nowhere."""
        longest = max(map(len, self._stops), default=1) - 1
        for start in range(max(0, len(text) - longest), len(text)):
            tail = text[start:]
            if any(stop.startswith(tail) for stop in self._stops):
                return start
        return len(text)
