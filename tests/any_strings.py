"""Strings of every kind for tests of tokenizers: code, scripts, emoji, spaces, special tokens."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

_POOLS = (
    "abcdefghijklmnopqrstuvwxyz ABC  .,;:'\"!?\n\t",
    "0123456789 .,-/",
    "你好世界漢字かなカナ한국어 ",
    "🐊🎉👩‍👩‍👧‍👦🇩🇪 ❤️ ",
    "éàüñçøåß ÄÖ e\u0301 a\u0308 ",
    "    \n\n\t\r\n ",
    "def f(x):\n    return x[0] + {'a': 1}\n\t#<>&|^%$@!~`\\",
    "²Ⅷ١٢१ ½",
    "\u200b\u00a0\u2003\u3000\ufeff\x00\x1b▁",
    "аеиоу Привет שלום مرحبا नमस्ते ไทย ",
)
_WORDS = ("don't", "I'LL", "hello", " world", "user\n", "<0x0A>", "The quick brown fox")


def strings(count: int, special: Sequence[str] = (), seed: int = 0) -> Iterator[str]:
    """Some strings of characters and words of all kinds, and of the special tokens."""
    rng = random.Random(seed)
    words = (*_WORDS, *special)
    for _ in range(count):
        text = ""
        for _ in range(rng.randint(0, 10)):
            if rng.random() < 0.3:
                text += rng.choice(words)
            else:
                pool = rng.choice(_POOLS)
                text += "".join(rng.choice(pool) for _ in range(rng.randint(1, 12)))
        yield text
