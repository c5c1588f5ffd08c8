"""fastdecode through its public functions, with texts as input and output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastdecode

from benchmarks.peers.worker import Unsupported

MODES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "top-k": {"do_sample": True, "top_k": 50},
    "top-p": {"do_sample": True, "top_p": 0.9},
}


class Side:
    """A decoder with one of the engines."""

    def __init__(self, variant: str, folder: Path, threads: int) -> None:
        engine, dtype = variant.split("/")
        self.versions = {"fastdecode": fastdecode.__version__}
        if engine == "torch":
            import torch

            torch.set_num_threads(threads)
            self.versions["torch"] = torch.__version__
        self.decoder = fastdecode.Decoder.from_pretrained(
            str(folder / "model"), engine=engine, dtype=dtype
        )

    def generate(self, prompts: Sequence[Sequence[int]], request: dict[str, Any]) -> Any:
        if request["mode"] == "beam":
            more: dict[str, Any] = {"num_beams": request["beams"]}
            rows = len(prompts) * request["beams"]
        else:
            more = {**MODES[request["mode"]], "n": request["n"], "seed": request["seed"]}
            rows = len(prompts) * request["n"]
        if request["op"] == "queue":
            rows = 32
        found = self.decoder.generate(
            [list(prompt) for prompt in prompts],
            max_new_tokens=request["new"],
            batch_size=rows,
            **more,
        )
        return [generation.token_ids for generation in found]

    queue = generate

    def score(self, texts: Sequence[Sequence[int]]) -> list[float]:
        given = [list(text) for text in texts]
        return [score.logprob for score in self.decoder.score(given, bos=False, eos=False)]

    def read_seconds(self) -> float:
        """Seconds of one pass over the packed weights by the engine's threads."""
        packed = getattr(self.decoder.engine, "packed", None)
        if packed is None:
            raise Unsupported("only the native engine can time a read of its weights")
        return min(packed().read_seconds() for _ in range(3))

    def weight_bytes(self) -> int:
        """Bytes that `read_seconds` reads."""
        return int(self.decoder.engine.packed().nbytes)
