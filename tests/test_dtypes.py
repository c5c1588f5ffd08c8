"""Weights kept as bfloat16, int8 and int4: how to ask for them, what runs them, what is kept."""

from __future__ import annotations

import fastdecode
import numpy as np
import pytest
import torch
from conftest import make_model, ragged
from fastdecode import Decoder
from fastdecode.models.engines.native import LoadedEngine, NativeEngine
from transformers import BloomConfig, BloomForCausalLM


@pytest.fixture(scope="module")
def saved(tmp_path_factory, tokenizer):
    """Folders with a tiny GPT-2, a Llama, and a Bloom, which the native engine does not have."""
    folder = tmp_path_factory.mktemp("saved")
    config = BloomConfig(
        vocab_size=300, hidden_size=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
    )
    models = {kind: make_model(kind, torch.float32) for kind in ("gpt2", "llama")}
    for kind, model in {**models, "bloom": BloomForCausalLM(config)}.items():
        model.save_pretrained(folder / kind)
        tokenizer.save_pretrained(folder / kind)
    return folder


def logits(decoder):
    (found,) = decoder.engine.all_logits([list(range(1, 60))])
    return np.asarray(found, dtype=np.float64)


@pytest.mark.parametrize(
    "dtype", ["float32", "bfloat16", "bfloat16_weights", "int8", "int4", torch.bfloat16]
)
@pytest.mark.parametrize("engine", ["auto", "native"])
def test_files_are_read_by_the_native_engine(saved, engine, dtype):
    decoder = Decoder.from_pretrained(str(saved / "gpt2"), engine=engine, dtype=dtype)
    assert type(decoder.engine) is NativeEngine
    assert decoder.model is None
    kept = str(dtype).removeprefix("torch.")
    assert decoder.engine.dtype == kept
    assert f"engine='native', dtype='{kept}'" in repr(decoder)


def test_a_loaded_model_gives_the_bits_of_its_files(saved, tokenizer):
    for dtype in ("float32", "bfloat16", "bfloat16_weights", "int8", "int4"):
        files = Decoder.from_pretrained(str(saved / "gpt2"), dtype=dtype)
        loaded = Decoder(make_model("gpt2", torch.float32), tokenizer, dtype=dtype)
        assert type(loaded.engine) is LoadedEngine
        assert loaded.engine.dtype == dtype
        assert (logits(files) == logits(loaded)).all()


def test_bfloat16_weights_are_rounded_and_nothing_else(saved):
    decoder = Decoder.from_pretrained(str(saved / "gpt2"), dtype="bfloat16_weights")
    model = make_model("gpt2", torch.float32)
    with torch.no_grad():
        for name, x in model.named_parameters():
            if x.ndim == 2 and "wpe" not in name:
                x.copy_(x.bfloat16())
        expected = model.double()(torch.arange(1, 60)[None]).logits[0].numpy()
    assert np.abs(logits(decoder) - expected).max() < 2e-4


def test_bfloat16_rounds_activations_too(saved):
    one, other = (
        logits(Decoder.from_pretrained(str(saved / "gpt2"), dtype=dtype))
        for dtype in ("bfloat16_weights", "bfloat16")
    )
    assert 0 < np.abs(one - other).max() < 0.02 * np.abs(one).max()


def test_a_model_in_half_precision(tokenizer):
    for own in (torch.bfloat16, torch.float16):
        model = make_model("gpt2", own)
        # As it computes by itself, unless asked for otherwise.
        assert Decoder(model, tokenizer).engine.name == "transformers"
        kept = Decoder(model, tokenizer, dtype="float32")
        assert kept.engine.name == "native"
        widened = Decoder(make_model("gpt2", own).float(), tokenizer)
        assert (logits(kept) == logits(widened)).all()
    model = make_model("gpt2", torch.bfloat16)
    assert Decoder(model, tokenizer, engine="native").engine.dtype == "bfloat16"


