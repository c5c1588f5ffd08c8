"""The demo model's logits and tokens, frozen: the same bits on every path, on every machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# A change of these is a change of what the same seed gives: only with a new definition of an
# operation, with new weights of the demo model, or with another `rng`.
GOLDEN = {
    "float32": {"logits": "20677089e52b1274", "tokens": "3033792fbb4083b3"},
    "bfloat16": {"logits": "b8ce664b5ff0c788", "tokens": "f6cc16a038606f0d"},
    "bfloat16_weights": {"logits": "298e685025052639", "tokens": "ea2045cc9c750692"},
    "int8": {"logits": "4b54db7ffde7ce83", "tokens": "752e78b4fe61c7d4"},
    "int4": {"logits": "bd6a0be745b4891d", "tokens": "712c59ef9a8daf7e"},
    "float32, bfloat16 cache": {"logits": "8cb12d013b724fe1", "tokens": "f810b52691576bf4"},
    "float32, int8 cache": {"logits": "408e8892aa3271ff", "tokens": "b1bb47d34d39bafd"},
    "int8, int8 cache": {"logits": "50c739584cb8db6a", "tokens": "ec072bb4621322a4"},
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("level", ["portable", "neon", "avx2", "avx512"])
def test_every_path_gives_the_golden_bits(level, threads):
    chosen = {"FASTDECODE_LEVEL": level, "FASTDECODE_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("golden.py"))],
        capture_output=True,
        text=True,
        env=os.environ | chosen,
    )
    if "this machine has" in done.stderr:
        pytest.skip(f"this machine has no {level}")
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert measured["path"] == {"level": level, "threads": threads, "torch": False}
    assert measured["found"] == GOLDEN
