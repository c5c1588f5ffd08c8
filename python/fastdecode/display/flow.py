"""Running text whose tokens are coloured by surprisal, with the alternatives of each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fastdecode.display.html import escape, fragment
from fastdecode.display.tables import Column, Table
from fastdecode.display.terminal import printable

# The surprisal, in nats, from which the colour is at its strongest: one in 22,000.
FULL = 10.0
_STRONGEST = 0.72


@dataclass(frozen=True, slots=True)
class Alternative:
    """A likely token at some position: its id, readable form and log-probability in nats."""

    token_id: int
    shown: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Shown:
    """One token of a running text.

    Attributes:
        shown: the token, readable on one line.
        logprob: in nats; None for a token that is given, not scored.
        lines: what the panel says about it.
        alternatives: the likeliest tokens at its position.
        decides: whether to frame it.
    """

    shown: str
    logprob: float | None = None
    lines: Sequence[str] = ()
    alternatives: Sequence[Alternative] = ()
    decides: bool = False

    def running(self) -> str:
        """The token as it appears in running text, with real spaces and line ends."""
        return self.shown.replace("␣", " ").replace("↵", "↵\n")


def html(tokens: Iterable[Shown]) -> str:
    """A paragraph of tokens and a key to its colours, for a notebook."""
    return fragment(paragraph(tokens) + key())


def paragraph(tokens: Iterable[Shown]) -> str:
    """The tokens alone, for use inside a fragment."""
    return f'<div class="flow">{"".join(map(token_html, tokens))}</div>'


def token_html(token: Shown) -> str:
    """One token, coloured, with a panel that opens on hover or focus."""
    text = escape(token.running())
    if token.logprob is None:
        return f'<span class="tok given">{text}</span>'
    kind = "tok decides" if token.decides else "tok"
    head = f"<b class=t>{escape(token.shown)}</b> p = {_probability(token.logprob)}"
    lines = "".join(f"<br>{escape(line)}" for line in token.lines)
    return (
        f'<span class="{kind}" tabindex="0" style="background:{_colour(-token.logprob)}">{text}'
        f'<span class="panel">{head}{lines}{_panel_table(token)}</span></span>'
    )


def key() -> str:
    """A key to the colours, on one line."""
    steps = "".join(
        f'<span style="background:{_colour(value)}">{value:g}</span>' for value in (0, 2, 5, 10)
    )
    return f'<p class="note key">surprisal in nats: {steps}</p>'


def rich(tokens: Iterable[Shown]) -> Any:
    """The same for a terminal, without the alternatives."""
    from rich.text import Text

    text = Text()
    for token in tokens:
        style = "dim" if token.logprob is None else _terminal_style(-token.logprob)
        if token.decides:
            style += " bold underline"
        text.append(printable(token.running()), style=style.strip())
    return text


def _panel_table(token: Shown) -> str:
    some = token.alternatives
    if not some:
        return ""
    top = max(a.logprob for a in some)
    return Table(
        [
            Column("token", [a.shown for a in some], code=True),
            Column("p", [_probability(a.logprob) for a in some], right=True),
            Column("", bars=[math.exp(a.logprob - top) for a in some]),
        ],
        won=frozenset(i for i, a in enumerate(some) if a.shown == token.shown),
    ).html_body()


def _probability(logprob: float) -> str:
    return f"{math.exp(logprob):.3g}"


def _colour(surprisal: float) -> str:
    share = min(max(surprisal / FULL, 0.0), 1.0)
    return f"rgba(235,95,20,{_STRONGEST * share:.3f})"


def _terminal_style(surprisal: float) -> str:
    """Black on pale to strong orange, which is legible on any background."""
    share = min(max(surprisal / FULL, 0.0), 1.0)
    if share < 0.05:
        return ""
    red, green, blue = 255 - 15 * share, 240 - 130 * share, 215 - 165 * share
    return f"black on rgb({red:.0f},{green:.0f},{blue:.0f})"
