"""Measure every peer on every cell, in turns, and write one results file.

    python -m benchmarks.peers --folder .bench-peers
    python -m benchmarks.peers --quick
    python -m benchmarks.peers --cells top-k-1 top-k-8 --peers "OpenVINO GenAI int8" ...

All peers are loaded, each in its own process. The repeats of a cell measure the peers in turns,
each repeat starting with a different one, so that drift affects all equally. Cells that the results
file already contains are skipped, unless `--again` is given, so a long run can be split into
several.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.peers import convert
from benchmarks.peers.machine import alone, busy_now, describe, others_load
from benchmarks.peers.models import MODELS, Model
from benchmarks.peers.process import ROOT, PeerProcess
from benchmarks.peers.roster import PEERS, REFERENCE
from benchmarks.peers.workloads import CELLS, CELLS_OF, FIRST_TOKEN, READ, Cell

SCHEMA = 1
# Average number of processors busy with other work, above which a result is not to be trusted.
_TOO_BUSY = 0.1


def main() -> None:
    arguments = _arguments()
    model = MODELS[arguments.model]
    folder = arguments.folder.resolve() / model.name
    convert.everything(folder, model, arguments.export_python)
    path = arguments.output or _default_output(arguments.threads, model)
    results = _open_results(path, arguments.threads, model)
    arguments.cells = arguments.cells or CELLS_OF[model.name]
    cells = [CELLS[name] for name in arguments.cells if name in CELLS]
    if cells or READ in arguments.cells:
        _measure(cells, arguments, folder, results, path)
    if FIRST_TOKEN in arguments.cells:
        _first_tokens(arguments, folder, results)
        _save(results, path)
    print(path)


def _measure(
    cells: list[Cell], arguments: Any, folder: Path, results: dict[str, Any], path: Path
) -> None:
    # New processes for each kind of work, since the memory that all peers keep after the queue and
    # scoring does not fit into 24 GB.
    for _, group in itertools.groupby(cells, key=lambda cell: cell.kind):
        with _running(arguments, folder, results) as processes:
            for cell in group:
                _cell(cell, processes, arguments, results)
                _save(results, path)
    if READ in arguments.cells:
        with _running(arguments, folder, results) as processes, alone(arguments.lock):
            _reads(processes, results)
            _save(results, path)


@contextlib.contextmanager
def _running(
    arguments: Any, folder: Path, results: dict[str, Any]
) -> Iterator[dict[str, PeerProcess]]:
    """All peers, loaded, each in its own process."""
    processes: dict[str, PeerProcess] = {}
    try:
        with alone(arguments.lock, shared=True):
            for name in arguments.peers:
                peer = PEERS[name]
                processes[name] = PeerProcess(peer, arguments.python, folder, arguments.threads)
                process = processes[name]
                results["versions"].update(process.versions)
                if process.reason is not None:
                    process.reason = _why(folder, name) or process.reason
                    print(f"{name}: {process.reason}", file=sys.stderr)
                else:
                    results["loaded_mb"].setdefault(name, process.loaded_mb)
        yield processes
    finally:
        for process in processes.values():
            process.close()


def _why(folder: Path, name: str) -> str | None:
    """Why the conversion of the model for a peer failed, or None."""
    peer = PEERS[name]
    stem = {
        "onnxruntime_peer": f"onnx-{peer.variant}",
        "openvino_peer": f"openvino-{'int8' if peer.variant.startswith('int8') else 'float32'}",
        "ctranslate2_peer": f"ctranslate2-{peer.variant}",
        "llamacpp_peer": f"model-{peer.variant}.gguf",
    }.get(peer.module)
    note = folder / f"{stem}.failed"
    return note.read_text() if stem and note.exists() else None


def _cell(
    cell: Cell, processes: dict[str, PeerProcess], arguments: Any, results: dict[str, Any]
) -> None:
    found = results["cells"].setdefault(cell.name, {})
    todo = [
        name
        for name in processes
        if arguments.again or name not in found or "reason" in found[name]
    ]
    if not todo:
        return
    repeats = min(cell.repeats, 2) if arguments.quick else cell.repeats
    single = cell.kind != "generate"
    vocabulary = MODELS[arguments.model].vocabulary
    news = [cell.steps or 1] if single else [1, 1 + cell.steps]
    fresh: dict[str, dict[str, Any]] = {name: {"runs": []} for name in todo}
    # An untimed run first, which allocates memory, compiles for the shapes and fills caches.
    with alone(arguments.lock, shared=True):
        for name in todo:
            for new in news if "compiled" in name else [2]:
                request = cell.request(new, 0, vocabulary)
                if single:
                    request["prompts"] = request["prompts"][:2]
                answer = processes[name].ask(request)
            if "reason" in answer:
                fresh[name] = {"reason": answer["reason"]}
            processes[name].rest()
    reads = results["reads"].setdefault(cell.name, {})
    for name in todo:
        reads.pop(name, None)
    with alone(arguments.lock):
        begun, since = time.perf_counter(), busy_now()
        ours = sum(process.processor_seconds() for process in processes.values())
        for repeat in range(repeats):
            turn = repeat * 5 % len(todo)
            for name in [*todo[turn:], *todo[:turn]]:
                entry = fresh[name]
                if "reason" in entry:
                    continue
                run = []
                if not single:
                    # An untimed call brings back what the system took from the idle process.
                    processes[name].ask(cell.request(1, 0, vocabulary))
                for new in news:
                    answer = processes[name].ask(cell.request(new, repeat + 1, vocabulary))
                    if "reason" in answer:
                        break
                    _check(cell, name, new, answer)
                    run.append(answer["seconds"])
                if "reason" in answer:
                    fresh[name] = {"reason": answer["reason"]}
                    continue
                entry["runs"].append(run)
                entry["peak_mb"] = answer["peak_mb"]
                if repeat == 0 and (cell.mode in ("greedy", "beam")):
                    entry["outcome"] = answer.get("tokens") or answer.get("scores")
                processes[name].rest()
                if PEERS[name].ours and not single:
                    _note_read(processes[name], name, reads)
        ours = sum(process.processor_seconds() for process in processes.values()) - ours
        load = others_load(since, ours)
    found.update(fresh)
    results.setdefault("others_load", {}).setdefault(cell.name, []).append(round(load, 3))
    if load > _TOO_BUSY:
        print(f"{cell.name}: other processes kept {load:.2f} processors busy", file=sys.stderr)
    results["commits"][cell.name] = _commit()
    _compare(cell, found)
    print(f"{cell.name}: {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    for name in todo:
        entry = found[name]
        print(f"  {name:28} {entry.get('reason') or _brief(cell, entry)}", file=sys.stderr)


def _note_read(process: PeerProcess, name: str, reads: dict[str, Any]) -> None:
    """Record the current memory bandwidth, which changes from minute to minute."""
    answer = process.ask({"op": "read"})
    if "reason" not in answer:
        entry = reads.setdefault(name, {"bytes": answer["bytes"], "seconds": []})
        entry["seconds"].append(answer["seconds"])


def _brief(cell: Cell, entry: dict[str, Any]) -> str:
    runs = sorted(entry["runs"], key=lambda run: run[-1] - run[0] if len(run) > 1 else run[0])
    middle = runs[len(runs) // 2]
    same = f"  same {entry['same']}" if "same" in entry else ""
    if len(middle) == 1:
        return f"{middle[0]:.2f} s{same}"
    return f"{(middle[1] - middle[0]) / cell.steps * 1e3:.2f} ms per step{same}"


def _check(cell: Cell, name: str, new: int, answer: dict[str, Any]) -> None:
    """Raise an error unless the peer did the same work as all others."""
    if cell.kind == "score":
        if len(answer["scores"]) != cell.rows:
            raise RuntimeError(f"{name} scored {len(answer['scores'])} texts, not {cell.rows}")
        return
    lengths = [len(row) for row in answer["tokens"]]
    if lengths != [new] * (cell.rows * cell.n):
        raise RuntimeError(f"{name} generated {lengths} tokens in {cell.name}, not {new} each")


def _compare(cell: Cell, found: dict[str, Any]) -> None:
    """Count the outputs equal to the reference's, for cells without randomness."""
    reference = found.get(REFERENCE, {}).get("outcome")
    if reference is None:
        return
    for entry in found.values():
        outcome = entry.get("outcome")
        if outcome is None:
            continue
        if cell.kind == "score":
            entry["largest_difference"] = max(
                abs(a - b) for a, b in zip(outcome, reference, strict=True)
            )
            same = sum(abs(a - b) < 1e-3 for a, b in zip(outcome, reference, strict=True))
        else:
            same = sum(a == b for a, b in zip(outcome, reference, strict=True))
        entry["same"] = f"{same}/{len(reference)}"


