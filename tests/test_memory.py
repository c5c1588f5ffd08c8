"""Refused memory is a `MemoryError`: before the work begins where that is known."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fastdecode
import numpy as np
import pytest
from fastdecode import core
from fastdecode._core import check_memory

TESTS = Path(__file__).resolve().parent
ROW = np.zeros(8, dtype=np.float32)
# More rows than any machine has memory for a number each, in 32 bytes.
ROWS = np.broadcast_to(ROW, (10**12, 8))
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space")


@pytest.mark.parametrize(
    "call",
    [
        core.argmax,
        core.logsumexp,
        core.log_softmax,
        core.distribution,
        core.weights,
        lambda rows: core.sample(rows, seed=1),
        lambda rows: core.sample(rows, seed=1, streams=3, ledger=True),
        lambda rows: core.top_k(rows, 3),
        lambda rows: core.multinomial(rows, 3, seed=1),
        lambda rows: core.multinomial(rows[: 10**6], 10**6, seed=1),
    ],
)
def test_rows_beyond_any_memory(call):
    with pytest.raises(MemoryError, match=r"this needs [\d.]+ TB of memory, and this "):
        call(ROWS)


def test_rows_that_are_not_asked_for():
    """Where a call knows how many rows there should be, the number is what is wrong."""
    state = core.DecodeState([[1]], seed=1, limits=3)
    for call in (state.step, state.process):
        with pytest.raises(ValueError, match="logits have 1000000000000 rows"):
            call(ROWS)
    assert len(state.step(ROWS[:1])) == 1


def test_a_request_is_compared_with_the_machine():
    check_memory(1 << 20)
    with pytest.raises(MemoryError, match="a smaller n, num_samples, k or batch_size"):
        check_memory(1 << 60)
    with pytest.raises(ValueError, match="bytes=-1"):
        check_memory(-1)


def _limited(code: str, gigabytes: float) -> subprocess.CompletedProcess[str]:
    """Runs code in a process with a limited address space."""
    start = (
        "import resource\n"
        f"limits = {int(gigabytes * 1e9)}, resource.RLIM_INFINITY\n"
        "resource.setrlimit(resource.RLIMIT_AS, limits)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", start + code], capture_output=True, text=True, timeout=300
    )


@linux
@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "core.multinomial(np.zeros(50257, np.float32), 10**9, seed=1)",
            r"this needs \d+\.\d GB of memory, and .*; give fewer rows",
        ),
        (
            "fastdecode.generate('Once', model='demo', do_sample=True, seed=1, n=200_000, "
            "batch_size=10**18)",
            r"this needs \d+\.\d GB of memory, and .* or a smaller n",
        ),
        (
            # What does not fit are the results: the batches are small.
            "fastdecode.generate('Once', model='demo', do_sample=True, seed=1, n=2**31)",
            r"this needs 549\.8 GB of memory, and .* or a smaller n",
        ),
    ],
)
def test_more_than_a_process_may_have_is_refused_before_it_begins(code, message):
    imports = "import numpy as np, fastdecode\nfrom fastdecode import core\n"
    done = _limited(f"{imports}try:\n    {code}\nexcept MemoryError as error:\n    print(error)", 4)
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(message, done.stdout), done.stdout + done.stderr


def _step_through(*arguments: str, seconds: float) -> None:
    done = subprocess.run(
        [sys.executable, str(TESTS / "refused_memory.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, "FASTDECODE_THREADS": "2", "RUST_BACKTRACE": "0"},
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert done.stdout.endswith("\n0 failures\n")


@linux
def test_refused_memory_is_an_error():
    """Some calls, under limits far apart; the next test has all calls and steps of a mebibyte."""
    names = ("distribution", "top_k", "load_int8", "generate", "beams")
    _step_through("--step", "6", "--enough", "2", *names, seconds=600)


@linux
@pytest.mark.skipif(
    "FASTDECODE_MEMORY_STEP" not in os.environ, reason="takes some minutes; see CONTRIBUTING.md"
)
def test_refused_memory_is_an_error_at_every_limit():
    _step_through("--step", os.environ["FASTDECODE_MEMORY_STEP"], seconds=7200)


def test_what_torch_is_refused_is_a_memory_error():
    from fastdecode.models.engines.torch_pass import torch_pass

    @torch_pass()
    def call(error: Exception) -> None:
        raise error

    text = (
        "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 80 bytes. Error code 12 (Cannot allocate memory)\nframe #0"
    )
    with pytest.raises(MemoryError, match=r"tried to allocate 80 bytes.*; give fewer prompts"):
        call(RuntimeError(text))
    for other in (RuntimeError("shapes do not fit"), ValueError(text), MemoryError("own")):
        with pytest.raises(type(other)) as caught:
            call(other)
        assert caught.value is other


def _catches(handler: ast.ExceptHandler, name: str) -> bool:
    return handler.type is None or any(
        isinstance(node, ast.Name) and node.id == name for node in ast.walk(handler.type)
    )


def _handlers() -> Iterator[tuple[Path, ast.Try]]:
    """Statements that catch every exception and raise another one, by file."""
    package = Path(fastdecode.__file__).parent
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Try):
                wide = [handler for handler in node.handlers if _catches(handler, "Exception")]
                inner = [node for handler in wide for node in ast.walk(handler)]
                if any(isinstance(one, ast.Raise) and one.exc is not None for one in inner):
                    yield path.relative_to(package), node


def test_no_other_error_takes_the_place_of_a_memory_error():
    found = list(_handlers())
    assert len(found) > 5
    wrong = [
        f"{path}:{node.lineno}"
        for path, node in found
        if not _catches(node.handlers[0], "MemoryError")
        # What the library `tokenizers` raises, and nothing that derives from it.
        and "is not Exception" not in ast.unparse(node.handlers[0])
    ]
    assert not wrong
