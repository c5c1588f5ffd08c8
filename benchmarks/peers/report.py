"""Write the tables and the chart of a results file into README.md and docs/benchmarks.md.

    python -m benchmarks.peers.report [benchmarks/results/FILE.json]

The tables replace the text between the `peers` markers of both files, or `peers-MODEL` for a model
other than GPT-2. GPT-2's chart is written to docs/pictures, once for light and once for dark pages.
Without an argument the newest results file is used.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from pathlib import Path
from typing import Any

from benchmarks.peers.models import MODELS, Model
from benchmarks.peers.process import ROOT
from benchmarks.peers.roster import PEERS, REFERENCE, Peer
from benchmarks.peers.workloads import CELLS, FIRST_TOKEN

GROUPS = tuple(dict.fromkeys(peer.group for peer in PEERS.values()))
# The cells of the README's table and of the ratios, by model.
MAIN = {
    "gpt2": ("top-k-1", "top-k-8", "top-k-32", "beam-1", "beam-8"),
    "smollm2": ("top-k-1", "top-k-8", "top-k-32", "beam-1", "samples-16-512"),
    "qwen2.5": ("top-k-1", "top-k-8", "long-1"),
}
# With this before a cell's name: the time of its short run, which is a prefill and one token.
PREFILL = "prefill of "
TITLES = {
    **{
        f"{mode}-{rows}": f"batch {rows}"
        for mode in ("greedy", "top-k", "top-p")
        for rows in (1, 8, 32)
    },
    "beam-1": "4 beams",
    "beam-8": "4 beams, 8 prompts",
    "samples-16": "16 samples, 256-token prompt",
    "samples-16-512": "16 samples, 512-token prompt",
    "long-1": "512-token prompt",
    "long-8": "8 prompts of 512 tokens",
    f"{PREFILL}long-1": "1 x 512 tokens",
    f"{PREFILL}long-8": "8 x 512 tokens",
    "queue-256": "queue",
    "score-256": "scoring",
    "first-token": "first token",
}
# The tables of the page, and their cells.
SECTIONS = {
    **{
        f"{title}: milliseconds per step, by batch size": tuple(f"{mode}-{n}" for n in (1, 8, 32))
        for mode, title in (("greedy", "Greedy"), ("top-k", "Top-k 50"), ("top-p", "Top-p 0.9"))
    },
    "Beam search and samples of one long prompt: milliseconds per step": (
        *("beam-1", "beam-8", "samples-16", "samples-16-512"),
    ),
    "After long prompts, top-k 50: milliseconds per step": ("long-1", "long-8"),
    "Prefill with the first token: milliseconds": (f"{PREFILL}long-1", f"{PREFILL}long-8"),
    "Whole jobs: seconds": ("queue-256", "score-256", FIRST_TOKEN),
}
# The fastdecode entry of each group, which the ratios compare with the fastest peer.
OURS = {
    "float32": "fastdecode native float32",
    "16-bit": "fastdecode native bfloat16",
    "8-bit": "fastdecode native int8",
    "4-bit": "fastdecode native int4",
}


def model_of(results: dict[str, Any]) -> Model:
    """The model of a results file; GPT-2 where a file does not name one."""
    return MODELS[results.get("model", "gpt2")]


def values(results: dict[str, Any], cell: str, peer: str) -> list[float]:
    """The result of each repeat: milliseconds per step or prefill, or seconds for a whole job."""
    name = cell.removeprefix(PREFILL)
    entry = results["cells"].get(name, {}).get(peer, {})
    runs = entry.get("runs") or []
    if name != cell:
        return [run[0] * 1e3 for run in runs]
    if runs and len(runs[0]) == 2:
        return [(long - short) / CELLS[cell].steps * 1e3 for short, long in runs]
    return [run[0] for run in runs]


def median(results: dict[str, Any], cell: str, peer: str) -> float | None:
    """The median of `values`, or None where nothing was measured."""
    found = values(results, cell, peer)
    return statistics.median(found) if found else None


def read_ms(results: dict[str, Any], cell: str, peer: str) -> float | None:
    """Milliseconds to read a native engine's weights once, measured alongside the same cell."""
    answer = results["reads"].get(cell, {}).get(peer)
    return statistics.median(answer["seconds"]) * 1e3 if answer else None


