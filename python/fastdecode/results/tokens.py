"""Tokens: the tokens of a text, and the vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex, overload

from fastdecode.display import Column, Table, Tabular
from fastdecode.models.pieces import Pieces
from fastdecode.options import checks
from fastdecode.results.items import Items, at

_SHOWN_BYTES = 12


@dataclass(frozen=True, slots=True)
class Token:
    """One token.

    Attributes:
        id: its index in the vocabulary.
        piece: as written in the vocabulary ("Ġsoon").
        bytes: the bytes that it adds to a text, which need not be whole characters; empty for a
            special token.
        shown: readable on one line ("␣soon").
        special: whether it adds no text, like the end-of-sequence token.
    """

    id: int
    piece: str
    bytes: bytes
    shown: str
    special: bool = False

    @classmethod
    def of(cls, pieces: Pieces, token_id: int) -> Token:
        """The token with an id.

        Args:
            pieces: the tokenizer's tokens.
            token_id: the id.
        """
        special = pieces.special(token_id)
        return cls(
            id=token_id,
            piece=pieces.piece(token_id),
            bytes=pieces.bytes(token_id),
            shown=pieces.readable(token_id),
            special=special,
        )

    def __str__(self) -> str:
        """The token readable on one line."""
        return self.shown


class Tokens(Tabular, Items[Token]):
    """Tokens in order: those of a text, or a slice of a vocabulary.

    Attributes:
        text: the text, or None for a slice of a vocabulary.
    """

    def __init__(self, items: Iterable[Token], text: str | None = None) -> None:
        """Hold `items`, the tokens of `text` where that is given."""
        super().__init__(items)
        self.text = text

    @overload
    def __getitem__(self, index: int) -> Token: ...
    @overload
    def __getitem__(self, index: slice) -> Tokens: ...
    def __getitem__(self, index: int | slice) -> Token | Tokens:
        """One token, or some of them."""
        if isinstance(index, slice):
            return Tokens(self._items[index])
        return at(self, self._items, index)

    @property
    def ids(self) -> list[int]:
        """Their ids."""
        return [token.id for token in self._items]

    @property
    def pieces(self) -> list[str]:
        """As written in the vocabulary."""
        return [token.piece for token in self._items]

    def _table(self) -> Table:
        notes = []
        if self.text is not None:
            size = len(self.text.encode())
            notes = [f"{len(self)} tokens, {len(self.text)} characters, {size} bytes"]
        return Table(
            [
                Column("id", [str(t.id) for t in self._items], right=True),
                Column("token", [t.shown for t in self._items], code=True),
                Column("piece", [t.piece for t in self._items], code=True),
                Column("bytes", [_hex(t.bytes) for t in self._items], code=True),
            ],
            notes=notes,
        )

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        names = ("id", "piece", "bytes", "shown", "special")
        return {name: [getattr(t, name) for t in self._items] for name in names}


class Vocabulary(Sequence[Token]):
    """All tokens of a tokenizer, constructed on access.

    `vocabulary[262]` is the token with that id, `vocabulary[" the"]` the one with that text, and
    `vocabulary[100:110]` ten tokens, as `Tokens`. `"king" in vocabulary` says whether one token has
    that text.
    """

    def __init__(self, pieces: Pieces) -> None:
        """Present the vocabulary of `pieces`."""
        self._pieces = pieces

    def __len__(self) -> int:
        """The number of tokens, special ones included."""
        return len(self._pieces)

    @overload
    def __getitem__(self, index: SupportsIndex | str) -> Token: ...
    @overload
    def __getitem__(self, index: slice) -> Tokens: ...
    def __getitem__(self, index: SupportsIndex | str | slice) -> Token | Tokens:
        """The token with this id or text, or a slice of the vocabulary.

        A text is that which the token adds, with its space (" king"); or the token as written in
        the vocabulary (`Ġking`, `<|endoftext|>`).

        Raises:
            IndexError: for an id that is out of range.
            KeyError: for a text that is not one token.
            TypeError: for anything else.
        """
        if isinstance(index, str):
            found = self._find(index)
            if found is None:
                raise KeyError(
                    f"{checks.shown(index)} is not one token; tokens({checks.shown(index)}) shows "
                    "how it is split"
                )
            return Token.of(self._pieces, found)
        if isinstance(index, slice):
            return Tokens(Token.of(self._pieces, place) for place in range(len(self))[index])
        try:
            place = checks.whole("index", index)
        except TypeError:
            raise TypeError(
                "a vocabulary is indexed by a token id, a text or a slice, "
                f"not {checks.shown(index)}"
            ) from None
        if not -len(self) <= place < len(self):
            raise IndexError(
                f"token id {checks.shown(place)} is out of range: there are {len(self)}"
            )
        return Token.of(self._pieces, range(len(self))[place])

    def __contains__(self, item: object) -> bool:
        """Whether a text is one token, or a token is one of these."""
        if isinstance(item, str):
            return self._find(item) is not None
        return super().__contains__(item)

    def _find(self, text: str) -> int | None:
        """The token that adds this text, else the one that is written so; the lowest id."""
        wanted = text.encode(errors="surrogatepass")
        written = None
        for token_id in range(len(self)):
            if wanted and self._pieces.bytes(token_id) == wanted:
                return token_id
            if written is None and self._pieces.piece(token_id) == text:
                written = token_id
        return written

    def containing(self, text: str) -> Tokens:
        """The tokens whose bytes contain `text`.

        Raises:
            ValueError: where `text` is empty.
        """
        checks.string("text", text)
        if not text:
            raise ValueError("text is empty, and every token has that; give a character or more")
        wanted = text.encode()
        found = (i for i in range(len(self)) if wanted in self._pieces.bytes(i))
        return Tokens(Token.of(self._pieces, i) for i in found)

    def __repr__(self) -> str:
        """The size, and how to show some tokens."""
        return f"Vocabulary({len(self)} tokens; a slice, as [100:110], shows some)"


def _hex(raw: bytes) -> str:
    some = raw[:_SHOWN_BYTES].hex(" ")
    return some + (" …" if len(raw) > _SHOWN_BYTES else "")
