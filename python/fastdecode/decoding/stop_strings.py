"""Stop strings: where a text ends, whatever the token boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastdecode.decoding.text import text_cursor
from fastdecode.models.detokenizer import Detokenizer

# What a character that is searched belongs to: the text that the caller sees, or the name of a
# special token, of which it is the first character or a later one.
_SEEN, _FIRST, _LATER = "s", "f", "l"


@dataclass(frozen=True, slots=True)
class _Searched:
    """The end of the text that has been searched.

    Attributes:
        tail: its last characters, in which a stop string may have begun.
        kinds: what each of them belongs to.
        count: how many characters the caller sees, of all that have been searched.
    """

    tail: str = ""
    kinds: str = ""
    count: int = 0

    def position(self, start: int) -> int:
        """How many characters the caller sees before the one at `start` in the tail."""
        return self.count - self.kinds.count(_SEEN, start)

    def first_of(self, stops: Sequence[str]) -> int | None:
        """Where the first stop string to be complete begins in the tail."""
        found = []
        for stop in stops:
            start = self.tail.find(stop)
            while start >= 0:
                end = start + len(stop)
                if _LATER not in (self.kinds[start], self.kinds[end : end + 1]):
                    found.append((end, start))
                    break
                start = self.tail.find(stop, start + 1)
        return min(found)[1] if found else None

    def safe(self, stops: Sequence[str]) -> int:
        """The position before which no stop string can have begun."""
        longest = max((self._overlap(stop) for stop in stops), default=0)
        return self.position(len(self.tail) - longest)

    def _overlap(self, stop: str) -> int:
        """The length of the longest beginning of `stop`, short of all of it, at the end."""
        for length in range(min(len(self.tail), len(stop) - 1), 0, -1):
            if self.kinds[-length] != _LATER and self.tail.endswith(stop[:length]):
                return length
        return 0


class StopSearch:
    """Searches a text, fed in pieces, for the first complete stop string.

    The result does not depend on the pieces: read character by character, the first stop string to
    become complete wins (of two that end together, the longer).

    The names of special tokens that are left out of the text may be fed as well. A stop string may
    be such a name or contain it, and has nothing to do with a part of it. Positions count the
    characters that the caller sees.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """Search for any of `stops`, which are not empty."""
        self._stops = tuple(stops)
        self._keep = max(map(len, self._stops), default=1) - 1
        self._searched = _Searched()
        self._settled: _Searched | None = None

    def feed(self, piece: str, *, hidden: bool = False, settled: bool = True) -> int | None:
        """Search the next piece.

        Args:
            piece: the characters.
            hidden: whether they are the name of a special token, which the caller does not see.
            settled: whether they are final; otherwise `retract` may take them back.

        Returns:
            The position at which the text ends: the beginning of the stop string that `piece`
            completes. None where it completes none.
        """
        if not piece:
            return None
        if settled:
            self._settled = None
        elif self._settled is None:
            self._settled = self._searched
        before, count = self._searched, 0 if hidden else len(piece)
        kinds = _FIRST + _LATER * (len(piece) - 1) if hidden else _SEEN * count
        found = _Searched(before.tail + piece, before.kinds + kinds, before.count + count)
        start = found.first_of(self._stops)
        if start is not None:
            return found.position(start)
        first = max(0, len(found.tail) - self._keep)
        self._searched = _Searched(found.tail[first:], found.kinds[first:], found.count)
        return None

    def settle(self) -> None:
        """Nothing that has been fed can be taken back any more."""
        self._settled = None

    def retract(self) -> None:
        """Take back the pieces that were not settled."""
        if self._settled is not None:
            self._searched, self._settled = self._settled, None

    @property
    def safe(self) -> int:
        """The position before which no stop string can have begun."""
        found = self._searched.safe(self._stops)
        return found if self._settled is None else min(found, self._settled.safe(self._stops))


class StoppableText:
    """The text of a sequence in progress, which ends before the first stop string.

    Text that may still turn out to begin a stop string is held back. Special tokens that are left
    out of the text do not interrupt a stop string; one that is, or contains, the name of a special
    token is found in the text with all names as well.

    Attributes:
        stopped: whether a stop string has ended the text.
    """

    def __init__(
        self, detokenizer: Detokenizer, prompt: Sequence[int], stops: Sequence[str] = ()
    ) -> None:
        """Begin after the tokens `prompt`; stop strings are searched in what follows it."""
        self.stopped = False
        self._detokenizer = detokenizer
        self._cursor = text_cursor(detokenizer, prompt)
        self._searches = [StopSearch(stops)] if stops else []
        # The text with the names of special tokens.
        self._named: StopSearch | None = None
        named = [stop for stop in stops if any(name in stop for name in detokenizer.names)]
        if named:
            self._named = StopSearch(named)
            self._searches.append(self._named)
        # Final text that has not been given out, and how many characters have been.
        self._held = ""
        self._given = 0

    def feed(self, token: int, *, ends: bool = False) -> str:
        """The text that can be given out with `token`.

        Args:
            token: the next token.
            ends: whether it is an end-of-sequence token. Its name is not searched then, because
                the sequence ends by itself.
        """
        final = self._cursor.feed(token)
        if not self._searches:
            return final
        if self.stopped:
            return ""
        self._held += final
        name = self._detokenizer.hidden(token)
        if name and not ends and self._named is not None:
            end = self._named.feed(name, hidden=True, settled=not self._cursor.pending)
        else:
            name, end = None, self._look()
        if end is not None:
            text = self._held + self._cursor.ahead
            if name and end == self._given + len(text):
                # A character that is incomplete before a special token stays so.
                return self._cut(None, self._held + self._cursor.finish())
            return self._cut(end - self._given, text)
        safe = min(search.safe for search in self._searches)
        free = max(0, min(len(self._held), safe - self._given))
        piece, self._held = self._held[:free], self._held[free:]
        self._given += free
        return piece

    def finish(self) -> str:
        """The rest of the text, once no token follows."""
        if self.stopped:
            return ""
        self._held += self._cursor.finish()
        end = self._look()
        if end is not None:
            return self._cut(end - self._given, self._held)
        rest, self._held = self._held, ""
        return rest

    def _look(self) -> int | None:
        """Search what the last token has changed."""
        cursor, found = self._cursor, []
        for search in self._searches:
            if cursor.voided:
                search.retract()
            if not cursor.pending:
                search.settle()
            end = search.feed(cursor.fresh, settled=not cursor.pending)
            if end is not None:
                found.append(end)
        return min(found, default=None)

    def _cut(self, end: int | None, text: str) -> str:
        self.stopped = True
        self._held = ""
        return text[:end]


def has_stop(
    detokenizer: Detokenizer, prompt: Sequence[int], ids: Sequence[int], stops: Sequence[str]
) -> bool:
    """Whether the last of `ids`, which follow `prompt`, completes a stop string.

    None of the tokens before it does.
    """
    # A token that adds to a text has at least a byte, and a character at most four.
    most = 4 * max(map(len, stops), default=0) + 4
    first = max(0, len(ids) - most)
    growing = StoppableText(detokenizer, [*prompt, *ids[:first]], stops)
    for token in ids[first:]:
        growing.feed(token)
    return growing.stopped
