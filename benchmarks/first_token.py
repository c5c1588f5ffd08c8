"""Seconds from the start of a command-line process to its first token.

The command line prints nothing before the first token, so the first byte of output marks it.

    python benchmarks/first_token.py --model demo --repeats 10
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from time import perf_counter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo", help="demo, a folder or a GGUF file")
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "fastdecode", "generate", "Once upon a time", "--model"]
    taken = []
    for _ in range(arguments.repeats + 1):
        begun = perf_counter()
        process = subprocess.Popen([*command, arguments.model], stdout=subprocess.PIPE)
        if process.stdout is None or not process.stdout.read(1):
            raise SystemExit("the command printed nothing")
        taken.append(perf_counter() - begun)
        process.stdout.read()
        process.wait()
    taken = taken[1:]  # the first run reads the files from disk
    print(
        f"{arguments.model}: first token after {statistics.median(taken):.3f} s, median of "
        f"{len(taken)}; {min(taken):.3f} to {max(taken):.3f}"
    )


if __name__ == "__main__":
    main()
