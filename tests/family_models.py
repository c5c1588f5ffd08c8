"""Small random models of the families that the native engine runs, each seed another shape."""

from __future__ import annotations

import numpy as np
import torch
import transformers

VOCABULARY = 97
CONTEXT = 64


def random_model(family, seed, **fixed):
    """A model of `family` in float32 whose sizes and settings are drawn from `seed`.

    Args:
        family: a name of `FAMILIES`.
        seed: for the shape and for the weights.
        fixed: settings that are not drawn.
    """
    draw = np.random.default_rng([seed, *family.encode()])
    settings = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 96, "pad_token_id": 1}
    kind, config = FAMILIES[family](draw)
    made = getattr(transformers, kind).config_class(**settings | config | fixed)
    torch.manual_seed(seed)
    return randomise(getattr(transformers, kind)(made).float(), draw).eval()


def randomise(model, draw):
    """The model with weights that are so large that every part of it matters."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.from_numpy(draw.standard_normal(tuple(parameter.shape), np.float32))
            if parameter.dim() == 2:
                parameter.copy_(noise * (1.5 / parameter.shape[-1] ** 0.5))
            elif name.endswith("bias"):
                parameter.copy_(noise * 0.3)
            else:
                parameter.add_(noise * 0.3)
    return model


def pick(draw, *values):
    """One of `values`."""
    return values[int(draw.integers(len(values)))]


def _gated(draw):
    """The settings that Llama and the families after it share."""
    kv_heads = pick(draw, 1, 2, 3)
    heads = kv_heads * pick(draw, 1, 2, 3, 4, 7)
    head_dim = pick(draw, 6, 8, 16, 20, 32)
    return {
        "hidden_size": heads * pick(draw, 4, 8, 12),
        "intermediate_size": pick(draw, 40, 48, 100, 136),
        "num_hidden_layers": pick(draw, 1, 2, 3),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": pick(draw, 1e-5, 1e-6),
        "tie_word_embeddings": bool(draw.integers(2)),
        "rope_parameters": _rope(draw),
    }


def _rope(draw):
    theta = pick(draw, 10_000.0, 500_000.0)
    original = {"original_max_position_embeddings": 16}
    return {"rope_theta": theta} | pick(
        draw,
        {"rope_type": "default"},
        {"rope_type": "linear", "factor": 4.0},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            **original,
        },
        {"rope_type": "yarn", "factor": 4.0, **original},
        {
            "rope_type": "yarn",
            "factor": 4.0,
            "beta_fast": 16.0,
            "beta_slow": 2.0,
            "mscale": 0.7,
            "mscale_all_dim": 1.3,
            "truncate": False,
            **original,
        },
    )


def _llama(draw):
    biases = {"attention_bias": bool(draw.integers(2)), "mlp_bias": bool(draw.integers(2))}
    return "LlamaForCausalLM", _gated(draw) | biases


def _mistral(draw):
    return "MistralForCausalLM", _gated(draw) | {"sliding_window": pick(draw, 1, 7, 20, None)}


def _windows(draw):
    return pick(
        draw,
        {},
        {
            "use_sliding_window": True,
            "sliding_window": int(draw.integers(1, 40)),
            "max_window_layers": int(draw.integers(3)),
        },
    )


def _qwen2(draw):
    # Its heads are as wide as the residual allows.
    settings = _gated(draw)
    settings["head_dim"] = settings["hidden_size"] // settings["num_attention_heads"]
    return "Qwen2ForCausalLM", settings | _windows(draw)


def _qwen3(draw):
    biases = {"attention_bias": bool(draw.integers(2))}
    return "Qwen3ForCausalLM", _gated(draw) | _windows(draw) | biases


def _smollm3(draw):
    settings = _gated(draw)
    del settings["head_dim"]
    return "SmolLM3ForCausalLM", settings | {"no_rope_layer_interval": pick(draw, 2, 3, 4)}


def _gemma3(draw):
    settings = _gated(draw)
    layers = settings["num_hidden_layers"]
    kinds = ("sliding_attention", "full_attention")
    return "Gemma3ForCausalLM", settings | {
        "query_pre_attn_scalar": pick(draw, 8, 30, 256),
        "sliding_window": int(draw.integers(1, 40)),
        "layer_types": [pick(draw, *kinds) for _ in range(layers)],
        "rope_parameters": {
            "full_attention": settings["rope_parameters"],
            "sliding_attention": {"rope_type": "default", "rope_theta": 1000.0},
        },
    }


def _sizes(draw, hidden, layers, heads, widths=(8, 12, 20)):
    count = pick(draw, 1, 2, 3, 5)
    return {hidden: count * pick(draw, *widths), layers: pick(draw, 1, 2, 3), heads: count}


def _gpt2(draw):
    return "GPT2LMHeadModel", {
        "n_positions": CONTEXT,
        "n_inner": pick(draw, None, 50),
        "activation_function": pick(draw, "gelu_new", "gelu", "relu", "silu"),
        "scale_attn_weights": bool(draw.integers(2)),
        "scale_attn_by_inverse_layer_idx": bool(draw.integers(2)),
        "reorder_and_upcast_attn": bool(draw.integers(2)),
        "tie_word_embeddings": bool(draw.integers(2)),
        **_sizes(draw, "n_embd", "n_layer", "n_head"),
    }


def _gpt_neo(draw):
    sizes = _sizes(draw, "hidden_size", "num_layers", "num_heads")
    kinds = [pick(draw, "global", "local") for _ in range(sizes["num_layers"])]
    return "GPTNeoForCausalLM", {
        "max_position_embeddings": CONTEXT,
        "intermediate_size": pick(draw, None, 50),
        "attention_types": [[kinds, 1]],
        "window_size": int(draw.integers(1, 40)),
        "activation_function": pick(draw, "gelu_new", "gelu"),
        **sizes,
    }


def _gpt_neox(draw):
    return "GPTNeoXForCausalLM", {
        "max_position_embeddings": CONTEXT,
        "intermediate_size": pick(draw, 48, 50),
        "use_parallel_residual": bool(draw.integers(2)),
        "attention_bias": bool(draw.integers(2)),
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "partial_rotary_factor": pick(draw, 0.25, 0.5, 1.0),
        },
        **_sizes(
            draw, "hidden_size", "num_hidden_layers", "num_attention_heads", widths=(8, 16, 24)
        ),
    }


def _opt(draw):
    sizes = _sizes(draw, "hidden_size", "num_hidden_layers", "num_attention_heads")
    return "OPTForCausalLM", {
        "max_position_embeddings": CONTEXT,
        "ffn_dim": pick(draw, 48, 50),
        "word_embed_proj_dim": sizes["hidden_size"],
        "enable_bias": bool(draw.integers(2)),
        "pad_token_id": 1,
        **sizes,
    }


FAMILIES = {
    "gpt2": _gpt2,
    "gpt_neo": _gpt_neo,
    "gpt_neox": _gpt_neox,
    "opt": _opt,
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "smollm3": _smollm3,
    "gemma3_text": _gemma3,
}
