"""Escape sequences in the values of options."""

from __future__ import annotations

import re

import click

# For the help of an option.
ESCAPES = r"\n, \r, \t, \xNN, \uNNNN and \\ are escape sequences."
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.?))", re.DOTALL)
_PLAIN = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}


def unescaped(word: str) -> str:
    """The text that is meant by an option's value.

    Raises:
        click.BadParameter: for a backslash that begins no escape sequence.
    """

    def meant(found: re.Match[str]) -> str:
        digits = found[1] or found[2] or found[3]
        if digits is None:
            if found[4] not in _PLAIN:
                raise click.BadParameter(
                    f"{_quoted(word)} has {found[0]}, which is not an escape sequence; "
                    rf"write \\ for a backslash ({ESCAPES.removesuffix('.')})"
                )
            return _PLAIN[found[4]]
        code = int(digits, 16)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise click.BadParameter(f"{_quoted(word)} has {found[0]}, which is not a character")
        return chr(code)

    return _ESCAPE.sub(meant, word)


def _quoted(word: str) -> str:
    """A text between quotes, with backslashes as they were typed."""
    return f"'{word}'" if word.isprintable() else repr(word)
