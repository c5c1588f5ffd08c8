"""The process of one peer: requests as JSON lines on standard input, answers on standard output.

    python -m benchmarks.peers.worker MODULE VARIANT FOLDER THREADS

The first line it writes says that the model is loaded, and the versions. A request is one of

    {"op": "generate" | "queue" | "score", "prompts": [[ids]], "mode": ..., "new": ..., ...}
    {"op": "read"}      seconds of reading the weights once, where the peer can say

An answer has `seconds`, `tokens` (new ids, a list a sequence) or `scores` (nats, one a text), and
`peak_mb`, the most memory that the process has had resident; or `reason`, where the peer cannot do
it. Whatever a library prints goes to standard error.
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
    """The peer cannot do this; the message says why, for the table."""


def peak_mb() -> float | None:
    """The most memory that this process has had resident, file pages included."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return next(
        (int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")),
        None,
    )


def answer(side: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Do what is asked, by the clock."""
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
    """Load, then answer until the input ends."""
    module, variant, folder, threads = sys.argv[1:5]
    # The protocol keeps the real standard output; libraries, C ones too, write to standard error.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    # `Unsupported` is this module's, also where the module runs under the name __main__.
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
        except Exception as error:  # the table says what went wrong, and the others go on
            message = {"reason": f"failed: {type(error).__name__}: {' '.join(str(error).split())}"}
            message["reason"] = message["reason"][:300]
        message["peak_mb"] = peak_mb()
        say(message)


if __name__ == "__main__":
    main()
