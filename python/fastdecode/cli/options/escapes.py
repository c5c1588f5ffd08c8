"""Escape sequences in the values of options."""

from __future__ import annotations

import re

import click

# For the help of an option.
ESCAPES = r"\n, \r, \t, \xNN, \uNNNN and \\ are escape sequences."
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.?))", re.DOTALL)
_PLAIN = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}


class Escaped(click.ParamType):
    """A text in which a line end can be written as `\\n`."""

    name = "text"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """The text that is meant.

        Raises:
            click.BadParameter: for a backslash that begins none of the sequences.
        """

        def meant(found: re.Match[str]) -> str:
            digits = found[1] or found[2] or found[3]
            if digits is None:
                plain = _PLAIN.get(found[4])
                if plain is None:
                    self.fail(
                        f"{value!r} has {found[0]}, which is no escape sequence ({ESCAPES}); write "
                        rf"\\ for a backslash",
                        param,
                        ctx,
                    )
                return plain
            code = int(digits, 16)
            if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
                self.fail(f"{value!r} has {found[0]}, which is no character", param, ctx)
            return chr(code)

        return _ESCAPE.sub(meant, value)
