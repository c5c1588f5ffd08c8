"""Whether a transformers model is GPT-2 without extras, and whether its parameters have changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def is_plain_gpt2(
    model: Any, dtypes: Sequence[torch.dtype] = (torch.float32, torch.float64)
) -> bool:
    """Whether `model` is GPT-2 on the CPU without extras, in one of `dtypes`.

    The engines that have their own GPT-2 forward pass compute what such a model computes.
    """
    config = model.config
    kind = type(model)
    if (kind.__module__, kind.__name__) != (
        "transformers.models.gpt2.modeling_gpt2",
        "GPT2LMHeadModel",
    ):
        return False
    head = model.lm_head
    return bool(
        model.device.type == "cpu"
        and model.dtype in dtypes
        and config.activation_function == "gelu_new"
        and config.scale_attn_weights
        and not config.scale_attn_by_inverse_layer_idx
        and not config.reorder_and_upcast_attn
        and not config.add_cross_attention
        and type(head) is torch.nn.Linear
        and head.bias is None
        and all(p.dtype == model.dtype and p.device.type == "cpu" for p in model.parameters())
        # A hook, an adapter or a quantized layer would be bypassed.
        and not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
        and all(
            type(linear).__name__ == "Conv1D"
            for layer in model.transformer.h
            for linear in (layer.attn.c_attn, layer.attn.c_proj, layer.mlp.c_fc, layer.mlp.c_proj)
        )
    )


def parameter_versions(model: Any) -> list[tuple[int, int]]:
    """A value that changes when a parameter of `model` is replaced or written to."""
    return [(p.data_ptr(), 0 if p.is_inference() else p._version) for p in model.parameters()]
