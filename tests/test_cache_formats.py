"""The KV cache in bfloat16 and int8: how to ask for it, what it changes, what is recorded of it."""

from __future__ import annotations

import json

import fastdecode
import numpy as np
import pytest
import torch
from conftest import make_model
from fastdecode import Decoder
from fastdecode.models.placement import CACHE_DTYPES, cache_dtype_name
from transformers import BloomConfig, BloomForCausalLM

SMALLER = ("bfloat16", "int8")
TEXT = "Once upon a time there was a king"


def logits(decoder, count=60):
    (found,) = decoder.engine.all_logits([list(range(1, count))])
    return np.asarray(found, dtype=np.float64)


def test_the_default_is_float32():
    plain = Decoder.from_pretrained("demo")
    assert plain.engine.kv_cache_dtype == "float32"
    assert plain.engine.definition == "float32/1"
    for same in ("float32", torch.float32, "auto", None):
        other = Decoder.from_pretrained("demo", kv_cache_dtype=same)
        assert (logits(other) == logits(plain)).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "int4"])
def test_smaller_caches_take_less_and_change_a_little(dtype):
    plain = Decoder.from_pretrained("demo", dtype=dtype)
    expected = logits(plain)
    errors = []
    for cache, share in [("bfloat16", 0.5), ("int8", 0.29)]:
        decoder = Decoder.from_pretrained("demo", dtype=dtype, kv_cache_dtype=cache)
        assert decoder.engine.kv_cache_dtype == cache
        assert decoder.engine.definition == f"{plain.engine.definition}, KV cache {cache}/1"
        assert decoder.engine.bytes_per_token <= share * plain.engine.bytes_per_token
        assert decoder.engine.packed().nbytes == plain.engine.packed().nbytes
        found = logits(decoder)
        errors.append(np.sqrt(((found - expected) ** 2).mean()) / expected.std())
    assert 0 < errors[0] < 0.02
    assert 0 < errors[1] < 0.05


@pytest.mark.parametrize("cache", SMALLER)
def test_files_and_objects_give_the_same_bits(tmp_path, tokenizer, cache):
    model = make_model("gpt2", torch.float32)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    files = Decoder.from_pretrained(str(tmp_path), kv_cache_dtype=cache)
    loaded = Decoder(model, tokenizer, kv_cache_dtype=cache)
    assert (logits(files) == logits(loaded)).all()
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.weight.mul_(2.0)
    assert loaded.engine.kv_cache_dtype == cache
    assert not (logits(files) == logits(loaded)).all()


@pytest.mark.parametrize("cache", SMALLER)
def test_samples_beams_and_streams(cache):
    """Forks, rows that join late and one after the other: the same tokens."""
    options = {"model": "demo", "kv_cache_dtype": cache, "seed": 4, "max_new_tokens": 20}
    prompts = [TEXT, "The", "It was a dark and stormy night, and the wind blew over the hills"]
    whole = fastdecode.generate(prompts, n=3, do_sample=True, **options)
    alone = [
        fastdecode.generate(prompt, n=3, do_sample=True, streams=[i], batch_size=1, **options)
        for i, prompt in enumerate(prompts)
    ]
    assert [item.token_ids for item in whole] == [
        item.token_ids for items in alone for item in items
    ]
    steps = fastdecode.stream(TEXT, do_sample=True, **options)
    assert [step.token_id for step in steps] == whole[0].token_ids
    del options["seed"]
    beams = fastdecode.generate(prompts, num_beams=4, **options)
    for prompt, item in zip(prompts, beams, strict=True):
        (single,) = fastdecode.generate(prompt, num_beams=4, **options)
        assert single.token_ids == item.token_ids


@pytest.mark.parametrize("cache", SMALLER)
def test_a_saved_run_is_replayed_with_its_cache(tmp_path, cache):
    path = tmp_path / "run.json"
    options = {"seed": 5, "temperature": 0.9, "logprobs": 0, "max_new_tokens": 12}
    found = fastdecode.generate(TEXT, model="demo", kv_cache_dtype=cache, **options)
    assert found.call["kv_cache_dtype"] == found.environment["kv_cache_dtype"] == cache
    found.save(path)
    report = fastdecode.verify(path)
    assert report.same
    assert report.largest == 0
    assert report.environment == {}
    assert fastdecode.replay(path) == found
    other = fastdecode.verify(path, kv_cache_dtype="float32", tolerance=10.0)
    assert other.environment["kv_cache_dtype"] == (cache, None)
    assert other.largest > 0
    assert other.model == {}
    # An engine in torch has a cache of its own.
    assert fastdecode.verify(path, engine="torch", tolerance=10.0).found.call["engine"] == "torch"


