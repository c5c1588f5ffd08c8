"""Finds out, with a few tokens, how a model must be called and what its batches can do.

A model's forward pass may ignore arguments that it does not know: one that does not know
`past_key_values` may drop it silently, and padding that a model does not number or mask
changes its logits. So each way to call it is compared with plain passes without a cache.

Nothing is random: the tokens are fixed, and the state of torch's generators is restored.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from transformers.generation import GenerationMixin

from fastdecode.models.engines.transformers import limits
from fastdecode.models.engines.transformers.cache_rows import bytes_of
from fastdecode.models.engines.transformers.capabilities import (
    CacheKind,
    Capabilities,
    Convention,
)
from fastdecode.models.engines.transformers.forward import (
    Forward,
    Signature,
    grows_in_place,
    logits_of,
    uncompiled,
    unwrapped,
)
from fastdecode.models.engines.transformers.positions import Positions
from fastdecode.models.engines.transformers.reference import LEAST, Reference, attempt
from fastdecode.models.engines.transformers.refusals import (
    adds_inputs,
    not_causal,
    refuse_by_name,
)

# What a forward pass returns beside a state.
_NO_STATE = ("loss", "logits", "hidden_states", "attentions", "cross_attentions")
_NO_CACHE = Convention(cache="none", cache_name=None, positions=None)


@dataclass(frozen=True, slots=True)
class Findings:
    """What is known of a model.

    Attributes:
        capabilities: how it is called, and what its batches can do.
        width: the width of a row of logits; None where no pass was run.
        bytes_per_token: memory of one token of one row in the cache, in bytes; None where it was
            not measured.
    """

    capabilities: Capabilities
    width: int | None = None
    bytes_per_token: int | None = None


def assume(model: Any) -> Findings:
    """What the model's signature and configuration say, without running it.

    Raises:
        ValueError: where the class or the configuration says that it is not a causal language
            model.
    """
    refuse_by_name(model)
    convention = next(_conventions(model), _NO_CACHE)
    return Findings(_configured(model, Capabilities(convention)))


@torch.inference_mode()
def examine(model: Any) -> Findings:
    """Run a few tokens through the model, in evaluation mode, and compare.

    Raises:
        ValueError: where it is not a causal language model, with the reason.
    """
    refuse_by_name(model)
    lengths = (limits.context(model), limits.rope_border(model))
    if any(length is not None and length < LEAST for length in lengths):
        return assume(model)
    devices = [model.device] if model.device.type == "cuda" else []
    generators = torch.random.fork_rng(devices=devices)
    with generators, uncompiled(model), warnings.catch_warnings():
        # Warnings of trials that fail mean nothing to the caller.
        warnings.simplefilter("ignore")
        return _Probe(model).run()


class _Probe:
    """The trials of one model.

    Each trial is made with a second set of tokens where it fails with the first, because a mixture
    of experts may send a token to another expert because of a rounding difference.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._references: list[Reference] = []
        self._growth: int | None = None

    def run(self) -> Findings:
        """Compare, from the fastest way down."""
        if not any(reference.causal for reference in self._sets()):
            raise not_causal(self.model)
        if self._prepares_inputs() and not self._passes(self._own_inputs):
            raise adds_inputs(self.model)
        usual = next(_conventions(self.model), None)
        if usual is not None and self._passes(partial(self._everything, usual)):
            able = Capabilities(usual)
        else:
            able = self._able()
        first = self._references[0]
        able = replace(
            able,
            batches=able.batches and first.batches,
            pads_right=any(reference.pads_right for reference in self._references),
        )
        able = _configured(self.model, able)
        return Findings(able, int(first.logits[0].shape[-1]), self._growth)

    def _sets(self) -> Iterator[Reference]:
        """The references, of which the second is made when it is needed."""
        for salt in range(2):
            if len(self._references) == salt:
                self._references.append(Reference(Forward(self.model, _NO_CACHE), salt))
            yield self._references[salt]

    def _passes(self, trial: Callable[[Reference], bool]) -> bool:
        """Whether a trial succeeds with one of the sets of tokens."""
        return any(attempt(partial(trial, reference)) for reference in self._sets())

    def _able(self) -> Capabilities:
        """What a model can do with which not everything works in the usual way."""
        convention, ragged = self._convention()
        if convention is None:
            return Capabilities(_NO_CACHE, ragged=False, reorders=False)
        batches = self._passes(partial(self._equal, convention))
        return Capabilities(
            convention,
            ragged=ragged and batches,
            batches=batches,
            reorders=batches and self._passes(partial(self._reorders, convention)),
            concurrent=self._passes(partial(self._concurrent, convention)),
            starts_with_one=self._passes(partial(self._starts_with_one, convention)),
        )

    def _convention(self) -> tuple[Convention | None, bool]:
        """The first way to call the model that works, and whether it works for ragged rows.

        Where it does not, positions and masks are varied, and the cache stays the same.
        """
        first = self._references[0]
        found: Convention | None = None
        deaf: set[str | None] = set()
        for one in (*_conventions(self.model), *self._own_states()):
            if found is not None and (one.cache, one.cache_name) != (found.cache, found.cache_name):
                break
            if one.cache != "own" and one.cache_name in deaf:
                continue
            if one.cache != "own" and not attempt(partial(self._listens, one, first)):
                deaf.add(one.cache_name)
                continue
            if not attempt(partial(self._steps, one, first)):
                continue
            found = found or one
            if attempt(partial(self._ragged, one, first)):
                return one, True
        return found, False

    def _own_states(self) -> Iterator[Convention]:
        """Ways to call the model with a state that it makes itself."""
        names = dict.fromkeys((*Signature(self.model).cache_names(), *self._states()))
        for name, positions in product(names, _numberings(self.model)):
            for masks in (True, False):
                yield Convention("own", name, positions, masks)

    def _listens(self, convention: Convention, reference: Reference) -> bool:
        """Whether a prefill writes to the cache that it is given."""
        cache, _ = Forward(self.model, convention).prefill([reference.first[: reference.shorter]])
        return bytes_of(cache) > 0

    def _states(self) -> list[str]:
        """The names under which the model takes what it has returned."""
        signature = Signature(self.model)
        keywords = {"use_cache": True} if signature.takes("use_cache") else {}
        try:
            ids = torch.tensor([self._references[0].first], device=self.model.device)
            names = list(self.model(input_ids=ids, **keywords).keys())
        except Exception:
            return []
        return [name for name in names if name not in _NO_STATE and signature.names(name)]

    def _everything(self, convention: Convention, reference: Reference) -> bool:
        """Two batches at a time, one of them ragged, reordered, with a row doubled and dropped."""
        r, forward = reference, Forward(self.model, convention)
        long, short = r.length, r.shorter
        if not r.batches:
            return False
        ragged = _Rows(forward, r, [(0, long), (0, short)])
        other = _Rows(forward, r, [(1, 1)])
        before = bytes_of(other.batch.cache)
        return (
            ragged.right
            and other.right
            and ragged.step()
            and other.step()
            and self._measure(bytes_of(other.batch.cache) - before)
            and ragged.keep([1, 0, 1]).step()
            and ragged.keep([2]).step()
            and other.step()
        )

    def _steps(self, convention: Convention, reference: Reference) -> bool:
        """A prefill and steps of a single row."""
        rows = _Rows(Forward(self.model, convention), reference, [(0, reference.shorter)])
        before = bytes_of(rows.batch.cache)
        if not (rows.right and rows.step()):
            return False
        self._measure(bytes_of(rows.batch.cache) - before)
        return rows.step() and rows.step()

    def _equal(self, convention: Convention, reference: Reference) -> bool:
        """Two rows of equal lengths."""
        short = reference.shorter
        rows = _Rows(Forward(self.model, convention), reference, [(0, short), (1, short)])
        return reference.batches and rows.right and rows.step() and rows.step()

    def _ragged(self, convention: Convention, reference: Reference) -> bool:
        """Two rows of different lengths."""
        starts = [(0, reference.length), (1, reference.shorter)]
        rows = _Rows(Forward(self.model, convention), reference, starts)
        return reference.batches and rows.right and rows.step() and rows.step()

    def _reorders(self, convention: Convention, reference: Reference) -> bool:
        """A row that is doubled and then dropped."""
        short = reference.shorter
        rows = _Rows(Forward(self.model, convention), reference, [(0, short), (1, short)])
        return rows.step() and rows.keep([1, 0, 1]).step() and rows.keep([1]).step()

    def _concurrent(self, convention: Convention, reference: Reference) -> bool:
        """Two batches of one row each, open at a time."""
        forward = Forward(self.model, convention)
        one = _Rows(forward, reference, [(0, reference.length)])
        other = _Rows(forward, reference, [(1, reference.shorter)])
        return one.step() and other.step() and one.step() and other.step()

    def _prepares_inputs(self) -> bool:
        """Whether the model has its own way to prepare the inputs of a step."""
        module = unwrapped(self.model)
        own = getattr(type(module), "prepare_inputs_for_generation", None)
        usual = GenerationMixin.prepare_inputs_for_generation
        # A wrapper of PEFT prepares other inputs than the model in it.
        wrapped = hasattr(self.model, "get_base_model")
        return isinstance(module, GenerationMixin) and own is not usual and not wrapped

    def _starts_with_one(self, convention: Convention, reference: Reference) -> bool:
        """A prompt of one token, after another row."""
        forward = Forward(self.model, convention)
        before = _Rows(forward, reference, [(0, reference.length)])
        rows = _Rows(forward, reference, [(1, 1)])
        return before.right and rows.right and rows.step() and rows.step()

    def _own_inputs(self, reference: Reference) -> bool:
        """Whether the inputs that the model prepares for itself lead to the same logits."""
        model, ids = self.model, torch.tensor([reference.first], device=self.model.device)
        try:
            prepared = model.prepare_inputs_for_generation(
                ids, attention_mask=torch.ones_like(ids), use_cache=False, is_first_iteration=True
            )
            found = logits_of(model(**prepared))[0, -1:]
        except Exception:
            # It asks for more than tokens, as models of images do.
            return True
        return reference.near(found, reference.logits[0][-1:])

    def _measure(self, growth: int) -> bool:
        """Note by how much a step of one row has made the cache grow."""
        self._growth = max(0, growth)
        return True


