"""The process of one peer: requests as JSON lines on standard input, answers on standard output.

    python -m benchmarks.peers.worker MODULE VARIANT FOLDER THREADS

The first line of output says that the model is loaded, and has the versions. A request is one of

    {"op": "generate" | "queue" | "score", "prompts": [[ids]], "mode": ..., "new": ..., ...}
    {"op": "read"}      seconds to read the weights once, if the peer supports it

An answer has `seconds`, `tokens` (new ids, one list per sequence) or `scores` (nats, one per text),
and `peak_mb`, the peak resident memory of the process; or `reason`, if the peer cannot do it. The
output of libraries goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from time import perf_counter
from typing import Any


class Unsupported(Exception):
    """The peer does not support a request; the message is shown in the table."""


def peak_mb() -> float | None:
    """Peak resident memory of this process, including pages of files."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return next(
        (int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")),
        None,
    )


def answer(side: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Execute a request and time it."""
    if request["op"] == "read":
        return {"seconds": side.read_seconds(), "bytes": side.weight_bytes()}
    begun = perf_counter()
    if request["op"] == "score":
        found = {"scores": side.score(request["prompts"])}
    else:
        ask = side.queue if request["op"] == "queue" else side.generate
        found = {"tokens": ask(request["prompts"], request)}
    return {"seconds": perf_counter() - begun, **found}


def main() -> None:
    """Load the model, then answer requests until the input ends."""
    module, variant, folder, threads = sys.argv[1:5]
    # The real standard output is for the protocol; libraries, C ones too, write to standard error.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    # The peers import this module by its full name; it must be the same object as __main__.
    sys.modules["benchmarks.peers.worker"] = sys.modules[__name__]
    try:
        side = importlib.import_module(f"benchmarks.peers.{module}").Side(
            variant, Path(folder), int(threads)
        )
    except Unsupported as error:
        say({"reason": str(error)})
        return
    except ModuleNotFoundError as error:
        say({"reason": f"not installed here: {error.name}"})
        return
    say({"loaded": True, "versions": side.versions, "peak_mb": peak_mb()})
    for line in sys.stdin:
        try:
            message = answer(side, json.loads(line))
        except Unsupported as error:
            message = {"reason": str(error)}
        except Exception as error:  # shown in the table; the other peers continue
            message = {"reason": f"failed: {type(error).__name__}: {' '.join(str(error).split())}"}
            message["reason"] = message["reason"][:300]
        message["peak_mb"] = peak_mb()
        say(message)


if __name__ == "__main__":
    main()
