"""Packed files through every call: the same model, identified as what it was packed from."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import fastdecode
import numpy as np
import pytest
from fastdecode import Decoder
from fastdecode._core import NativeModel, PackedFile
from fastdecode.files.inner import InnerPath
from fastdecode.models.engines import NATIVE_DTYPES
from fastdecode.models.identity.packed import PackedSource
from fastdecode.models.packed.writing import pack
from folders import copy_of_demo
from gguf_models import complete
from safetensors.numpy import load_file, save_file

CALL = {"max_new_tokens": 8, "seed": 3, "temperature": 1.0}
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> dict[str, Path]:
    """The demo model in each format."""
    folder = tmp_path_factory.mktemp("packed")
    return {
        dtype: Path(pack("demo", folder / f"{dtype}.fastdecode", dtype=dtype).path)
        for dtype in NATIVE_DTYPES
    }


def message(model, **arguments) -> str:
    """What the refusal of a model says."""
    with pytest.raises(ValueError, match="model=") as refusal:
        Decoder.from_pretrained(str(model), **arguments)
    return str(refusal.value)


@pytest.mark.parametrize("dtype", NATIVE_DTYPES)
def test_every_format_gives_the_same_bits(packed, dtype):
    plain = Decoder.from_pretrained("demo", dtype=dtype)
    found = Decoder.from_pretrained(packed[dtype])
    assert (found.engine.name, found.engine.dtype) == ("native", dtype)
    ids = plain.encode("Once upon a time there was a king")
    assert found.encode("Once upon a time there was a king") == ids
    assert np.array_equal(plain.logits(ids), found.logits(ids))
    expected = plain.generate(["Once", "The king"], n=2, **CALL)
    again = fastdecode.generate(["Once", "The king"], model=packed[dtype], n=2, **CALL)
    assert [one.token_ids for one in again] == [one.token_ids for one in expected]
    assert found.identity() == plain.identity()
    assert found.identity(exact=True) == plain.identity(exact=True)


def test_runs_replay_on_either(packed, tmp_path):
    runs = {"packed": packed["int8"], "plain": "demo"}
    for name, model in runs.items():
        kept = None if name == "packed" else "int8"
        fastdecode.generate(["Once", "The"], model=model, dtype=kept, logprobs=2, **CALL).save(
            tmp_path / name
        )
    for name in runs:
        assert fastdecode.verify(tmp_path / name).same
    # The same model in the same format, wherever it is read from.
    report = fastdecode.verify(tmp_path / "packed", model="demo", dtype="int8")
    assert (report.same, report.model, report.largest) == (True, {}, 0)
    report = fastdecode.verify(tmp_path / "plain", model=packed["int8"])
    assert (report.same, report.model, report.largest) == (True, {}, 0)
    saved = json.loads((tmp_path / "packed").read_text("utf-8"))
    assert saved["call"]["model"] == str(packed["int8"])
    assert saved["identity"]["weights"] == fastdecode.fingerprint("demo").weights


def test_everything_that_belongs_to_a_model_travels(tmp_path):
    folder = copy_of_demo(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**settings, "eos_token_id": [7, 9]}))
    plain = Decoder.from_pretrained(folder)
    file = pack(str(folder), tmp_path / "x.fastdecode", dtype="int4")
    shutil.rmtree(folder)
    found = Decoder.from_pretrained(file.path)
    assert found.engine.eos_ids == plain.engine.eos_ids == (7, 9)
    assert found.chat_prompt("hello") == plain.chat_prompt("hello") == "<user>hello"
    assert found.tokenizer.chat_template == plain.tokenizer.chat_template
    assert found.tokenizer.special_tokens_map == plain.tokenizer.special_tokens_map
    text = "Once upon a time, naïve 你好 <|endoftext|>"
    assert found.encode(text) == plain.encode(text)
    assert found.chat("hello", **CALL)[0].prompt == "<user>hello"


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma3", "gpt2"])
def test_gguf_files(kind, tmp_path):
    path = complete(tmp_path, kind)
    for dtype in NATIVE_DTYPES:
        plain = Decoder.from_pretrained(path, dtype=dtype)
        found = Decoder.from_pretrained(
            pack(str(path), tmp_path / "x.fastdecode", dtype=dtype).path
        )
        ids = plain.encode("in the end, the")
        assert found.encode("in the end, the") == ids
        assert np.array_equal(found.logits(ids), plain.logits(ids))
        assert found.engine.eos_ids == plain.engine.eos_ids
        assert found.tokenizer.special_tokens_map == plain.tokenizer.special_tokens_map
        assert found.chat_prompt("the") == plain.chat_prompt("the")
        assert found.identity(exact=True) == plain.identity(exact=True)


def test_tokenizers_that_only_libraries_read(tmp_path):
    """Older files of a vocabulary, which want real files."""
    folder = copy_of_demo(tmp_path / "model")
    raw = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]
    (folder / "vocab.json").write_text(json.dumps(raw["vocab"]), "utf-8")
    merges = [one if isinstance(one, str) else " ".join(one) for one in raw["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]), "utf-8")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    plain = Decoder.from_pretrained(folder)
    file = pack(str(folder), tmp_path / "x.fastdecode")
    found = Decoder.from_pretrained(file.path)
    assert found.encode("Once upon a time") == plain.encode("Once upon a time")


def test_paths_and_pickles(packed, tmp_path, monkeypatch):
    expected = fastdecode.generate("the", model=packed["int4"], **CALL)[0].token_ids
    link, hashed = tmp_path / "link.fastdecode", tmp_path / "sha256-0f3a"
    link.symlink_to(packed["int4"])
    shutil.copy(packed["int4"], hashed)
    monkeypatch.chdir(packed["int4"].parent)
    for name in (packed["int4"], "int4.fastdecode", "./int4.fastdecode", link, hashed):
        assert fastdecode.generate("the", model=name, **CALL)[0].token_ids == expected, name
    decoder = pickle.loads(pickle.dumps(Decoder.from_pretrained(hashed)))
    assert decoder.generate("the", **CALL)[0].token_ids == expected


def test_what_a_file_cannot_do_is_said(packed, tmp_path):
    path = packed["int4"]
    text = message(path, dtype="int8")
    assert "its weights are int4, and dtype='int8' was given; leave dtype out, or pack" in text
    assert Decoder.from_pretrained(path, dtype="int4").engine.dtype == "int4"
    assert Decoder.from_pretrained(path, dtype="auto", engine="native").engine.dtype == "int4"
    assert "engine='torch' asks for something else" in message(path, engine="torch")
    assert "device='cuda' asks for something else" in message(path, device="cuda")
    with pytest.raises(ValueError, match="revision='main' goes with a name of the hub"):
        Decoder.from_pretrained(path, revision="main")
    with pytest.raises(FileNotFoundError, match=r"nothing\.fastdecode"):
        Decoder.from_pretrained(tmp_path / "nothing.fastdecode")
    (tmp_path / "folder.fastdecode").mkdir()
    assert "folder.fastdecode" in message(tmp_path / "folder.fastdecode")


def test_what_cannot_be_packed_is_said(packed, tmp_path):
    target = tmp_path / "x.fastdecode"
    with pytest.raises(ValueError, match="is a packed file; give the model that it was made of"):
        pack(str(packed["int4"]), target)
    with pytest.raises(ValueError, match="cannot be packed: dtype="):
        pack("demo", target, dtype="float64")
    with pytest.raises(ValueError, match=r"model='no such/model/here': there is no such folder"):
        pack("no such/model/here", target)
    folder = copy_of_demo(tmp_path / "model")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"cannot be packed: .*does not apply adapters"):
        pack(str(folder), target)
    assert not target.exists()
    other = tmp_path / "model" / "config.json"
    before = other.read_bytes()
    with pytest.raises(ValueError, match="exists, and is not a packed file"):
        pack("demo", other)
    assert other.read_bytes() == before
    # A packed file is replaced by another one.
    assert pack("demo", target, dtype="int8").dtype == "int8"
    assert pack("demo", target, dtype="int4").dtype == "int4"
    assert [path.name for path in tmp_path.glob("*.fastdecode")] == ["x.fastdecode"]


def test_a_model_of_the_hub(tmp_path, monkeypatch):
    """Downloaded where it is not on this machine; the file knows its name there."""
    asked = []

    def download(name, revision):
        asked.append((name, revision))
        return copy_of_demo(tmp_path / "downloaded")

    monkeypatch.setattr("fastdecode.models.packed.writing.download", download)
    monkeypatch.chdir(tmp_path)
    file = pack("somebody/model", dtype="int8", revision="v2")
    assert asked == [("somebody/model", "v2")]
    assert str(file.path) == "model-int8.fastdecode"
    source = PackedSource.of(file)
    assert (source.name, source.revision) == ("somebody/model", "v2")
    assert source.quick == fastdecode.fingerprint("demo")


def test_a_changed_file_is_loaded_again(tmp_path):
    target = tmp_path / "x.fastdecode"
    pack("demo", target, dtype="int8")
    first = fastdecode.generate("the", model=target, **CALL)
    decoder = Decoder.from_pretrained(target)
    pack("demo", target, dtype="int4")
    assert not decoder.is_current()
    second = fastdecode.generate("the", model=target, **CALL)
    assert [run.environment["dtype"] for run in (first, second)] == ["int8", "int4"]


def test_a_file_from_another_definition(packed, tmp_path):
    """What an earlier version has packed is refused, with the way to make it again."""
    raw = packed["int8"].read_bytes()
    path = tmp_path / "x.fastdecode"
    path.write_bytes(raw[:8] + (2).to_bytes(4, "little") + raw[12:])
    text = message(path)
    assert f"model='{path}' cannot be loaded: {path}: its layout has version 2" in text
    assert text.endswith("make it again with `fastdecode pack MODEL --dtype DTYPE`")


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fastdecode", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    made = run("pack", "demo", "--dtype", "int4")
    assert made.stdout.startswith("demo-int4.fastdecode made: int4, "), made.stderr
    checked = run("pack", "--check", "demo-int4.fastdecode", "--json")
    assert json.loads(checked.stdout)["definition"] == NativeModel.definition_of("int4")
    generated = run("generate", "Once", "--model", "demo-int4.fastdecode", "--max-new-tokens", "3")
    assert generated.returncode == 0, generated.stderr
    raw = bytearray(Path("demo-int4.fastdecode").read_bytes())
    raw[-1] ^= 1
    Path("bad.fastdecode").write_bytes(raw)
    bad = run("pack", "--check", "bad.fastdecode")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert 'bad.fastdecode: its contents are damaged: the checksum of "weights"' in bad.stderr
    for arguments, expected in (
        (["pack"], "give MODEL, the model to pack, or --check FILE"),
        (
            ["pack", "demo", "--check", "x"],
            "--check FILE checks an existing packed file; leave MODEL out",
        ),
        (["pack", "--check", "x"], "x: No such file or directory"),
        (["pack", "demo", "--dtype", "int5"], "dtype='int5' is unknown"),
        (["pack", "demo", "-o", "no/such/x"], "no/such/x: No such file or directory"),
    ):
        refused = run(*arguments)
        assert (refused.returncode, refused.stdout) == (2, ""), arguments
        assert expected in refused.stderr


def test_paths_within_a_file(packed):
    folder = InnerPath(PackedFile(packed["int4"]))
    config = folder / "config.json"
    assert str(config) == f"{packed['int4']}/config.json"
    assert (config.name, config.stem, config.is_file(), config.is_dir()) == (
        "config.json",
        "config",
        True,
        False,
    )
    assert folder.is_dir()
    assert sorted(folder.glob("*.json")) == sorted(folder.iterdir())
    assert json.loads(config.read_text("utf-8"))["model_type"] == "gpt2"
    assert not (folder / "nothing").exists()
    with pytest.raises(FileNotFoundError, match="nothing"):
        (folder / "nothing").read_bytes()


def test_weights_of_other_values_have_other_fingerprints(tmp_path):
    folder = copy_of_demo(tmp_path / "model")
    first = Decoder.from_pretrained(pack(str(folder), tmp_path / "a.fastdecode").path).identity()
    tensors = load_file(folder / "model.safetensors")
    name = min(tensors)
    tensors[name] = tensors[name] + np.float32(1)
    save_file(tensors, folder / "model.safetensors")
    second = Decoder.from_pretrained(pack(str(folder), tmp_path / "b.fastdecode").path).identity()
    assert first["weights"] != second["weights"]
    assert first["config"] == second["config"]
