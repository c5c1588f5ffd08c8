"""A model's own forward pass, called by one convention.

`prepare_inputs_for_generation` is not called: its arguments differ between versions of
transformers, and it wants all tokens of every row at every step. What overrides of it do is found
without it: the probe tries the arguments that a step takes, `limits.rope_border` says where a cache
is void, and the probe refuses a model whose override leads to other logits than a plain pass.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from transformers.cache_utils import DynamicCache, DynamicLayer
from transformers.generation import GenerationMixin

from fastdecode.models.engines.transformers.batch import TorchBatch
from fastdecode.models.engines.transformers.capabilities import Convention
from fastdecode.models.engines.transformers.growing_cache import GrowingLayer

# Arguments that take a cache, the one of this version of transformers first.
_USUAL = inspect.signature(GenerationMixin.prepare_inputs_for_generation).parameters
CACHE_NAMES = sorted(("cache", "past_key_values", "cache_params"), key=lambda n: n not in _USUAL)

# The models that are watched, and who has run each of them last.
_holders: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


class Signature:
    """The arguments of the forward pass of a model, inside any wrappers.

    Attributes:
        complete: whether the names of the signature are all that it takes. In a subclass that
            somebody has written, `**kwargs` may hand on what is not named; in transformers' own
            classes it goes to attention alone.
    """

    def __init__(self, model: Any) -> None:
        """Read the signature of `unwrapped(model)`."""
        module = unwrapped(model)
        self._names = inspect.signature(module.forward).parameters
        self._open = any(p.kind is p.VAR_KEYWORD for p in self._names.values())
        self.complete = not self._open or type(module).__module__.startswith("transformers.")

    def names(self, name: str) -> bool:
        """Whether there is an argument of that name."""
        return name in self._names

    def takes(self, name: str) -> bool:
        """Whether an argument of that name can be passed, if only to be ignored."""
        return self._open or name in self._names

    def cache_names(self) -> list[str]:
        """The arguments that may take a cache, the likeliest first."""
        named = [name for name in CACHE_NAMES if name in self._names]
        return named if named or self.complete else list(CACHE_NAMES)


class Forward:
    """The forward pass of `model`; attributes of the convention are read once."""

    def __init__(self, model: Any, convention: Convention) -> None:
        """Call `model`, which is in evaluation mode, by `convention`."""
        self.model = model
        self.convention = convention
        self.device: torch.device = model.device
        self._module = unwrapped(model)
        self._signature = Signature(model)

    def plain(self, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits after every token, (sequences, width, vocab), by one pass without a cache.

        Shorter sequences are padded on the right.
        """
        width = max(map(len, sequences))
        ids = torch.zeros((len(sequences), width), dtype=torch.int64)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = torch.tensor(sequence)
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        mask = torch.arange(width) < lengths[:, None]
        keywords: dict[str, Any] = {}
        if self._signature.takes("attention_mask"):
            keywords["attention_mask"] = mask.to(self.device, torch.int64)
        if self._signature.takes("use_cache"):
            keywords["use_cache"] = False
        output = self.model(input_ids=ids.to(self.device), **keywords)
        # A PEFT prompt comes before the tokens.
        return logits_of(output)[:, -width:]

    def prefill(self, prompts: Sequence[Sequence[int]]) -> tuple[Any, torch.Tensor]:
        """The cache of `prompts`, padded on the left, and the last logits (prompts, vocab)."""
        ids, own = left_padded(prompts)
        positions = self.convention.positions
        numbers = None if positions is None else positions.of(ids, own)
        ragged = not bool(own.all())
        mask = own if ragged or numbers is None else None
        return self._run(ids.to(self.device), self.empty_cache(), numbers, mask, 0)

    def begin(self, prompts: Sequence[Sequence[int]]) -> tuple[TorchBatch, torch.Tensor]:
        """A batch of one row for each prompt, and its logits."""
        cache, logits = self.prefill(prompts)
        lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
        batch = TorchBatch(self, cache, lengths)
        self.count(batch, prompts)
        return batch, logits

    def count(self, batch: TorchBatch, prompts: Sequence[Sequence[int]]) -> None:
        """Note the tokens of each row that do not count in its positions."""
        positions = self.convention.positions
        if positions is not None and positions.uncounted is not None:
            batch.skipped = torch.tensor(positions.skipped(prompts), device=self.device)

    def step(self, rows: TorchBatch, ids: torch.Tensor) -> torch.Tensor:
        """One token, shape (rows, 1), after `rows`; the logits, shape (rows, vocab)."""
        positions = self.convention.positions
        numbers = None
        if positions is not None:
            numbers = positions.after(ids, rows.lengths, rows.skipped)
            if positions.uncounted is not None:
                rows.skipped = rows.skipped + (ids[:, 0] == positions.uncounted)
        masked = self.convention.masks_steps and (rows.padded or numbers is None)
        mask = rows.attended(rows.width + 1) if masked else None
        rows.cache, logits = self._run(ids, rows.cache, numbers, mask, rows.width)
        return logits

    def empty_cache(self) -> Any:
        """A cache of the convention's kind; None where the model makes it."""
        if self.convention.cache not in ("growing", "dynamic"):
            return None
        cache = DynamicCache(config=self.model.config)
        if self.convention.cache == "growing":
            cache.layers = [GrowingLayer() for _ in cache.layers]
            # Where a decoder has more layers than its configuration names first.
            cache.layer_class_to_replicate = GrowingLayer
        return cache

    def watch(self) -> None:
        """From now on, note when anybody runs the model, which keeps its state in its modules."""
        if self._module not in _holders:
            _holders[self._module] = None
            self._module.register_forward_pre_hook(_release)

    def claim(self, holder: Any) -> None:
        """Note that `holder` has run the model last, and that the state is its own."""
        if self._module in _holders:
            _holders[self._module] = holder

    def holds(self, holder: Any) -> bool:
        """Whether the state in the model's modules, where it is watched, is that of `holder`."""
        return self._module not in _holders or _holders[self._module] is holder

    def _run(
        self,
        ids: torch.Tensor,
        cache: Any,
        positions: torch.Tensor | None,
        mask: torch.Tensor | None,
        past: int,
    ) -> tuple[Any, torch.Tensor]:
        """A pass over `ids` after `past` columns: the cache, and the last logits of each row."""
        signature, name = self._signature, self.convention.cache_name
        keywords: dict[str, Any] = {}
        if positions is not None:
            keywords["position_ids"] = positions.to(self.device)
        if mask is not None and signature.takes("attention_mask"):
            keywords["attention_mask"] = mask.to(self.device, torch.int64)
        if signature.names("logits_to_keep"):
            keywords["logits_to_keep"] = 1
        if signature.names("cache_position"):
            columns = torch.arange(past, past + ids.shape[1], device=self.device)
            keywords["cache_position"] = columns
        if signature.takes("use_cache"):
            keywords["use_cache"] = True
        if cache is not None and name is not None:
            keywords[name] = cache
        output = self.model(input_ids=ids, **keywords)
        if self.convention.cache == "own" and name is not None:
            cache = output[name]
        return cache, logits_of(output)[:, -1]


