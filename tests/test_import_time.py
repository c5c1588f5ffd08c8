"""Importing the package and asking for help are quick: nothing heavy loads before it is needed."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from time import perf_counter

import pytest

LIMIT = 0.3
ROUNDS = 4
RUNS = 5
HEAVY = ("torch", "transformers", "huggingface_hub", "pandas")
COMMANDS = {
    "import": ["-c", "import fastdecode"],
    "help": ["-m", "fastdecode", "--help"],
    "generate help": ["-m", "fastdecode", "generate", "--help"],
}


def median_seconds(arguments: list[str]) -> float:
    """Wall time of a whole process, the interpreter's own start included."""
    times = []
    for _ in range(RUNS):
        start = perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        times.append(perf_counter() - start)
    return statistics.median(times)


@pytest.mark.parametrize("name", COMMANDS)
def test_takes_under_0_3_seconds(name):
    # A busy machine only ever adds time, so one quiet round out of a few is the answer.
    medians = []
    for _ in range(ROUNDS):
        medians.append(median_seconds(COMMANDS[name]))
        if medians[-1] < LIMIT:
            return
    pytest.fail(f"{name}: median of {RUNS} runs is {min(medians):.3f} s, {ROUNDS} times over")


@pytest.mark.parametrize("name", COMMANDS)
def test_loads_nothing_heavy(name):
    script = "\n".join(
        [
            "import runpy, sys",
            f"sys.argv = ['fastdecode', *{COMMANDS[name][2:]!r}]",
            "import fastdecode",
            "try:",
            "    if len(sys.argv) > 1: runpy.run_module('fastdecode', run_name='__main__')",
            "except SystemExit: pass",
            f"print([m for m in {HEAVY!r} if m in sys.modules])",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )
    assert done.stdout.splitlines()[-1] == "[]"