def _reads(processes: dict[str, PeerProcess], results: dict[str, Any]) -> None:
    for name, process in processes.items():
        if PEERS[name].ours:
            answers = [process.ask({"op": "read"}) for _ in range(5)]
            if all("reason" not in answer for answer in answers):
                seconds = sorted(answer["seconds"] for answer in answers)
                results["read"][name] = {"bytes": answers[0]["bytes"], "seconds": seconds}


def _first_tokens(arguments: Any, folder: Path, results: dict[str, Any]) -> None:
    """Seconds from the start of a process to the first token after a 16-token prompt."""
    found = results["cells"].setdefault(FIRST_TOKEN, {})
    request = CELLS["greedy-1"].request(1, 0, MODELS[arguments.model].vocabulary)
    names = [n for n in arguments.peers if arguments.again or n not in found]
    fresh: dict[str, Any] = {name: {"runs": []} for name in names}
    with alone(arguments.lock):
        for repeat in range(1 if arguments.quick else 3):
            turn = repeat * 5 % max(len(names), 1)
            for name in [*names[turn:], *names[:turn]]:
                if "reason" in fresh[name]:
                    continue
                begun = time.perf_counter()
                process = PeerProcess(PEERS[name], arguments.python, folder, arguments.threads)
                answer = process.ask(request)
                seconds = time.perf_counter() - begun
                process.close()
                if "reason" in answer:
                    fresh[name] = {"reason": _why(folder, name) or answer["reason"]}
                else:
                    fresh[name]["runs"].append([seconds])
                    fresh[name]["peak_mb"] = answer["peak_mb"]
    found.update(fresh)
    results["commits"][FIRST_TOKEN] = _commit()
    for name in names:
        entry = fresh[name]
        print(f"  {name:28} {entry.get('reason') or entry['runs']}", file=sys.stderr)


