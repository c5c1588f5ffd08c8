"""Text from tokens: all at once, or token by token without ever splitting a character.

The text that tokens add after a prompt is the text of both without the text of the prompt at its
beginning. Where the text of both does not begin with that of the prompt, the prompt's text stays as
it is nevertheless, and

- a character that begins in the prompt's tokens and is completed by the new ones belongs to these;
- with byte fallback, where the new tokens continue a run of byte tokens that is not valid UTF-8 as
  a whole, each new byte token is U+FFFD.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from itertools import takewhile
from typing import Protocol

from fastdecode.models.detokenizer import REPLACEMENT, Detokenizer

# The number of tokens from which on the context of the next tokens is cut to the last few.
_WINDOW = 16
# U+FFFD at the end of a text may be a character of which up to three bytes are there.
_MOST_INCOMPLETE = 3


class TextCursor(Protocol):
    """An incremental detokenizer.

    What `feed` returns for all tokens, and then `finish`, together are exactly the text of all
    tokens, and no piece splits a character. The work for a token does not grow with the text.

    Attributes:
        fresh: the characters that the last token has completed. Some may not be final yet.
        voided: whether the last token has shown that the characters ahead were none. `fresh` then
            has what takes their place as well.
    """

    fresh: str
    voided: bool

    @property
    def pending(self) -> bool:
        """Whether there may be characters ahead."""
        ...

    @property
    def ahead(self) -> str:
        """The characters that are complete and not final: tokens that follow may void them."""
        ...

    def feed(self, token: int) -> str:
        """The text that is final with `token`; empty while there is none."""
        ...

    def finish(self) -> str:
        """The rest of the text, once no token follows."""
        ...


def text_cursor(detokenizer: Detokenizer, prompt: Sequence[int]) -> TextCursor:
    """An incremental detokenizer that begins after the tokens `prompt`."""
    if detokenizer.kind == "bytes":
        return _ByteCursor(detokenizer, prompt)
    if detokenizer.kind == "runs":
        return _RunCursor(detokenizer, prompt)
    return _WindowCursor(detokenizer, prompt)


def continuation(detokenizer: Detokenizer, prompt: Sequence[int], ids: Sequence[int]) -> str:
    """The text that the tokens `ids` add after the tokens `prompt`."""
    if detokenizer.kind == "windows":
        before = detokenizer.tail(prompt)
        return _difference(detokenizer, before, detokenizer.decode(before), ids)
    cursor = text_cursor(detokenizer, prompt)
    return "".join([*map(cursor.feed, ids), cursor.finish()])


def _difference(
    detokenizer: Detokenizer, before: Sequence[int], text: str, ids: Sequence[int]
) -> str:
    """What `ids` add to `text`, which is that of the tokens `before`."""
    whole = detokenizer.decode([*before, *ids])
    return whole[_shared(whole, text) :]


def _shared(first: str, second: str) -> int:
    """The length of the longest beginning that two texts share."""
    if first.startswith(second):
        return len(second)
    return sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    )


class _ByteCursor:
    """Byte-level tokens: their bytes, decoded as UTF-8.

    Bytes that cannot be UTF-8 become U+FFFD as soon as that is certain, one for each longest
    beginning of a character, as Unicode recommends and as the `tokenizers` library does.
    """

    voided = False
    pending = False
    ahead = ""

    def __init__(self, detokenizer: Detokenizer, prompt: Sequence[int]) -> None:
        """Begin after the tokens `prompt`."""
        self._bytes = detokenizer.bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        end = b""
        for token in reversed(prompt):
            if len(end) >= _MOST_INCOMPLETE:
                break
            end = self._bytes(token) + end
        self._utf8.decode(end[-_MOST_INCOMPLETE:])
        # The prompt's text ends in U+FFFD for a character that it begins.
        self._begun = bool(self._utf8.getstate()[0])
        self.fresh = ""

    def feed(self, token: int) -> str:
        """See `TextCursor`."""
        return self._new(self._utf8.decode(self._bytes(token)))

    def finish(self) -> str:
        """See `TextCursor`."""
        return self._new(self._utf8.decode(b"", True))

    def _new(self, text: str) -> str:
        if self._begun and text:
            self._begun = False
            text = text.removeprefix(REPLACEMENT)
        self.fresh = text
        return text


class _Window:
    """The last tokens of a sequence, in whose context further tokens are decoded."""

    def __init__(self, detokenizer: Detokenizer, ids: Sequence[int]) -> None:
        """Begin after `ids`."""
        self._detokenizer = detokenizer
        self._begin(ids)

    def add(self, ids: Sequence[int]) -> str:
        """The text that `ids` add. They end a run of byte tokens, or are one and end with it."""
        if len(self._ids) >= _WINDOW:
            self._begin(self._ids)
        added = _difference(self._detokenizer, self._ids, self._text, ids)
        self._ids += ids
        self._text += added
        return added

    def _begin(self, ids: Sequence[int]) -> None:
        self._ids = self._detokenizer.tail(ids)
        self._text = self._detokenizer.decode(self._ids)


class _Run:
    """A run of byte tokens in progress.

    Attributes:
        tokens: its tokens.
        broken: whether it cannot be UTF-8, so that each byte is U+FFFD.
        ahead: the characters that are complete, of those that the prompt does not complete.
        old: how many U+FFFD are the prompt's, if the run is not UTF-8.
    """

    def __init__(self) -> None:
        """Begin with no token."""
        self.tokens: list[int] = []
        self.broken = False
        self.ahead: list[str] = []
        self.old = 0
        self._utf8 = codecs.getincrementaldecoder("utf-8")("strict")

    @property
    def incomplete(self) -> bool:
        """Whether it ends within a character."""
        return bool(self._utf8.getstate()[0])

    def take(self, token: int, byte: int) -> str:
        """Continue by a byte; the characters that it completes. It may break the run."""
        self.tokens.append(token)
        if self.broken:
            return ""
        try:
            text: str = self._utf8.decode(bytes([byte]))
        except UnicodeDecodeError:
            self.broken = True
            return ""
        self.ahead.append(text)
        return text

    def give_to_prompt(self) -> None:
        """Consider what it has so far as the prompt's."""
        begun = "".join(self.ahead)
        whole = not self.broken and not self.incomplete
        self.old = len(begun) if whole and not begun.strip(REPLACEMENT) else len(self.tokens)
        self.ahead = []

    def replaced(self) -> str:
        """Its text, if it is not UTF-8."""
        return REPLACEMENT * (len(self.tokens) - self.old)


