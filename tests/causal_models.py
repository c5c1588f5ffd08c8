"""Every causal language model of transformers, built small from its configuration.

`build(model_type)` makes one with random weights. Its configuration has the values of `SMALL` for
the fields that it declares, and those of `OVERRIDES` where these do not suffice: layers of each
kind that the architecture has, windows shorter than the prompts, a few experts.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCABULARY = 128
CONTEXT = 64

# What the fields of configurations are set to, where their default is not None.
SMALL: dict[str, Any] = {
    **dict.fromkeys(["vocab_size", "vocab_size_per_layer_input"], VOCABULARY),
    **dict.fromkeys(["unpadded_vocab_size", "shape_vocab_size"], VOCABULARY),
    **dict.fromkeys(["pronunciation_vocab_size", "encoder_hash_byte_group_vocab"], VOCABULARY),
    **dict.fromkeys(["audio_vocab_size", "codebook_size", "ngram_vocab_size_base"], VOCABULARY),
    # Lengths.
    **dict.fromkeys(["max_position_embeddings", "n_positions", "n_ctx"], CONTEXT),
    **dict.fromkeys(["max_seq_len", "context_length"], CONTEXT),
    **dict.fromkeys(["max_target_positions", "max_source_positions"], CONTEXT),
    "position_bias_max_distance": CONTEXT,
    # Windows that a prompt and its continuation cross.
    **dict.fromkeys(["sliding_window", "sliding_window_size", "attention_window_size"], 6),
    **dict.fromkeys(["window_size", "local_attention_window_len"], 6),
    **dict.fromkeys(["local_attention", "attention_chunk_size", "index_topk"], 8),
    "index_block_size": 4,
    "index_topk_blocks": 2,
    # Layers.
    **dict.fromkeys(["num_hidden_layers", "num_layers", "n_layer", "n_layers", "depth"], 2),
    **dict.fromkeys(["encoder_layers", "decoder_layers"], 2),
    **dict.fromkeys(["num_encoder_layers", "num_decoder_layers"], 2),
    "first_k_dense_replace": 1,
    # Widths.
    **dict.fromkeys(["hidden_size", "d_model", "n_embd", "emb_dim", "lru_width"], 32),
    **dict.fromkeys(["embedding_size", "input_embedding_size", "output_embedding_size"], 32),
    **dict.fromkeys(["backbone_hidden_size", "hidden_size_global", "text_hidden_size"], 32),
    **dict.fromkeys(["input_size", "out_hidden_size", "output_proj_dims"], 32),
    **dict.fromkeys(["intermediate_size", "intermediate_size_mlp", "ffn_dim"], 64),
    **dict.fromkeys(["encoder_ffn_dim", "decoder_ffn_dim", "ffn_hidden_size"], 64),
    **dict.fromkeys(["dense_intermediate_size", "dff", "dim_ff", "d_inner", "mlp_dim"], 64),
    "feed_forward_size": 64,
    # Heads.
    **dict.fromkeys(["num_attention_heads", "num_heads", "n_head", "n_heads"], 4),
    **dict.fromkeys(["attention_heads", "swa_num_attention_heads"], 4),
    **dict.fromkeys(["encoder_attention_heads", "decoder_attention_heads"], 4),
    **dict.fromkeys(["num_encoder_attention_heads", "num_decoder_attention_heads"], 4),
    **dict.fromkeys(["num_key_value_heads", "swa_num_key_value_heads"], 2),
    **dict.fromkeys(["head_dim", "v_head_dim", "qk_nope_head_dim", "qk_rope_head_dim"], 8),
    **dict.fromkeys(["kv_channels", "dim_head", "attention_head_size", "swa_head_dim"], 8),
    **dict.fromkeys(["query_pre_attn_scalar", "hidden_size_per_layer_input"], 8),
    **dict.fromkeys(["q_lora_rank", "kv_lora_rank"], 16),
    "rotary_dim": 4,
    # Enough that no key has the score 0 at all of them: ties would be broken by the shape.
    "index_n_heads": 16,
    "index_head_dim": 16,
    # States.
    **dict.fromkeys(["state_size", "ssm_state_size", "mamba_d_state"], 8),
    **dict.fromkeys(["mamba_n_heads", "mamba_num_heads", "mamba_head_dim"], 8),
    **dict.fromkeys(["chunk_size", "mamba_chunk_size"], 8),
    **dict.fromkeys(["linear_num_key_heads", "n_groups"], 2),
    **dict.fromkeys(["linear_num_value_heads", "linear_num_heads"], 4),
    **dict.fromkeys(["linear_key_head_dim", "linear_value_head_dim", "linear_head_dim"], 8),
    # Experts.
    **dict.fromkeys(["num_experts", "num_local_experts", "n_routed_experts"], 4),
    "moe_num_experts": 4,
    **dict.fromkeys(["num_experts_per_tok", "moe_topk", "moe_k"], 2),
    "n_group": 2,
    "topk_group": 1,
    **dict.fromkeys(["moe_intermediate_size", "expert_ffn_hidden_size"], 32),
    **dict.fromkeys(["shared_expert_intermediate_size", "shared_intermediate_size"], 32),
    **dict.fromkeys(["shared_experts_intermediate_size"], 32),
    "moe_shared_expert_intermediate_size": 32,
    # Images and sounds, which are not used here.
    "image_size": 32,
    "patch_size": 16,
    "mm_tokens_per_image": 4,
    # The decoders among the encoders.
    "is_decoder": True,
}
# Set where the default is None as well.
ALSO_NONE = ("num_key_value_heads", "unpadded_vocab_size")

SLIDING = {"layer_types": ["sliding_attention", "full_attention"]}
LINEAR = {"layer_types": ["linear_attention", "full_attention"]}
CONVOLUTION = {"layer_types": ["conv", "full_attention"]}
DEFAULT_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
MROPE = {
    "head_dim": 16,
    "rope_parameters": {
        **DEFAULT_ROPE,
        "partial_rotary_factor": 0.5,
        "mrope_section": [2, 1, 1],
    },
}
GEMMA4 = {**SLIDING, "global_head_dim": 16}
ASSISTANT = {**SLIDING, "global_head_dim": 16, "hidden_size_per_layer_input": 0}
DOTS3 = {
    "layer_types": ["indexed_attention", "sliding_attention"],
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 4,
    "swa_q_lora_rank": 16,
    "swa_kv_lora_rank": 16,
    "swa_head_dim": 16,
    "swa_qk_nope_head_dim": 8,
    "swa_v_head_dim": 8,
    "sliding_window": 6,
}
INKLING = {"layer_types": ["hybrid_sliding", "hybrid"], "d_rel": 4, "rel_extent": 16}
QWEN4 = {
    "layer_types": ["linear_attention", "indexed_attention"],
    "hc_count": 2,
    "hc_lowrank": 8,
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 16,
    "indexer_budget": 8,
    "indexer_compress_ratio": 4,
    **MROPE,
}
GEMMA3N = {
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "num_kv_shared_layers": 2,
    "laurel_rank": 8,
}

# What a model type needs besides `SMALL`; nested for the parts of its configuration.
OVERRIDES: dict[str, dict[str, Any]] = {
    "afmoe": SLIDING,
    "axk2": {"gated_norm_rank": 8},
    "bailing_hybrid": LINEAR,
    "bamba": {"attn_layer_indices": [1]},
    "beam": {**SLIDING, "mlp_layer_types": ["dense", "sparse"]},
    "blt": {
        "vocab_size": 260,
        "encoder_config": {"vocab_size": 260},
        "decoder_config": {"vocab_size": 260},
        "patcher_config": {"vocab_size": 260},
        "global_config": {"vocab_size": 260},
    },
    "cohere2": SLIDING,
    "cohere2_moe": SLIDING,
    "cohere_compass_text": {
        **SLIDING,
        "rope_parameters": dict.fromkeys(SLIDING["layer_types"], DEFAULT_ROPE),
    },
    "cpmant": {"position_bias_num_buckets": 32},
    "cwm": SLIDING,
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": {"num_experts_per_tok": 2},
    "deepseek_v4": {
        "num_hidden_layers": 3,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "layer_types": [
            "sliding_attention",
            "compressed_sparse_attention",
            "heavily_compressed_attention",
        ],
        "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 8},
        "mlp_layer_types": ["hash_moe", "moe", "moe"],
        "o_groups": 2,
        "o_lora_rank": 8,
        "hc_mult": 2,
    },
    "dory": {
        "num_hidden_layers": 4,
        "n_input_layers": 1,
        "n_output_layers": 1,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "dots3_note": {
        "text_config": DOTS3,
        "vision_config": {
            "adapter_in_dim": 32,
            "adapter_out_dim": 32,
            "mlp_layer_types": ["dense", "dense"],
        },
        "audio_config": {"adapter_input_size": 32, "adapter_out_dim": 32},
    },
    "dots3_note_text": DOTS3,
    "exaone4": SLIDING,
    "exaone_moe": SLIDING,
    "falcon_h1": {"mamba_d_ssm": 64},
    "flint": {**SLIDING, "mlp_only_layers": [0], "sliding_window": 7},
    "gemma3": {"text_config": SLIDING},
    "gemma3_text": SLIDING,
    "gemma3n": {"text_config": GEMMA3N},
    "gemma3n_text": GEMMA3N,
    "gemma4": {"text_config": GEMMA4},
    "gemma4_assistant": {"text_config": {**ASSISTANT, "vocab_size_per_layer_input": 0}},
    "gemma4_text": GEMMA4,
    "gemma4_unified": {"text_config": GEMMA4},
    "gemma4_unified_assistant": {"text_config": GEMMA4},
    "gemma4_unified_text": GEMMA4,
    "got_ocr2": {"vision_config": {"global_attn_indexes": [1], "window_size": 2}},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": LINEAR,
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "hy_v4": {"hc_mult": 2},
    "inkling_text": {**INKLING, "mlp_layer_types": ["dense", "sparse"]},
    "inkling2_text": {**INKLING, "n_layers_per_attn_res_block": 1},
    "inkling2_loop_text": {
        **INKLING,
        "num_hidden_layers": 3,
        "layer_types": ["hybrid_sliding", "hybrid", "hybrid_sliding"],
        "n_layers_per_attn_res_block": 1,
        "loop_layer_index_start": 1,
        "loop_layer_index_end": 2,
        "loop_gate_rank": 4,
    },
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "kimi_linear": LINEAR,
    "kolibri1": {**SLIDING, "sliding_window": 7},
    "laguna": SLIDING,
    "lara_mini": {
        "num_hidden_layers": 3,
        "layer_types": ["linear_attention", "sliding_attention", "full_attention"],
    },
    "lfm2": {**CONVOLUTION, "block_multiple_of": 16},
    "lfm2_moe": {**CONVOLUTION, "num_dense_layers": 1},
    "lfm3": {
        "num_hidden_layers": 3,
        "layer_types": ["conv", "sliding_attention", "full_attention"],
    },
    "llama4": {"text_config": {"no_rope_layer_interval": 2}},
    "llama4_text": {"no_rope_layer_interval": 2},
    "longcat_flash": {"zero_expert_num": 2},
    "mamba2": {"num_heads": 8},
    "mellum": SLIDING,
    "mimo_v2_flash": {"head_dim": 12},
    "minimax_m3_vl_text": {
        "index_n_heads": 2,
        "layer_types": ["full_attention", "minimax_m3_sparse"],
    },
    "ministral": {**SLIDING, "head_dim": 8},
    "mllama": {
        "text_config": {"num_hidden_layers": 3, "cross_attention_layers": [1]},
        "vision_config": {"num_global_layers": 1, "intermediate_layers_indices": [0, 1]},
    },
    "mpt": {"expansion_ratio": 2},
    "nemotron_h": {
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"],
    },
    "olmo3": SLIDING,
    "phi4_multimodal": {
        "audio_config": {
            "num_blocks": 2,
            "ext_pw_out_channel": 32,
            "depthwise_separable_out_channel": 32,
            "nemo_conv_channels": 32,
        },
    },
    "qwen3_5": {"text_config": {**LINEAR, **MROPE}},
    "qwen3_5_moe": {"text_config": {**LINEAR, **MROPE}},
    "qwen3_5_moe_text": {**LINEAR, **MROPE},
    "qwen3_5_text": {**LINEAR, **MROPE},
    "qwen3_next": LINEAR,
    "qwen4_exp": {"text_config": QWEN4},
    "qwen4_exp_text": QWEN4,
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {
        "attn_layers": ["local", "lsh"],
        "axial_pos_shape": (8, 8),
        "axial_pos_embds_dim": (16, 16),
        "local_attn_chunk_length": 8,
        "lsh_attn_chunk_length": 8,
        "num_buckets": 4,
        "hash_seed": 0,
    },
    "roc_bert": {"pronunciation_embed_dim": 8, "shape_embed_dim": 8},
    "smollm3": {"no_rope_layer_interval": 2},
    "xlstm": {"hidden_size": 128},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2},
    "zamba2": {
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
        "adapter_rank": 8,
    },
    "zaya": {
        "layer_types": ["hybrid", "hybrid_sliding"],
        "sliding_window": 6,
        "num_experts_per_tok": 1,
        "router_hidden_size": 16,
    },
}
# Model types whose class takes a part of the configuration that the type is mapped to, and is not
# found by it.
PARTS = {"musicgen": "musicgen_decoder", "musicgen_melody": "musicgen_melody_decoder"}


def architectures() -> dict[str, str]:
    """The class of each model type in transformers' mapping of causal language models."""
    return dict(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def small_config(model_type: str) -> PreTrainedConfig:
    """A configuration of a model that is small and has a layer of each kind."""
    config_class = CONFIG_MAPPING[PARTS.get(model_type, model_type)]
    keywords = _keywords(config_class)
    _merge(keywords, OVERRIDES.get(model_type, {}))
    return config_class(**keywords)


def build(model_type: str) -> Any:
    """A small model in float32, in evaluation mode, that has no end token.

    The weights depend on the names and shapes of the parameters alone. They are large, so that
    greedy choices are far from ties and depend on the whole prompt.
    """
    torch.manual_seed(0)
    make = AutoModelForCausalLM.from_config
    if model_type in PARTS:
        make = getattr(transformers, architectures()[model_type])._from_config
    model = make(small_config(model_type), dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            _redraw(name, parameter)
    for config in (model.config, model.config.get_text_config(decoder=True)):
        config.eos_token_id = None
    model.generation_config = GenerationConfig(pad_token_id=0)
    return model


def _keywords(config_class: type[PreTrainedConfig]) -> dict[str, Any]:
    """The keywords that make a configuration of this class small."""
    keywords: dict[str, Any] = {}
    declared = {field.name: field.default for field in dataclasses.fields(config_class)}
    for name, default in declared.items():
        if name in SMALL and (default is not None or name in ALSO_NONE):
            keywords[name] = SMALL[name]
        elif name.endswith(("token_id", "token_index")) and isinstance(default, int):
            keywords[name] = default if 0 <= default < VOCABULARY else VOCABULARY - 1
    if "kv_lora_rank" in declared and "num_key_value_heads" in declared:
        # Latent attention has keys and values of each head.
        keywords["num_key_value_heads"] = keywords["num_attention_heads"]
    for key, part in (config_class.sub_configs_defaults or {}).items():
        part_class = part.config_class
        if not issubclass(part_class, PreTrainedConfig):
            part_class = CONFIG_MAPPING[part.model_type]
        keywords[key] = {**(part.init_kwargs or {}), **_keywords(part_class)}
        keywords[key]["model_type"] = part_class.model_type
    return keywords


def _merge(keywords: dict[str, Any], more: dict[str, Any]) -> None:
    for name, value in more.items():
        if isinstance(value, dict) and isinstance(keywords.get(name), dict):
            _merge(keywords[name], value)
        else:
            keywords[name] = value


def _redraw(name: str, parameter: torch.Tensor) -> None:
    """Large normal values in place of small matrices; states' time constants stay as they are."""
    if parameter.ndim < 2 or not parameter.is_floating_point():
        return
    if float(parameter.std()) > 0.2 and bool(parameter.isfinite().all()):
        return
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    scale = 2.0 / math.sqrt(parameter[0].numel() if parameter.ndim == 2 else parameter.shape[-1])
    parameter.normal_(0.0, scale, generator=generator)
