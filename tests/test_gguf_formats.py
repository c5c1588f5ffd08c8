"""Quantised weights of GGUF files as the engine keeps them, and how to ask for that."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import fastdecode
import numpy as np
import pytest
import torch
import transformers
from fastdecode import Decoder
from fastdecode._core import GgufFile, NativeModel
from gguf_models import CLASSES, complete, make_model, metadata_of, quantised, vocabulary

pytest.importorskip("gguf")

# Two groups of 32 inputs in the residual, and five, which are more than 128 inputs, in the MLP.
SIZES = {"hidden_size": 64, "intermediate_size": 160, "head_dim": 16}
# How layers and the head are stored, and the dtype.
STORED = [
    ("Q4_0", "Q4_0", "gguf"),
    ("Q4_1", "Q8_0", "gguf"),
    ("Q8_0", "Q4_1", "gguf"),
    ("Q5_0", "Q5_0", "gguf"),
    ("Q4_1", "F32", "int8"),
    ("Q4_0", "F32", "int4"),
    ("F32", "F32", "int8"),
]
# Activations between two integers by less than this may be rounded to either: the engine computes
# in float32, and the reference in float64.
TIE = 1e-4


def file_of(path, kind: str, layers: str, head: str = "F32", tied: bool = False, **more):
    """A file whose layers and whose head and token embedding are stored in these ways."""
    model = make_model(kind, tied, **SIZES)
    metadata = metadata_of(kind, width=64, inner=160, head=16) | more
    return quantised(
        path,
        kind,
        model,
        lambda name: {"position_embd.weight": "F32"}.get(
            name, layers if name.startswith("blk.") else head
        ),
        metadata,
    )


def in_int8(weights: np.ndarray) -> np.ndarray:
    """The weights, (outputs, inputs), as dtype="int8" stores them."""
    largest = np.abs(weights).max(axis=1, keepdims=True)
    integers = np.rint(weights * (np.float32(127) / largest))
    return (integers * (largest / np.float32(127))).astype(np.float64)


class Integers:
    """Rounds what goes into a module as its definition says, and counts activations near a tie."""

    def __init__(self) -> None:
        self.ties = 0

    def __call__(self, _, inputs):
        (x,) = inputs
        out = torch.empty_like(x)
        for first in range(0, x.shape[-1], 128):
            part = x[..., first : first + 128]
            scale = part.abs().amax(-1, keepdim=True) / 127
            integers = part / scale
            self.ties += int(((integers - integers.floor() - 0.5).abs() < TIE).sum())
            out[..., first : first + 128] = integers.round() * scale
        return (out,)


def configured(kind: str, file: GgufFile):
    """transformers' model by the configuration of a file, without its weights."""
    config, model = CLASSES[kind]
    made = getattr(transformers, config)(**json.loads(file.config))
    return getattr(transformers, model)(made).eval()


