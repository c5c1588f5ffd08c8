"""GGUF files through every call of the package, and what is said about those it cannot run."""

from __future__ import annotations

import json
import os
import pickle
import shutil

import fastdecode
import numpy as np
import pytest
from fastdecode import Decoder
from gguf_files import write
from gguf_models import complete, metadata_of, vocabulary, written

CALL = {"max_new_tokens": 6, "seed": 3, "temperature": 1.0}


@pytest.fixture
def path(tmp_path):
    return complete(tmp_path)


def message(model, **arguments) -> str:
    """What the refusal of a model says."""
    with pytest.raises(ValueError, match="model=") as refusal:
        Decoder.from_pretrained(str(model), **arguments)
    return str(refusal.value)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gemma3", "gpt2"])
def test_every_architecture_generates(kind, tmp_path):
    path = complete(tmp_path, kind)
    decoder = Decoder.from_pretrained(path)
    assert (decoder.engine.name, decoder.engine.dtype) == ("native", "gguf")
    for dtype in (None, "float32", "bfloat16", "int8", "int4"):
        found = fastdecode.generate("in the", model=path, dtype=dtype, **CALL)
        again = fastdecode.generate(["a", "in the"], model=path, dtype=dtype, **CALL)
        assert len(found[0].token_ids) <= 6
        assert again.environment["dtype"] == (dtype or "gguf")
    (scored,) = fastdecode.score(["in the end"], model=path, bos=False, eos=False)
    assert scored.logprob < 0
    beams = fastdecode.generate("the", model=path, num_beams=4, max_new_tokens=5)
    assert beams[0].text
    assert decoder.chat_prompt([{"role": "user", "content": "the"}]) == "<|begin|>the"
    assert decoder.chat("the", **CALL)[0].prompt == "<|begin|>the"


def test_pickles_and_paths(path, tmp_path, monkeypatch):
    decoder = pickle.loads(pickle.dumps(Decoder.from_pretrained(path)))
    expected = decoder.generate("the", **CALL)[0].token_ids
    link, hashed = tmp_path / "link.GGUF", tmp_path / "sha256-0f3a"
    link.symlink_to(path)
    shutil.copy(path, hashed)
    monkeypatch.chdir(tmp_path)
    for name in (path, str(path), "x.gguf", "./x.gguf", link, hashed):
        found = fastdecode.generate("the", model=name, **CALL)
        assert found[0].token_ids == expected, name


def test_saved_runs_replay_and_changes_are_noticed(path, tmp_path):
    runs = tmp_path / "run.json"
    fastdecode.generate(["the", "a"], model=path, **CALL).save(runs)
    saved = json.loads(runs.read_text("utf-8"))
    assert saved["environment"]["dtype"] == "gguf"
    assert saved["identity"]["weights"] == fastdecode.fingerprint(path).weights
    assert saved["identity"]["weights"].startswith("quick/1:bytes:")
    report = fastdecode.verify(runs)
    assert (report.same, report.model) == (True, {})
    # The last bytes are of the last tensor.
    data = bytearray(path.read_bytes())
    data[-200:] = bytes(200)
    path.write_bytes(data)
    report = fastdecode.verify(runs)
    assert list(report.model) == ["weights"]
    with pytest.warns(UserWarning, match="the weights differ from those of the saved run"):
        fastdecode.replay(runs)


def test_the_command_line(path, tmp_path, run):
    model = ("--model", str(path))
    out = tmp_path / "runs.jsonl"
    code, text, _ = run("generate", "the", *model, "--seed", "1", "--max-new-tokens", "3")
    assert (code, text.startswith("the")) == (0, True)
    asked = ("generate", "the", *model, "--seed", "1", "--max-new-tokens", "3", "--out", str(out))
    assert run(*asked)[0] == 0
    assert run(*asked)[0] == 0
    for command in (("score", "the end"), ("next", "the"), ("tokens", "in the")):
        assert run(*command, *model)[0] == 0, command
    code, _, error = run("next", "the", "--model", str(tmp_path / "absent.gguf"))
    assert (code, "absent.gguf: No such file or directory" in error) == (2, True)
    # A job goes on with the model that it was begun with.
    path.write_bytes(path.read_bytes()[:-200] + bytes(200))
    code, _, error = run(*asked)
    assert (code, "weights" in error) == (2, True)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"engine": "torch"}, "engine='torch'"),
        ({"engine": "transformers"}, "engine='transformers'"),
        ({"dtype": "float16"}, "dtype='float16'"),
        ({"device": "meta"}, "device='meta'"),
    ],
)
def test_other_engines_are_refused(given, named, path):
    said = message(path, **given)
    assert said.startswith(f"model={str(path)!r} is a GGUF file, which the native engine runs, on")
    assert said.endswith(f"int4; {named} asks for something else")
    with pytest.raises(ValueError, match="revision='main' goes with a name of the hub, not with a"):
        Decoder.from_pretrained(path, revision="main")


