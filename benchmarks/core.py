"""The sampler compared with numpy.max, torch and transformers' processors, in the same run.

Each result is the median of many calls, in microseconds per row. Hot calls find the logits in the
processor's cache; cold calls follow a read of a buffer larger than any cache. The thread pool is
created once per process, so each number of threads is measured in its own process.

    python benchmarks/core.py
    python benchmarks/core.py --rows folder-of-float32-files --batches 1 32
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

VOCABULARY = 50257
TEMPERATURE = 0.8
FLUSH = 256 * 1024 * 1024


def logits(kind, batch, folder):
    """Rows (batch, VOCABULARY), float32."""
    import numpy as np

    rng = np.random.default_rng(0)
    if kind == "normal":
        return (rng.normal(size=(batch, VOCABULARY)) * 2).astype(np.float32)
    if kind == "zipf":
        # Like a language model's logits: a few likely tokens and a long tail, at random ids.
        ranks = rng.permuted(np.tile(np.arange(1, VOCABULARY + 1), (batch, 1)), axis=1)
        return (-1.5 * np.log(ranks) + rng.normal(size=ranks.shape) * 0.3).astype(np.float32)
    rows = [np.fromfile(path, dtype="<f4") for path in sorted(Path(folder).glob("*.f32"))]
    if not rows:
        raise SystemExit(f"{folder} has no .f32 files (one row per file, little-endian float32)")
    # Shifting a row keeps its distribution, and makes every row different data.
    shifts = rng.normal(size=(batch, 1)).astype(np.float32)
    return np.stack([rows[i % len(rows)] for i in range(batch)]) + shifts


def contenders(x):
    """Functions that process all rows, by name; baselines are named "SETTING, LIBRARY"."""
    import torch
    from fastdecode import core
    from transformers import (
        LogitsProcessorList,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    tensor = torch.from_numpy(x)
    generator = torch.Generator().manual_seed(0)
    none = torch.zeros((len(x), 1), dtype=torch.long)

    def draw(scores):
        return torch.multinomial(torch.softmax(scores, -1), 1, generator=generator)

    def processed(*warpers):
        chain = LogitsProcessorList([TemperatureLogitsWarper(TEMPERATURE), *warpers])
        return lambda: draw(chain(none, tensor))

    def torch_topk():
        values, ids = torch.topk(tensor, 50)
        return ids.gather(1, draw(values / TEMPERATURE))

    def ours(**params):
        sample = core.Sample(temperature=TEMPERATURE, **params)
        return lambda: core.sample(x, sample, seed=1)

    return {
        "numpy.max": lambda: x.max(axis=1),
        "argmax": lambda: core.argmax(x),
        "plain": ours(),
        "plain, transformers": processed(),
        "top-k 50": ours(top_k=50),
        "top-k 50, torch.topk": torch_topk,
        "top-k 50, transformers": processed(TopKLogitsWarper(50)),
        "top-p 0.9": ours(top_p=0.9),
        "top-p 0.9, transformers": processed(TopPLogitsWarper(0.9)),
        "min-p 0.05": ours(min_p=0.05),
        "typical 0.9": ours(typical_p=0.9),
        "eta 3e-4": ours(eta_cutoff=3e-4),
    }


def measure(arguments):
    """Median seconds per call of every contender, with this process's number of threads."""
    import numpy as np
    import torch

    torch.set_num_threads(arguments.child)
    found = {}
    flush = np.ones(FLUSH // 8)
    for kind in arguments.logits:
        for batch in arguments.batches:
            calls = contenders(logits(kind, batch, arguments.rows))
            times = {(name, heat): [] for name in calls for heat in ("hot", "cold")}
            for name, call in calls.items():
                call()
                begun = time.perf_counter()
                call()
                # Call repeatedly for `--seconds`, but at least 3 and at most 300 times.
                once = max(time.perf_counter() - begun, 1e-7)
                for _ in range(max(3, min(300, int(arguments.seconds / once)))):
                    begun = time.perf_counter()
                    call()
                    times[name, "hot"].append(time.perf_counter() - begun)
            for _ in range(arguments.cold):
                for name, call in calls.items():
                    flush.sum()
                    begun = time.perf_counter()
                    call()
                    times[name, "cold"].append(time.perf_counter() - begun)
            for (name, heat), seconds in times.items():
                if seconds:
                    found["|".join((kind, str(batch), heat, name))] = statistics.median(seconds)
    return found


def overhead():
    """Microseconds of a call with almost no work, and the bytes that a call allocates."""
    import numpy as np
    from fastdecode import core

    sample = core.Sample(temperature=TEMPERATURE, top_k=50)
    small, row = np.zeros((1, 16), np.float32), np.zeros((1, VOCABULARY), np.float32)
    seconds = []
    for _ in range(5000):
        begun = time.perf_counter()
        core.sample(small, sample, seed=1)
        seconds.append(time.perf_counter() - begun)
    core.sample(row, sample, seed=1)
    tracemalloc.start()
    core.sample(row, sample, seed=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return statistics.median(seconds) * 1e6, peak


def child(arguments, threads):
    """The results of a process with the given number of threads."""
    command = [sys.executable, __file__, "--child", str(threads), *sys.argv[1:]]
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


def table(arguments, found, threads):
    """Print one line per cell, with ratios to numpy.max, torch and transformers."""
    print(f"\n{threads} thread{'s' * (threads > 1)}, microseconds per row\n")
    print("| logits | rows | cache | numpy.max | setting | fastdecode | of numpy.max "
          "| torch.topk | transformers |")  # fmt: skip
    print("|---|---:|---|---:|---|---:|---:|---:|---:|")
    names = [n for n in dict.fromkeys(key.split("|")[3] for key in found) if "," not in n]
    for kind in arguments.logits:
        for batch in arguments.batches:
            for heat in ("hot", "cold"):
                of = {
                    key.split("|")[3]: seconds / batch * 1e6
                    for key, seconds in found.items()
                    if key.startswith(f"{kind}|{batch}|{heat}|")
                }
                for name in names[1:]:
                    if name not in of:
                        continue
                    others = [
                        f"{of[key]:.0f} ({of[key] / of[name]:.1f}x)" if key in of else ""
                        for key in (f"{name}, torch.topk", f"{name}, transformers")
                    ]
                    print(
                        f"| {kind} | {batch} | {heat} | {of['numpy.max']:.2f} | {name} "
                        f"| {of[name]:.2f} | {of[name] / of['numpy.max']:.2f}x "
                        f"| {others[0]} | {others[1]} |"
                    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 256])
    parser.add_argument("--rows", help="a folder of .f32 files with real rows to measure as well")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, os.cpu_count() or 1])
    parser.add_argument(
        "--seconds", type=float, default=0.5, help="duration of the hot calls of each cell"
    )
    parser.add_argument("--cold", type=int, default=5, help="number of cold calls of each cell")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.logits = ["normal", "zipf", *(["rows"] if arguments.rows else [])]
    if arguments.child:
        json.dump(measure(arguments), sys.stdout)
        return
    import fastdecode
    import torch

    print(f"Vocabulary {VOCABULARY}, float32, temperature {TEMPERATURE}; {platform.machine()}, "
          f"torch {torch.__version__}, fastdecode {fastdecode.__version__}")  # fmt: skip
    micros, peak = overhead()
    print(f"Overhead of a call: {micros:.2f} us; it allocates {peak} bytes, "
          f"and a row has {VOCABULARY * 4}")  # fmt: skip
    results = {threads: child(arguments, threads) for threads in dict.fromkeys(arguments.threads)}
    for threads, found in results.items():
        table(arguments, found, threads)
    (first, *_), last = results, list(results)[-1]
    if last != first:
        print(f"\n{last} threads compared with {first}, hot: " + ", ".join(
            f"{name} {batch} rows {results[first][key] / results[last][key]:.2f}x"
            for key in results[first]
            for kind, batch, heat, name in [key.split("|")]
            if heat == "hot" and batch != "1" and kind == "normal"
            and name in ("plain", "top-k 50", "top-p 0.9")
        ))  # fmt: skip


if __name__ == "__main__":
    main()