def reference(kind: str, path, layers: str, head: str, dtype: str):
    """transformers' model in float64 with the weights of a file and activations as integers."""
    file, rounding = GgufFile(path), Integers()
    model = configured(kind, file).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            value = file.weight(name)
            matrix = value.ndim == 2 and not name.endswith("wpe.weight")
            outer = "layers." not in name and ".h." not in name
            if matrix and dtype != "gguf" and (head if outer else layers) == "F32":
                transposed = kind == "gpt2" and not outer
                value = in_int8(value.T).T if transposed else in_int8(value)
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(value, np.float64)))
    for module in model.modules():
        if type(module).__name__ in ("Linear", "Conv1D"):
            module.register_forward_pre_hook(rounding)
    return model, rounding


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize(("layers", "head", "dtype"), STORED)
def test_logits_are_those_of_the_definition(kind, layers, head, dtype, tmp_path):
    path = file_of(tmp_path, kind, layers, head)
    model, rounding = reference(kind, path, layers, head, dtype)
    native = NativeModel.from_gguf(path, dtype)
    compared = 0
    for seed in range(30):
        ids = np.random.default_rng(seed).integers(0, 40, 1 + seed % 3).tolist()
        rounding.ties = 0
        with torch.inference_mode():
            expected = model(torch.tensor([ids])).logits[0].numpy()
        apart = np.abs(native.all_logits(ids) - expected).max() / max(1.0, np.abs(expected).max())
        if rounding.ties == 0:
            assert apart < 1e-4, (seed, apart)
            compared += 1
        else:
            assert apart < 0.1, (seed, apart)
    assert compared >= 10


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("layers", ["Q4_0", "Q4_1", "Q8_0", "BF16", "F32"])
def test_float32_is_transformers_over_the_dequantised_weights(kind, layers, tmp_path):
    path = file_of(tmp_path, kind, layers, "Q8_0")
    file = GgufFile(path)
    model = configured(kind, file)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(file.weight(name)))
        ids = list(range(1, 33))
        expected = model(torch.tensor([ids])).logits[0].numpy()
    found = NativeModel.from_gguf(path, "float32").all_logits(ids)
    assert np.abs(found - expected).max() < 1e-3 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("layers", ["F32", "BF16"])
def test_what_is_not_quantised_has_the_bits_of_float32(layers, tmp_path):
    path = file_of(tmp_path, "llama", layers, "F32")
    ids = list(range(1, 33))
    found, expected = (
        NativeModel.from_gguf(path, dtype).all_logits(ids) for dtype in ("gguf", "float32")
    )
    assert found.tobytes() == expected.tobytes()


def test_memory_is_that_of_the_file(tmp_path):
    """Bits for each weight of the layers; the rest is the same."""
    sizes = {}
    for layers in ("Q4_0", "Q4_1", "Q8_0", "F32"):
        path = file_of(tmp_path, "llama", layers, "Q8_0")
        sizes[layers] = NativeModel.from_gguf(path).nbytes
        names = [name for name in GgufFile(path).weights() if "_proj" in name]
    count = sum(np.prod(GgufFile(path).weights()[name]) for name in names)
    for layers, bits in (("Q4_0", 4.5), ("Q4_1", 5), ("Q8_0", 8.5)):
        # Pages are whole.
        assert abs(sizes["F32"] - sizes[layers] - count * (32 - bits) / 8) < 8192


SCRIPT = """
import hashlib, sys
import numpy as np
from fastdecode._core import NativeModel
for path in sys.argv[1:]:
    model = NativeModel.from_gguf(path)
    rows = model.rows()
    prompts = [list(range(1, 2 + n)) for n in (0, 3, 17, 30, 5, 9, 1)]
    found = [rows.join(prompts, [1] * 7), rows.step(np.arange(7)).copy()]
    alone = [model.all_logits([*prompt, i])[-1] for i, prompt in enumerate(prompts)]
    assert (np.stack(alone) == found[1]).all()
    print(hashlib.sha256(b"".join(x.tobytes() for x in found)).hexdigest())
"""


def test_every_level_and_number_of_threads_gives_the_same_bits(tmp_path):
    paths = []
    for kind, layers, head in (
        ("llama", "Q4_1", "Q8_0"),
        ("gemma3", "Q4_0", "Q5_0"),
        ("gpt2", "Q8_0", "Q4_1"),
    ):
        (tmp_path / layers).mkdir()
        paths.append(str(file_of(tmp_path / layers, kind, layers, head)))
    found = set()
    for level in ("portable", "avx2", "avx512", "neon", ""):
        for threads in ("1", "3"):
            environment = os.environ | {"FASTDECODE_THREADS": threads}
            if level:
                environment["FASTDECODE_LEVEL"] = level
            command = [sys.executable, "-c", SCRIPT, *paths]
            ran = subprocess.run(command, env=environment, capture_output=True, text=True)
            if ran.returncode == 0:
                found.add(ran.stdout)
            else:
                assert "FASTDECODE_LEVEL" in ran.stderr
    assert len(found) == 1


