"""Configurations as files have them: older names, fields that are left out, odd combinations."""

from __future__ import annotations

import json

import numpy as np
import torch
import transformers
from family_models import CONTEXT, FAMILIES, VOCABULARY, pick, randomise

_ACTIVATIONS = (
    *("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu", "silu", "swish"),
    *("quick_gelu", "relu2", "relu6", "tanh", "sigmoid", "gelu_python", "gelu_10", "mish"),
    *("linear", "leaky_relu", "laplace", "gelu_accurate", "no such"),
)
_ROTARY = ("llama", "mistral", "qwen2", "qwen3", "smollm3", "gemma3_text", "gpt_neox")
_GATED = _ROTARY[:-1]
_WINDOWED = ("qwen2", "qwen3", "smollm3", "gemma3_text", "mistral", "llama")
_KINDS = ("sliding_attention", "full_attention")


def _activation(draw, raw, family):
    names = {"gpt2": "activation_function", "gpt_neo": "activation_function"}
    names |= {"opt": "activation_function", "gemma3_text": "hidden_activation"}
    raw[names.get(family, "hidden_act")] = pick(draw, *_ACTIVATIONS)


def _rope_types(draw, raw, family):
    found = pick(
        draw,
        {"rope_type": "dynamic", "factor": 2.0},
        {"rope_type": "proportional", "factor": 2.0},
        {"rope_type": "longrope", "factor": 2.0, "short_factor": [1.0], "long_factor": [1.0]},
        {"rope_type": "linear", "factor": pick(draw, 0.5, 1, 3)},
        {"rope_type": "default", "factor": 3.0, "unknown": 1},
        {"rope_type": "yarn", "factor": 4.0, "attention_factor": 0.7},
        {"rope_type": "yarn", "factor": 4.0, "truncate": False, "beta_fast": 8},
        {"rope_type": "yarn", "factor": 4.0, "mscale": 0.7},
        {"rope_type": "yarn", "factor": None, "original_max_position_embeddings": 16},
        {"rope_type": "yarn", "factor": 0.5, "beta_slow": 0, "beta_fast": 0},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1, "high_freq_factor": 4},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4, "high_freq_factor": 1},
        {"rope_type": "llama3", "factor": 8.0},
        {"type": "linear", "factor": 2.0},
        {"type": "yarn", "factor": 2.0, "rope_type": "linear"},
        {"rope_type": "default", "partial_rotary_factor": 0.5},
        {"rope_type": "default", "mrope_section": [1, 1]},
        {},
    )
    if draw.integers(2):
        found = {"rope_theta": pick(draw, 10_000, 1e6, 37.5)} | found
    if family == "gemma3_text" and draw.integers(2):
        found = pick(
            draw,
            {"full_attention": found},
            {"full_attention": found, "sliding_attention": None},
            {"sliding_attention": {"rope_theta": 500.0} | found},
        )
    raw["rope_parameters"] = found