class _RunCursor:
    """Byte fallback: a run of byte tokens is UTF-8 as a whole, or one U+FFFD for each byte.

    So the text of a run that may still be valid is not final before the run has ended. A run that
    cannot be valid is given out byte by byte.
    """

    def __init__(self, detokenizer: Detokenizer, prompt: Sequence[int]) -> None:
        """Begin after the tokens `prompt`."""
        self.fresh, self.voided = "", False
        self._detokenizer = detokenizer
        self._run = _Run()
        first = len(prompt)
        run: list[tuple[int, int]] = []
        while first > 0:
            token = prompt[first - 1]
            if detokenizer.hidden(token) is None:
                byte = detokenizer.byte(token)
                if byte is None:
                    break
                run.append((token, byte))
            first -= 1
        self._window = _Window(detokenizer, prompt[:first])
        for token, byte in reversed(run):
            self._run.take(token, byte)
        self._run.give_to_prompt()

    @property
    def pending(self) -> bool:
        """See `TextCursor`."""
        return bool(self._run.tokens) and not self._run.broken

    @property
    def ahead(self) -> str:
        """See `TextCursor`."""
        return "".join(self._run.ahead)

    def feed(self, token: int) -> str:
        """See `TextCursor`."""
        self.fresh, self.voided = "", False
        if self._detokenizer.hidden(token) is not None:
            return ""
        byte = self._detokenizer.byte(token)
        if byte is None:
            text = self._end_run()
            added = self._window.add([token])
            self.fresh += added
            return text + added
        if self._run.broken:
            self._run.take(token, byte)
            self.fresh = REPLACEMENT
            return self.fresh
        self.fresh = self._run.take(token, byte)
        return self._break() if self._run.broken else ""

    def finish(self) -> str:
        """See `TextCursor`."""
        self.fresh, self.voided = "", False
        return self._end_run()

    def _break(self) -> str:
        """The run is not UTF-8: its text, which takes the place of the characters ahead."""
        self.voided = any(self._run.ahead)
        self._run.ahead = []
        self.fresh = self._run.replaced()
        return self.fresh

    def _end_run(self) -> str:
        """End the run; its text, unless that has been given out."""
        run = self._run
        if not run.tokens:
            return ""
        self._run = _Run()
        decoded = self._window.add(run.tokens)
        if run.broken:
            return ""
        if run.incomplete:
            self.voided, self.fresh = any(run.ahead), run.replaced()
            return self.fresh
        seen = "".join(run.ahead)
        text = decoded[max(0, len(decoded) - len(seen)) :]
        # A decoder may strip a space, or replace characters, in the text of a run as well.
        if text != seen:
            self.voided, self.fresh = True, text
        return text


class _WindowCursor:
    """Any other decoder: the difference that a token makes to the text of the last few.

    Where the decoder writes U+FFFD for characters that are incomplete, up to three of them at the
    end are not final.
    """

    voided = False
    pending = False
    ahead = ""

    def __init__(self, detokenizer: Detokenizer, prompt: Sequence[int]) -> None:
        """Begin after the tokens `prompt`."""
        self._detokenizer = detokenizer
        self._before = detokenizer.tail(prompt)
        self._all: list[int] = []
        self._pieces: list[str] = []
        self._ids = list(self._before)
        self._prompt = detokenizer.decode(self._ids)
        self._final = len(self._prompt)
        self.fresh = ""

    def feed(self, token: int) -> str:
        """See `TextCursor`."""
        self.fresh = ""
        if self._detokenizer.hidden(token) is not None:
            return ""
        self._all.append(token)
        self._ids.append(token)
        text = self._detokenizer.decode(self._ids)
        if not self._pieces and not text.startswith(self._prompt):
            self._final = min(self._final, _shared(text, self._prompt))
        final = len(text)
        if self._detokenizer.replaces:
            final -= min(final - len(text.rstrip(REPLACEMENT)), _MOST_INCOMPLETE)
        if final > self._final:
            self.fresh = text[self._final : final]
            self._pieces.append(self.fresh)
            self._final = final
        if len(self._ids) >= _WINDOW:
            self._shrink(len(text) - self._final)
        return self.fresh

    def finish(self) -> str:
        """See `TextCursor`."""
        whole = continuation(self._detokenizer, self._before, self._all)
        given = "".join(self._pieces)
        if whole.startswith(given):
            self.fresh = whole[len(given) :]
        else:
            self.fresh = self._detokenizer.decode(self._ids)[self._final :]
        return self.fresh

    def _shrink(self, held: int) -> None:
        """Forget all but the last tokens; the last `held` characters are not final."""
        self._ids = self._detokenizer.tail(self._ids)
        self._final = max(0, len(self._detokenizer.decode(self._ids)) - held)
        self._prompt = ""
