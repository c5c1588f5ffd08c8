"""What a probe compares with: plain passes without a cache over a few fixed tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import torch

from fastdecode.models.engines.transformers import limits
from fastdecode.models.engines.transformers.forward import Forward, unwrapped
from fastdecode.models.engines.transformers.refusals import cannot_run

Result = TypeVar("Result")

# Tokens of a prefill and steps after it. The prefill is longer where the model has a window of
# attention so short that a few tokens cross it.
_PREFILL, _STEPS = 5, 3
_LONGEST_WINDOW = 40
# A model with a shorter context is not probed.
LEAST = 2 + _STEPS
# A comparison fails beyond this many times the noise, but never below the floor, in roundings of
# the model's dtype, and always beyond the cap. All are relative to the spread of a row of logits.
# Formats of 16 bits have little room between noise and error.
_TIMES_NOISE, _FLOOR = {True: 16.0, False: 4.0}, {True: 32.0, False: 1.0}
_CAP = 0.25


class Reference:
    """Two sequences, their logits by plain passes, and how exactly these can be reproduced.

    The noise is measured: the same sequence alone, and among others with embeddings changed by one
    rounding each. Among others, products have other shapes and therefore other roundings; the
    changed embeddings show how far the model magnifies them, as sharp attention and experts do.

    Attributes:
        first: a sequence.
        second: the same tokens, but for the one at `changed`.
        changed: where the two differ.
        length: tokens of the longer prefill; the rest are for steps.
        shorter: tokens of the shorter prefill.
        logits: of both, each of shape (tokens, vocab).
        tolerance: how far logits may be apart, relative to the spread of a row.
        causal: whether the logits before a token are the same where it is changed or missing.
        batches: whether sequences of equal lengths can share a plain pass.
        pads_right: whether a shorter one can, with padding.
    """

    def __init__(self, forward: Forward, salt: int) -> None:
        """Run the plain passes, with tokens chosen by `salt`.

        Raises:
            ValueError: where the model does not turn tokens into a row of logits each.
        """
        model = forward.model
        self._lengths(model)
        count = self.length + _STEPS
        self.changed = self.shorter // 2
        *self.first, other = _tokens(model, count + 1, salt)
        self.second = [*self.first]
        self.second[self.changed] = other
        try:
            alone = _checked(forward.plain([self.first]), count)[0]
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise cannot_run(model, error) from error
        self._eps = _eps(model, alone)
        second = self._among_others(forward, alone)
        self.logits = (alone, second)
        before = slice(0, self.changed)
        self.causal = self.near(second[before], alone[before]) and self._ends_freely(forward)

    def near(self, found: torch.Tensor, expected: torch.Tensor) -> bool:
        """Whether rows of logits are the same but for noise."""
        return apart(found, expected) <= self.tolerance

    def _lengths(self, model: Any) -> None:
        """How many tokens to take: few, within the context, and on one side of a border."""
        window = limits.window(model)
        length = _PREFILL if window is None else max(_PREFILL, window + 2)
        if length > _LONGEST_WINDOW:
            length = _PREFILL
        borders = (limits.context(model), limits.rope_border(model))
        most = min((border for border in borders if border is not None), default=None)
        if most is not None:
            length = min(length, most - _STEPS)
        self.length = max(2, length)
        self.shorter = max(1, self.length - 2)

    def _ends_freely(self, forward: Forward) -> bool:
        """Whether logits are the same without the tokens after them."""
        # Padding hides these tokens, too.
        if self.pads_right:
            return True
        found = forward.plain([self.first[: self.shorter]])[0]
        return self.near(found, self.logits[0][: self.shorter])

    def _among_others(self, forward: Forward, alone: torch.Tensor) -> torch.Tensor:
        """The logits of the second sequence; sets `tolerance`, `batches` and `pads_right`."""
        self.batches = self.pads_right = False
        found = self._pass(forward, [self.first, self.second, self.first[: self.shorter]])
        if found is not None:
            self._tolerate(apart(found[0], alone))
            if self.near(found[2, : self.shorter], alone[: self.shorter]):
                self.batches = self.pads_right = True
                return found[1]
        found = self._pass(forward, [self.first])
        self._tolerate(1.0 if found is None else apart(found[0], alone))
        found = attempt(partial(forward.plain, [self.first, self.second]))
        if found is not None and self.near(found[0], alone):
            self.batches = True
            return found[1]
        return forward.plain([self.second])[0]

    def _pass(self, forward: Forward, rows: list[list[int]]) -> torch.Tensor | None:
        """A plain pass, with the embeddings of the first row changed; None where it fails."""
        with _jitter(forward.model, rows=len(rows)):
            return attempt(partial(forward.plain, rows))

    def _tolerate(self, noise: float) -> None:
        """Set the tolerance by the noise."""
        wide = self._eps < 1e-4
        self.tolerance = min(_CAP, max(_FLOOR[wide] * self._eps, _TIMES_NOISE[wide] * noise))


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest distance of two rows of logits, relative to the spread of the expected one."""
    if found.shape != expected.shape:
        return float("inf")
    if found.numel() == 0:
        return 0.0
    mine, theirs = found.double(), expected.to(found.device).double()
    # Equal values that are not finite are no difference.
    same = (mine == theirs) | (mine.isnan() & theirs.isnan())
    gap = torch.where(same, torch.zeros_like(mine), mine - theirs)
    finite = torch.where(theirs.isfinite(), theirs, torch.zeros_like(theirs))
    spread = finite.std(dim=-1, correction=0).clamp_min(torch.finfo(torch.float32).tiny)
    worst = float((gap.square().mean(dim=-1).sqrt() / spread).max())
    return worst if worst == worst else float("inf")


