"""Files that the package `gguf` writes, in every encoding, against those of transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from fastdecode._core import GgufFile, NativeModel
from gguf_models import CLASSES, stored

gguf = pytest.importorskip("gguf")
pytest.importorskip("accelerate")

WIDTH = 256
SIZES = {
    "vocab_size": 48,
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "head_dim": 64,
}
GPT2_SIZES = {"vocab_size": 48, "n_embd": WIDTH, "n_layer": 2, "n_head": 4, "n_positions": 64}
# Encodings that the package writes, and what scales make weights of about 0.05 of random blocks of
# the others: where they are in a block, and how large.
WRITTEN = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
RANDOM = {
    "IQ4_NL": ((0,), 1e-3),
    "Q2_K": ((80, 82), 4e-3),
    "Q3_K": ((108,), 1e-3),
    "Q4_K": ((0, 2), 2e-4),
    "Q5_K": ((0, 2), 1e-4),
    "Q6_K": ((208,), 4e-5),
}
ENCODINGS = (*WRITTEN, *RANDOM)


def encoded(values: np.ndarray, encoding: str, rng: np.random.Generator) -> np.ndarray:
    """The values in an encoding, or random blocks of it."""
    kind = gguf.GGMLQuantizationType[encoding]
    if encoding in WRITTEN:
        return gguf.quants.quantize(values, kind)
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    places, scale = RANDOM[encoding]
    rows, width = values.shape
    blocks = rng.integers(0, 256, (rows * width // elements, size), dtype=np.uint8)
    for place in places:
        scales = rng.normal(0, scale, len(blocks)).astype("<f2")
        blocks[:, place : place + 2] = scales.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(rows, -1)


def written_by_gguf(path, kind: str, first: int):
    """A model whose matrices are in one encoding after the other, from the one numbered `first`."""
    sizes = GPT2_SIZES if kind == "gpt2" else SIZES
    # The widths of heads for which transformers takes the scale of Gemma's attention, and which it
    # takes Qwen3's for.
    head = {"gemma3": 256, "qwen3": 128}.get(kind, SIZES["head_dim"])
    if kind != "gpt2":
        sizes = sizes | {"head_dim": head}
    rng = np.random.default_rng(first)
    config, model = (getattr(transformers, name) for name in CLASSES[kind])
    torch.manual_seed(first)
    made = model(config(**sizes, tie_word_embeddings=False))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, 0, 0.05)
    writer = gguf.GGUFWriter(path, kind)
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_vocab_size(48)
    writer.add_feed_forward_length(4 * WIDTH if kind == "gpt2" else 2 * WIDTH)
    writer.add_head_count(4)
    if kind == "gpt2":
        writer.add_layer_norm_eps(1e-5)
    else:
        writer.add_head_count_kv(2)
        writer.add_key_length(head)
        writer.add_value_length(head)
        writer.add_layer_norm_rms_eps(1e-6)
        writer.add_rope_freq_base(10_000.0)
    if kind == "gemma3":
        writer.add_sliding_window(16)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"<{token}>" for token in range(48)])
    count = first
    for name, parameter in made.named_parameters():
        name, values = stored(kind, name, parameter.detach().numpy())
        if values.ndim == 1:
            writer.add_tensor(name, values)
            continue
        encoding = ENCODINGS[count % len(ENCODINGS)]
        count += 1
        blocks = encoded(values, encoding, rng)
        writer.add_tensor(name, blocks, raw_dtype=gguf.GGMLQuantizationType[encoding])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("first", [0, 7])
def test_models_are_those_of_transformers(kind, first, tmp_path):
    """Weights to the bit, and logits as near to float64 as those of transformers."""
    path = tmp_path / "x.gguf"
    written_by_gguf(path, kind, first)
    # transformers does not find the length of GPT-2's position table.
    more = (
        {"config": transformers.GPT2Config(**GPT2_SIZES, tie_word_embeddings=False)}
        if kind == "gpt2"
        else {}
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(
        str(tmp_path), gguf_file="x.gguf", dtype=torch.float32, **more
    ).eval()
    file = GgufFile(path)
    # GPT-2 has eleven matrices.
    found = {encoding for _, shape, encoding in file.tensors() if len(shape) == 2}
    assert len(found) == min(len(ENCODINGS), 11 if kind == "gpt2" else 14)
    expected = {name: value.detach().numpy() for name, value in model.named_parameters()}
    assert file.weights() == {name: value.shape for name, value in expected.items()}
    for name, value in expected.items():
        assert np.array_equal(file.weight(name).view(np.uint32), value.view(np.uint32)), name
    ids = np.random.default_rng(3).integers(0, 48, 40).tolist()
    with torch.inference_mode():
        single = model(torch.tensor([ids])).logits[0].numpy()
        double = model.double()(torch.tensor([ids])).logits[0].numpy()
    bound = max(np.abs(single - double).max(), 1e-4 * np.abs(double).max())
    ours = NativeModel.from_gguf(file, "float32").all_logits(ids)
    assert np.abs(ours - double).max() <= bound
    for dtype, most in (("bfloat16", 0.05), ("int8", 0.1), ("gguf", 0.1)):
        near = NativeModel.from_gguf(path, dtype).all_logits(ids)
        assert np.abs(near - double).max() <= most * np.abs(double).max(), dtype
