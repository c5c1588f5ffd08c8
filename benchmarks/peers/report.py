"""The tables and the chart of a results file, put where they belong.

    python -m benchmarks.peers.report [benchmarks/results/FILE.json]

Writes between the markers of README.md and docs/benchmarks.md, and the chart's two pictures to
docs/pictures.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from pathlib import Path
from typing import Any

from benchmarks.peers.process import ROOT
from benchmarks.peers.roster import PEERS, REFERENCE, Peer
from benchmarks.peers.workloads import CELLS

GROUPS = tuple(dict.fromkeys(peer.group for peer in PEERS.values()))
MAIN = ("top-k-1", "top-k-8", "top-k-32", "beam-1", "beam-8")
TITLES = {
    **{
        f"{mode}-{rows}": f"{rows} row{'s' * (rows > 1)}"
        for mode in ("greedy", "top-k", "top-p")
        for rows in (1, 8, 32)
    },
    "beam-1": "beam 4",
    "beam-8": "beam 4, 8 prompts",
    "samples-16": "16 samples of 256 tokens",
    "queue-256": "queue",
    "score-256": "scoring",
    "first-token": "first token",
}
# Ours, by the group that it is compared in.
OURS = {
    "float32": "fastdecode native float32",
    "16 bits": "fastdecode native bfloat16",
    "8 bits": "fastdecode native int8",
}


def values(results: dict[str, Any], cell: str, peer: str) -> list[float]:
    """Each repeat's figure: milliseconds a step, or seconds in all."""
    entry = results["cells"].get(cell, {}).get(peer, {})
    runs = entry.get("runs") or []
    if runs and len(runs[0]) == 2:
        return [(long - short) / CELLS[cell].steps * 1e3 for short, long in runs]
    return [run[0] for run in runs]


def median(results: dict[str, Any], cell: str, peer: str) -> float | None:
    """The median of `values`, or None."""
    found = values(results, cell, peer)
    return statistics.median(found) if found else None


def read_ms(results: dict[str, Any], cell: str, peer: str) -> float | None:
    """Milliseconds of reading a native engine's weights once, in the same cell's run."""
    answer = results["reads"].get(cell, {}).get(peer)
    return statistics.median(answer["seconds"]) * 1e3 if answer else None


def best_peer(results: dict[str, Any], cell: str, group: str) -> tuple[str, float] | None:
    """The fastest of the others in a group."""
    found = [
        (name, value)
        for name, peer in PEERS.items()
        if peer.group == group and not peer.ours
        if (value := median(results, cell, name)) is not None
    ]
    return min(found, key=lambda one: one[1]) if found else None


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def table(results: dict[str, Any], cells: list[str], *, spread: bool, reads: bool = True) -> str:
    """Peers down, cells across; the fastest of each group in bold."""
    cells = [cell for cell in cells if results["cells"].get(cell)]
    if not cells:
        return "Not measured in this run."
    notes: list[str] = []
    lines = [
        "| | " + " | ".join(TITLES[cell] for cell in cells) + " |",
        "|---|" + "---:|" * len(cells),
    ]
    for group in GROUPS:
        names = [name for name, peer in PEERS.items() if peer.group == group]
        lines.append(f"| *{group}* |" + " |" * len(cells))
        fastest = {
            cell: min(
                (v for n in names if (v := median(results, cell, n)) is not None), default=None
            )
            for cell in cells
        }
        for name in names:
            row = []
            for cell in cells:
                value = median(results, cell, name)
                text = _figure(value)
                if value is None:
                    text = _note(results, cell, name, notes)
                elif value == fastest[cell]:
                    text = f"**{text}**"
                if value is not None and spread:
                    found = values(results, cell, name)
                    if len(found) > 1:
                        text += f" ({_figure(min(found))}-{_figure(max(found))})"
                row.append(text)
            lines.append(f"| {name} | " + " | ".join(row) + " |")
        if reads:
            row = [_figure(read_ms(results, cell, OURS.get(group, ""))) for cell in cells]
            if any(text != "-" for text in row):
                lines.append("| reading the weights once | " + " | ".join(row) + " |")
    return "\n".join(lines + ([""] if notes else []) + notes)


def _note(results: dict[str, Any], cell: str, name: str, notes: list[str]) -> str:
    """A number for the reason why there is no figure, and the reason below the table."""
    reason = results["cells"].get(cell, {}).get(name, {}).get("reason")
    if reason is None:
        return "-"
    marks = [note.split(": ", 1)[1] for note in notes if note]
    if reason not in marks:
        if notes:
            notes.append("")
        notes.append(f"({len(marks) + 1}): {reason}")
        marks.append(reason)
    return f"- ({marks.index(reason) + 1})"