class _Rows:
    """A batch of the reference's sequences, which checks every row of logits.

    Attributes:
        batch: the batch.
        right: whether the logits of the prefill are right.
    """

    def __init__(
        self, forward: Forward, reference: Reference, starts: Sequence[tuple[int, int]]
    ) -> None:
        """Prefill: for each row, which sequence it is and how many of its tokens."""
        self._reference = reference
        self._rows = [list(start) for start in starts]
        sequences = (reference.first, reference.second)
        self._sequences = sequences
        self.batch, logits = forward.begin([sequences[which][:n] for which, n in starts])
        self.right = self._near(logits)

    def step(self) -> bool:
        """Each row takes its next token; whether the logits are right."""
        tokens = [self._sequences[which][n] for which, n in self._rows]
        logits = self.batch.step(np.array(tokens, dtype=np.int64))
        for row in self._rows:
            row[1] += 1
        return self._near(logits)

    def keep(self, rows: Sequence[int]) -> _Rows:
        """Keep these rows only."""
        self.batch.keep(np.array(rows, dtype=np.int64))
        self._rows = [list(self._rows[row]) for row in rows]
        return self

    def _near(self, logits: torch.Tensor) -> bool:
        expected = [self._reference.logits[which][n - 1] for which, n in self._rows]
        return self._reference.near(logits, torch.stack(expected))


def _configured(model: Any, able: Capabilities) -> Capabilities:
    """The capabilities, less those that the configuration denies beyond a few tokens."""
    ragged = able.ragged and not limits.blocks_by_columns(model)
    return replace(able, ragged=ragged, border=limits.rope_border(model))


def _conventions(model: Any) -> Iterator[Convention]:
    """Ways to call a model with transformers' cache, the likeliest first."""
    grows = grows_in_place(model)
    if grows is None:
        return
    kinds: list[CacheKind] = ["growing", "dynamic"] if grows else ["dynamic"]
    for kind, name in product(kinds, Signature(model).cache_names()):
        for positions, masks in product(_numberings(model), (True, False)):
            yield Convention(kind, name, positions, masks)


def _numberings(model: Any) -> Iterator[Positions | None]:
    """The positions that a model may want, the likeliest first."""
    signature = Signature(model)
    taken = signature.takes("position_ids") and (
        signature.names("position_ids") or not signature.complete
    )
    if not taken or limits.virtual_tokens(model):
        yield None
        return
    for table in limits.position_tables(model):
        padding = getattr(table, "padding_idx", None)
        if padding is not None:
            yield Positions(int(padding) + 1, int(padding))
            break
    yield Positions()
    yield None
