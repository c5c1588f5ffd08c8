"""How a model's forward pass must be called, and what its batches can do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from fastdecode.models.engines.transformers.positions import Positions

# "growing": transformers' cache with layers that grow in place; "dynamic": transformers' cache as
# the configuration describes it; "own": a state that the model makes itself; "none": no state.
CacheKind = Literal["growing", "dynamic", "own", "none"]


@dataclass(frozen=True, slots=True)
class Convention:
    """How a forward pass is called.

    Attributes:
        cache: who makes the cache, and of what kind it is.
        cache_name: the argument that takes it: "cache", "past_key_values", "cache_params" ...
        positions: the numbers passed as `position_ids`; None where none are passed.
        masks_steps: whether a step takes an attention mask; Mamba takes one in the prefill only.
    """

    cache: CacheKind = "growing"
    cache_name: str | None = "past_key_values"
    positions: Positions | None = field(default_factory=Positions)
    masks_steps: bool = True


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the batches of a model can do without a change of any logits.

    Attributes:
        convention: how the forward pass is called.
        ragged: rows of different lengths step together, padded on the left.
        batches: rows of equal lengths step together.
        reorders: rows of a cache can be dropped, doubled and reordered.
        concurrent: several batches can be open at a time.
        pads_right: sequences of different lengths are scored together, padded on the right.
        starts_with_one: a prompt of one token can be prefilled; some models take it for a step.
        border: the length at which LongRoPE changes its factors, or None.
    """

    convention: Convention = field(default_factory=Convention)
    ragged: bool = True
    batches: bool = True
    reorders: bool = True
    concurrent: bool = True
    pads_right: bool = True
    starts_with_one: bool = True
    border: int | None = None

    @property
    def together(self) -> bool:
        """Whether all rows of a batch can always share one cache."""
        able = self.ragged and self.batches and self.reorders and self.concurrent
        able = able and self.starts_with_one and self.border is None
        return able and self.convention.cache != "none"

    @property
    def mode(self) -> str:
        """How rows go through the model, fastest first: "padded", "equal lengths", ....

        "padded": all rows of a batch at once, with padding. "equal lengths": rows of one length at
        once. "fixed rows": the same, and a batch whose rows change is prefilled again. "one at a
        time": each row by itself. "no cache": a full pass for every step.
        """
        if self.convention.cache == "none":
            return "no cache"
        if not self.batches:
            return "one at a time"
        if not (self.reorders and self.concurrent):
            return "fixed rows"
        return "padded" if self.ragged else "equal lengths"
