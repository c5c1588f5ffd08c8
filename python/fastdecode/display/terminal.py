"""Text that others wrote, made safe for a terminal."""

from __future__ import annotations

import sys
from contextlib import suppress

# A model, a file or a file's name may have any character. These are instructions to a terminal
# (control characters), change the order in which it shows others (bidirectional controls), or
# cannot be encoded (half of a surrogate pair, which Python also puts for bytes that are not UTF-8).
_BIDI = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SHOWN: dict[int, int | str] = {
    # Pictures of the control characters of ASCII.
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"},
    0x7F: 0x2421,
    # The others as escape sequences.
    **{code: f"\\u{code:04x}" for code in (*range(0x80, 0xA0), 0x2028, 0x2029, *_BIDI)},
    **{code: f"\\u{code:04x}" for code in range(0xD800, 0xE000)},
}


def printable(text: str) -> str:
    """`text` with control characters replaced by pictures of them or escape sequences.

    Line ends and tabs stay. Whatever others wrote goes through this on its way to a terminal.
    """
    if text.isascii() and text.isprintable():
        return text
    return text.translate(_SHOWN)


def tell(text: str) -> None:
    """Print a note, a warning or an error on standard error, where there is one that takes it."""
    # Without a standard error, `print` would take standard output.
    if sys.stderr is not None:
        with suppress(OSError):
            print(printable(text), file=sys.stderr, flush=True)