def best_peer(results: dict[str, Any], cell: str, group: str) -> tuple[str, float] | None:
    """The fastest other library in a group, and its median."""
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
    """A table with one line per peer and one column per cell; the fastest of each group in bold."""
    cells = [cell for cell in cells if results["cells"].get(cell.removeprefix(PREFILL))]
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
    """A reference to the footnote that says why there is no result; adds the footnote if new."""
    found = results["cells"].get(cell.removeprefix(PREFILL), {})
    reason = found.get(name, {}).get("reason")
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
    """fastdecode's speed divided by the fastest peer's, by cell; above 1, fastdecode is faster."""
    main = MAIN[model_of(results).name]
    lines = ["| | " + " | ".join(TITLES[c] for c in main) + " |", "|---|" + "---:|" * len(main)]
    for group, ours in OURS.items():
        if not any(median(results, cell, ours) for cell in main):
            continue
        row = []
        for cell in main:
            mine, best = median(results, cell, ours), best_peer(results, cell, group)
            row.append(f"{best[1] / mine:.2f}x {best[0]}" if mine and best else "-")
        lines.append(f"| {ours}, ratio to the fastest peer | " + " | ".join(row) + " |")
        row = []
        for cell in main:
            mine, other = median(results, cell, ours), median(results, cell, REFERENCE)
            row.append(f"{other / mine:.2f}x" if mine and other else "-")
        lines.append("| ... ratio to transformers in float32 | " + " | ".join(row) + " |")
        row = []
        for cell in main:
            mine, read = median(results, cell, ours), read_ms(results, cell, ours)
            row.append(f"{read / mine:.0%}" if mine and read and cell.endswith("k-1") else "")
        lines.append("| ... reading the weights once, share of a step | " + " | ".join(row) + " |")
    return "\n".join(lines)


def lost(results: dict[str, Any]) -> list[str]:
    """The cells in which a peer is faster than fastdecode in the same group."""
    found = []
    for cell in [*CELLS, *(c for c in TITLES if c.startswith(PREFILL)), FIRST_TOKEN]:
        for group, ours in OURS.items():
            mine, best = median(results, cell, ours), best_peer(results, cell, group)
            if mine and best and best[1] < mine:
                found.append(f"{cell}, {group}: {best[0]} is {mine / best[1]:.2f}x as fast")
    return found


