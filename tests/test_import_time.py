"""Importing the package and asking for help are quick: nothing heavy loads before it is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from time import perf_counter

import pytest

pytestmark = pytest.mark.xdist_group("timed")

LIMIT = 0.3
RUNS = 7
HEAVY = (
    "numpy",
    "torch",
    "transformers",
    "huggingface_hub",
    "pandas",
    "hypothesis",
    "jinja2",
    "fastdecode.testing",
)
COMMANDS = {
    "import": ["-c", "import fastdecode"],
    "help": ["-m", "fastdecode", "--help"],
    "generate help": ["-m", "fastdecode", "generate", "--help"],
}


def least_seconds(arguments: list[str]) -> float:
    """The time of a whole process, the interpreter's own start included.

    Of wall and processor time the shorter counts, and of several runs the quickest: other processes
    on the machine only ever add to them.
    """
    seconds = []
    for _ in range(RUNS):
        start, before = perf_counter(), os.times()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        seconds.append(perf_counter() - start)
        after = os.times()
        user = after.children_user - before.children_user
        system = after.children_system - before.children_system
        # Windows does not count the time of child processes.
        if user + system > 0:
            seconds.append(user + system)
    return min(seconds)


@pytest.mark.parametrize("name", COMMANDS)
def test_takes_under_0_3_seconds(name):
    seconds = least_seconds(COMMANDS[name])
    assert seconds < LIMIT, f"{name}: {seconds:.3f} s"


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
