"""Accuracy of the native engine in float32, compared with transformers in float32 and float64.

The model is a GPT-2 with random weights (124M by default). The greedy continuations of 200 prompts
of mixed length are compared with transformers' `generate`; then the logits at every token of one
text, from the native engine and from transformers in float32, with transformers in float64.

    python benchmarks/accuracy.py
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
import transformers
from fastdecode import Greedy
from fastdecode.decoding.loop import Decoding
from fastdecode.decoding.request import Prompt, Request, Timer
from fastdecode.models.engines.native import LoadedEngine
from transformers import GPT2Config, GPT2LMHeadModel


def reference(model, ids):
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0].double().numpy()


def theirs(model, prompts, count):
    """Greedy tokens from transformers, in left-padded batches of prompts of similar lengths."""
    found = {}
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for first in range(0, len(order), 20):
        batch = order[first : first + 20]
        width = max(len(prompts[i]) for i in batch)
        pads = [width - len(prompts[i]) for i in batch]
        output = model.generate(
            torch.tensor([[0] * pad + prompts[i] for i, pad in zip(batch, pads, strict=True)]),
            attention_mask=torch.tensor([[0] * pad + [1] * (width - pad) for pad in pads]),
            do_sample=False,
            max_new_tokens=count,
            min_new_tokens=count,
            pad_token_id=0,
        )
        found.update(zip(batch, output[:, width:].tolist(), strict=True))
    return [found[i] for i in range(len(prompts))]


def ours(engine, prompts, count):
    jobs = [Prompt(i, ids, i, count, "length") for i, ids in enumerate(prompts)]
    request = Request(jobs, 1, Greedy(), 0, 32, (), (), None, None)
    found = {}
    for rows in Decoding(engine, request, Timer()):
        found.update((row.prompt.index, row.ids) for row in rows if row.reason is not None)
    return [found[i] for i in range(len(prompts))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=12, help="12 is the 124M model")
    parser.add_argument("--text", type=int, default=200, help="length of the text in tokens")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--longest", type=int, default=60, help="longest prompt in tokens")
    parser.add_argument("--new", type=int, default=10, help="greedy tokens of each prompt")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_layer=arguments.layers)).eval()
    engine = LoadedEngine(model)
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, arguments.longest + 1, arguments.prompts)
    prompts = [rng.integers(0, 50256, length).tolist() for length in lengths]
    mine, others = ours(engine, prompts, arguments.new), theirs(model, prompts, arguments.new)
    same = sum(a == b for a, b in zip(mine, others, strict=True))
    print(
        f"greedy: {same} of {len(prompts)} prompts of 1 to {arguments.longest} tokens have the "
        f"same {arguments.new} tokens as transformers' generate"
    )
    ids = rng.integers(0, 50256, arguments.text).tolist()
    (logits,) = engine.all_logits([ids])
    torchs = reference(model, ids)
    exact = reference(model.double(), ids)
    print(f"logits at {len(ids)} tokens, {logits.size:,} values up to {abs(exact).max():.1f}:")
    print("| | largest difference | root mean square |\n|---|---:|---:|")
    for name, a, b in [
        ("native - transformers", logits, torchs),
        ("native - float64", logits, exact),
        ("transformers - float64", torchs, exact),
    ]:
        apart = np.abs(a.astype(np.float64) - b)
        print(f"| {name} | {apart.max():.2e} | {np.sqrt((apart**2).mean()):.2e} |")


if __name__ == "__main__":
    main()