def attempt(call: Callable[[], Result]) -> Result | None:
    """What `call` returns, or None where it fails; running out of memory is no such failure."""
    try:
        return call()
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception:
        return None


def _checked(logits: torch.Tensor, count: int) -> torch.Tensor:
    if logits.dim() != 3 or logits.shape[1] != count:
        shape = tuple(logits.shape)
        raise ValueError(f"logits of shape {shape} for {count} tokens, not (1, {count}, vocab)")
    return logits


def _eps(model: Any, logits: torch.Tensor) -> float:
    """One rounding of the coarsest format that the logits have gone through."""
    eps = max(torch.finfo(logits.dtype).eps, torch.finfo(torch.float32).eps)
    return max(eps, torch.finfo(model.dtype).eps) if model.dtype.is_floating_point else eps


@contextmanager
def _jitter(model: Any, *, rows: int) -> Iterator[None]:
    """Within, the input embeddings of the first of `rows` rows are changed by a rounding each."""

    def hook(module: Any, inputs: Any, output: Any) -> Any:
        if not isinstance(output, torch.Tensor) or output.dim() != 3 or len(output) != rows:
            return None
        changed = output.clone()
        signs = torch.arange(changed[0].numel(), device=changed.device)
        signs = ((signs * 7919) % 13 % 2 * 2 - 1).view_as(changed[0]).to(changed.dtype)
        changed[0] *= 1 + torch.finfo(changed.dtype).eps * signs
        return changed

    try:
        embeddings = unwrapped(model).get_input_embeddings()
    except (AttributeError, NotImplementedError):
        embeddings = None
    handle = None if embeddings is None else embeddings.register_forward_hook(hook)
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()


def _tokens(model: Any, count: int, salt: int) -> list[int]:
    """`count` fixed tokens, all different and none special where the vocabulary has that many."""
    config = limits.text_config(model)
    sizes = [getattr(config, "vocab_size", None)]
    with suppress(AttributeError, NotImplementedError):
        sizes.append(unwrapped(model).get_input_embeddings().num_embeddings)
    vocab = min((size for size in sizes if isinstance(size, int) and size > 0), default=count)
    special = _special(model.config) | _special(config)
    found: list[int] = []
    state = 20_011 * (salt + 1)
    for _ in range(64 * count):
        state = (state * 1_103_515_245 + 12_345) % 2**31
        token = (state >> 8) % vocab
        if token not in special and token not in found:
            found.append(token)
        if len(found) == count:
            return found
    return [(salt + i) % vocab for i in range(count)]


def _special(config: Any) -> set[int]:
    """The tokens that a configuration names, such as `pad_token_id`."""
    found: set[int] = set()
    for name, value in vars(config).items():
        if name.endswith(("token_id", "token_ids", "token_index")):
            values = value if isinstance(value, list | tuple) else [value]
            found.update(v for v in values if isinstance(v, int) and not isinstance(v, bool))
    return found