def sameness(results: dict[str, Any]) -> str:
    """How many outputs equal those of transformers in float32: greedy texts, beams and scores."""
    groups = {
        "greedy": [c for c in CELLS if c.startswith("greedy") and results["cells"].get(c)],
        "4 beams": ["beam-1", "beam-8"],
        "scores within 0.001": ["score-256"],
    }
    lines = [
        "| equal to transformers | " + " | ".join(groups) + " |",
        "|---|" + "---:|" * len(groups),
    ]
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
    """Peak resident memory of each peer up to the first token, and with a batch of 32."""
    cells = ("greedy-1", "top-k-32")
    lines = ["| peak resident memory, MB | up to the first token | batch 32 |", "|---|---:|---:|"]
    for name in PEERS:
        first = results["cells"].get("first-token", {}).get(name, {}).get("peak_mb")
        more = results["cells"].get(cells[1], {}).get(name, {}).get("peak_mb")
        if first or more:
            row = (f"{value:.0f}" if value else "-" for value in (first, more))
            lines.append(f"| {name} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def machine(results: dict[str, Any]) -> str:
    """The date, the machine, and the versions of the libraries."""
    m = results["machine"]
    reads = results["read"].get(OURS["float32"])
    speed = ""
    if reads:
        rate = reads["bytes"] / statistics.median(reads["seconds"]) / 1e9
        speed = f"; memory bandwidth {rate:.0f} GB/s (one pass over the float32 weights)"
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return (
        f"Measured {results['date']} on an {m['cpu']} (family {m['family']}, model {m['model']}: "
        f"{', '.join(m['features'])}), {m['threads']} threads, {m['last_level_cache']} last-level "
        f"cache, {m['memory_gb']} GB of memory, {m['system']}, Python {m['python']}{speed}. "
        f"Versions: {versions}."
    )


def short(results: dict[str, Any]) -> str:
    """The section of README.md."""
    return "\n\n".join(
        (
            "Milliseconds per decoding step, lower is better: top-k 50 with batches of 1, 8 and "
            f"32 sequences, and beam search with 4 beams. {model_of(results).title}, "
            f"{_where(results)}, {results['date']}; medians, the fastest of each group in bold. "
            '"Reading the weights once" is the time of one pass over fastdecode\'s weights.',
            table(results, list(MAIN[model_of(results).name]), spread=False),
        )
    )


def _where(results: dict[str, Any]) -> str:
    m = results["machine"]
    wide = "AVX-512" if "avx512f" in m["features"] else "no AVX-512"
    return f"{m['threads']} threads of an {m['cpu']} with {wide}"


def full(results: dict[str, Any]) -> str:
    """The section of docs/benchmarks.md."""
    parts = [machine(results)]
    for title, cells in SECTIONS.items():
        if any(results["cells"].get(cell.removeprefix(PREFILL)) for cell in cells):
            reads = title.endswith(("per step", "by batch size"))
            parts += [f"### {title}", table(results, list(cells), spread=True, reads=reads)]
    parts += ["### Speed relative to the fastest peer", ratios(results)]
    parts += ["### Agreement with transformers", sameness(results)]
    parts += ["### Memory", memory(results)]
    return "\n\n".join(parts)


def chart(results: dict[str, Any], path: Path, *, dark: bool) -> None:
    """Draw tokens per second by batch size and group, with fastdecode highlighted."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "fastdecode"  # the same results give the same file
    ink, quiet, accent, soft = (
        ("#e6edf3", "#57606a", "#f0883e", "#8d5524")
        if dark
        else ("#1f2328", "#c3c9d1", "#d1570a", "#f0b48a")
    )
    groups = ("float32", "8-bit")
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
                axis.set_title(TITLES[cell], color=ink, fontsize=10)
    figure.suptitle("Tokens per second, top-k 50, GPT-2 124M", color=ink, fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, transparent=True, metadata={"Date": None})
    plt.close(figure)


def _shown(results: dict[str, Any], cells: tuple[str, ...], peer: Peer, group: str) -> bool:
    return peer.group == group and any(median(results, c, peer.name) for c in cells)


def insert(path: Path, name: str, text: str) -> None:
    """Replace the text between a pair of markers in a file.

    Raises:
        ValueError: if the file has no such markers.
    """
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    old = path.read_text(encoding="utf-8")
    pattern = re.compile(f"(?<={re.escape(begin)}).*?(?={re.escape(end)})", re.DOTALL)
    if not pattern.search(old):
        raise ValueError(f"{path} has no markers named {name!r}")
    path.write_text(pattern.sub(lambda _: f"{text}\n", old, count=1), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="?", help="results file; default: the newest")
    parser.add_argument(
        "--print", action="store_true", help="print the tables instead of writing files"
    )
    arguments = parser.parse_args()
    written = sorted((ROOT / "benchmarks/results").glob("*.json"), key=lambda p: p.stat().st_mtime)
    results = json.loads((arguments.results or written[-1]).read_text())
    if arguments.print:
        print(full(results))
    else:
        model = model_of(results)
        name = "peers" if model.name == "gpt2" else f"peers-{model.name}"
        if f"<!-- {name}: begin -->" in (ROOT / "README.md").read_text(encoding="utf-8"):
            insert(ROOT / "README.md", name, short(results))
        insert(ROOT / "docs/benchmarks.md", name, full(results))
        for mode in ("light", "dark") if model.name == "gpt2" else ():
            chart(results, ROOT / f"docs/pictures/peers-{mode}.svg", dark=mode == "dark")
    print("\n".join(["cells where a peer is faster:", *lost(results)]))


if __name__ == "__main__":
    main()
