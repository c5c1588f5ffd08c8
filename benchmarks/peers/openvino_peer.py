"""OpenVINO GenAI's `LLMPipeline`, on a model exported by optimum-intel."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai

from benchmarks.peers.batches import by_length, in_batches
from benchmarks.peers.models import vocabulary_of

MODES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beam": {},
    "top-k": {"do_sample": True, "top_k": 50},
    "top-p": {"do_sample": True, "top_p": 0.9},
}
# The plugin's default depends on the processor: with bfloat16 instructions, it computes float32
# models in bfloat16. So each entry of the table requests its precision explicitly.
PROPERTIES = {
    "float32": {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"},
    "bfloat16": {"INFERENCE_PRECISION_HINT": "bf16"},
    "int8": {},
}


class Side:
    """An exported model, with paged attention (the default) or plain attention (SDPA)."""

    def __init__(self, variant: str, folder: Path, threads: int) -> None:
        variant, _, backend = variant.partition("/")
        self.paged = backend == ""
        self.folder = str(folder / f"openvino-{'int8' if variant == 'int8' else 'float32'}")
        self.properties = {"INFERENCE_NUM_THREADS": threads, **PROPERTIES[variant]}
        choice = {} if self.paged else {"ATTENTION_BACKEND": backend}
        self.pipeline = genai.LLMPipeline(self.folder, "CPU", **self.properties, **choice)
        self.last = vocabulary_of(folder) - 1
        self.plain: Any = None
        self.versions = {"openvino-genai": version("openvino-genai")}

    def generate(self, prompts: Sequence[Sequence[int]], request: dict[str, Any]) -> Any:
        longest = max(map(len, prompts))
        ids = np.array([[0] * (longest - len(p)) + list(p) for p in prompts])
        mask = np.array([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        config = genai.GenerationConfig()
        config.max_new_tokens = config.min_new_tokens = request["new"]
        config.ignore_eos = True
        config.eos_token_id = self.last
        config.apply_chat_template = False
        config.rng_seed = request["seed"]
        config.num_beams = request["beams"]
        config.num_return_sequences = request["n"]
        for name, value in MODES[request["mode"]].items():
            setattr(config, name, value)
        inputs = genai.TokenizedInputs(ov.Tensor(ids), ov.Tensor(mask))
        return [list(row) for row in self.pipeline.generate(inputs, config).tokens]

    def queue(self, prompts: Sequence[Sequence[int]], request: dict[str, Any]) -> Any:
        if self.paged:
            # In one call: the pipeline removes the padding and batches continuously.
            return self.generate(prompts, request)
        return in_batches(lambda batch: self.generate(batch, request), prompts)

    def score(self, texts: Sequence[Sequence[int]]) -> list[float]:
        """With plain OpenVINO, since GenAI cannot score given tokens."""
        if self.plain is None:
            self.plain = ov.Core().compile_model(
                f"{self.folder}/openvino_model.xml", "CPU", self.properties
            )
        request = self.plain.create_infer_request()
        found = [0.0] * len(texts)
        for batch in by_length(texts, 8):
            request.reset_state()
            longest = max(len(texts[i]) for i in batch)
            ids = np.array([texts[i] + [0] * (longest - len(texts[i])) for i in batch])
            places = np.arange(longest)[None]
            lengths = np.array([[len(texts[i])] for i in batch])
            inputs = {
                "input_ids": ids,
                "attention_mask": (places < lengths).astype(np.int64),
                "position_ids": np.tile(places, (len(batch), 1)),
                "beam_idx": np.arange(len(batch), dtype=np.int32),
            }
            logits = request.infer(inputs)["logits"][:, :-1]
            logits = logits - logits.max(-1, keepdims=True)
            sums = np.log(np.exp(logits).sum(-1))
            of = np.take_along_axis(logits, ids[:, 1:, None], -1)[..., 0] - sums
            for i, total in zip(batch, (of * (places[:, 1:] < lengths)).sum(-1), strict=True):
                found[i] = float(total)
        return found
