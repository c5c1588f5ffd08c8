"""Throughput on a queue of prompts of different lengths, with and without refilling the batch.

The model is a GPT-2 with random weights on the native engine. Prompts have 16 to 256 tokens, and
each generates 8 to 128 new tokens, as if its text ended there; with --tail most texts are short and
a few are long, within the same bounds. "batch by batch" is how engines work whose batches cannot be
joined. Both ways are measured in turn in each repeat; results are medians, in tokens per second.

    python benchmarks/ragged.py --layers 2 --repeats 5
"""

from __future__ import annotations

import argparse
import statistics
from time import perf_counter

import numpy as np
import torch
import transformers
from fastdecode import Greedy
from fastdecode.decoding import loop
from fastdecode.decoding.loop import Decoding
from fastdecode.decoding.request import Prompt, Request, Timer
from fastdecode.models.engines import NATIVE_DTYPES
from fastdecode.models.engines.native import LoadedEngine
from transformers import GPT2Config, GPT2LMHeadModel


class BatchByBatch(LoadedEngine):
    """The native engine, with rows that nothing joins."""

    @property
    def joins(self) -> bool:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--layers", type=int, default=12, help="12 is the 124M model")
    parser.add_argument("--longest", type=int, default=256, help="longest prompt in tokens")
    parser.add_argument("--tail", action="store_true", help="most texts are short, few are long")
    parser.add_argument("--dtype", default="float32", choices=NATIVE_DTYPES)
    parser.add_argument("--batch", type=int, default=32, help="most sequences in a batch")
    parser.add_argument("--shares", type=float, nargs="+", default=[1 / 4])
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_layer=arguments.layers)).eval()
    refilled, batched = LoadedEngine(model, arguments.dtype), BatchByBatch(model, arguments.dtype)
    rng = np.random.default_rng(0)
    limits = rng.integers(8, 129, arguments.prompts)
    if arguments.tail:
        limits = np.clip(rng.exponential(20, arguments.prompts), 8, 128)
    jobs = [
        Prompt(i, rng.integers(0, 50256, length).tolist(), i, int(limit), "length")
        for i, (length, limit) in enumerate(
            zip(
                rng.integers(16, arguments.longest + 1, arguments.prompts),
                limits,
                strict=True,
            )
        )
    ]
    request = Request(jobs, 1, Greedy(), 0, arguments.batch, (), (), None, None)
    ways = [("batch by batch", batched, 1.0)]
    ways += [(f"refilled at {share:.3f} free", refilled, share) for share in arguments.shares]
    seconds: dict[str, list[float]] = {name: [] for name, _, _ in ways}
    tokens: dict[str, dict[int, list[int]]] = {}
    for repeat in range(arguments.repeats):
        for name, engine, share in ways if repeat % 2 else ways[::-1]:
            loop._REFILL = share
            begun = perf_counter()
            found = {}
            for rows in Decoding(engine, request, Timer()):
                found.update((row.prompt.index, row.ids) for row in rows if row.reason is not None)
            seconds[name].append(perf_counter() - begun)
            if tokens.setdefault(ways[0][0], found) != found:
                raise SystemExit(f"{name}: the tokens differ from those of {ways[0][0]}")
    count = sum(job.limit for job in jobs)
    print(
        f"GPT-2, {arguments.layers} layers, random weights, {arguments.dtype}; {len(jobs)} prompts "
        f"of 16 to {arguments.longest} tokens, {count} new tokens, at most {arguments.batch} rows, "
        f"median of {arguments.repeats}; the same tokens every way\n"
    )
    print("| way | tokens/s | ratio |\n|---|---:|---:|")
    base = statistics.median(seconds[ways[0][0]])
    for name, _, _ in ways:
        taken = statistics.median(seconds[name])
        print(f"| {name} | {count / taken:.0f} | {base / taken:.2f} |")


if __name__ == "__main__":
    main()
