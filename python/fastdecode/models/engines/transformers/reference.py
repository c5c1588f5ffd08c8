"""What a probe compares with: plain passes without a cache over a few fixed tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch

from fastdecode.models.engines.transformers import limits
from fastdecode.models.engines.transformers.forward import Forward, unwrapped
from fastdecode.models.engines.transformers.refusals import cannot_run

# Tokens of a prefill and steps after it. The prefill is longer where the model has a window of
# attention so short that a few tokens cross it.
_PREFILL, _STEPS = 5, 3
_LONGEST_WINDOW = 40
# A model with a shorter context is not probed.
LEAST = 2 + _STEPS
# A comparison fails beyond this many times the noise, but never below the floor, in roundings of
# the model's dtype, and always beyond the cap. All are relative to the spread of a row of logits.
_TIMES_NOISE, _FLOOR, _FLOOR_OF_HALVES, _CAP = 16.0, 32.0, 4.0, 0.5


class Reference:
    """Two sequences, their logits by plain passes, and how exactly these can be reproduced.

    The noise is measured: the same sequence alone and among others, where products have other
    shapes and therefore other roundings, and with embeddings changed by one rounding each. The
    second shows how far the model magnifies roundings, as sharp attention and experts do.

    Attributes:
        first: a sequence.
        second: the same tokens, but for the one at `changed`.
        changed: where the two differ.
        length: tokens of the longer prefill; the rest are for steps.
        shorter: tokens of the shorter prefill.
        logits: of both, each of shape (tokens, vocab).
        tolerance: how far logits may be apart, relative to the spread of a row.
        causal: whether a changed token leaves the logits before it as they are.
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
        except (KeyboardInterrupt, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise cannot_run(model, error) from error
        self.tolerance = _floor(model, alone)
        noise, second = self._among_others(forward, alone)
        self.logits = (alone, second)
        self.tolerance = min(_CAP, max(self.tolerance, _TIMES_NOISE * noise))
        before = slice(0, self.changed)
        self.causal = self.near(second[before], alone[before])

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

    def _among_others(self, forward: Forward, alone: torch.Tensor) -> tuple[float, torch.Tensor]:
        """The noise, and the logits of the second sequence; sets `batches` and `pads_right`."""
        short = self.first[: self.shorter]
        plans: list[list[Sequence[int]]] = [
            [self.first, self.second, short],
            [self.first, self.second],
        ]
        for rows in plans:
            try:
                with _jitter(forward.model, rows=len(rows)):
                    found = forward.plain(rows)
            except (KeyboardInterrupt, MemoryError, torch.OutOfMemoryError):
                raise
            except Exception:
                continue
            noise = apart(found[0], alone)
            if noise > _CAP:
                continue
            self.batches = True
            self.pads_right = len(rows) == 3 and apart(
                found[2, : self.shorter], alone[: self.shorter]
            ) <= max(self.tolerance, _TIMES_NOISE * noise)
            return noise, found[1]
        self.batches = self.pads_right = False
        with _jitter(forward.model, rows=1):
            noise = apart(forward.plain([self.first])[0], alone)
        return noise, forward.plain([self.second])[0]


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


def _checked(logits: torch.Tensor, count: int) -> torch.Tensor:
    if logits.dim() != 3 or logits.shape[1] != count:
        shape = tuple(logits.shape)
        raise ValueError(f"logits of shape {shape} for {count} tokens, not (1, {count}, vocab)")
    return logits


def _floor(model: Any, logits: torch.Tensor) -> float:
    eps = max(torch.finfo(logits.dtype).eps, torch.finfo(torch.float32).eps)
    if model.dtype.is_floating_point:
        eps = max(eps, torch.finfo(model.dtype).eps)
    return (_FLOOR if eps < 1e-4 else _FLOOR_OF_HALVES) * eps


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
    """`count` fixed tokens, all different and none special where the vocabulary has so many."""
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
