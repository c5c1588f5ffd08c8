"""Damaged files of a model, and of prompts: a result, or a `ValueError` that names the file."""

from __future__ import annotations

import json
import re
import shutil
import warnings

import pytest
import torch
from conftest import TEXT, make_tokenizer
from damage import DAMAGES, mutated_lines, refusals
from fastdecode import Decoder, fingerprint
from fastdecode.cli.inputs.texts import read
from odd_json import any_json, any_json_lines, any_weights
from transformers import GPT2Config, GPT2LMHeadModel

COUNT = DAMAGES or 25
# Of what a message may speak instead of a file: what does not fit between two files.
BETWEEN = (
    "tensors are missing",
    "the tokenizer is of another model",
    "the tensor ",
    "weights' tensor ",
)
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small model in all the files that a model can be in."""
    folder = tmp_path_factory.mktemp("whole")
    torch.manual_seed(0)
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 8, "n_positions": 32, "vocab_size": 300}
    GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).save_pretrained(folder)
    GPT2LMHeadModel.from_pretrained(folder).save_pretrained(folder / "sharded", max_shard_size=9000)
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    token = {"content": "<|endoftext|>", "lstrip": False, "normalized": True, "rstrip": False}
    older = {"bos_token": "<|endoftext|>", "eos_token": {**token, "single_word": False}}
    (folder / "special_tokens_map.json").write_text(json.dumps(older))
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    )
    state = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(state["vocab"]))
    merges = [m if isinstance(m, str) else " ".join(m) for m in state["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), "utf-8")
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "sharded")
    return tmp_path / "model"


def sharded(folder, whole):
    (folder / "model.safetensors").unlink()
    for path in (whole / "sharded").glob("model*"):
        shutil.copy(path, folder)


def without_tokenizer_json(folder, _):
    (folder / "tokenizer.json").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["tokenizer_class"] = "GPT2Tokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


# By file: how it is damaged, and what the folder needs for it to be read.
FILES = {
    "config.json": (any_json, None),
    "generation_config.json": (any_json, None),
    "tokenizer_config.json": (any_json, None),
    "special_tokens_map.json": (any_json, None),
    "tokenizer.json": (any_json, None),
    "chat_template.jinja": (mutated_lines, None),
    "model.safetensors": (any_weights, None),
    INDEX: (any_json, sharded),
    "vocab.json": (any_json, without_tokenizer_json),
    "merges.txt": (mutated_lines, without_tokenizer_json),
}


def tried(folder, engine) -> str | None:
    """The message of a refusal; None for a result. Any other error is raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            decoder = Decoder.from_pretrained(folder, engine=engine)
            decoder.generate(["Once", TEXT[0][:20]], max_new_tokens=2, seed=1, top_p=0.9)
            decoder.score("Once upon a time", bos=False, eos=False)
            if decoder.tokenizer.chat_template is not None:
                decoder.chat_prompt("Once")
        except ValueError as error:
            return str(error)
    return None


@pytest.mark.parametrize("engine", ["native", "transformers"])
@pytest.mark.parametrize("name", FILES)
def test_a_result_or_an_error_that_names_the_file(folder, whole, name, engine, record_property):
    mutation, prepare = FILES[name]
    if prepare is not None:
        prepare(folder, whole)
    assert tried(folder, engine) is None
    found = refusals(folder / name, mutation, lambda: tried(folder, engine), COUNT, name)
    for raw, message in found:
        assert any(words in message for words in (name, *BETWEEN)), (raw, message)
    record_property("refused", len(found))
    assert len(found) > COUNT / 4 or name in ("chat_template.jinja", "merges.txt")


def changed(path, change):
    """Change the JSON object of a file, or of the header of a safetensors file."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little") if path.suffix == ".safetensors" else None
    data = json.loads(raw if size is None else raw[8 : 8 + size])
    text = json.dumps(change(data)).encode()
    path.write_bytes(
        text if size is None else len(text).to_bytes(8, "little") + text + raw[8 + size :]
    )


def renamed(layer):
    """Give the first layer's tensors another number."""
    return lambda data: {name.replace(".0.", f".{layer}.", 1): data[name] for name in data}


