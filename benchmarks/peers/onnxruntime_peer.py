"""ONNX Runtime GenAI's `Generator`, on the graph written by `gpt2_onnx.py`."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import onnxruntime_genai as genai

from benchmarks.peers.worker import Unsupported

MODES: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "beam": {"do_sample": False},
    "top-k": {"do_sample": True, "top_k": 50, "top_p": 1.0},
    "top-p": {"do_sample": True, "top_k": 0, "top_p": 0.9},
}


class Side:
    """A model loaded by ONNX Runtime GenAI."""

    def __init__(self, variant: str, folder: Path, threads: int) -> None:
        self.folder, self.threads = folder / f"onnx-{variant}", threads
        if not self.folder.exists():
            raise Unsupported("the graph was not written")
        config = genai.Config(str(self.folder))
        options = {"intra_op_num_threads": threads}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        self.model = genai.Model(config)
        self.session: Any = None
        self.versions = {
            "onnxruntime-genai": genai.__version__,
            "onnxruntime": onnxruntime.__version__,
        }

    def generate(self, prompts: Sequence[Sequence[int]], request: dict[str, Any]) -> Any:
        length = len(prompts[0])
        if any(len(prompt) != length for prompt in prompts):
            raise Unsupported("its attention needs prompts of equal length")
        n, beams = request["n"], request["beams"]
        if n > 1:
            prompts = [prompt for prompt in prompts for _ in range(n)]
        parameters = genai.GeneratorParams(self.model)
        parameters.set_search_options(
            batch_size=len(prompts),
            max_length=length + request["new"],
            min_length=length + request["new"],
            num_beams=beams,
            num_return_sequences=1,
            past_present_share_buffer=beams == 1,
            random_seed=request["seed"],
            **MODES[request["mode"]],
        )
        generator = genai.Generator(self.model, parameters)
        generator.append_tokens(np.array(prompts, np.int32))
        while not generator.is_done():
            generator.generate_next_token()
        return [generator.get_sequence(i)[length:].tolist() for i in range(len(prompts))]

    def queue(self, prompts: Sequence[Sequence[int]], request: dict[str, Any]) -> Any:
        """Batches of prompts of equal length, since its attention does not mask padding."""
        groups = defaultdict(list)
        for i, prompt in enumerate(prompts):
            groups[len(prompt)].append(i)
        found: list[Any] = [None] * len(prompts)
        for group in groups.values():
            for first in range(0, len(group), 32):
                some = group[first : first + 32]
                rows = self.generate([prompts[i] for i in some], request)
                for i, row in zip(some, rows, strict=True):
                    found[i] = row
        return found

    def score(self, texts: Sequence[Sequence[int]]) -> list[float]:
        """Text by text with plain ONNX Runtime, since GenAI cannot score given tokens."""
        if self.session is None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = self.threads
            self.session = onnxruntime.InferenceSession(str(self.folder / "model.onnx"), options)
            self.empty = {
                i.name: np.zeros((1, i.shape[1], 0, i.shape[3]), np.float32)
                for i in self.session.get_inputs()
                if i.name.startswith("past")
            }
        found = []
        for text in texts:
            ids = np.array([text])
            (logits,) = self.session.run(
                ["logits"],
                {
                    "input_ids": ids,
                    "attention_mask": np.ones_like(ids),
                    "position_ids": np.arange(len(text))[None],
                    **self.empty,
                },
            )
            rows = logits[0, :-1]
            rows = rows - rows.max(-1, keepdims=True)
            sums = np.log(np.exp(rows).sum(-1))
            found.append(float((rows[np.arange(len(rows)), text[1:]] - sums).sum()))
        return found