def test_torch_engines_keep_their_dtypes(saved):
    folder = str(saved / "gpt2")
    for engine, dtype, name in [
        ("torch", "bfloat16", "transformers"),
        ("torch", "float64", "torch"),
        ("transformers", torch.float32, "transformers"),
        ("auto", "float16", "transformers"),
        ("auto", "float64", "torch"),
    ]:
        decoder = Decoder.from_pretrained(folder, engine=engine, dtype=dtype)
        assert decoder.engine.name == name
        assert decoder.engine.dtype == str(dtype).removeprefix("torch.")
    llama = Decoder.from_pretrained(str(saved / "llama"), dtype="bfloat16")
    assert (llama.engine.name, llama.engine.dtype) == ("native", "bfloat16")
    bloom = Decoder.from_pretrained(str(saved / "bloom"), dtype="bfloat16")
    assert (bloom.engine.name, bloom.engine.dtype) == ("transformers", "bfloat16")


def test_files_that_transformers_alone_can_read(saved, tokenizer, tmp_path):
    model = make_model("gpt2", torch.float32)
    model.config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    decoder = Decoder.from_pretrained(str(tmp_path), dtype="int8")
    assert type(decoder.engine) is LoadedEngine
    files = Decoder.from_pretrained(str(saved / "gpt2"), dtype="int8")
    assert (logits(decoder) == logits(files)).all()


def test_what_no_engine_has_is_refused_with_the_fix(saved, tokenizer, decoder):
    folder = str(saved / "gpt2")
    for options in [
        {"engine": "torch", "dtype": "int8"},
        {"engine": "transformers", "dtype": "int8"},
        {"device": "cuda", "dtype": "int8"},
        {"engine": "torch", "dtype": "int4"},
        {"device": "cuda", "dtype": "int4"},
        {"engine": "native", "dtype": "float64"},
        {"engine": "native", "device": "cuda"},
    ]:
        with pytest.raises(ValueError, match=r"leave .* out|give .* or use"):
            Decoder.from_pretrained(folder, **options)
    with pytest.raises(
        ValueError, match=r"dtype='int8' cannot run a BloomForCausalLM .* dtype out"
    ):
        Decoder.from_pretrained(str(saved / "bloom"), dtype="int8")
    for dtype in ("int8", "int4"):
        message = rf"dtype='{dtype}' cannot run a GPT2LMHeadModel in float64"
        with pytest.raises(ValueError, match=message):
            Decoder(make_model("gpt2"), tokenizer, dtype=dtype)
    with pytest.raises(ValueError, match=r"dtype='bfloat16', but the model is in float64; convert"):
        Decoder(make_model("gpt2"), tokenizer, dtype="bfloat16")
    with pytest.raises(TypeError, match=r"dtype=, .* go with a name.*Decoder\('GPT2LM"):
        fastdecode.generate("Once", model=decoder, dtype="int8")


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_integers_follow_changes_of_the_model(tokenizer, dtype):
    model = make_model("gpt2", torch.float32)
    decoder = Decoder(model, tokenizer, dtype=dtype)
    before = logits(decoder)
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.weight.mul_(2.0)
    assert not (logits(decoder) == before).all()


def test_generate_and_stream_take_them():
    options = {"model": "demo", "seed": 3, "do_sample": True, "max_new_tokens": 8}
    for dtype in ("bfloat16", "int8", "int4"):
        found = fastdecode.generate("Once upon a time", dtype=dtype, **options)
        assert (found.call["engine"], found.call["dtype"]) == ("native", dtype)
        steps = list(fastdecode.stream("Once upon a time", dtype=dtype, **options))
        assert [step.token_id for step in steps] == found[0].token_ids


def test_a_saved_run_is_replayed_as_it_ran(tmp_path, tokenizer):
    path = tmp_path / "run.json"
    options = {"temperature": 0.9, "seed": 5, "logprobs": 0}
    for engine, dtype in [("native", "int8"), ("auto", "int4"), ("auto", "bfloat16"),
                          ("torch", "bfloat16")]:  # fmt: skip
        found = fastdecode.generate("The old king", model="demo", engine=engine, dtype=dtype,
                                    **options)  # fmt: skip
        found.save(path)
        again = fastdecode.replay(path)
        assert again == found
        assert again.call == found.call
    model = make_model("gpt2", torch.float32)
    found = fastdecode.generate(ragged(3), model=model, tokenizer=tokenizer, dtype="int8",
                                **options)  # fmt: skip
    found.save(path)
    assert fastdecode.replay(path, model=model, tokenizer=tokenizer) == found