def _release(module: Any, inputs: Any) -> None:
    _holders[module] = None


def unwrapped(model: Any) -> Any:
    """The module with the signature, which torch.compile and PEFT wrap."""
    while True:
        if "_orig_mod" in getattr(model, "_modules", ()):
            model = model._orig_mod
        elif callable(getattr(model, "get_base_model", None)):
            model = model.get_base_model()
        else:
            return model


def is_compiled(model: Any) -> bool:
    """Whether torch.compile has compiled the model, or any of its modules."""
    return any(
        "_orig_mod" in module._modules or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )


@contextmanager
def uncompiled(model: Any) -> Iterator[None]:
    """Within, nothing of the model is compiled: it would be again for each shape."""
    stance = getattr(torch.compiler, "set_stance", None)
    if stance is None or not is_compiled(model):
        yield
    else:
        with stance("force_eager"):
            yield


def grows_in_place(model: Any) -> bool | None:
    """Whether transformers' cache for `model` has plain layers only; None where it has none.

    Views of a growing buffer cannot be compiled.
    """
    try:
        layers = DynamicCache(config=model.config).layers
    except Exception:
        return None
    return all(type(layer) is DynamicLayer for layer in layers) and not is_compiled(model)


def logits_of(output: Any) -> torch.Tensor:
    """The logits of a forward pass, also of one that returns a tuple."""
    logits = getattr(output, "logits", None)
    found: torch.Tensor = output[0] if logits is None else logits
    return found


def left_padded(prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids, and which columns belong to a prompt, each of shape (prompts, width)."""
    width = max(map(len, prompts))
    ids = torch.zeros((len(prompts), width), dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
    pads = torch.tensor([width - len(prompt) for prompt in prompts])[:, None]
    return ids, torch.arange(width) >= pads
