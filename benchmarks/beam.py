"""Beam search compared with transformers' generate, measured in turns in the same run.

The model is a GPT-2 with random weights (124M by default) in float32, without an end-of-sequence
token, so that both sides take the same number of steps. Results are medians of the repeats. Memory
is the peak above what is resident after the model has been loaded and has taken one step; each side
runs in its own process.

    python benchmarks/beam.py --tokens 64 --repeats 3 --threads 2
    python benchmarks/beam.py --memory --threads 2
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections import deque
from pathlib import Path

import fastdecode
import numpy as np
import torch
import transformers
from fastdecode.decoding.beam_search import BeamSearch
from fastdecode.decoding.request import Prompt, Request, Timer
from fastdecode.models.engines import open_engine
from transformers import GPT2Config, GPT2LMHeadModel

# Beams, prompts in the batch, tokens in a prompt.
CELLS = {
    "4x1": (4, 1, 16),
    "4x8": (4, 8, 16),
    "10x1": (10, 1, 16),
    "10x1-long": (10, 1, 512),
}


def ours(engine, prompts, beams, count):
    """Seconds in total, in the forward pass and in the core, and the best sequences."""
    beam = fastdecode.Beam(beams)
    request = Request(
        prompts=[Prompt(i, ids, i, count, "length") for i, ids in enumerate(prompts)],
        n=1,
        strategy=beam,
        seed=0,
        batch_size=len(prompts) * beams,
        eos_ids=(),
        stops=(),
        logprobs=None,
        tokenizer=None,
    )
    timer = Timer()
    begun = time.perf_counter()
    (rows,) = deque(BeamSearch(engine, request, beam, timer, trace=False), maxlen=1)
    seconds = time.perf_counter() - begun
    return seconds, timer.forward, timer.core, [row.ids for row in rows]


def theirs(model, prompts, beams, count):
    """Seconds of transformers' generate, and the best sequences."""
    ids = torch.tensor(prompts)
    begun = time.perf_counter()
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=count,
        num_beams=beams,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return time.perf_counter() - begun, output[:, ids.shape[1] :].tolist()


def make(layers):
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_layer=layers)).eval()
    # The benchmark counts tokens, so nothing may end a sequence early on either side.
    model.generation_config.eos_token_id = None
    return model


def prompts_of(batch, length):
    return np.random.default_rng(0).integers(0, 50256, (batch, length)).tolist()


def speed(arguments) -> None:
    model = make(arguments.layers)
    engine = open_engine(model, arguments.engine)
    print(
        f"GPT-2, {sum(p.numel() for p in model.parameters()) / 1e6:.0f}M random weights, float32; "
        f"{arguments.tokens} tokens, median of {arguments.repeats}; {torch.get_num_threads()} "
        f"threads, {platform.machine()}; torch {torch.__version__}, transformers "
        f"{transformers.__version__}, fastdecode {fastdecode.__version__} "
        f"({type(engine).__name__})\n"
    )
    print("| beams | batch | prompt | transformers s | fastdecode s | ratio "
          "| forward | core | Python | same |")  # fmt: skip
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name in arguments.cells:
        beams, batch, length = CELLS[name]
        prompts = prompts_of(batch, length)
        ours(engine, prompts, beams, 3)
        theirs(model, prompts, beams, 3)
        mine, other = [], []
        for repeat in range(arguments.repeats):
            gc.collect()
            # Alternate which side goes first, so that drift affects both equally.
            for side in ("mine", "other") if repeat % 2 == 0 else ("other", "mine"):
                if side == "mine":
                    mine.append(ours(engine, prompts, beams, arguments.tokens))
                else:
                    other.append(theirs(model, prompts, beams, arguments.tokens))
        seconds, forward, core, found = sorted(mine, key=lambda one: one[0])[len(mine) // 2]
        reference = statistics.median(one[0] for one in other)
        rest = max(0.0, 1 - (forward + core) / seconds)
        same = sum(a == b for a, b in zip(found, other[0][1], strict=True))
        print(
            f"| {beams} | {batch} | {length} | {reference:.2f} | {seconds:.2f} "
            f"| {reference / seconds:.2f}x | {forward / seconds:.1%} | {core / seconds:.2%} "
            f"| {rest:.2%} | {same}/{batch} |"
        )
        sys.stdout.flush()


def resident(field) -> int:
    """A field of this process's status file, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) // 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def memory_of(side, arguments) -> None:
    """Print the peak memory in MB above what is resident once the weights are loaded."""
    model = make(arguments.layers)
    beams, batch, length = CELLS[arguments.cells[0]]
    prompts = prompts_of(batch, length)
    with torch.inference_mode():
        model(torch.tensor([[1]]))
    gc.collect()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    if side == "fastdecode":
        ours(open_engine(model, arguments.engine), prompts, beams, arguments.tokens)
    else:
        theirs(model, prompts, beams, arguments.tokens)
    print(resident("VmHWM") - before)


def memory(arguments) -> None:
    peaks = {}
    for side in ("transformers", "fastdecode"):
        command = [sys.executable, __file__, "--memory-of", side, "--cells", *arguments.cells[-1:]]
        command += ["--tokens", str(arguments.tokens), "--layers", str(arguments.layers)]
        command += ["--engine", arguments.engine]
        command += ["--threads", str(arguments.threads)] if arguments.threads else []
        peaks[side] = int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    beams, batch, length = CELLS[arguments.cells[-1]]
    print(
        f"peak over the weights, {beams} beams, batch {batch}, {length}-token prompt: "
        f"transformers {peaks['transformers']} MB, fastdecode {peaks['fastdecode']} MB "
        f"({peaks['fastdecode'] / peaks['transformers']:.0%})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--tokens", type=int, default=64, help="new tokens")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=None, help="torch threads")
    parser.add_argument("--layers", type=int, default=12, help="12 is the 124M model")
    parser.add_argument("--engine", default="torch", help="fastdecode's engine")
    parser.add_argument(
        "--memory", action="store_true", help="measure peak memory, for the last cell"
    )
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        memory_of(arguments.memory_of, arguments)
    elif arguments.memory:
        memory(arguments)
    else:
        speed(arguments)


if __name__ == "__main__":
    main()
