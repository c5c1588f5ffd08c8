"""Peak memory of a process that loads a model from files and decodes, for each dtype.

The model is GPT-2 124M with random weights, or what `--model` names: a folder or a GGUF file.

Prints the peak resident memory above that of the process before loading, beside the sizes of the
weights and of the KV cache. Linux only: it reads VmHWM and VmRSS from /proc/self/status, which
include the pages of mapped files.

    python benchmarks/memory.py
    python benchmarks/memory.py --model SmolLM2-135M-Instruct.Q4_1.gguf
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from fastdecode import Greedy
from fastdecode.decoding.loop import Decoding
from fastdecode.decoding.request import Prompt, Request, Timer
from fastdecode.models.checkpoints import is_gguf
from fastdecode.models.engines import NATIVE_DTYPES
from fastdecode.models.engines.native import NativeEngine


def resident(name: str) -> int:
    """A field of this process's status file, in bytes."""
    text = Path("/proc/self/status").read_text()
    (line,) = (line for line in text.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def measure(path: Path, dtype: str, rows: int, length: int, new: int) -> dict[str, int]:
    """Load and decode; return the memory used, in bytes."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = resident("VmRSS")
    read = NativeEngine.from_gguf if is_gguf(str(path)) else NativeEngine.from_folder
    engine = read(path, dtype)
    loaded = resident("VmHWM") - before
    jobs = [Prompt(i, [(i * 31 + j) % engine.vocab_size for j in range(length)], i, new, "length")
            for i in range(rows)]  # fmt: skip
    for _ in Decoding(engine, Request(jobs, 1, Greedy(), 0, rows, (), (), None, None), Timer()):
        pass
    return {
        "weights": engine.packed().nbytes,
        "cache": rows * (length + new) * engine.bytes_per_token,
        "loaded": loaded,
        "peak": resident("VmHWM") - before,
    }


def random_gpt2(folder: str) -> str:
    """Write GPT-2 124M with random weights to a folder."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config()).save_pretrained(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--length", type=int, default=32, help="prompt length in tokens")
    parser.add_argument("--new", type=int, default=32, help="tokens to decode")
    parser.add_argument("--model", help="a folder or a GGUF file, in place of GPT-2 124M")
    parser.add_argument("--measure", nargs=2, metavar=("PATH", "DTYPE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = (arguments.rows, arguments.length, arguments.new)
    if arguments.measure:
        path, dtype = arguments.measure
        print(json.dumps(measure(Path(path), dtype, *sizes)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.model or random_gpt2(folder)
        name = Path(arguments.model or "GPT-2 124M").name
        print(f"{name}; {sizes[0]} rows of {sizes[1]} + {sizes[2]} tokens; MB")
        print("| dtype | weights | KV cache | peak of loading | peak | peak / (weights + cache) "
              "| peak / float32's |")  # fmt: skip
        print("|---|---:|---:|---:|---:|---:|---:|")
        first = 0
        for dtype in NATIVE_DTYPES:
            options = ["--rows", "--length", "--new"]
            done = subprocess.run(
                [sys.executable, __file__, "--measure", path, dtype]
                + [str(x) for pair in zip(options, sizes, strict=True) for x in pair],
                capture_output=True,
                text=True,
                check=True,
            )
            found = json.loads(done.stdout)
            first = first or found["peak"]
            print(
                f"| {dtype} | "
                + " | ".join(
                    f"{found[k] / 1e6:.0f}" for k in ("weights", "cache", "loaded", "peak")
                )
                + f" | {found['peak'] / (found['weights'] + found['cache']):.2f} "
                f"| {found['peak'] / first:.2f} |"
            )


if __name__ == "__main__":
    main()
