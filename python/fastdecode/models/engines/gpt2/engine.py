"""A lean decode step for plain GPT-2 on the CPU: the model's own weights, without its modules.

The function is that of `transformers.models.gpt2` (MIT/Apache-2.0 implementations of Radford et
al., 2019); only the order of the same operations differs, so logits agree up to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from fastdecode.models.engines.gpt2.branching import BranchingBatch
from fastdecode.models.engines.plain_gpt2 import parameter_versions
from fastdecode.models.engines.transformers.batch import TorchBatch
from fastdecode.models.engines.transformers.engine import TorchEngine
from fastdecode.models.engines.transformers.forward import left_padded
from fastdecode.models.engines.transformers.positions import Positions

# From two rows up to this many, transposed weights are faster; a single row and a prefill use the
# weights as they are stored.
_TRANSPOSED_ROWS = 128


class _Linear:
    """Weights of one Conv1D, shape (in, out), and their transpose once several rows need it."""

    def __init__(self, module: Any) -> None:
        self.weight: torch.Tensor = module.weight.detach()
        self.bias: torch.Tensor = module.bias.detach()
        self._column = self.bias[:, None]
        self._transposed: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if not 2 <= x.shape[0] <= _TRANSPOSED_ROWS:
            return torch.addmm(self.bias, x, self.weight)
        if self._transposed is None:
            self._transposed = self.weight.t().contiguous()
        if _columns_first(x.shape[0], least=24):
            return torch.addmm(self._column, self._transposed, x.t()).t().contiguous()
        return F.linear(x, self._transposed, self.bias)


def _columns_first(rows: int, *, least: int) -> bool:
    """Whether `weight @ x.T` is the faster order of the product with MKL."""
    return 2 <= rows <= 4 or (rows >= least and torch.get_num_threads() > 1)


@dataclass(slots=True)
class _Layer:
    norm_1: Any
    qkv: _Linear
    out: _Linear
    norm_2: Any
    up: _Linear
    down: _Linear


class GPT2Engine(TorchEngine):
    """Plain GPT-2 on the CPU in float32 or float64.

    Batches keep a transposed copy of the layers' weights, which is faster with few rows. Changes of
    the model's parameters are followed.
    """

    def __init__(self, model: Any) -> None:
        """Use a model for which `is_plain_gpt2` holds, in evaluation mode."""
        super().__init__(model, probe=False)
        self._heads = int(self.config.num_attention_heads)
        self._version: list[tuple[int, int]] = []
        self._layers: list[_Layer] = []

    @property
    def name(self) -> str:
        """The name that selects it in `open_engine`."""
        return "torch"

    def prefill(self, prompts: Any) -> tuple[Any, torch.Tensor]:
        """The cache of `prompts`, padded on the left, and the last logits (prompts, vocab)."""
        self._load()
        ids, own = left_padded(prompts)
        width = ids.shape[1]
        mask = None
        if not bool(own.all()):
            mask = torch.ones((width, width), dtype=torch.bool).tril() & own[:, None, None, :]
            # A padded position attends to itself, because a softmax over nothing is NaN.
            mask |= torch.eye(width, dtype=torch.bool)
        cache = self.empty_cache()
        return cache, self._run(ids, Positions().of(ids, own), cache, mask)

    def step(self, rows: TorchBatch, ids: torch.Tensor) -> torch.Tensor:
        """One token, shape (rows, 1), after `rows`; the logits, shape (rows, vocab)."""
        mask = rows.attended(rows.width + 1)[:, None, None, :] if rows.padded else None
        return self._run(ids, rows.lengths[:, None], rows.cache, mask)

    def rows(self, cache: Any, lengths: NDArray[np.int64]) -> TorchBatch:
        """The batch over a prefilled cache, whose rows branch without copies."""
        return BranchingBatch(self, cache, lengths)

    def branch(
        self, rows: BranchingBatch, ids: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        """One token for each beam, shape (prompts, beams); the logits, (prompts * beams, vocab)."""
        if rows.seen is None:
            raise RuntimeError("rows that have not branched take a step")
        return self._run(ids, positions, rows.cache, rows.seen[:, None], every=True)

    def _run(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        cache: Any,
        mask: torch.Tensor | None,
        *,
        every: bool = False,
    ) -> torch.Tensor:
        """The logits after the last of each row's new tokens, or after `every` one."""
        transformer, heads = self.model.transformer, self._heads
        count, new = ids.shape
        x = F.embedding(ids, transformer.wte.weight) + F.embedding(
            positions, transformer.wpe.weight
        )
        width = x.shape[-1]
        x = x.reshape(count * new, width)
        causal = mask is None and new > 1
        for layer, cached in zip(self._layers, cache.layers, strict=True):
            qkv = layer.qkv(_norm(x, layer.norm_1)).view(count, new, 3, heads, width // heads)
            query, key, value = qkv.permute(2, 0, 3, 1, 4)
            keys, values = cached.update(key, value)
            attended = F.scaled_dot_product_attention(
                query, keys, values, attn_mask=mask, is_causal=causal
            )
            x = x + layer.out(attended.transpose(1, 2).reshape(count * new, width))
            hidden = F.gelu(layer.up(_norm(x, layer.norm_2)), approximate="tanh")
            x = x + layer.down(hidden)
        if new > 1 and not every:
            x = x.view(count, new, width)[:, -1]
        x = _norm(x, transformer.ln_f)
        head = self.model.lm_head.weight
        if not _columns_first(x.shape[0], least=2):
            return F.linear(x, head)
        logits: torch.Tensor = (head @ x.t()).t().contiguous()
        return logits

    def _load(self) -> None:
        """Take the weights from the model, again where they have changed."""
        version = parameter_versions(self.model)
        if version == self._version:
            return
        self._layers = [
            _Layer(
                norm_1=layer.ln_1,
                qkv=_Linear(layer.attn.c_attn),
                out=_Linear(layer.attn.c_proj),
                norm_2=layer.ln_2,
                up=_Linear(layer.mlp.c_fc),
                down=_Linear(layer.mlp.c_proj),
            )
            for layer in self.model.transformer.h
        ]
        self._version = version


def _norm(x: torch.Tensor, module: Any) -> torch.Tensor:
    return F.layer_norm(x, module.normalized_shape, module.weight, module.bias, module.eps)