def test_files_that_name_no_cache_are_replayed_in_float32(tmp_path):
    path = tmp_path / "run.json"
    found = fastdecode.generate(TEXT, model="demo", dtype="int8", seed=5, logprobs=0)
    assert "kv_cache_dtype" not in found.call
    assert "kv_cache_dtype" not in found.environment
    found.save(path)
    assert fastdecode.verify(path).largest == 0
    saved = json.loads(path.read_text())
    saved["call"]["kv_cache_dtype"] = "int9"
    path.write_text(json.dumps(saved))
    with pytest.raises(ValueError, match=r"call: kv_cache_dtype=\W*int9\W* is unknown"):
        fastdecode.replay(path)


def test_a_job_is_resumed_with_its_cache(tmp_path, run):
    path = tmp_path / "out.jsonl"
    command = ("score", TEXT, "-m", "demo", "--out", str(path))
    assert run(*command, "--kv-cache-dtype", "int8")[0] == 0
    code, _, err = run(*command)
    assert code == 2
    assert "kv_cache_dtype" in err
    assert run(*command, "--kv-cache-dtype", "int8")[0] == 0


def test_the_command_line_has_it(run, tmp_path):
    path = tmp_path / "run.json"
    given = ("generate", TEXT, "-m", "demo", "--kv-cache-dtype", "int8", "--save", str(path))
    code, _, err = run(*given)
    assert code == 0, err
    assert json.loads(path.read_text())["call"]["kv_cache_dtype"] == "int8"
    assert run("replay", str(path))[0] == 0
    code, out, _ = run("replay", str(path), "--kv-cache-dtype", "bfloat16")
    assert "kv_cache_dtype: bfloat16 now, int8 then" in out


def test_what_cannot_be_is_refused_with_the_fix(tokenizer):
    for given, message in [
        ({"kv_cache_dtype": "int4"}, r"'int4' is unknown; give one of these"),
        ({"kv_cache_dtype": "bf16"}, r"'bf16' is unknown; did you mean \"bfloat16\"\?"),
        ({"kv_cache_dtype": "q8_0"}, r"'q8_0' is unknown; did you mean \"int8\"\?"),
        ({"kv_cache_dtype": "int8", "engine": "torch"}, r"needs .*; leave engine='torch' out, or"),
        ({"kv_cache_dtype": "int8", "device": "cuda"}, r"needs .*; leave device='cuda' out, or"),
        ({"kv_cache_dtype": "int8", "dtype": "float16"}, r"needs .*; leave dtype='float16' out"),
    ]:
        with pytest.raises(ValueError, match=r"^kv_cache_dtype=.*" + message):
            Decoder.from_pretrained("demo", **given)
    with pytest.raises(TypeError, match=r"^kv_cache_dtype must be a torch dtype or its name, not"):
        Decoder.from_pretrained("demo", kv_cache_dtype=8)
    with pytest.raises(TypeError, match=r"kv_cache_dtype=, .* go with a name .* has its own"):
        fastdecode.tokens("Once", model=Decoder.from_pretrained("demo"), kv_cache_dtype="int8")
    config = BloomConfig(vocab_size=300, hidden_size=32, n_layer=2, n_head=4)
    bloom = BloomForCausalLM(config)
    with pytest.raises(
        ValueError,
        match=r"^kv_cache_dtype='int8' cannot run a BloomForCausalLM .* kv_cache_dtype out",
    ):
        Decoder(bloom, tokenizer, kv_cache_dtype="int8")
    with pytest.raises(ValueError, match=r"^kv_cache_dtype='int8' needs the native engine; leave "):
        Decoder(make_model("gpt2"), tokenizer, engine="torch", kv_cache_dtype="int8")


def test_names():
    assert [cache_dtype_name(name) for name in CACHE_DTYPES] == list(CACHE_DTYPES)
    assert cache_dtype_name(torch.bfloat16) == "bfloat16"
    assert cache_dtype_name(np.dtype("int8")) == "int8"
    assert cache_dtype_name("auto") is cache_dtype_name(None) is None


def test_a_decoder_pickles_with_its_cache():
    import pickle

    decoder = Decoder.from_pretrained("demo", kv_cache_dtype="int8")
    again = pickle.loads(pickle.dumps(decoder))
    assert again.engine.kv_cache_dtype == "int8"
