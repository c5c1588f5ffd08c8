"""What calls do where the system refuses memory: results or `MemoryError`, nothing else.

`python tests/refused_memory.py [--step MIB] [NAME ...]` runs each call in forked processes whose
address space (`RLIMIT_AS`) is limited, from what the process already has upwards, until the call
works again and again. It prints what was found, and fails where a process died, raised anything
but `MemoryError`, or returned another result than without a limit.
"""

from __future__ import annotations

import argparse
import atexit
import hashlib
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import fastdecode
import numpy as np
from fastdecode import core
from folders import copy_of_demo
from gguf_files import write_model
from safetensors.numpy import load_file, save_file

MIB = 1 << 20
# Seconds that a call may take before it counts as hanging.
PATIENCE = 120
TEXTS = [f"Alice went {i} times to the river and back again. " * 3 for i in range(24)]


def _digest(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
    return digest.hexdigest()[:16]


def _rows(count: int, size: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    flat = np.arange(count * size, dtype=np.int64) * 7919 % 104729
    return (flat.astype(np.float32) * 1e-4).reshape(count, size)


def _generate(decoder: Any, **arguments: Any) -> str:
    runs = decoder.generate("Once upon a time", max_new_tokens=12, seed=1, **arguments)
    return _digest([run.token_ids for run in runs])


def _next_token(decoder: Any) -> str:
    found = [decoder.next_token(text, k=4096) for text in TEXTS]
    return _digest([[(one.token_id, one.logprob) for one in some] for some in found])


def _score(decoder: Any) -> str:
    return _digest([one.logprob for one in decoder.score(TEXTS, alternatives=40)])


def _enumerate(decoder: Any) -> str:
    found = decoder.enumerate_continuations("Once upon", min_probability=1e-4, max_new_tokens=3)
    return _digest([(one.token_ids, one.logprob) for one in found])


def _load(model: str | Path, dtype: str = "float32") -> str:
    decoder = fastdecode.Decoder.from_pretrained(model, engine="native", dtype=dtype)
    return _digest(decoder.logits([1, 2, 3]))


def _classify(decoder: Any) -> str:
    found = decoder.classify(TEXTS, [f"room {number}" for number in range(12)])
    return _digest([one.posterior for one in found])


def _ranked(found: Any) -> str:
    return _digest([(one.index, one.score.logprob) for one in found])


def _stream(decoder: Any) -> str:
    steps = decoder.stream(TEXTS * 6, max_new_tokens=6, do_sample=True, seed=1, logprobs=50)
    return _digest([step.token_id for step in steps])


def _chat(decoder: Any) -> str:
    talks = [[{"role": "user", "content": text[:24]}] for text in TEXTS * 6]
    runs = decoder.chat(talks, max_new_tokens=6, do_sample=True, seed=1)
    return _digest([run.token_ids for run in runs])


def _sharded(folder: Path) -> Path:
    """The demo model with its weights in three files."""
    copy_of_demo(folder)
    whole = folder / "model.safetensors"
    tensors, places = load_file(whole), {}
    whole.unlink()
    for part in range(3):
        name = f"model-0000{part + 1}-of-00003.safetensors"
        here = dict([*tensors.items()][part::3])
        places |= dict.fromkeys(here, name)
        save_file(here, folder / name)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def calls() -> dict[str, Callable[[], str]]:
    """The calls by name; each returns a digest of its result. Everything is imported and loaded."""
    decoder = fastdecode.Decoder.from_pretrained("demo", engine="native")
    decoder.generate("Once", max_new_tokens=2, do_sample=True, seed=1)
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    gguf = write_model(folder / "small.gguf", extra_tokens=30_000, width=64)
    pieces = write_model(folder / "pieces.gguf", "llama", extra_tokens=30_000)
    chatty = fastdecode.Decoder.from_pretrained(gguf)
    chatty.chat("the", max_new_tokens=2)
    sharded = _sharded(folder / "sharded")
    rows, row = _rows(24, 50_000), _rows(1, 50_000)[0]
    core.sample(row, seed=1)
    return {
        "multinomial": lambda: _digest(core.multinomial(row, 200_000, seed=1)),
        "sample": lambda: _digest(core.sample(rows, core.Sample(top_p=0.9), seed=1).tokens),
        "sample_half": lambda: _digest(core.sample(rows.astype(np.float16), seed=1).tokens),
        "distribution": lambda: _digest(core.distribution(rows)),
        "log_softmax": lambda: _digest(core.log_softmax(rows)),
        "top_k": lambda: _digest(*core.top_k(rows, 20_000)),
        "load": partial(_load, "demo"),
        "load_int8": partial(_load, "demo", "int8"),
        "load_int4": partial(_load, "demo", "int4"),
        "load_sharded": partial(_load, sharded),
        "load_gguf": partial(_load, gguf),
        "load_gguf_pieces": partial(_load, pieces),
        "generate": partial(_generate, decoder, n=150, do_sample=True),
        "generate_traced": partial(_generate, decoder, n=60, do_sample=True, trace=True),
        "generate_logprobs": partial(_generate, decoder, n=60, do_sample=True, logprobs=200),
        "beams": partial(_generate, decoder, num_beams=60, num_return_sequences=60),
        "next_token": partial(_next_token, decoder),
        "score": partial(_score, decoder),
        "classify": partial(_classify, decoder),
        "compare": lambda: _ranked(decoder.compare(TEXTS)),
        "surprising": lambda: _ranked(decoder.surprising(TEXTS)),
        "stream": partial(_stream, decoder),
        "chat": partial(_chat, chatty),
        "enumerate": partial(_enumerate, decoder),
    }


def torch_calls() -> dict[str, Callable[[], str]]:
    """The calls that go through torch, outside our own code for the most part."""
    import torch

    torch.set_num_threads(1)
    decoder = fastdecode.Decoder.from_pretrained("demo", engine="transformers")
    decoder.generate("Once", max_new_tokens=2, do_sample=True, seed=1)
    return {"transformers": partial(_generate, decoder, n=400, batch_size=400, do_sample=True)}


@dataclass
class Found:
    """What was found for a call."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    messages: Counter[str] = field(default_factory=Counter)


def step_through(call: Callable[[], str], step: float, enough: int, most: int = 4096) -> Found:
    """Runs a call under limits `step` MiB apart, until it has worked `enough` times in a row."""
    found = Found()
    expected = _forked(call, None)
    if expected.get("outcome") != "result":
        raise AssertionError(f"without a limit: {expected}")
    worked, extra = 0, 0.0
    while worked < enough and extra < most:
        got = _forked(call, extra)
        outcome = got["outcome"]
        found.outcomes[outcome] += 1
        worked = worked + 1 if outcome == "result" else 0
        if outcome == "MemoryError":
            found.messages[got["message"][:160]] += 1
        elif outcome != "result" or got["digest"] != expected["digest"]:
            found.failures.append(f"at {extra} MiB: {got}")
        extra += step
    return found


def _forked(call: Callable[[], str], extra: float | None) -> dict[str, str]:
    """The outcome of a call in a forked process with `extra` MiB of address space."""
    receiver, sender = os.pipe()
    sys.stdout.flush()
    errors = os.memfd_create("errors")
    child = os.fork()
    if child == 0:
        os.dup2(errors, 2)
        _run(call, extra, sender)
    os.close(sender)
    deadline = time.monotonic() + PATIENCE
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            status = -1
            break
        time.sleep(0.002)
    with os.fdopen(receiver, "rb") as file:
        text = file.read()
    with os.fdopen(errors, "rb") as file:
        file.seek(0)
        said = file.read()[-600:].decode(errors="replace")
    if status == -1:
        return {"outcome": "hang", "message": said}
    if status or not text:
        return {"outcome": f"died with status {status}", "message": said}
    got: dict[str, str] = json.loads(text)
    if got["outcome"] not in ("result", "MemoryError"):
        got["stderr"] = said
    return got


def _run(call: Callable[[], str], extra: float | None, sender: int) -> None:
    """In the forked process: the call, and what came of it into the pipe."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    try:
        if extra is not None:
            with open("/proc/self/statm", "rb") as file:
                pages = int(file.read().split()[0])
            limit = pages * resource.getpagesize() + int(extra * MIB)
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
        got = {"outcome": "result", "digest": call()}
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    except BaseException as error:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        got = {"outcome": type(error).__name__, "message": str(error)}
        if not isinstance(error, MemoryError):
            import traceback

            got["where"] = "".join(traceback.format_tb(error.__traceback__)[-3:])
    os.write(sender, json.dumps(got).encode())
    os._exit(0)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step", type=float, default=1.0, help="MiB between two limits")
    parser.add_argument(
        "--enough",
        type=int,
        default=8,
        help="limits in a row under which a call works, after which it is done",
    )
    parser.add_argument("names", nargs="*", help="calls; all by default")
    arguments = parser.parse_args()
    failed = 0
    for group in (calls, torch_calls):
        if group is torch_calls and arguments.names and "transformers" not in arguments.names:
            continue
        for name, call in group().items():
            if arguments.names and name not in arguments.names:
                continue
            found = step_through(call, arguments.step, arguments.enough)
            print(f"{name}: {dict(found.outcomes)}")
            for message, count in found.messages.most_common(6):
                print(f"    {count} x MemoryError: {message}")
            for failure in found.failures[:4]:
                print(f"    FAILED {failure}")
            failed += len(found.failures)
    print(f"{failed} failures")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