def ratios(results: dict[str, Any]) -> str:
    """Ours against the fastest of the others, cell by cell: above 1 we are faster."""
    lines = ["| | " + " | ".join(TITLES[c] for c in MAIN) + " |", "|---|" + "---:|" * len(MAIN)]
    for group, ours in OURS.items():
        row = []
        for cell in MAIN:
            mine, best = median(results, cell, ours), best_peer(results, cell, group)
            row.append(f"{best[1] / mine:.2f}x {best[0]}" if mine and best else "-")
        lines.append(f"| {ours} against the fastest peer | " + " | ".join(row) + " |")
        row = []
        for cell in MAIN:
            mine, other = median(results, cell, ours), median(results, cell, REFERENCE)
            row.append(f"{other / mine:.2f}x" if mine and other else "-")
        lines.append("| ... against transformers in float32 | " + " | ".join(row) + " |")
        row = []
        for cell in MAIN:
            mine, read = median(results, cell, ours), read_ms(results, cell, ours)
            row.append(f"{read / mine:.0%}" if mine and read and cell.endswith("k-1") else "")
        lines.append("| ... share of the read bandwidth | " + " | ".join(row) + " |")
    return "\n".join(lines)


def lost(results: dict[str, Any]) -> list[str]:
    """Cells in which somebody is faster than ours of the same group."""
    found = []
    for cell in [*CELLS, "first-token"]:
        for group, ours in OURS.items():
            mine, best = median(results, cell, ours), best_peer(results, cell, group)
            if mine and best and best[1] < mine:
                found.append(f"{cell}, {group}: {best[0]} is {mine / best[1]:.2f}x as fast")
    return found


