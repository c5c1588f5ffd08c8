"""CTranslate2's `Generator`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ctranslate2

MODES: dict[str, dict[str, Any]] = {
    "greedy": {"sampling_topk": 1},
    "beam": {"sampling_topk": 1},
    "top-k": {"sampling_topk": 50},
    "top-p": {"sampling_topk": 0, "sampling_topp": 0.9},
}


class Side:
    """A model converted by `convert.py`."""

    def __init__(self, variant: str, folder: Path, threads: int) -> None:
        self.generator = ctranslate2.Generator(
            str(folder / f"ctranslate2-{variant}"),
            device="cpu",
            compute_type=variant,
            intra_threads=threads,
            inter_threads=1,
        )
        self.versions = {"ctranslate2": ctranslate2.__version__}

    def generate(
        self, prompts: Sequence[Sequence[int]], request: dict[str, Any], rows: int = 0
    ) -> Any:
        ctranslate2.set_random_seed(request["seed"])
        results = self.generator.generate_batch(
            _pieces(prompts),
            max_batch_size=rows,
            beam_size=request["beams"],
            num_hypotheses=request["n"],
            max_length=request["new"],
            min_length=request["new"],
            include_prompt_in_result=False,
            **MODES[request["mode"]],
        )
        return [ids for result in results for ids in result.sequences_ids]

    def queue(self, prompts: Sequence[Sequence[int]], request: dict[str, Any]) -> Any:
        # The library sorts by length itself.
        return self.generate(prompts, request, 32)

    def score(self, texts: Sequence[Sequence[int]]) -> list[float]:
        results = self.generator.score_batch(_pieces(texts), max_batch_size=32)
        return [sum(result.log_probs) for result in results]


def _pieces(prompts: Sequence[Sequence[int]]) -> list[list[str]]:
    return [[f"t{token}" for token in prompt] for prompt in prompts]