def test_a_folder_of_gguf_files_names_them(path, tmp_path):
    said = message(tmp_path)
    assert said == (
        f"model={str(tmp_path)!r} is a folder without config.json, in which 'x.gguf' can be a "
        f"model; give the path of the file, model={str(path)!r}"
    )
    shutil.copy(path, tmp_path / "y.gguf")
    assert "in which 'x.gguf' and 1 more can be a model" in message(tmp_path)


def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "x.gguf")
    assert message(tmp_path / "x.gguf").endswith("x.gguf' is not a regular file")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"general.architecture": "mamba"}, 'general.architecture is "mamba"; the native engine'),
        (
            {"general.architecture": "clip"},
            "load the model that the file was made of instead",
        ),
        ({"split.count": 3, "split.no": 0}, "split.count=3: the model is split over several files"),
        ({"llama.expert_count": 8}, "llama.expert_count: the native engine does not know"),
        ({"llama.rope.scaling.type": "longrope"}, 'llama.rope.scaling.type="longrope"'),
        ({"tokenizer.ggml.pre": "pear"}, "tokenizer.ggml.pre is 'pear', a way to split texts that"),
        ({"tokenizer.ggml.model": "bert"}, "tokenizer.ggml.model is 'bert'; GGUF files are read"),
    ],
)
def test_what_stands_against_a_file_is_named(more, said, tmp_path):
    """By what is most fundamental: the architecture before the tokenizer."""
    path = complete(tmp_path, more=more)
    found = message(path)
    assert found.startswith(f"model={str(path)!r} cannot be loaded: ")
    assert said in found


def test_the_architecture_is_named_before_a_missing_tokenizer(tmp_path):
    metadata = metadata_of("llama") | {"general.architecture": "mamba"}
    assert '"mamba"' in message(written(tmp_path, "llama", metadata=metadata))
    assert "tokenizer.ggml.tokens is missing" in message(written(tmp_path, "llama"))


def test_encodings_that_are_not_read_are_named(tmp_path):
    tensors = {"token_embd.weight": np.zeros((48, 136), np.uint8)}
    path = write(
        tmp_path / "x.gguf",
        metadata_of("llama") | vocabulary(),
        tensors,
        {"token_embd.weight": (23, 256, 136)},
    )
    said = message(path)
    assert 'the tensor "token_embd.weight" is stored as IQ4_XS, which is not read' in said
    assert "make one with llama-quantize: F32, F16, Q4_0, Q4_1" in said


def test_damaged_files(path, tmp_path):
    data = path.read_bytes()
    for name, changed, said in (
        ("empty", b"", "the header, at byte 0, needs 4 bytes, and the file has 0 from there"),
        ("cut", data[: len(data) // 2], "download the file again"),
        ("big", data[:4] + (3).to_bytes(4, "big") + data[8:], "this GGUF file is big-endian"),
        ("old", data[:4] + (1).to_bytes(4, "little") + data[8:], "version 1 of the container"),
        ("text", b"hello, world" * 10, 'this is not a GGUF file: it begins with "hell"'),
    ):
        other = tmp_path / f"{name}.gguf"
        other.write_bytes(changed)
        assert said in message(other), name


def test_vectors_in_blocks_cannot_be_reordered(tmp_path):
    """The outputs of llama's queries and keys are put in another order, one by one."""
    rng = np.random.default_rng(0)
    tensors = {
        "token_embd.weight": np.zeros((48, 32), np.float32),
        "blk.0.attn_q.bias": rng.integers(0, 256, 34, dtype=np.uint8),
    }
    path = write(
        tmp_path / "x.gguf",
        metadata_of("llama") | vocabulary(),
        tensors,
        {"blk.0.attn_q.bias": (8, 32, 34)},
    )
    assert 'the tensor "blk.0.attn_q.bias": its blocks extend over several outputs' in message(path)