def _open_results(path: Path, threads: int, model: Model) -> dict[str, Any]:
    if path.exists():
        results: dict[str, Any] = json.loads(path.read_text())
        return results
    return {
        "schema": SCHEMA,
        "model": model.name,
        "date": datetime.date.today().isoformat(),
        "machine": describe(threads),
        "versions": {},
        "commits": {},
        "cells": {},
        "loaded_mb": {},
        "reads": {},
        "read": {},
    }


def _save(results: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1)
    # Write a list of numbers on one line.
    text = re.sub(r"\[\s+([-\d.e]+(?:,\s+[-\d.e]+)*)\s+\]", _one_line, text)
    path.write_text(text + "\n")


def _one_line(match: re.Match[str]) -> str:
    return "[" + ", ".join(match[1].replace(",", " ").split()) + "]"


def _default_output(threads: int, model: Model) -> Path:
    cpu = re.sub(r"[^a-z0-9]+", "-", describe(threads)["cpu"].lower()).strip("-")
    of = "" if model.name == "gpt2" else f"-{model.name}"
    return ROOT / "benchmarks/results" / f"{datetime.date.today().isoformat()}-{cpu}{of}.json"


def _commit() -> str | None:
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__.splitlines()[0]
    )
    names = [*CELLS, READ, FIRST_TOKEN]
    parser.add_argument("--model", choices=MODELS, default="gpt2")
    parser.add_argument(
        "--cells", nargs="+", choices=names, metavar="CELL", help="default: those of the model"
    )
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="PEER")
    parser.add_argument("--quick", action="store_true", help="at most two repeats")
    parser.add_argument(
        "--again", action="store_true", help="measure again what the file already contains"
    )
    parser.add_argument(
        "--threads", type=int, default=len(_processors()), help="threads of every peer"
    )
    parser.add_argument(
        "--folder", type=Path, default=ROOT / ".bench-peers", help="folder for the converted models"
    )
    parser.add_argument(
        "--python", default=sys.executable, help="the interpreter that runs the peers"
    )
    parser.add_argument(
        "--export-python", default=sys.executable, help="an interpreter with optimum-intel"
    )
    parser.add_argument(
        "--output", type=Path, help="results file; default: named by date and processor"
    )
    parser.add_argument(
        "--lock", type=Path, nargs="*", default=[], help="lock files to hold while measuring"
    )
    return parser.parse_args()


def _processors() -> set[int]:
    import os

    try:
        return os.sched_getaffinity(0)
    except AttributeError:
        return set(range(os.cpu_count() or 1))


if __name__ == "__main__":
    main()
