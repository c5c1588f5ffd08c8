"""llama.cpp through the C API of llama-cpp-python, used like llama.cpp's own batched example.

The high-level class of llama-cpp-python takes one prompt at a time. This is what a user who wants
batches would write: one `llama_decode` for all sequences, and a sampler chain for each.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp as llama
import numpy as np

from benchmarks.peers.models import vocabulary_of
from benchmarks.peers.worker import Unsupported

_SLOTS = 32
_BATCH = 512
# The most tokens that one call decodes: eight prompts of 512.
_LARGEST = 4096


class Side:
    """A GGUF file and one context, which is reused as long as its shape fits."""

    def __init__(self, variant: str, folder: Path, threads: int) -> None:
        self.threads = threads
        # The default cache has 16 bits; the f32 entry uses float32 throughout.
        self.cache = llama.GGML_TYPE_F32 if variant == "f32" else llama.GGML_TYPE_F16
        quiet = llama.llama_log_callback(lambda level, text, data: None)
        self.log = quiet  # the library keeps a pointer to the callback
        llama.llama_log_set(quiet, ctypes.c_void_p(0))
        llama.llama_backend_init()
        self.vocabulary = vocabulary_of(folder)
        path = folder / f"model-{variant}.gguf"
        self.model = llama.llama_model_load_from_file(
            str(path).encode(), llama.llama_model_default_params()
        )
        if not self.model:
            raise Unsupported(f"llama.cpp does not load {path.name}")
        self.context: Any = None
        self.shape = (0, 0)
        self.batch = llama.llama_batch_init(_LARGEST, 0, 1)
        self.versions = {"llama-cpp-python": llama.__version__}

    def generate(self, prompts: Sequence[Sequence[int]], request: dict[str, Any]) -> Any:
        if request["mode"] == "beam":
            raise Unsupported("llama.cpp has no beam search")
        new, n = request["new"], request["n"]
        # Make the context large enough for the longer of the cell's two runs.
        self._open(len(prompts) * n, max(map(len, prompts)) + max(new, 33))
        chains = [self._chain(request, i) for i in range(len(prompts) * n)]
        found: list[list[int]] = [[] for _ in chains]
        last = {i * n: len(prompt) for i, prompt in enumerate(prompts)}
        places = self._feed(
            [(i * n, 0, prompt) for i, prompt in enumerate(prompts)], max(map(len, prompts))
        )
        memory = llama.llama_get_memory(self.context)
        for first in last:
            for copy in range(first + 1, first + n):
                llama.llama_memory_seq_cp(memory, first, copy, -1, -1)
        logits_of = [places[i - i % n] for i in range(len(chains))]
        for step in range(new):
            for i, chain in enumerate(chains):
                found[i].append(llama.llama_sampler_sample(chain, self.context, logits_of[i]))
            if step + 1 < new:
                self._fill(
                    [(i, last[i - i % n] + step, found[i][-1], True) for i in range(len(chains))]
                )
                logits_of = list(range(len(chains)))
        for chain in chains:
            llama.llama_sampler_free(chain)
        return found

    def queue(self, prompts: Sequence[Sequence[int]], request: dict[str, Any]) -> Any:
        """Continuous batching: when a sequence ends, the next prompt takes its slot."""
        new = request["new"]
        self._open(_SLOTS, max(map(len, prompts)) + new)
        memory = llama.llama_get_memory(self.context)
        found: list[list[int]] = [[] for _ in prompts]
        waiting = list(range(len(prompts)))[::-1]
        slots: list[int | None] = [None] * _SLOTS
        chains: dict[int, Any] = {}
        while waiting or any(slot is not None for slot in slots):
            entries: list[tuple[int, int, int, bool]] = []
            places: dict[int, int] = {}
            for slot, who in enumerate(slots):
                if who is not None:
                    places[slot] = len(entries)
                    at = len(prompts[who]) + len(found[who]) - 1
                    entries.append((slot, at, found[who][-1], True))
            for slot, who in enumerate(slots):
                if who is not None or not waiting:
                    continue
                if len(entries) + len(prompts[waiting[-1]]) > _BATCH:
                    break
                who = slots[slot] = waiting.pop()
                chains[who] = self._chain(request, who)
                llama.llama_memory_seq_rm(memory, slot, -1, -1)
                end = len(prompts[who]) - 1
                entries += [(slot, at, t, at == end) for at, t in enumerate(prompts[who])]
                places[slot] = len(entries) - 1
            self._fill(entries)
            for slot, place in places.items():
                who = slots[slot]
                if who is None:
                    continue
                found[who].append(llama.llama_sampler_sample(chains[who], self.context, place))
                if len(found[who]) == new:
                    llama.llama_sampler_free(chains.pop(who))
                    slots[slot] = None
        return found

    def score(self, texts: Sequence[Sequence[int]]) -> list[float]:
        self._open(8, max(map(len, texts)))
        found = []
        for first in range(0, len(texts), 8):
            some = texts[first : first + 8]
            llama.llama_memory_clear(llama.llama_get_memory(self.context), True)
            self._fill(
                [(i, at, t, True) for i, text in enumerate(some) for at, t in enumerate(text)]
            )
            count = sum(map(len, some))
            raw = llama.llama_get_logits(self.context)
            logits = np.ctypeslib.as_array(raw, (count, self.vocabulary))
            begin = 0
            for text in some:
                rows = logits[begin : begin + len(text) - 1]
                top = rows.max(-1)
                sums = np.log(np.exp(rows - top[:, None]).sum(-1)) + top
                found.append(float((rows[np.arange(len(rows)), text[1:]] - sums).sum()))
                begin += len(text)
        return found

    def _open(self, sequences: int, length: int) -> None:
        """Provide an empty context for `sequences` sequences of `length` tokens."""
        if self.context is None or self.shape != (sequences, length):
            if self.context is not None:
                llama.llama_free(self.context)
            parameters = llama.llama_context_default_params()
            parameters.n_ctx = sequences * (-(-length // 256) * 256)
            parameters.n_batch = _LARGEST
            parameters.n_ubatch = _BATCH
            parameters.n_seq_max = sequences
            parameters.n_threads = parameters.n_threads_batch = self.threads
            parameters.type_k = parameters.type_v = self.cache
            self.context = llama.llama_init_from_model(self.model, parameters)
            if not self.context:
                raise RuntimeError("llama.cpp made no context")
            self.shape = (sequences, length)
        llama.llama_memory_clear(llama.llama_get_memory(self.context), True)

    def _feed(
        self, sequences: Sequence[tuple[int, int, Sequence[int]]], longest: int
    ) -> dict[int, int]:
        """Decode prompts in one batch; return where the last logits of each are."""
        entries, places = [], {}
        for sequence, start, tokens in sequences:
            end = len(tokens) - 1
            entries += [(sequence, start + at, t, at == end) for at, t in enumerate(tokens)]
            places[sequence] = len(entries) - 1
        self._fill(entries)
        return places

    def _fill(self, entries: Sequence[tuple[int, int, int, bool]]) -> None:
        batch = self.batch
        batch.n_tokens = len(entries)
        for i, (sequence, position, token, wanted) in enumerate(entries):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = wanted
        if llama.llama_decode(self.context, batch):
            raise RuntimeError("llama_decode failed")

    def _chain(self, request: dict[str, Any], index: int) -> Any:
        chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        if request["mode"] == "greedy":
            llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_greedy())
            return chain
        if request["mode"] == "top-k":
            llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_top_k(50))
        else:
            llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_top_p(0.9, 1))
        seed = (request["seed"] * 1_000_003 + index) % 2**32
        llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_dist(seed))
        return chain
