"""Compare the speed of two installations of fastdecode, turn by turn in one run.

Each turn starts a fresh worker process for each installation and measures every cell in both, one
directly after the other, with the order swapped from turn to turn. Fresh processes matter: where a
process happens to place its memory moves a short call by several percent. A cell's figure is the
ratio of times A / B (above 1: B is faster); the report gives its geometric mean over the turns and
the 95% confidence interval of that mean. A cell fails where the interval lies wholly below
`--least`.

An installation is a Python interpreter, optionally with a folder that is put on its `PYTHONPATH`:

    python -m benchmarks.alternate /old/.venv/bin/python .venv/bin/python
    python -m benchmarks.alternate python:/old/checkout/python python:/new/checkout/python

The core's cells draw from rows of 50,257 logits, normal and Zipf-like; the native engine's run a
GPT-2 of 124M random weights, which the first call saves to `--model`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

VOCABULARY = 50257
# The 97.5% quantile of Student's t, by degrees of freedom.
QUANTILES = {1: 12.71, 2: 4.303, 4: 2.776, 6: 2.447, 10: 2.228, 20: 2.086, 30: 2.042, 60: 2.0}


def on_lines(rows):
    """A copy that begins at a cache line: where malloc puts it would move a short call by 30%."""
    import numpy as np

    room = np.empty(rows.nbytes + 64, dtype=np.uint8)
    start = -room.ctypes.data % 64
    copy = room[start : start + rows.nbytes].view(rows.dtype).reshape(rows.shape)
    copy[:] = rows
    return copy


def core_cells(threads):
    """Name to the seconds of one call over a batch of rows."""
    import numpy as np
    from fastdecode import core

    rng = np.random.default_rng(0)
    cells = {}
    settings = {
        "plain": {},
        "top-k 50": {"top_k": 50},
        "top-p 0.9": {"top_p": 0.9},
        "min-p 0.05": {"min_p": 0.05},
        "typical 0.9": {"typical_p": 0.9},
        "repetition 1.1": {"repetition_penalty": 1.1},
    }
    for batch in (1, 32, 256):
        normal = (rng.normal(size=(batch, VOCABULARY)) * 2).astype(np.float32)
        ranks = rng.permuted(np.tile(np.arange(1, VOCABULARY + 1), (batch, 1)), axis=1)
        zipf = (-1.5 * np.log(ranks) + rng.normal(size=ranks.shape) * 0.3).astype(np.float32)
        for kind, rows in (("normal", normal), ("zipf", zipf)):
            rows = on_lines(rows)
            for name, parameters in settings.items():
                if kind == "normal" and name not in ("plain", "top-k 50", "top-p 0.9"):
                    continue
                sample = core.Sample(temperature=0.8, **parameters)
                more = {}
                if sample.needs_history:
                    more["histories"] = [list(range(100))] * batch

                def call(rows=rows, sample=sample, more=more):
                    core.sample(rows, sample, seed=1, **more)

                cells[f"core, {threads} threads, {kind}, {batch} rows, {name}"] = call
            cells[f"core, {threads} threads, {kind}, {batch} rows, argmax"] = lambda rows=rows: (
                core.argmax(rows)
            )
    return cells


def native_cells(folder, threads):
    """Name to the seconds of one pass of the native engine."""
    import numpy as np
    from fastdecode import Decoder

    rng = np.random.default_rng(0)
    cells = {}
    for dtype in ("float32", "bfloat16", "int8"):
        engine = Decoder.from_pretrained(folder, engine="native", dtype=dtype).engine
        prompt = rng.integers(0, 50256, (1, 512)).tolist()
        cells[f"native, {threads} threads, {dtype}, prefill of 512"] = (
            lambda engine=engine, prompt=prompt: engine.start(prompt, [1])
        )
        for batch in (1, 4, 8, 32):
            prompts = rng.integers(0, 50256, (batch, 16)).tolist()
            tokens = rng.integers(0, 50256, batch)
            rows, _ = engine.start(prompts, [1] * batch)
            kept = np.arange(batch)
            state = {"rows": rows, "left": 900}

            def step(engine=engine, prompts=prompts, tokens=tokens, state=state, kept=kept):
                if state["left"] == 0:
                    state["rows"], _ = engine.start(prompts, [1] * len(kept))
                    state["left"] = 900
                state["rows"].step(tokens)
                state["left"] -= 1

            cells[f"native, {threads} threads, {dtype}, {batch} rows"] = step
    return cells


def work(arguments):
    """A worker: reads a cell's name and a number of calls, answers with the median seconds."""
    cells = core_cells(arguments.threads) if "core" in arguments.parts else {}
    if "native" in arguments.parts:
        cells |= native_cells(arguments.model, arguments.threads)
    for call in cells.values():
        call()
    print(json.dumps(list(cells)), flush=True)
    for line in sys.stdin:
        name, seconds = json.loads(line)
        call = cells[name]
        call()
        times = []
        end = time.perf_counter() + seconds
        while len(times) < 3 or time.perf_counter() < end:
            begun = time.perf_counter()
            call()
            times.append(time.perf_counter() - begun)
        print(json.dumps(statistics.median(times)), flush=True)


