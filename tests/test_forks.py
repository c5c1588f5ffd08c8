"""A forked child works, whatever the threads of its parent were doing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ATTACKS = Path(__file__).with_name("fork_attacks.py")
# How many forks each attack gets here; FASTDECODE_FORKS is shared between the first three.
FORKS = {"os": 24, "pool": 8, "servers": 16, "imports": 4, "torch": 6}
MANY = int(os.environ.get("FASTDECODE_FORKS", "0"))

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")


@pytest.mark.parametrize("attack", list(FORKS))
def test_children_work(attack):
    count = max(FORKS[attack], MANY // 3 if attack in ("os", "pool", "servers") else 0)
    command = [sys.executable, str(ATTACKS), attack, str(count)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-6000:]
    assert json.loads(run.stdout.splitlines()[-1])["forks"] == count