def _older_rope(draw, raw, family):
    """`rope_scaling` and `rope_theta`, as versions before 5 have them."""
    raw.pop("rope_parameters", None)
    if family == "gpt_neox":
        raw["rotary_emb_base"] = pick(draw, 10_000, 500)
        raw["rotary_pct"] = pick(draw, 0.25, 0.5, 1.0)
        if draw.integers(2):
            raw["rope_theta"] = 77.0
    else:
        raw["rope_theta"] = pick(draw, 10_000.0, 1_000_000, 50.0)
    if family == "gemma3_text" and draw.integers(2):
        raw["rope_local_base_freq"] = pick(draw, 10_000, 300.0)
    scaling = pick(
        draw,
        None,
        {},
        {"type": "linear", "factor": 2.0},
        {"rope_type": "linear", "factor": 2.0},
        {"rope_type": "default"},
        {"type": "dynamic", "factor": 2.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    )
    if draw.integers(3):
        raw["rope_scaling"] = scaling


def _both_ropes(draw, raw, family):
    raw["rope_scaling"] = pick(draw, None, {}, {"rope_type": "linear", "factor": 3.0})
    raw["rope_theta"] = pick(draw, 99.0, 10_000)


def _original_positions(draw, raw, family):
    raw["original_max_position_embeddings"] = pick(draw, 8, 32, 64)


def _partial(draw, raw, family):
    raw["partial_rotary_factor"] = pick(draw, 0.5, 1.0, 0.25)


def _windows(draw, raw, family):
    for name, values in {
        "use_sliding_window": (True, False),
        "sliding_window": (1, 5, 30, None, 0),
        "max_window_layers": (0, 1, 9),
        "sliding_window_pattern": (1, 2, 6),
    }.items():
        if draw.integers(3):
            raw[name] = pick(draw, *values)
    layers = raw["num_hidden_layers"]
    if draw.integers(2):
        kinds = (*_KINDS, pick(draw, "chunked_attention", "full_attention"))
        raw["layer_types"] = [pick(draw, *kinds) for _ in range(layers)]
    if draw.integers(8) == 0:
        raw["layer_types"] = None


def _no_rope(draw, raw, family):
    layers = raw["num_hidden_layers"]
    raw["no_rope_layers"] = pick(
        draw, None, [], [1] * layers, [0] * layers, [int(draw.integers(2)) for _ in range(layers)]
    )


def _left_out(draw, raw, family):
    for name in ("head_dim", "num_key_value_heads", "rms_norm_eps", "layer_norm_eps"):
        if name in raw and draw.integers(2):
            raw.pop(name)
    for name in ("head_dim", "num_key_value_heads", "intermediate_size", "n_inner"):
        if name in raw and draw.integers(4) == 0:
            raw[name] = None
    for name in ("tie_word_embeddings", "attention_bias", "mlp_bias", "rope_parameters"):
        if draw.integers(3) == 0:
            raw.pop(name, None)


def _norms(draw, raw, family):
    name = {"gpt2": "layer_norm_epsilon", "gpt_neo": "layer_norm_epsilon"}.get(family)
    name = name or ("rms_norm_eps" if family in _GATED else "layer_norm_eps")
    raw[name] = pick(draw, 1e-3, 0.1, 1e-8, 0, 1)


def _sizes(draw, raw, family):
    raw["vocab_size"] = pick(draw, 98, 113, 128, 131)
    if family in _GATED:
        raw["head_dim"] = pick(draw, 2, 4, 10, 34, 66, 7)


def _switches(draw, raw, family):
    names = ("attention_bias", "mlp_bias", "tie_word_embeddings", "use_parallel_residual")
    names += ("scale_attn_weights", "reorder_and_upcast_attn", "enable_bias", "use_cache")
    names += ("do_layer_norm_before", "_remove_final_layer_norm", "layer_norm_elementwise_affine")
    names += ("is_decoder", "use_bidirectional_attention", "add_cross_attention", "is_causal")
    for name in names:
        if draw.integers(3) == 0:
            raw[name] = bool(draw.integers(2))


def _numbers(draw, raw, family):
    for name, values in {
        "query_pre_attn_scalar": (1, 16, 77, 0.5),
        "final_logit_softcapping": (None, 5.0),
        "attn_logit_softcapping": (None, 5.0),
        "pretraining_tp": (1, 2),
        "attention_dropout": (0.0, 0.3),
        "hidden_dropout": (0.3,),
        "resid_pdrop": (0.5,),
        "word_embed_proj_dim": (None, 16),
        "window_size": (1, 3, 100),
        "attention_multiplier": (0.1,),
        "logits_scaling": (3.0,),
        "residual_multiplier": (0.2,),
        "embedding_multiplier": (12.0,),
        "clip_qkv": (0.1,),
        "layerdrop": (0.9,),
    }.items():
        if draw.integers(3) == 0:
            raw[name] = pick(draw, *values)


def _neo_layers(draw, raw, family):
    layers = raw["num_layers"]
    raw["attention_layers"] = [pick(draw, "global", "local") for _ in range(layers)]


def _other_names(draw, raw, family):
    """Names of the same numbers in other architectures, which transformers takes as well."""
    names = {
        "n_embd": "hidden_size",
        "n_head": "num_attention_heads",
        "n_layer": "num_hidden_layers",
    }
    names |= {"n_positions": "max_position_embeddings", "num_layers": "num_hidden_layers"}
    names |= {"num_heads": "num_attention_heads"}
    for name, other in names.items():
        if name in raw and draw.integers(3) == 0:
            raw[other] = raw.pop(name) if draw.integers(2) else raw[name]


def _per_layer(draw, raw, family):
    raw["per_layer_config"] = pick(
        draw, None, {}, {"0": {"intermediate_size": 40}}, {0: {"sliding_window": 3}}
    )


# A change of a configuration, and the families that it goes with.
CHANGES = (
    (_activation, tuple(FAMILIES)),
    (_rope_types, _ROTARY),
    (_older_rope, _ROTARY),
    (_both_ropes, _ROTARY),
    (_original_positions, _ROTARY),
    (_partial, _ROTARY),
    (_windows, _WINDOWED),
    (_no_rope, ("smollm3",)),
    (_left_out, tuple(FAMILIES)),
    (_norms, tuple(FAMILIES)),
    (_sizes, tuple(FAMILIES)),
    (_switches, tuple(FAMILIES)),
    (_numbers, tuple(FAMILIES)),
    (_neo_layers, ("gpt_neo",)),
    (_other_names, ("gpt2", "gpt_neo")),
    (_per_layer, tuple(FAMILIES)),
)


def odd_configuration(family, seed):
    """The contents of a `config.json`, and the names of what is odd about it."""
    draw = np.random.default_rng([seed, 1, *family.encode()])
    _, settings = FAMILIES[family](draw)
    raw = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 96, "pad_token_id": 1}
    raw |= settings | {"model_type": family}
    raw.setdefault("max_position_embeddings" if family != "gpt2" else "n_positions", CONTEXT)
    fitting = [change for change, families in CHANGES if family in families]
    chosen = draw.choice(len(fitting), size=int(draw.integers(1, 4)), replace=False)
    for place in chosen:
        fitting[place](draw, raw, family)
    return json.loads(json.dumps(raw)), sorted(fitting[place].__name__ for place in chosen)


def write_model(folder, raw, seed):
    """Write a model with this configuration; None, or why transformers makes none of it."""
    (folder / "config.json").write_text(json.dumps(raw))
    try:
        torch.manual_seed(seed)
        config = transformers.AutoConfig.from_pretrained(folder)
        model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
        randomise(model, np.random.default_rng(seed))
        with torch.inference_mode():
            model(torch.tensor([[2, 3, 4, 5]]))
        model.save_pretrained(folder)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    (folder / "config.json").write_text(json.dumps(raw))
    return None
