"""Files of a model that are damaged, and the memory that whole ones take."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from fastdecode import Decoder
from fastdecode.models.engines.native import NativeEngine
from transformers import GPT2Config, GPT2LMHeadModel

MEMORY = Path(__file__).parents[1] / "benchmarks" / "memory.py"


@pytest.fixture
def demo(tmp_path):
    """A copy of the demo model, to be damaged."""
    shutil.copytree(files("fastdecode") / "demo", tmp_path / "demo")
    return tmp_path / "demo"


def test_damaged_weights_are_refused_by_both_readers(demo):
    weights = demo / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (b"", whole[:7], whole[:5000], whole[:-1], b"\xff" * 64):
        weights.write_bytes(damaged)
        with pytest.raises(ValueError, match="weights are damaged or incomplete"):
            Decoder.from_pretrained(str(demo), engine="native")
        with pytest.raises(ValueError, match=f"model='{demo}' cannot be loaded"):
            Decoder.from_pretrained(str(demo))


def test_values_that_are_not_finite_are_refused(demo):
    weights = demo / "model.safetensors"
    whole = bytearray(weights.read_bytes())
    whole[-2:] = b"\x00\x7e"  # a float16 that is no number
    weights.write_bytes(whole)
    for dtype in ("float32", "bfloat16", "bfloat16_weights", "int8", "int4"):
        with pytest.raises(ValueError, match="has values that are not finite"):
            Decoder.from_pretrained(str(demo), engine="native", dtype=dtype)


def test_settings_that_are_no_settings(demo):
    for name in ("config.json", "generation_config.json"):
        path = demo / name
        whole = path.read_text()
        for text in ("", "[]", "{", "[" * 100_000, '{"eos_token_id": {"a": 1}}', "\x00"):
            path.write_text(text)
            with pytest.raises(ValueError, match=name):
                NativeEngine.from_folder(demo)
        path.write_text(whole)
    NativeEngine.from_folder(demo)


def test_random_damage_is_an_error_or_a_model(demo):
    """Of the header and of config.json; Rust's own tests do more of this."""
    rng = random.Random(0)
    weights, config = demo / "model.safetensors", demo / "config.json"
    whole, settings = weights.read_bytes(), config.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    refused = 0
    for _ in range(60):
        data, text = bytearray(whole), bytearray(settings)
        for _ in range(rng.randint(1, 4)):
            if rng.random() < 0.7:
                data[rng.randrange(header)] = rng.randrange(256)
            else:
                text[rng.randrange(len(text))] = rng.randrange(256)
        weights.write_bytes(data)
        config.write_bytes(text)
        try:
            list(NativeEngine.from_folder(demo).all_logits([[1, 2, 3]]))
        except ValueError:
            refused += 1
    assert refused > 20


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_files_that_are_loaded(tmp_path):
    """The weights once, and the cache: not the mapped file beside them."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 8000, "n_layer": 5, "n_positions": 128}
    GPT2LMHeadModel(GPT2Config(**sizes)).save_pretrained(tmp_path)
    found = {}
    for dtype in ("float32", "bfloat16", "bfloat16_weights", "int8", "int4"):
        done = subprocess.run(
            [sys.executable, str(MEMORY), "--measure", str(tmp_path), dtype],
            capture_output=True,
            text=True,
            check=True,
        )
        found[dtype] = json.loads(done.stdout)
    whole = found["float32"]
    assert whole["peak"] <= 1.15 * (whole["weights"] + whole["cache"])
    # Of a small model the pages in flight are a larger share; of the 124M one it is 0.29.
    assert found["bfloat16"]["peak"] <= 0.7 * whole["peak"]
    assert found["int8"]["peak"] <= 0.45 * whole["peak"]
    # The head is as in int8, and a third of this model.
    assert found["int4"]["peak"] <= 0.9 * found["int8"]["peak"]
