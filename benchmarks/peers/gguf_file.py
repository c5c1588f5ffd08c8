"""A saved model as the GGUF file that llama.cpp's converter would write, in float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
from safetensors.numpy import load_file

from benchmarks.peers.models import words

_ARCHITECTURES = {
    "gpt2": gguf.MODEL_ARCH.GPT2,
    "llama": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
}


def write(path: Path, source: Path) -> None:
    """Write `path` from the model saved in the folder `source`."""
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    kind = config["model_type"]
    architecture = _ARCHITECTURES[kind]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    layers = _describe_gpt2(writer, config) if kind == "gpt2" else _describe_gated(writer, config)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_vocabulary(writer, config["vocab_size"])
    names = gguf.get_tensor_name_map(architecture, layers)
    for name, array in load_file(source / "model.safetensors").items():
        if name.endswith((".attn.bias", ".attn.masked_bias")) or name == "lm_head.weight":
            continue
        writer.add_tensor(
            names.get_name(name, try_suffixes=(".weight", ".bias")), _as_stored(name, array, config)
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe_gpt2(writer: Any, config: dict[str, Any]) -> int:
    writer.add_block_count(config["n_layer"])
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    return int(config["n_layer"])


def _describe_gated(writer: Any, config: dict[str, Any]) -> int:
    head = config["hidden_size"] // config["num_attention_heads"]
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    return int(config["num_hidden_layers"])


def _add_vocabulary(writer: Any, vocabulary: int) -> None:
    """Add the artificial tokenizer. Its merges are never used, and may not be empty."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words(vocabulary))
    kinds = [gguf.TokenType.NORMAL] * (vocabulary - 1)
    writer.add_token_types([*kinds, gguf.TokenType.CONTROL])
    writer.add_token_merges(["t 0"])
    writer.add_eos_token_id(vocabulary - 1)


def _as_stored(name: str, array: Any, config: dict[str, Any]) -> Any:
    """A tensor in llama.cpp's layout."""
    if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        return array.T.copy()  # transformers stores these transposed
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
    part = name.split(".")[-2]
    if config["model_type"] == "llama" and part in heads:
        # llama.cpp rotates pairs of neighbours, transformers pairs from the two halves of a head.
        split = array.reshape(config[heads[part]], 2, -1, array.shape[-1])
        return split.swapaxes(1, 2).reshape(array.shape).copy()
    return array
