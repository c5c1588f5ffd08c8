"""Milliseconds of a decoding step of the native engine, compared with torch and a memory read.

The model is a GPT-2 with random weights (124M by default) in float32. Each repeat measures in turn:
the transformers model with its own cache, the optimised torch step, the native engine, and one pass
over the packed weights by the same threads that does nothing else. Results are medians.

    python benchmarks/native.py --batches 1 8 32 --steps 16 --repeats 7
    python benchmarks/native.py --prefill 512
"""

from __future__ import annotations

import argparse
import statistics
from time import perf_counter

import numpy as np
import torch
import transformers
from fastdecode.models.engines import native
from fastdecode.models.engines.gpt2.engine import GPT2Engine
from fastdecode.models.engines.transformers.engine import TorchEngine
from transformers import GPT2Config, GPT2LMHeadModel


def step_ms(engine, prompts, steps):
    """Milliseconds per step, and of the prefill."""
    begun = perf_counter()
    rows, _ = engine.start(prompts, [1] * len(prompts))
    prefill = perf_counter() - begun
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, engine.vocab_size, (steps + 2, len(prompts)))
    for step in range(2):
        rows.step(tokens[step])
    begun = perf_counter()
    for step in range(2, steps + 2):
        rows.step(tokens[step])
    return (perf_counter() - begun) / steps * 1e3, prefill * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--prompt", type=int, default=16, help="tokens in a prompt")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--threads", type=int, default=torch.get_num_threads(), help="threads of torch"
    )
    parser.add_argument("--layers", type=int, default=12, help="12 is the 124M model")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_layer=arguments.layers)).eval()
    engine = native.LoadedEngine(model)
    packed = engine.packed()
    sides = {
        "transformers": TorchEngine(model),
        "torch step": GPT2Engine(model),
        "native": engine,
    }
    print(
        f"GPT-2, {sum(p.numel() for p in model.parameters()) / 1e6:.0f}M random weights, float32; "
        f"prompts of {arguments.prompt} tokens, {arguments.steps} steps, median of "
        f"{arguments.repeats}; {packed.threads} threads, {packed.level}; torch "
        f"{torch.__version__}, {torch.get_num_threads()} threads\n"
    )
    print("| rows | " + " | ".join(f"{name}, ms" for name in sides) + " | read once, ms "
          "| native: of the read | x transformers | x torch step "
          "| prefill ms: transformers | torch | native |")  # fmt: skip
    print("|---:" * 11 + "|")
    rng = np.random.default_rng(0)
    for batch in arguments.batches:
        prompts = rng.integers(0, 50256, (batch, arguments.prompt)).tolist()
        steps: dict[str, list[float]] = {name: [] for name in sides}
        prefills: dict[str, list[float]] = {name: [] for name in sides}
        reads = []
        for repeat in range(arguments.repeats + 1):
            for name in sorted(sides, reverse=bool(repeat % 2)):
                step, prefill = step_ms(sides[name], prompts, arguments.steps)
                if repeat:
                    steps[name].append(step)
                    prefills[name].append(prefill)
            reads.append(min(packed.read_seconds() for _ in range(3)) * 1e3)
        ms = {name: statistics.median(values) for name, values in steps.items()}
        read = statistics.median(reads)
        mine = ms["native"]
        print(
            f"| {batch} | " + " | ".join(f"{value:.2f}" for value in ms.values())
            + f" | {read:.2f} | {read / mine:.1%} | {ms['transformers'] / mine:.2f} "
            f"| {ms['torch step'] / mine:.2f} | "
            + " | ".join(f"{statistics.median(values):.1f}" for values in prefills.values())
            + " |",
            flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