class Worker:
    """A worker process of one installation."""

    def __init__(self, installation, options):
        python, _, folder = installation.partition(":")
        threads = str(options.threads)
        environment = {
            **os.environ,
            "FASTDECODE_THREADS": threads,
            "RAYON_NUM_THREADS": threads,
            "OMP_NUM_THREADS": threads,
            "HF_HUB_OFFLINE": "1",
        }
        if folder:
            environment["PYTHONPATH"] = folder
        command = [python, __file__, "--worker", "--threads", threads, "--model", options.model]
        self._process = subprocess.Popen(
            [*command, "--parts", *options.parts],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.cells = json.loads(self._process.stdout.readline())

    def seconds(self, cell, budget):
        """The median seconds of the calls that fit into `budget` seconds."""
        print(json.dumps([cell, budget]), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def close(self):
        """End the process."""
        self._process.stdin.close()
        self._process.wait()


def interval(ratios):
    """The geometric mean of ratios, and its 95% confidence interval."""
    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.fmean(logs)
    freedom = len(logs) - 1
    quantile = next(q for least, q in reversed(QUANTILES.items()) if freedom >= least)
    half = quantile * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def save_model(folder):
    """Save a GPT-2 of 124M random weights, with a tokenizer that nobody uses."""
    import fastdecode
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    if (Path(folder) / "model.safetensors").exists():
        return
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config()).save_pretrained(folder)
    demo = Path(fastdecode.__file__).parent / "demo"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (Path(folder) / name).write_bytes((demo / name).read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("installations", nargs="*", metavar="PYTHON[:PYTHONPATH]")
    parser.add_argument("--turns", type=int, default=21)
    parser.add_argument("--seconds", type=float, default=0.1, help="of each turn at a cell")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--parts", nargs="+", default=["core", "native"])
    parser.add_argument("--cells", help="only cells whose names contain this")
    parser.add_argument("--least", type=float, default=0.98)
    parser.add_argument("--model", default=".bench-peers/gpt2-124m-random")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments)
        return
    if len(arguments.installations) != 2:
        parser.error("give two installations, the old one first")
    if "native" in arguments.parts:
        save_model(arguments.model)
    times: dict[str, tuple[list[float], list[float]]] = {}
    for turn in range(arguments.turns):
        workers = [Worker(installation, arguments) for installation in arguments.installations]
        cells = [cell for cell in workers[0].cells if (arguments.cells or "") in cell]
        for number, cell in enumerate(cells):
            for side in (0, 1) if (turn + number) % 2 == 0 else (1, 0):
                seconds = workers[side].seconds(cell, arguments.seconds)
                times.setdefault(cell, ([], []))[side].append(seconds)
        for worker in workers:
            worker.close()
        print(f"turn {turn + 1} of {arguments.turns}", file=sys.stderr)
    failed = 0
    print("| cell | A, us | B, us | A / B | 95% interval |\n|---|---:|---:|---:|---|")
    for cell, sides in times.items():
        ratio, low, high = interval([a / b for a, b in zip(*sides, strict=True)])
        a, b = (statistics.median(side) * 1e6 for side in sides)
        mark = "" if high >= arguments.least else " FAILS"
        failed += bool(mark)
        print(f"| {cell} | {a:.1f} | {b:.1f} | {ratio:.3f} | {low:.3f}..{high:.3f}{mark} |")
    cells = list(times)
    print(f"\n{len(cells) - failed} of {len(cells)} cells hold {arguments.least}.")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
