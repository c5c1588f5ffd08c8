"""Small models of each architecture in GGUF files, as llama.cpp's converter writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import transformers
from fastdecode.models.pieces import byte_of_character
from gguf_files import write

SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "head_dim": 8,
}
CLASSES = {
    "llama": ("LlamaConfig", "LlamaForCausalLM"),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM"),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM"),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM"),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel"),
}
# transformers' names of the parts of a layer, and llama.cpp's.
PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
OUTER = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
}


def make_model(kind: str, tied: bool = False, vocab_size: int = 40, **other_sizes: int):
    """A model of random weights. Of `other_sizes`, "gpt2" takes the width alone."""
    torch.manual_seed(0)
    config, model = CLASSES[kind]
    sizes = SIZES | {"vocab_size": vocab_size} | other_sizes
    if kind == "gpt2":
        width = sizes["hidden_size"]
        sizes = {"n_embd": width, "n_layer": 2, "n_head": 4, "n_positions": 64}
        sizes["vocab_size"] = vocab_size
    made = getattr(transformers, config)(**sizes, tie_word_embeddings=tied)
    model = getattr(transformers, model)(made).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    return model


def stored(
    kind: str, name: str, values: np.ndarray, heads: tuple[int, int] = (4, 2)
) -> tuple[str, np.ndarray]:
    """A parameter as llama.cpp's converter writes it; `heads` are those of queries and keys."""
    stem, suffix = name.rsplit(".", 1)
    if stem in OUTER:
        new = OUTER[stem]
    else:
        _, _, layer, part = stem.split(".", 3)
        new = f"blk.{layer}.{PARTS[part]}"
        if kind == "gemma3" and part == "post_attention_layernorm":
            new = f"blk.{layer}.post_attention_norm"
    if kind == "llama" and new.endswith(("attn_q", "attn_k")):
        count = heads[new.endswith("attn_k")]
        halves = values.reshape(count, 2, values.shape[0] // count // 2, *values.shape[1:])
        values = halves.swapaxes(1, 2).reshape(values.shape)
    if kind == "gpt2" and values.ndim == 2 and new.startswith("blk"):
        values = values.T
    if kind == "gemma3" and new.endswith("norm"):
        values = values + np.float32(1)
    return f"{new}.{suffix}", np.ascontiguousarray(values)


def metadata_of(kind: str, width: int = 32, inner: int = 48, head: int = 8, **more) -> dict:
    """The metadata of a model of `make_model`, of these widths: residual, MLP and heads."""
    found = {
        "general.architecture": kind,
        f"{kind}.block_count": 2,
        f"{kind}.context_length": 64,
        f"{kind}.embedding_length": width,
        f"{kind}.feed_forward_length": 4 * width if kind == "gpt2" else inner,
        f"{kind}.attention.head_count": 4,
    }
    if kind == "gpt2":
        found["gpt2.attention.layer_norm_epsilon"] = 1e-5
    else:
        found |= {
            f"{kind}.attention.head_count_kv": 2,
            f"{kind}.attention.key_length": head,
            f"{kind}.attention.layer_norm_rms_epsilon": 1e-6,
            f"{kind}.rope.freq_base": 10_000.0,
        }
    if kind == "gemma3":
        found["gemma3.attention.sliding_window"] = 16
    return found | {f"{kind}.{key}": value for key, value in more.items()}


def written(path, kind: str, model=None, metadata=None, tensors=None) -> Path:
    model = model or make_model(kind)
    names = {name for name, _ in model.named_parameters()}
    state = {name: value.numpy() for name, value in model.state_dict().items() if name in names}
    data = dict(stored(kind, name, value) for name, value in state.items())
    return write(path / "x.gguf", metadata or metadata_of(kind), data | (tensors or {}))


# ggml's numbers of ways to store a tensor, and the elements and bytes of a block.
ENCODINGS = {
    "Q4_0": (2, 32, 18),
    "Q4_1": (3, 32, 20),
    "Q5_0": (6, 32, 22),
    "Q5_1": (7, 32, 24),
    "Q8_0": (8, 32, 34),
    "BF16": (30, 1, 2),
}


def quantised(path, kind: str, model, encoding, metadata=None, name: str = "x.gguf") -> Path:
    """A file of a model whose matrices are stored as `encoding(name)` says."""
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    names = {name for name, _ in model.named_parameters()}
    state = {name: value.numpy() for name, value in model.state_dict().items() if name in names}
    data, kinds = {}, {}
    for parameter, value in state.items():
        called, array = stored(kind, parameter, value)
        asked = encoding(called) if array.ndim == 2 else "F32"
        if asked != "F32":
            array = quantize(array, GGMLQuantizationType[asked])
            array, kinds[called] = np.ascontiguousarray(array).view(np.uint8), ENCODINGS[asked]
        data[called] = array
    return write(path / name, metadata or metadata_of(kind), data, kinds)


ENDS = {"bos_token_id": 0, "eos_token_id": 1, "padding_token_id": 1}
SPECIAL = ("<|begin|>", "<|end|>")


def vocabulary() -> dict:
    """The metadata of a tokenizer whose tokens are bytes and a few words."""
    letters = sorted(byte_of_character())
    merges = ["t h", "th e", "Ġ the", "i n", "Ġ a"]
    words = [merge.replace(" ", "") for merge in merges]
    tokens = [*SPECIAL, *letters, *words]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)),
        "tokenizer.ggml.merges": merges,
        "tokenizer.chat_template": "{% for m in messages %}<|begin|>{{ m.content }}{% endfor %}",
        **{f"tokenizer.ggml.{name}": token for name, token in ENDS.items()},
    }


def complete(path, kind: str = "llama", more: dict | None = None, name: str = "x.gguf") -> Path:
    """A file with a model and its tokenizer, which every call of the package takes."""
    words = vocabulary()
    model = make_model(kind, vocab_size=len(words["tokenizer.ggml.tokens"]))
    found = written(path, kind, model, metadata_of(kind) | words | (more or {}))
    return found.rename(path / name)
