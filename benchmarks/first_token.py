"""Seconds from the start of a command-line process to its first token.

The command line prints nothing before the first token, so the first byte of output marks it.

    python benchmarks/first_token.py --model demo --repeats 10
    python benchmarks/first_token.py --model gpt2 gpt2-int4.fastdecode --dtype int4

Several models take turns, so that what else the machine does meets all of them. A packed file has
its own number format, and --dtype is for the others.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from time import perf_counter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", nargs="+", default=["demo"], help="demo, a folder, a GGUF or a packed file"
    )
    parser.add_argument("--dtype", help="number format of the weights")
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()
    taken: dict[str, list[float]] = {model: [] for model in arguments.model}
    for _ in range(arguments.repeats + 1):
        for model, seconds in taken.items():
            seconds.append(_seconds(model, arguments.dtype))
    for model, seconds in taken.items():
        del seconds[0]  # the first run reads the files from disk
        print(
            f"{model}: first token after {statistics.median(seconds):.3f} s, median of "
            f"{len(seconds)}; {min(seconds):.3f} to {max(seconds):.3f}"
        )


def _seconds(model: str, dtype: str | None) -> float:
    """The time that one process takes to print something."""
    command = [sys.executable, "-m", "fastdecode", "generate", "Once upon a time", "--model", model]
    if dtype is not None and not model.endswith(".fastdecode"):
        command += ["--dtype", dtype]
    begun = perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    if process.stdout is None or not process.stdout.read(1):
        raise SystemExit("the command printed nothing")
    taken = perf_counter() - begun
    process.stdout.read()
    process.wait()
    return taken


if __name__ == "__main__":
    main()
