"""A beam search's tree as an SVG drawing: a column for each step, best at the top."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from fastdecode.display.tree_text import standing, visible

if TYPE_CHECKING:
    from fastdecode.results.beam_tree import BeamTree, Branch

_COLUMN = 140
_ROW = 30
_NODE = 22
_CHARACTER = 7.3
_LONGEST = 12
_MARGIN = 16
_HEAD = 46

# Colours for light and dark schemes over an opaque ground, so that any page may contain it.
_STYLE = """
.fd-beams { --ground: #ffffff; --ink: #1f2328; --soft: #57606a; --faint: #a3aab2;
  --line: #d0d7de; --best: #1a7f37; --glow: #dafbe1; font: 12px ui-monospace, Menlo, Consolas,
  monospace; }
@media (prefers-color-scheme: dark) { .fd-beams { --ground: #0d1117; --ink: #e6edf3;
  --soft: #9198a1; --faint: #59616b; --line: #30363d; --best: #3fb950; --glow: #12261e; } }
.fd-beams .ground { fill: var(--ground); }
.fd-beams text { fill: var(--ink); }
.fd-beams .note { fill: var(--soft); font-family: system-ui, sans-serif; }
.fd-beams .score { fill: var(--soft); font-size: 10px; }
.fd-beams .box { fill: var(--ground); stroke: var(--soft); }
.fd-beams path { fill: none; stroke: var(--soft); }
.fd-beams .returned text.token { font-weight: 700; }
.fd-beams .returned .box, .fd-beams path.returned { stroke: var(--ink); stroke-width: 1.8; }
.fd-beams .best text.token { font-weight: 700; fill: var(--best); }
.fd-beams .best .box { stroke: var(--best); stroke-width: 2.2; fill: var(--glow); }
.fd-beams path.best { stroke: var(--best); stroke-width: 2.6; }
.fd-beams .pruned text { fill: var(--faint); }
.fd-beams .pruned .box, .fd-beams path.pruned { stroke: var(--line); }
.fd-beams .end { stroke-width: 3; stroke: var(--soft); }
.fd-beams .best .end { stroke: var(--best); }
.fd-beams .parted { fill: none; stroke: var(--best); stroke-dasharray: 3 3; }
""".strip()


def as_svg(tree: BeamTree, *, pruned: bool = True) -> str:
    """The drawing, with a tooltip for each candidate's numbers."""
    shown = [branch for branch in tree if pruned or branch.fate != "pruned"]
    columns: dict[int, list[Branch]] = {}
    for branch in shown:
        columns.setdefault(branch.depth, []).append(branch)
    for column in columns.values():
        column.sort(key=lambda branch: (branch.fate == "pruned", -branch.score))
    root = _short(visible(tree.prompt), longest=24, tail=True)
    first = _MARGIN + _width(root) + 38
    spot = {0: (_MARGIN + _width(root) / 2, _HEAD + _ROW / 2)}
    for depth, column in columns.items():
        for rank, branch in enumerate(column):
            spot[branch.id] = (
                first + (depth - 1) * _COLUMN + _COLUMN / 2 - 14,
                _HEAD + rank * _ROW + _ROW / 2,
            )
    rows = max(map(len, columns.values()), default=1)
    width = first + len(columns) * _COLUMN + _MARGIN
    width = max(width, 700)
    height = _HEAD + rows * _ROW + 34
    half = {0: _width(root) / 2}
    scores = {0: 0.0} | {branch.id: _score_width(branch) for branch in shown}
    half |= {branch.id: _width(_short(visible(branch.text))) / 2 for branch in shown}
    order = sorted(shown, key=lambda b: ("pruned", "kept", "returned", "best").index(standing(b)))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="fd-beams" role="img" '
        f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">',
        f"<title>{escape(_described(tree))}</title><style>{_STYLE}</style>",
        f'<rect class="ground" width="{width:.0f}" height="{height:.0f}" rx="8"/>',
        f'<text class="note" x="{_MARGIN}" y="24">{escape(_caption(tree))}</text>',
    ]
    parts += [_edge(branch, spot, half, scores) for branch in order]
    parts.append(_node(spot[0], root, "returned", None, tree.prompt))
    parts += [
        _node(
            spot[branch.id],
            _short(visible(branch.text)),
            standing(branch),
            branch,
            _tip(branch),
        )
        for branch in order
    ]
    if tree.parted is not None:
        x, y = spot[tree.parted]
        reach = half[tree.parted] + 5
        parts.append(
            f'<rect class="parted" x="{x - reach:.1f}" y="{y - _NODE / 2 - 4:.1f}" '
            f'width="{2 * reach:.1f}" height="{_NODE + 8}" rx="9"/>'
        )
    parts.append(f'<text class="note" x="{_MARGIN}" y="{height - 12:.0f}">{_LEGEND}</text></svg>')
    return "\n".join(parts)


_LEGEND = (
    "green: the best sequence; bold: returned; thin: died later; grey: pruned at once; "
    "thick right edge: ended. Numbers: sums of log-probabilities, in nats."
)


def _caption(tree: BeamTree) -> str:
    if tree.parted is None:
        return "Beam search. Greedy decoding would have found the best sequence too."
    return "Beam search. In the dashed box, greedy decoding would have left the best sequence."


def _described(tree: BeamTree) -> str:
    best = "".join(branch.text for branch in tree if branch.best)
    return f"Beam search behind {tree.prompt!r}: {len(tree)} candidates, the best is {best!r}"


def _tip(branch: Branch) -> str:
    return (
        f"{branch.text!r} (token {branch.token_id}), step {branch.depth}: {branch.fate}; "
        f"log-probability {branch.logprob:.4f}, sum {branch.score:.4f}"
    )


def _node(spot: tuple[float, float], text: str, kind: str, branch: Branch | None, tip: str) -> str:
    x, y = spot
    width = _width(text)
    left, top = x - width / 2, y - _NODE / 2
    end = ""
    if branch is not None and branch.fate == "finished":
        edge = left + width
        end = f'<path class="end" d="M{edge:.1f} {top + 4:.1f}V{top + _NODE - 4:.1f}"/>'
    score = ""
    if branch is not None:
        score = f'<text class="score" x="{left + width + 9:.1f}" y="{y + 3.5:.1f}">'
        score += f"{branch.score:.2f}</text>"
    return (
        f'<g class="{kind}"><title>{escape(_plain(tip))}</title>'
        f'<rect class="box" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{_NODE}" '
        f'rx="6"/>{end}<text class="token" x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle">'
        f"{escape(text)}</text>{score}</g>"
    )


def _edge(
    branch: Branch,
    spot: dict[int, tuple[float, float]],
    half: dict[int, float],
    scores: dict[int, float],
) -> str:
    (x, y), (to_x, to_y) = spot[branch.parent], spot[branch.id]
    # The edge starts after the score, which is written to the right of the box.
    start = x + half[branch.parent] + scores[branch.parent]
    end = to_x - half[branch.id]
    bend = max((end - start) / 2, 8)
    return (
        f'<path class="{standing(branch)}" d="M{start:.1f} {y:.1f}'
        f'C{start + bend:.1f} {y:.1f} {end - bend:.1f} {to_y:.1f} {end:.1f} {to_y:.1f}"/>'
    )


def _score_width(branch: Branch) -> float:
    return 13 + 6.1 * len(f"{branch.score:.2f}")


def _width(text: str) -> float:
    return len(text) * _CHARACTER + 14


def _short(text: str, *, longest: int = _LONGEST, tail: bool = False) -> str:
    if len(text) <= longest:
        return text
    return "…" + text[-longest + 1 :] if tail else text[: longest - 1] + "…"


def _plain(text: str) -> str:
    """The text without characters that XML does not allow."""
    return "".join(c if c.isprintable() else " " for c in text)