CALL = {"max_new_tokens": 6, "seed": 3, "temperature": 1.0}


def small(path, layers: str):
    """A file with a tokenizer."""
    words = vocabulary()
    tokens = len(words["tokenizer.ggml.tokens"])
    model = make_model("llama", vocab_size=tokens, **SIZES)
    metadata = metadata_of("llama", width=64, inner=160, head=16) | words
    return quantised(path, "llama", model, lambda _: layers, metadata, "small.gguf")


def test_the_file_s_own_format_is_the_default(tmp_path):
    path = small(tmp_path, "Q4_1")
    decoders = [Decoder.from_pretrained(path, dtype=dtype) for dtype in (None, "gguf", "auto")]
    for decoder in decoders:
        assert (decoder.engine.dtype, decoder.engine.definition) == ("gguf", "gguf/1")
        assert "dtype='gguf'" in repr(decoder)
    texts = {decoder.generate("in the", **CALL)[0].text for decoder in decoders}
    assert len(texts) == 1
    run = tmp_path / "run.json"
    fastdecode.generate("in the", model=path, **CALL).save(run)
    saved = json.loads(run.read_text("utf-8"))
    assert (saved["call"]["dtype"], saved["identity"]["definition"]) == ("gguf", "gguf/1")
    assert fastdecode.verify(run).same


def test_as_few_bits_as_the_dtype_has_are_kept(tmp_path):
    ids = list(range(1, 33))
    path = small(tmp_path, "Q4_1")
    stored = NativeModel.from_gguf(path, "gguf")
    for dtype in ("int8", "int4"):
        kept = NativeModel.from_gguf(path, dtype)
        assert (kept.dtype, kept.definition) == (dtype, f"{dtype}-gguf/1")
        assert (kept.all_logits(ids) == stored.all_logits(ids)).all()
        converted = NativeModel.from_gguf(path, f"{dtype}/1")
        assert (converted.dtype, converted.definition) == (dtype, f"{dtype}/1")
        assert not (kept.all_logits(ids) == converted.all_logits(ids)).all()
    path = small(tmp_path, "Q8_0")
    stored, int8, int4 = (NativeModel.from_gguf(path, d) for d in ("gguf", "int8", "int4"))
    assert (int8.all_logits(ids) == stored.all_logits(ids)).all()
    assert int4.nbytes < 0.75 * stored.nbytes


def test_runs_of_versions_that_converted_all_weights_replay(tmp_path):
    path, run = small(tmp_path, "Q4_1"), tmp_path / "run.json"
    for dtype in ("int8", "int4"):
        found = fastdecode.generate(["in the", "a"], model=path, dtype=f"{dtype}/1", **CALL)
        found.save(run)
        saved = json.loads(run.read_text("utf-8"))
        # As they were saved then.
        assert saved["call"]["dtype"] == dtype
        assert saved["identity"]["definition"] == f"{dtype}/1"
        report = fastdecode.verify(run)
        assert (report.same, report.model) == (True, {})
        assert fastdecode.replay(run).call == found.call
        assert fastdecode.verify(run, model=path).same


def test_the_formats_of_files_go_with_files(tmp_path, tokenizer):
    for dtype, fix in (("gguf", "leave it out"), ("int8/1", 'give "int8"')):
        message = rf"dtype='{dtype}' goes with a GGUF file, and the model is none; {fix}"
        with pytest.raises(ValueError, match=message):
            Decoder.from_pretrained("demo", dtype=dtype)
        with pytest.raises(ValueError, match=message):
            Decoder(make_model("gpt2"), tokenizer, dtype=dtype)
    with pytest.raises(ValueError, match="engine='torch' asks for something else"):
        Decoder.from_pretrained(complete(tmp_path), engine="torch", dtype="gguf")
