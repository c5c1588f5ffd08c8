"""A forked child works, whatever the threads of its parent were doing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ATTACKS = Path(__file__).with_name("fork_attacks.py")
# How many forks each attack gets here; FASTDECODE_FORKS is shared between the first three.
FORKS = {"os": 24, "pool": 8, "servers": 16, "imports": 4, "torch": 6}
MANY = int(os.environ.get("FASTDECODE_FORKS", "0"))

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")


def run(command, limit):
    """Run a script; after `limit` seconds its processes print where they are, and end."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Of its own group, so that a signal reaches its children as well.
        start_new_session=True,
    )
    try:
        try:
            out, err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGALRM)
            time.sleep(5)
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"not done after {limit} seconds:\n{process.communicate()[1][-9000:]}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, err[-9000:]
    return json.loads(out.splitlines()[-1])


@pytest.mark.parametrize("attack", list(FORKS))
def test_children_work(attack):
    share = -(-MANY // 3) if attack in ("os", "pool", "servers") else 0
    count = max(FORKS[attack], share)
    done = run([sys.executable, str(ATTACKS), attack, str(count)], 900 + 10 * count)
    assert done["forks"] == count


def test_every_way_to_fork():
    run([sys.executable, str(ATTACKS.with_name("fork_patterns.py"))], 900)
