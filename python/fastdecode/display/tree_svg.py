"""A beam search's tree as an SVG drawing: a column for each step, best at the top."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from fastdecode.display.tree_text import standing, visible

if TYPE_CHECKING:
    from fastdecode.results.beam_tree import BeamTree, Branch

_ROW = 30
_NODE = 22
_LONGEST = 12
_MARGIN = 16
_GAP = 34
_NARROWEST = 490
_LINE = 17
# Widths in pixels. A note is in the reader's own font: this is the width of a wide one.
_CHARACTER = 7.3
_DIGIT = 6.1
_NOTE_CHARACTER = 6.6

# Inside a page the drawing takes the page's own text colour over its ground, so that the theme need
# not be known. A drawing in a file of its own (`:root`) has nothing to take these from.
_STYLE = """
.fd-beams { --best: rgb(34, 160, 90); --glow: rgba(34, 160, 90, .18); --ground: none;
  color: inherit; font: 12px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.fd-beams:root { --ground: #ffffff; color: #1f2328; }
@media (prefers-color-scheme: dark) { .fd-beams:root { --ground: #0d1117; color: #e6edf3; } }
.fd-beams .ground { fill: var(--ground); }
.fd-beams text { fill: currentColor; }
.fd-beams .note { opacity: .8; font-family: system-ui, sans-serif; }
.fd-beams .score { opacity: .75; font-size: 10px; }
.fd-beams .box, .fd-beams path { fill: none; stroke: currentColor; stroke-opacity: .6; }
.fd-beams .returned text.token { font-weight: 700; }
.fd-beams .returned .box, .fd-beams path.returned { stroke-opacity: 1; stroke-width: 1.8; }
.fd-beams .best text.token { font-weight: 700; }
.fd-beams .best .box { stroke: var(--best); stroke-opacity: 1; stroke-width: 2.2;
  fill: var(--glow); }
.fd-beams path.best { stroke: var(--best); stroke-opacity: 1; stroke-width: 2.6; }
.fd-beams .pruned text { opacity: .6; }
.fd-beams .pruned .box, .fd-beams path.pruned { stroke-opacity: .25; }
.fd-beams .end { stroke-width: 3; }
.fd-beams .best .end { stroke: var(--best); stroke-opacity: 1; }
.fd-beams .parted { fill: none; stroke: var(--best); stroke-dasharray: 3 3; }
""".strip()

_STANDINGS = ("pruned", "kept", "returned", "best")


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of boxes: its centre, and what its widest box and score reach to each side."""

    centre: float
    left: float
    right: float


@dataclass(frozen=True, slots=True)
class _Box:
    """A box as it is drawn: its text, its row and the width of its score, 0 for none."""

    text: str
    row: int
    score: float = 0.0

    @property
    def half(self) -> float:
        return (_cells(self.text) * _CHARACTER + 14) / 2

    @property
    def y(self) -> float:
        return self.row * _ROW + _ROW / 2


def as_svg(tree: BeamTree, *, pruned: bool = True) -> str:
    """The drawing, with a tooltip for each candidate's numbers."""
    shown = [branch for branch in tree if pruned or branch.fate != "pruned"]
    steps: dict[int, list[Branch]] = {}
    for branch in shown:
        steps.setdefault(branch.depth, []).append(branch)
    boxes = {0: _Box(_short(visible(tree.prompt), longest=24, tail=True), 0)}
    for step in steps.values():
        step.sort(key=lambda branch: (branch.fate == "pruned", -branch.score))
        for row, branch in enumerate(step):
            boxes[branch.id] = _Box(_short(visible(branch.text)), row, _score_width(branch))
    columns = _columns([[boxes[0]], *([boxes[b.id] for b in steps[d]] for d in sorted(steps))])
    width = max(columns[-1].right + _MARGIN, _NARROWEST)
    room = width - 2 * _MARGIN
    caption, legend = _wrapped([_caption(tree)], room), _wrapped(_legend(shown), room)
    top = 14 + _LINE * len(caption)
    bottom = top + _ROW * max(map(len, steps.values()), default=1)
    height = bottom + 12 + _LINE * len(legend)
    order = sorted(shown, key=lambda branch: _STANDINGS.index(standing(branch)))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="fd-beams" role="img" '
        f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">',
        f"<title>{escape(_described(tree))}</title><style>{_STYLE}</style>",
        f'<rect class="ground" width="{width:.0f}" height="{height:.0f}" rx="8"/>',
        *_notes(caption, 24),
        f'<svg y="{top}" overflow="visible">',
    ]
    parts += [_edge(branch, boxes, columns) for branch in order]
    parts.append(_node(boxes[0], columns[0], "returned", None, tree.prompt))
    parts += [
        _node(boxes[branch.id], columns[branch.depth], standing(branch), branch, _tip(branch))
        for branch in order
    ]
    if tree.parted is not None:
        depth = next((branch.depth for branch in shown if branch.id == tree.parted), 0)
        parts.append(_frame(boxes[tree.parted], columns[depth]))
    parts += ["</svg>", *_notes(legend, bottom + _LINE), "</svg>"]
    return "\n".join(parts)


def _columns(steps: Sequence[Sequence[_Box]]) -> list[_Column]:
    """Each column as wide as its contents, with room for the edges between two."""
    columns = []
    left: float = _MARGIN
    for boxes in steps:
        centre = left + max(box.half for box in boxes)
        right = centre + max(box.half + box.score for box in boxes)
        columns.append(_Column(centre, left, right))
        left = right + _GAP
    return columns


_LEGEND = {
    "best": "Green: the best sequence.",
    "returned": "Bold: returned.",
    "kept": "Thin: dropped later.",
    "pruned": "Grey: pruned at once.",
}


def _legend(shown: Sequence[Branch]) -> list[str]:
    """What the lines and boxes of this drawing mean."""
    present = {standing(branch) for branch in shown}
    entries = [text for kind, text in _LEGEND.items() if kind in present]
    if any(branch.fate == "finished" for branch in shown):
        entries.append("Thick right edge: ended.")
    return [*entries, "Numbers: sums of log-probabilities, in nats."]


def _caption(tree: BeamTree) -> str:
    if tree.parted is None:
        return "Beam search. Greedy decoding would have found the best sequence too."
    return "Beam search. Dashed: greedy decoding leaves the best sequence here."


def _described(tree: BeamTree) -> str:
    best = "".join(branch.text for branch in tree if branch.best)
    return f"Beam search after {tree.prompt!r}: {len(tree)} candidates, the best is {best!r}"


def _wrapped(entries: Sequence[str], room: float) -> list[str]:
    """The lines of a note of at most `room` pixels, broken between entries where possible."""
    lines = [""]
    for entry in entries:
        longer = f"{lines[-1]} {entry}".strip()
        if len(longer) * _NOTE_CHARACTER <= room:
            lines[-1] = longer
        else:
            lines += textwrap.wrap(entry, int(room / _NOTE_CHARACTER))
    return [line for line in lines if line]


def _notes(lines: Sequence[str], first: float) -> list[str]:
    """The lines of a note, the first with its baseline at `first`."""
    return [
        f'<text class="note" x="{_MARGIN}" y="{first + _LINE * place:.0f}">{escape(line)}</text>'
        for place, line in enumerate(lines)
    ]


def _tip(branch: Branch) -> str:
    return (
        f"{branch.text!r} (token {branch.token_id}), step {branch.depth}: {branch.fate}; "
        f"log-probability {branch.logprob:.4f}, sum {branch.score:.4f}"
    )


def _node(box: _Box, column: _Column, kind: str, branch: Branch | None, tip: str) -> str:
    x, y, half = column.centre, box.y, box.half
    top = y - _NODE / 2
    end = score = ""
    if branch is not None:
        if branch.fate == "finished":
            end = f'<path class="end" d="M{x + half:.1f} {top + 4:.1f}V{top + _NODE - 4:.1f}"/>'
        score = f'<text class="score" x="{x + half + 9:.1f}" y="{y + 3.5:.1f}">'
        score += f"{branch.score:.2f}</text>"
    return (
        f'<g class="{kind}"><title>{escape(_plain(tip))}</title>'
        f'<rect class="box" x="{x - half:.1f}" y="{top:.1f}" width="{2 * half:.1f}" '
        f'height="{_NODE}" rx="6"/>{end}<text class="token" x="{x:.1f}" y="{y + 4:.1f}" '
        f'text-anchor="middle">{escape(box.text)}</text>{score}</g>'
    )


def _edge(branch: Branch, boxes: Mapping[int, _Box], columns: Sequence[_Column]) -> str:
    """A line from the parent's score to the box, which bends only between the two columns."""
    parent, box = boxes[branch.parent], boxes[branch.id]
    before, column = columns[branch.depth - 1], columns[branch.depth]
    start, end = before.centre + parent.half + parent.score, column.centre - box.half
    left, right = before.right, column.left
    bend = (right - left) / 2
    return (
        f'<path class="{standing(branch)}" d="M{start:.1f} {parent.y:.1f}H{left:.1f}'
        f"C{left + bend:.1f} {parent.y:.1f} {right - bend:.1f} {box.y:.1f} "
        f'{right:.1f} {box.y:.1f}H{end:.1f}"/>'
    )


def _frame(box: _Box, column: _Column) -> str:
    """The dashed box where greedy decoding leaves the best sequence."""
    reach = box.half + 5
    return (
        f'<rect class="parted" x="{column.centre - reach:.1f}" y="{box.y - _NODE / 2 - 4:.1f}" '
        f'width="{2 * reach:.1f}" height="{_NODE + 8}" rx="9"/>'
    )


def _score_width(branch: Branch) -> float:
    return 13 + _DIGIT * len(f"{branch.score:.2f}")


def _cells(text: str) -> int:
    """The width of a text in characters of a fixed-width font, where some take two cells."""
    from rich.cells import cell_len

    return cell_len(text)


def _short(text: str, *, longest: int = _LONGEST, tail: bool = False) -> str:
    """The text, or as much of its beginning (or its end) as fits `longest` cells."""
    if _cells(text) <= longest:
        return text
    while _cells(text) > longest - 1:
        text = text[1:] if tail else text[:-1]
    return "…" + text if tail else text + "…"


def _plain(text: str) -> str:
    """The text without characters that XML does not allow."""
    return "".join(c if c.isprintable() else " " for c in text)
