"""Devices and number formats: refused before anything is loaded, in the user's terms."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from conftest import make_model
from fastdecode import Decoder
from fastdecode.models import placement
from tiny_models import tiny


@pytest.fixture
def unread(monkeypatch):
    """Nothing may be loaded."""

    def work(*_, **__):
        raise RuntimeError("a model was loaded before the arguments were checked")

    monkeypatch.setattr("fastdecode.models.checkpoints.load", work)
    monkeypatch.setattr("fastdecode.models.loading._native", work)


DTYPES = [
    ("fp16", 'did you mean "float16"?'),
    ("FP16", 'did you mean "float16"?'),
    ("bf16", 'did you mean "bfloat16"?'),
    ("fp32", 'did you mean "float32"?'),
    ("float23", 'did you mean "float32"?'),
    ("8bit", 'did you mean "int8"?'),
    ("Q4_K_M", 'did you mean "int4"?'),
    ("4-bit", 'did you mean "int4"?'),
    ("int3", '"int4" is the smallest that there is'),
    ("int31", "give one of these"),
    ("int32", "give one of these"),
    (torch.int64, "give one of these"),
    ("", "give one of these"),
]


@pytest.mark.parametrize(("dtype", "hint"), DTYPES)
def test_unknown_dtypes(unread, dtype, hint):
    name = str(dtype).removeprefix("torch.")
    message = (
        f"dtype={name!r} is unknown; {hint} (there are "
        '"float32", "float64", "bfloat16", "float16", "bfloat16_weights", '
        '"int8", "int4", "gguf", "auto")'
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Decoder.from_pretrained("demo", dtype=dtype)


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (None, None),
        ("float32", "float32"),
        (torch.bfloat16, "bfloat16"),
        (torch.half, "float16"),
        ("half", "float16"),
        ("double", "float64"),
        (np.dtype("float32"), "float32"),
        ("auto", "auto"),
        ("int8", "int8"),
    ],
)
def test_known_dtypes(dtype, name):
    assert placement.dtype_name(dtype) == name


def test_dtypes_of_another_kind(unread):
    with pytest.raises(TypeError, match=r"dtype must be a torch dtype or its name, not int \(16\)"):
        Decoder.from_pretrained("demo", dtype=16)


def test_devices(unread, monkeypatch):
    with pytest.raises(ValueError, match=r"^device='xyz' is unknown; give \"cpu\", \"cuda\""):
        Decoder.from_pretrained("demo", device="xyz")
    with pytest.raises(ValueError, match=r"device=\"meta\" holds no numbers"):
        Decoder.from_pretrained("demo", device="meta")
    with pytest.raises(TypeError, match=r"device must be a torch device or its name, .* not float"):
        Decoder.from_pretrained("demo", device=1.5)
    missing = 99 if torch.cuda.is_available() else 0
    for device in (f"cuda:{missing}", torch.device("cuda", missing), missing):
        with pytest.raises(ValueError, match=r"is not available here: t.*; leave device out"):
            Decoder.from_pretrained("demo", device=device)
    if not torch.backends.mps.is_available():
        with pytest.raises(ValueError, match=r"^device='mps' .*: torch sees no GPU of Apple's; l"):
            Decoder.from_pretrained("demo", device="mps")
    with pytest.raises(ValueError, match=f"^device={missing} is not available here"):
        Decoder.from_pretrained("demo", device=missing)
    assert placement.device_name("cpu") == "cpu"
    assert placement.device_name(torch.device("cpu")) == "cpu"
    assert placement.device_name(None) is None


def test_a_gpu_out_of_range_is_counted(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    found = placement._why("cuda", RuntimeError("no"))
    assert found == "torch sees 2 of them, numbered from 0"


def test_engines_that_cannot(tmp_path, tokenizer, unread):
    for options, message in [
        ({"engine": "native", "device": "cuda"}, r"engine='native' runs on the CPU, and device='c"),
        ({"engine": "native", "dtype": "float16"}, r"dtype='float16' is none of the native engine"),
        ({"engine": "torch", "dtype": "int8"}, r"needs the native .*; leave engine='torch' out"),
        ({"device": "cuda", "dtype": "int8"}, r"needs the native .*; leave device='cuda' out"),
        ({"engine": "rust"}, r"engine='rust' is unknown; choose one of auto, native, torch"),
    ]:
        with pytest.raises(ValueError, match=message):
            Decoder.from_pretrained("demo", **options)


def test_the_native_engine_names_what_it_cannot_run(tmp_path, tokenizer):
    model = tiny("BloomForCausalLM", hidden_size=32, n_layer=2, n_head=4)
    for options, called, instead in [
        ({"engine": "native"}, "engine='native'", "use engine='auto'"),
        ({"dtype": "int8"}, "dtype='int8'", "leave dtype out"),
    ]:
        message = (
            f"^{called} cannot run a BloomForCausalLM in float32: the native engine runs "
            f"GPT2LMHeadModel, .*LlamaForCausalLM.*; {instead}$"
        )
        with pytest.raises(ValueError, match=message):
            Decoder(model, tokenizer, **options)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text("utf-8"))["model_type"] == "bloom"
    with pytest.raises(ValueError, match=r"model_type=bloom .*the native engine runs .*; use eng"):
        Decoder.from_pretrained(tmp_path, engine="native")
    with pytest.raises(ValueError, match=r"reads weights in float32, float16 and bfloat16; use"):
        Decoder(make_model("gpt2"), tokenizer, engine="native")
