"""Plots, by matplotlib, which the extra `fastdecode[plot]` brings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastdecode.options import checks

# Middle grey is legible on light and dark backgrounds.
_INK = "#7d7d7d"
_BAR = "#e8702a"
_LINE = "#3b82f6"
_INCHES_A_TOKEN = 0.32


def surprisal(
    shown: Sequence[str], surprisals: Sequence[float], entropies: Sequence[float], ax: Any = None
) -> Any:
    """A bar for the surprisal of each token, and a line for the entropy before it, in nats.

    Args:
        shown: the tokens in readable form.
        surprisals: minus their log-probabilities.
        entropies: the entropies of the distributions they were chosen from; empty for none.
        ax: the axes to draw on; None makes a transparent figure that suits any background.

    Raises:
        ImportError: where matplotlib is not installed.
        TypeError: for what are no axes.
    """
    own = ax is None
    if not own and not callable(getattr(ax, "set_xticks", None)):
        raise TypeError(f"ax must be axes of matplotlib, not {checks.shown(ax)}")
    if own:
        ax = _axes(len(shown))
    places = range(len(shown))
    ax.bar(places, surprisals, color=_BAR, width=0.7, label="surprisal of the token")
    if entropies:
        ax.plot(places, entropies, color=_LINE, marker="o", markersize=4, label="entropy before it")
    # matplotlib would read a dollar sign as the start of a formula.
    ax.set_xticks(list(places), [s.replace("$", r"\$") for s in shown], rotation=60, ha="right")
    ax.set_ylabel("nats")
    ax.margins(x=0.01)
    legend = ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    if own:
        _in_grey(ax, legend)
        ax.figure.tight_layout()
    return ax


def _axes(count: int) -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("plot() needs matplotlib: pip install 'fastdecode[plot]'") from error
    width = min(max(5.0, 1.2 + _INCHES_A_TOKEN * count), 14.0)
    figure, ax = pyplot.subplots(figsize=(width, 3.2))
    figure.patch.set_alpha(0)
    ax.patch.set_alpha(0)
    return ax


def _in_grey(ax: Any, legend: Any) -> None:
    ax.tick_params(colors=_INK)
    ax.yaxis.label.set_color(_INK)
    for text in legend.get_texts():
        text.set_color(_INK)
    for name, spine in ax.spines.items():
        spine.set_color(_INK)
        spine.set_visible(name in ("left", "bottom"))