# What the readers of files take, and transformers trips over later, without naming the file.
LATE = {
    "no quant_method": (
        "config.json",
        lambda data: {**data, "quantization_config": {}},
        "quantization_config is {}: ",
    ),
    "another quant_method": (
        "config.json",
        lambda data: {**data, "quantization_config": {"quant_method": "gptq"}},
        'quantization_config is {"quant_method": "gptq"}: ',
    ),
    "a long number in a name": (
        "model.safetensors",
        renamed("7" * 5001),
        'header: a number in the name of the tensor "transformer.h.777',
    ),
    "no number in a name": (
        "model.safetensors",
        renamed("\N{SUPERSCRIPT TWO}"),
        'header: a number in the name of the tensor "transformer.h.\\u00b2.',
    ),
    "no metadata": (
        INDEX,
        lambda data: {"weight_map": data["weight_map"]},
        'it has no metadata; add "metadata": {}',
    ),
    "null for metadata": (
        INDEX,
        lambda data: {**data, "metadata": None},
        "metadata must be an object, not null",
    ),
}


@pytest.mark.parametrize("damage", LATE)
def test_damage_that_only_transformers_finds(folder, whole, damage):
    name, change, words = LATE[damage]
    if name == INDEX:
        sharded(folder, whole)
    changed(folder / name, change)
    message = tried(folder, "transformers")
    assert message is not None
    assert re.search(rf"{re.escape(str(folder / name))}[:,] {re.escape(words)}", message), message


def test_damage_beside_a_quantization_that_transformers_does_not_know(folder):
    method = {"quantization_config": {"quant_method": "unknown"}}
    changed(folder / "config.json", lambda data: {**data, **method})
    assert tried(folder, "transformers") is None
    changed(folder / "model.safetensors", renamed("7" * 5001))
    assert "model.safetensors, header: " in tried(folder, "transformers")


def test_a_fingerprint_reads_the_files_of_an_index_without_metadata(folder, whole):
    sharded(folder, whole)
    changed(folder / INDEX, lambda data: {"weight_map": data["weight_map"]})
    before = fingerprint(folder, exact=True)
    shard = next(folder.glob("model-00001*"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x55")
    assert fingerprint(folder, exact=True) != before


@pytest.mark.parametrize("name", [*FILES])
def test_a_fingerprint_or_an_error_that_names_the_file(folder, whole, name):
    mutation, prepare = FILES[name]
    if prepare is not None:
        prepare(folder, whole)

    def attempt():
        try:
            fingerprint(folder)
            fingerprint(folder, exact=True)
        except (ValueError, FileNotFoundError) as error:
            return str(error)

    # A file that the index names may be missing.
    shards = [str(folder)] if name == INDEX else []
    for raw, message in refusals(folder / name, mutation, attempt, COUNT, name):
        assert any(words in message for words in (name, *shards, *BETWEEN)), (raw, message)


PROMPTS = {
    "prompts.txt": (mutated_lines, b"Once upon a time\nThe king\nthere was\n"),
    "prompts.jsonl": (
        any_json_lines,
        b'{"id": 1, "prompt": "Once"}\n{"text": "The king", "more": [1, {"a": null}]}\n',
    ),
}


@pytest.mark.parametrize("what", ["prompt", "text", "label"])
@pytest.mark.parametrize("name", PROMPTS)
def test_texts_or_an_error_that_names_the_line(tmp_path, name, what):
    mutation, good = PROMPTS[name]
    path = tmp_path / name
    path.write_bytes(good)

    def attempt():
        try:
            found = read([], str(path), what)
        except ValueError as error:
            return str(error)
        assert all(isinstance(text.encode(), bytes) for text in found.texts)
        for index in range(len(found.texts)):
            json.dumps(found.record(index, {"text": ""})).encode()
        return None

    found = refusals(path, mutation, attempt, 4 * COUNT, name)
    for raw, message in found:
        assert message.startswith(str(path)), (raw, message)
        about_all = ("looks like", "has no", "is JSON, but")
        assert re.search(r"line \d", message) or any(w in message for w in about_all), message
    assert len(found) > COUNT / 4
