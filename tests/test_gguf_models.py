"""Models in GGUF files: configuration and weights as transformers has them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers
from fastdecode._core import GgufFile
from gguf_files import smollm2, write
from gguf_models import CLASSES, SIZES, make_model, metadata_of, written


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("tied", [False, True])
def test_weights_and_configuration_come_back(kind, tied, tmp_path):
    model = make_model(kind, tied)
    file = GgufFile(written(tmp_path, kind, model))
    parameters = {name: value.detach().numpy() for name, value in model.named_parameters()}
    assert file.weights() == {name: value.shape for name, value in parameters.items()}
    for name, value in parameters.items():
        if kind == "gemma3" and "norm" in name:
            # What llama.cpp adds rounds them.
            value = (value + np.float32(1)) - np.float32(1)
        assert np.array_equal(file.weight(name), value), name
    found = json.loads(file.config)
    config, _ = CLASSES[kind]
    again = getattr(transformers, config)(**found).to_dict()
    expected = model.config.to_dict()
    skipped = ("bos_token_id", "eos_token_id", "pad_token_id", "architectures", "dtype")
    skipped += ("_name_or_path", "transformers_version", "rope_parameters", "n_inner", "n_ctx")
    if kind == "gemma3":
        skipped += ("query_pre_attn_scalar", "sliding_window")
        assert again["query_pre_attn_scalar"] == 8
        assert again["sliding_window"] == 16
    for key in expected.keys() - set(skipped):
        assert again.get(key) == expected[key], key


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, None),
        ({"rope.scaling.type": "none"}, None),
        (
            {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
            {"rope_type": "linear", "factor": 4.0},
        ),
        (
            {
                "rope.scaling.type": "yarn",
                "rope.scaling.factor": 4.0,
                "rope.scaling.original_context_length": 16,
            },
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
        ),
    ],
)
def test_rotary_scalings(more, expected, tmp_path):
    file = GgufFile(written(tmp_path, "llama", metadata=metadata_of("llama", **more)))
    assert json.loads(file.config)["rope_scaling"] == expected


def test_llama_3_scaling_is_recognised_by_its_factors(tmp_path):
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaling = {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    rope = {"rope_theta": 500_000.0, **scaling}
    config = transformers.LlamaConfig(**SIZES | {"head_dim": 64}, rope_parameters=rope)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 500_000.0 ** -(torch.arange(0, 64, 2) / 64)
    metadata = metadata_of("llama", **{"attention.key_length": 64, "rope.freq_base": 500_000.0})
    factors = (plain / scaled).numpy().astype(np.float32)
    # The converter writes the factor itself.
    factors[factors > 31.99] = 32

    def found(factors):
        tensors = {"rope_freqs.weight": factors, "token_embd.weight": np.ones((40, 32), "f4")}
        return GgufFile(write(tmp_path / "x.gguf", metadata, tensors)).config

    assert json.loads(found(factors))["rope_scaling"] == scaling
    with pytest.raises(ValueError, match=r"\"rope_freqs.weight\": it scales rotary frequencies in"):
        found(factors[::-1].copy())


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        (
            "llama",
            {"expert_count": 8},
            r"llama\.expert_count: the native engine does not know what",
        ),
        ("llama", {"logit_scale": 2.0}, r"llama\.logit_scale: the native engine does not know"),
        ("llama", {"rope.dimension_count": 4}, r"llama\.rope\.dimension_count: it differs from"),
        ("llama", {"rope.scaling.type": "longrope"}, r"rope\.scaling\.type=\"longrope\": the nat"),
        ("llama", {"attention.head_count_kv": [2, 1]}, r"head_count_kv: the layers differ in this"),
        ("qwen2", {"block_count": "two"}, r"\"qwen2.block_count\" is a string; it must be an int"),
    ],
)
def test_what_the_engine_does_not_compute_is_named(kind, more, message, tmp_path):
    file = GgufFile(written(tmp_path, kind, metadata=metadata_of(kind, **more)))
    with pytest.raises(ValueError, match=message):
        file.config  # noqa: B018


def test_other_architectures_and_tensors_are_refused_by_name(tmp_path):
    metadata = metadata_of("llama") | {"general.architecture": "mamba"}
    file = GgufFile(written(tmp_path, "llama", metadata=metadata))
    with pytest.raises(
        ValueError, match=r'general.architecture is "mamba"; the native engine reads'
    ):
        file.config  # noqa: B018
    metadata = metadata_of("llama")
    del metadata["llama.block_count"]
    file = GgufFile(written(tmp_path, "llama", metadata=metadata))
    with pytest.raises(ValueError, match=r'no metadata key "llama.block_count", which is needed'):
        file.config  # noqa: B018
    more = {"blk.0.ffn_gate_exps.weight": np.ones((2, 2), np.float32)}
    file = GgufFile(written(tmp_path, "llama", tensors=more))
    with pytest.raises(ValueError, match=r'tensor "blk.0.ffn_gate_exps.weight": the native engine'):
        file.weights()
    metadata = metadata_of("llama") | {"split.count": 3}
    file = GgufFile(written(tmp_path, "llama", metadata=metadata))
    with pytest.raises(ValueError, match=r"split.count=3: the model is split over several files"):
        file.config  # noqa: B018


@pytest.mark.real
def test_the_configuration_of_smollm2_is_that_of_transformers():
    pytest.importorskip("gguf")
    path = smollm2()
    found = json.loads(GgufFile(path).config)
    expected = transformers.AutoConfig.from_pretrained(str(path.parent), gguf_file=path.name)
    again = transformers.LlamaConfig(**found)
    assert found["rms_norm_eps"] == 1e-5
    assert again.rope_parameters == expected.rope_parameters
    for key in (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "max_position_embeddings",
        "head_dim",
        "hidden_act",
        "attention_bias",
        "mlp_bias",
        "tie_word_embeddings",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
    ):
        assert getattr(again, key) == getattr(expected, key), key
