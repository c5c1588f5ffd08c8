"""Decoding throughput compared with transformers' generate, measured in turns in the same run.

The model is a GPT-2 with random weights (124M by default) in float32, with 16-token prompts and
without an end-of-sequence token, so that both sides generate the same number of tokens. Results are
medians of the repeats.

    python benchmarks/decode.py --batches 1 8 32 --tokens 64 --repeats 5 --threads 2
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import sys
import time
import warnings
from collections import deque

import fastdecode
import numpy as np
import torch
import transformers
from fastdecode.decoding.loop import Decoding
from fastdecode.decoding.request import Prompt, Request, Timer
from fastdecode.models.engines import open_engine
from transformers import GPT2Config, GPT2LMHeadModel

SETTINGS = {
    "greedy": (fastdecode.Greedy(), {"do_sample": False}),
    "top-k 50": (fastdecode.Sample(top_k=50), {"do_sample": True, "top_k": 50}),
    "top-p 0.9": (fastdecode.Sample(top_p=0.9), {"do_sample": True, "top_k": 0, "top_p": 0.9}),
}


def ours(engine, prompts, strategy, count, seed):
    """Seconds in total, in the forward pass and in the core."""
    request = Request(
        prompts=[Prompt(i, ids, i, count, "length") for i, ids in enumerate(prompts)],
        n=1,
        strategy=strategy,
        seed=seed,
        batch_size=len(prompts),
        eos_ids=(),
        stops=(),
        logprobs=None,
        tokenizer=None,
    )
    timer = Timer()
    begun = time.perf_counter()
    (rows,) = deque(Decoding(engine, request, timer), maxlen=1)
    seconds = time.perf_counter() - begun
    if any(len(row.ids) != count for row in rows):
        raise RuntimeError("fastdecode generated a different number of tokens")
    return seconds, timer.forward, timer.core


def theirs(model, prompts, keywords, count):
    """Seconds of transformers' generate."""
    ids = torch.tensor(prompts)
    begun = time.perf_counter()
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=count,
        min_new_tokens=None,
        eos_token_id=None,
        pad_token_id=0,
        **keywords,
    )
    seconds = time.perf_counter() - begun
    if output.shape[1] != ids.shape[1] + count:
        raise RuntimeError("transformers generated a different number of tokens")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--prompt", type=int, default=16, help="tokens in a prompt")
    parser.add_argument("--tokens", type=int, default=64, help="new tokens per sequence")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None, help="torch threads")
    parser.add_argument("--layers", type=int, default=12, help="12 is the 124M model")
    parser.add_argument("--engine", default="auto", help="fastdecode's engine")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_layer=arguments.layers)).eval()
    # The benchmark counts tokens, so nothing may end a sequence early on either side.
    model.generation_config.eos_token_id = None
    engine = open_engine(model, arguments.engine)
    rng = np.random.default_rng(0)
    print(
        f"GPT-2, {sum(p.numel() for p in model.parameters()) / 1e6:.0f}M random weights, float32; "
        f"{arguments.prompt} + {arguments.tokens} tokens, median of {arguments.repeats}; "
        f"{torch.get_num_threads()} threads, {platform.machine()}; torch {torch.__version__}, "
        f"transformers {transformers.__version__}, fastdecode {fastdecode.__version__} "
        f"({type(engine).__name__})\n"
    )
    print("| batch | setting | transformers tok/s | fastdecode tok/s | ratio "
          "| forward | core | Python |")  # fmt: skip
    print("|---:|---|---:|---:|---:|---:|---:|---:|")
    for batch in arguments.batches:
        prompts = rng.integers(0, 50256, (batch, arguments.prompt)).tolist()
        for name in arguments.settings:
            strategy, keywords = SETTINGS[name]
            ours(engine, prompts, strategy, 4, 0)
            theirs(model, prompts, keywords, 4)
            mine, other = [], []
            gc.collect()
            for repeat in range(arguments.repeats):
                # Alternate which side goes first, so that drift affects both equally.
                for side in ("mine", "other") if repeat % 2 == 0 else ("other", "mine"):
                    if side == "mine":
                        mine.append(ours(engine, prompts, strategy, arguments.tokens, repeat))
                    else:
                        other.append(theirs(model, prompts, keywords, arguments.tokens))
            count = batch * arguments.tokens
            seconds, forward, core = sorted(mine)[len(mine) // 2]
            reference = statistics.median(other)
            rest = max(0.0, 1 - (forward + core) / seconds)
            print(
                f"| {batch} | {name} | {count / reference:.1f} | {count / seconds:.1f} "
                f"| {reference / seconds:.2f}x | {forward / seconds:.1%} | {core / seconds:.1%} "
                f"| {rest:.1%} |"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
