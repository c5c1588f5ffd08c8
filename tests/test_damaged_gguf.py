"""Damaged GGUF files: a result, or a `ValueError` that names the file and what is wrong in it."""

from __future__ import annotations

import contextlib
import re
import time
import warnings

import pytest
from damage import DAMAGES, refusals
from fastdecode import Decoder, fingerprint
from gguf_damage import ARRAY, STRING, Parts, mutated_gguf
from gguf_files import write_model

COUNT = DAMAGES or 100
# What a message names inside the file: a metadata key, a tensor, a byte, the configuration that
# follows from the metadata, or the container itself.
PLACE = re.compile(
    r"(general|llama|tokenizer|split)\.[\w.]+|tensor|\bbyte \d|the first 24 bytes|begins with|"
    r"metadata|big-endian|version \d|in the configuration|the weights are damaged: \""
)
# Of a file that is whole, and whose model is too short for these texts or knows fewer tokens.
BETWEEN = ("the model's context", "the tokenizer is of another model")


def tried(path) -> str | None:
    """The message of a refusal; None for a result. Any other error is raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            decoder = Decoder.from_pretrained(path)
            decoder.generate(["the", "Once upon a time"], max_new_tokens=2, seed=1, top_p=0.9)
            decoder.score("the king", bos=False, eos=False)
            if decoder.tokenizer.chat_template is not None:
                decoder.chat_prompt("the")
        except ValueError as error:
            return str(error)
    return None


@pytest.mark.parametrize("tokenizer", ["gpt2", "llama"])
def test_a_result_or_an_error_that_names_the_file(tmp_path, tokenizer):
    path = write_model(tmp_path / f"{tokenizer}.gguf", tokenizer)
    assert tried(path) is None

    def attempt():
        with contextlib.suppress(ValueError):
            fingerprint(path)
        return tried(path)

    found = refusals(path, mutated_gguf, attempt, COUNT, tokenizer)
    for _, message in found:
        if any(words in message for words in BETWEEN):
            continue
        assert str(path) in message, message
        assert PLACE.search(message.replace(str(path), "")), message
    assert len(found) > COUNT / 4


@pytest.mark.parametrize(
    ("key", "kind", "value", "message"),
    [
        ("tokenizer.ggml.bos_token_id", 5, -3, r"bos_token_id.* is .*; it must be"),
        ("tokenizer.ggml.scores", ARRAY, (6, [float("nan")] * 289), r"scores must have a number"),
        ("tokenizer.ggml.scores", ARRAY, (STRING, [b"x"] * 289), r"scores must have a number"),
        ("tokenizer.chat_templates", 4, 7, r"tokenizer.chat_templates must be a list of strings"),
        (
            "llama.rope.freq_base",
            6,
            float("inf"),
            r"rope.freq_base\" is a float32; it must be a fin",
        ),
    ],
)
def test_a_value_that_no_tool_writes(tmp_path, key, kind, value, message):
    path = write_model(tmp_path / "x.gguf", "llama")
    parts = Parts.of(path.read_bytes())
    parts.entries = [entry for entry in parts.entries if entry[0] != key.encode()]
    parts.entries.append([key.encode(), kind, value])
    path.write_bytes(parts.raw())
    with pytest.raises(ValueError, match=rf"x\.gguf: .*{message}"):
        Decoder.from_pretrained(path)


def test_a_token_of_many_characters(tmp_path):
    path = write_model(tmp_path / "x.gguf", "llama")
    parts = Parts.of(path.read_bytes())
    tokens = next(e for e in parts.entries if e[0] == b"tokenizer.ggml.tokens")
    tokens[2][1][-1] = b"th" * 100_000
    path.write_bytes(parts.raw())
    start = time.process_time()
    assert tried(path) is None
    assert time.process_time() - start < 5
