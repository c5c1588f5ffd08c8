"""Small random models of many architectures, with weights so large that their logits are sharp."""

from __future__ import annotations

import torch
import transformers

VOCAB = 96
_TOKENS = {"vocab_size": VOCAB, "bos_token_id": 0, "eos_token_id": 95, "pad_token_id": 1}


def sharp(model, seed=0, factor=6.0):
    """The model with random weights that are `factor` times as large as usual."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(noise * 0.02 * factor)
    return model.eval()


def tiny(architecture, config=None, *, seed=0, **settings):
    """A small model of the class `architecture`, in float32.

    Args:
        architecture: the name of a class of transformers.
        config: the name of its configuration's class, where it is another.
        seed: for the weights.
        settings: of the configuration.
    """
    kind = getattr(transformers, architecture)
    made = (getattr(transformers, config) if config else kind.config_class)(
        **{**_TOKENS, **settings}
    )
    torch.manual_seed(seed)
    return sharp(kind(made).float(), seed)


DECODER_OF_SEQ2SEQ = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
}
LLAMA_LIKE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
BERT_LIKE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 66,
    "is_decoder": True,
}


def long_rope(architecture, **settings):
    """A model with LongRoPE whose border is at 16 tokens."""
    half = LLAMA_LIKE["hidden_size"] // LLAMA_LIKE["num_attention_heads"] // 2
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10_000.0,
        "short_factor": [1.0] * half,
        "long_factor": [4.0] * half,
        "original_max_position_embeddings": 16,
        **settings.pop("rope", {}),
    }
    return tiny(
        architecture,
        original_max_position_embeddings=16,
        rope_parameters=rope,
        **LLAMA_LIKE,
        **settings,
    )