def sameness(results: dict[str, Any]) -> str:
    """How often greedy text, beams and scores came out as transformers', of float32 alone."""
    groups = {
        "greedy": [c for c in CELLS if c.startswith("greedy")],
        "beam 4": ["beam-1", "beam-8"],
        "scores within 0.001": ["score-256"],
    }
    lines = ["| as transformers | " + " | ".join(groups) + " |", "|---|" + "---:|" * len(groups)]
    for name in PEERS:
        row = []
        for cells in groups.values():
            same = [results["cells"].get(c, {}).get(name, {}).get("same") for c in cells]
            pairs = [tuple(map(int, text.split("/"))) for text in same if text]
            row.append(f"{sum(a for a, _ in pairs)}/{sum(b for _, b in pairs)}" if pairs else "-")
        if name != REFERENCE and any(text != "-" for text in row):
            lines.append(f"| {name} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def memory(results: dict[str, Any]) -> str:
    """Peak resident memory: once loaded, after one row, after 32."""
    cells = ("greedy-1", "top-k-32")
    lines = ["| MB resident at most | to the first token | 32 rows |", "|---|---:|---:|"]
    for name in PEERS:
        first = results["cells"].get("first-token", {}).get(name, {}).get("peak_mb")
        more = results["cells"].get(cells[1], {}).get(name, {}).get("peak_mb")
        if first or more:
            row = (f"{value:.0f}" if value else "-" for value in (first, more))
            lines.append(f"| {name} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def machine(results: dict[str, Any]) -> str:
    """One sentence about the machine, one about the versions."""
    m = results["machine"]
    reads = results["read"].get(OURS["float32"])
    speed = ""
    if reads:
        rate = reads["bytes"] / statistics.median(reads["seconds"]) / 1e9
        speed = f"; it reads {rate:.0f} GB/s from memory (one pass over the float32 weights)"
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return (
        f"{results['date']}: {m['cpu']} (family {m['family']}, model {m['model']}: "
        f"{', '.join(m['features'])}), {m['threads']} threads, {m['last_level_cache']} of last "
        f"level cache, {m['memory_gb']} GB, {m['system']}, Python {m['python']}{speed}. {versions}."
    )


def short(results: dict[str, Any]) -> str:
    """What the README shows."""
    return "\n\n".join(
        (
            f"Milliseconds a step: top-k 50 with 1, 8 and 32 rows, and beam search with 4 beams "
            f"for 1 and 8 prompts. GPT-2 124M, {_where(results)}; medians, the fastest of each "
            "group in bold.",
            table(results, list(MAIN), spread=False),
        )
    )


def _where(results: dict[str, Any]) -> str:
    m = results["machine"]
    wide = "AVX-512" if "avx512f" in m["features"] else "no AVX-512"
    return f"{m['threads']} threads of an {m['cpu']} with {wide}"


def full(results: dict[str, Any]) -> str:
    """What docs/benchmarks.md shows."""
    parts = [machine(results)]
    for mode in ("greedy", "top-k", "top-p"):
        name = {"greedy": "Greedy", "top-k": "Top-k 50", "top-p": "Top-p 0.9"}[mode]
        parts += [f"### {name}, milliseconds a step by rows"]
        parts += [table(results, [f"{mode}-{n}" for n in (1, 8, 32)], spread=True)]
    parts += ["### Beam search, milliseconds a step by prompts, and 16 samples of a long prompt"]
    parts += [table(results, ["beam-1", "beam-8", "samples-16"], spread=True)]
    parts += ["### Whole jobs, seconds"]
    parts += [table(results, ["queue-256", "score-256", "first-token"], spread=True, reads=False)]
    parts += ["### fastdecode by the fastest peer", ratios(results)]
    parts += ["### The same work", sameness(results)]
    parts += ["### Memory", memory(results)]
    return "\n\n".join(parts)


def chart(results: dict[str, Any], path: Path, *, dark: bool) -> None:
    """Tokens a second, by rows and group; ours in colour."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "fastdecode"  # the same file from the same figures
    ink, quiet, accent, soft = (
        ("#e6edf3", "#57606a", "#f0883e", "#8d5524")
        if dark
        else ("#1f2328", "#c3c9d1", "#d1570a", "#f0b48a")
    )
    groups = ("float32", "8 bits")
    cells = ("top-k-1", "top-k-8", "top-k-32")
    heights = [sum(_shown(results, cells, p, g) for p in PEERS.values()) for g in groups]
    figure, axes = plt.subplots(
        2, 3, figsize=(10, 5.6), gridspec_kw={"height_ratios": heights}, layout="constrained"
    )
    for line, group in enumerate(groups):
        peers = [p for p in PEERS.values() if _shown(results, cells, p, group)]
        for column, cell in enumerate(cells):
            axis = axes[line][column]
            speeds = [
                CELLS[cell].rows / ms * 1e3 if (ms := median(results, cell, p.name)) else 0.0
                for p in peers
            ]
            colours = [
                accent if p.name == OURS.get(group) else soft if p.ours else quiet for p in peers
            ]
            places = range(len(peers), 0, -1)
            axis.barh(places, speeds, color=colours, height=0.72)
            top = max(speeds) or 1.0
            for place, speed in zip(places, speeds, strict=True):
                text = f"{speed:,.0f}" if speed else "-"
                axis.text(speed + top * 0.02, place, text, va="center", color=ink, fontsize=8)
            axis.set_xlim(0, top * 1.2)
            axis.set_yticks(places, [p.name for p in peers] if column == 0 else [""] * len(peers))
            axis.set_xticks([])
            axis.tick_params(axis="y", length=0, colors=ink, labelsize=8.5)
            for spine in axis.spines.values():
                spine.set_visible(False)
            if line == 0:
                rows = CELLS[cell].rows
                axis.set_title(f"{rows} row{'s' * (rows > 1)}", color=ink, fontsize=10)
    figure.suptitle("Tokens a second, top-k 50, GPT-2 124M", color=ink, fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, transparent=True, metadata={"Date": None})
    plt.close(figure)


def _shown(results: dict[str, Any], cells: tuple[str, ...], peer: Peer, group: str) -> bool:
    return peer.group == group and any(median(results, c, peer.name) for c in cells)


def insert(path: Path, name: str, text: str) -> None:
    """Put the text between a file's markers.

    Raises:
        ValueError: where the file has no such markers.
    """
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    old = path.read_text(encoding="utf-8")
    pattern = re.compile(f"(?<={re.escape(begin)}).*?(?={re.escape(end)})", re.DOTALL)
    if not pattern.search(old):
        raise ValueError(f"{path} has no markers for {name!r}")
    path.write_text(pattern.sub(lambda _: f"{text}\n", old, count=1), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="?", help="default: the newest")
    parser.add_argument("--print", action="store_true", help="print, and write nothing")
    arguments = parser.parse_args()
    written = sorted((ROOT / "benchmarks/results").glob("*.json"), key=lambda p: p.stat().st_mtime)
    results = json.loads((arguments.results or written[-1]).read_text())
    if arguments.print:
        print(full(results))
    else:
        insert(ROOT / "README.md", "peers", short(results))
        insert(ROOT / "docs/benchmarks.md", "peers", full(results))
        for mode in ("light", "dark"):
            chart(results, ROOT / f"docs/pictures/peers-{mode}.svg", dark=mode == "dark")
    print("\n".join(["cells where a peer is faster:", *lost(results)]))


if __name__ == "__main__":
    main()
