"""Results do not depend on the floating-point mode of the calling thread.

Each process sets every combination of rounding direction and treatment of subnormal numbers, and
prints a digest of the core's and the native engine's results for each.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

X86 = platform.machine() in ("x86_64", "AMD64")
# Nearest, down, up, towards zero.
ROUNDINGS = range(4)
LEVELS = ("portable", "avx2", "avx512") if X86 else ("portable", "neon")

SCRIPT = """
import ctypes, ctypes.util, hashlib, json, sys
import numpy as np
from fastdecode import Beam, Decoder, Sample, core

libm = ctypes.CDLL(ctypes.util.find_library("m"))
environment = (ctypes.c_uint32 * 8)()
libm.fegetenv(environment)
x86 = sys.argv[1] == "x86"
usual = bytes(environment)

def enter(rounding, flush):
    if x86:
        # The last word of glibc's fenv_t is MXCSR.
        environment[7] = 0x1F80 | rounding << 13 | (0x8040 if flush else 0)
    else:
        environment[0] = (0, 2, 1, 3)[rounding] << 22 | flush << 24
    libm.fesetenv(environment)

def leave():
    ctypes.memmove(environment, usual, len(usual))
    libm.fesetenv(environment)

rng = np.random.default_rng(0)
rows = (rng.normal(size=(40, 3001)) * 4).astype(np.float32)
# Logits that only differ by subnormal numbers.
tiny = np.full((2, 64), 1e-42, dtype=np.float32)
tiny[:, 40] = 3e-42
histories = [[i, 2 * i + 1] for i in range(40)]
prompts = [[(i * 37 + j) % 500 for j in range(5)] for i in range(4)]

def results():
    tokens = Sample(temperature=0.7, top_p=0.9, repetition_penalty=1.3, presence_penalty=0.1)
    for strategy in (tokens, Sample(temperature=1.1, typical_p=0.8), Sample(top_k=50)):
        drawn = core.sample(rows, strategy, seed=3, histories=histories, ledger=True)
        yield from (drawn.tokens, drawn.logprobs, drawn.kept_logprobs, drawn.entropies_before)
        yield core.weights(rows, strategy, histories=histories)
        yield core.distribution(rows, strategy, histories=histories)
    yield core.log_softmax(rows)
    yield core.logsumexp(rows)
    yield core.argmax(tiny)
    yield core.sample(tiny, Sample(temperature=1e-3), seed=1).tokens
    for dtype in ("float32", "bfloat16", "bfloat16_weights", "int8", "int4"):
        decoder = Decoder.from_pretrained("demo", engine="native", dtype=dtype)
        batch, logits = decoder.engine.start(prompts, [1] * 4)
        yield logits
        yield batch.step(np.arange(4))
        found = decoder.generate("Once upon a time", strategy=Beam(3), max_new_tokens=4)
        yield np.array(found[0].token_ids)

digests = {}
for rounding in range(4):
    for flush in (0, 1):
        enter(rounding, flush)
        try:
            arrays = list(results())
        finally:
            leave()
        digest = hashlib.sha256()
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
        digests[f"rounding {rounding}, flush {flush}"] = digest.hexdigest()
print(json.dumps(digests))
"""


def digests(level: str, threads: int) -> dict[str, str]:
    environment = {**os.environ, "FASTDECODE_LEVEL": level, "FASTDECODE_THREADS": str(threads)}
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, "x86" if X86 else "arm"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if "this machine has" in ran.stderr:
        pytest.skip(f"this machine lacks {level}")
    if ran.returncode != 0:
        raise RuntimeError(ran.stderr)
    found: dict[str, str] = json.loads(ran.stdout)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="the layout of fenv_t is glibc's")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("level", LEVELS)
def test_one_digest_in_every_mode(level: str, threads: int) -> None:
    found = digests(level, threads)
    assert len(found) == 8
    assert len(set(found.values())) == 1, found
