"""transformers' `generate`, either eager or with a static cache and torch.compile."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.peers.batches import by_length, in_batches
from benchmarks.peers.worker import Unsupported

MODES: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "beam": {"do_sample": False},
    "top-k": {"do_sample": True, "top_k": 50},
    "top-p": {"do_sample": True, "top_k": 0, "top_p": 0.9},
}


class Side:
    """A model loaded with transformers."""

    def __init__(self, variant: str, folder: Path, threads: int) -> None:
        warnings.filterwarnings("ignore")
        transformers.logging.set_verbosity_error()
        torch.set_num_threads(threads)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            folder / "model", dtype=torch.float32, trust_remote_code=False
        ).eval()
        self.compiled = variant == "compiled"
        if self.compiled:
            import shutil

            if not any(shutil.which(name) for name in ("g++", "clang++")):
                raise Unsupported("torch.compile needs a C++ compiler, and there is none")
            torch._dynamo.config.cache_size_limit = 64
            self.model.forward = torch.compile(self.model.forward, dynamic=False)
        self.versions = {"transformers": transformers.__version__, "torch": torch.__version__}

    def generate(self, prompts: Sequence[Sequence[int]], request: dict[str, Any]) -> Any:
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(p)) + list(p) for p in prompts])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        if self.compiled and (request["mode"] == "beam" or request["op"] == "queue"):
            raise Unsupported("recompiles for every new shape, which takes minutes")
        torch.manual_seed(request["seed"])
        more = {"cache_implementation": "static"} if self.compiled else {}
        output = self.model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=request["new"],
            num_beams=request["beams"],
            num_return_sequences=request["n"],
            eos_token_id=None,
            pad_token_id=0,
            **MODES[request["mode"]],
            **more,
        )
        return output[:, longest:].tolist()

    def queue(self, prompts: Sequence[Sequence[int]], request: dict[str, Any]) -> Any:
        return in_batches(lambda batch: self.generate(batch, request), prompts)

    def score(self, texts: Sequence[Sequence[int]]) -> list[float]:
        if self.compiled:
            raise Unsupported("recompiles for every new shape, which takes minutes")
        found = [0.0] * len(texts)
        for batch in by_length(texts, 8):
            longest = max(len(texts[i]) for i in batch)
            ids = torch.tensor([texts[i] + [0] * (longest - len(texts[i])) for i in batch])
            mask = torch.tensor(
                [[1] * len(texts[i]) + [0] * (longest - len(texts[i])) for i in batch]
            )
            with torch.inference_mode():
                logits = self.model(ids, attention_mask=mask).logits[:, :-1]
                of = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0] * mask[:, 1:]
            for i, total in zip(batch, of.sum(-1).tolist(), strict=True):
                found[i] = total
        return found
