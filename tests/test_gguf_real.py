"""SmolLM2 from its GGUF file against transformers over the same, dequantised weights."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from fastdecode import Decoder, core
from fastdecode._core import GgufFile
from gguf_files import smollm2
from transformers import AutoModelForCausalLM

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("smollm2")]

SUBJECTS = (
    "The capital of France",
    "A recipe for bread",
    "The old lighthouse keeper",
    "In 1969, a spacecraft",
    "def fibonacci(n):",
    "Question: why is the sky blue?",
    "Der Zug nach Berlin",
    "The square root of 144",
    "She opened the letter and",
    "Water boils at",
)
FRAMES = ("{}", "Once upon a time. {}", "{} is", "Note 7: {}, and then", "- one\n- two\n- {}")
PROMPTS = [frame.format(subject) for frame, subject in product(FRAMES, SUBJECTS)]
# Tokens of a window of text, and the number of windows.
WINDOW, WINDOWS = 384, 4


@pytest.fixture(scope="module")
def reference():
    """transformers' own reading of the file, in float32."""
    pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    path = smollm2()
    model = AutoModelForCausalLM.from_pretrained(
        str(path.parent), gguf_file=path.name, dtype=torch.float32
    )
    return model.eval()


@pytest.fixture(scope="module")
def decoder():
    return Decoder.from_pretrained(str(smollm2()), dtype="float32")


def logits_of(model, ids: list[int]) -> np.ndarray:
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0].numpy()


def test_every_weight_is_that_of_transformers(reference):
    file = GgufFile(smollm2())
    state = reference.state_dict()
    names = {name for name, _ in reference.named_parameters()}
    assert set(file.weights()) == names
    for name in names:
        found, expected = file.weight(name), state[name].numpy()
        assert np.array_equal(found.view(np.uint32), expected.view(np.uint32)), name


def test_greedy_continuations_are_those_of_transformers(reference, decoder):
    """Each token is the likeliest by transformers' logits, where rounding does not decide."""
    found = decoder.generate(PROMPTS, temperature=0.0, max_new_tokens=24)
    assert len(found) == len(PROMPTS) == 50
    close = tokens = 0
    for prompt, generation in zip(PROMPTS, found, strict=True):
        context, new = decoder.tokenizer.encode(prompt), list(generation.token_ids)
        rows = logits_of(reference, context + new)[len(context) - 1 : -1]
        tokens += len(new)
        for row, token in zip(rows, new, strict=True):
            margin = row.max() - row[token]
            # Both sides round: by less than half of this each.
            assert margin <= 1e-4 * np.abs(row).max(), (prompt, token)
            close += margin > 0
    assert tokens > 1000
    assert close <= 3, f"{close} of {tokens} tokens were decided by rounding"


def test_logits_and_perplexity_are_those_of_transformers(reference, decoder):
    """In float32. In the file's own formats the weights are the same, and activations are rounded.

    On the texts in the folder FASTDECODE_TEXTS, or on the documentation.
    """
    folder = Path(os.environ.get("FASTDECODE_TEXTS", Path(__file__).parents[1] / "docs"))
    text = "\n".join(
        path.read_text(encoding="utf-8")
        for path in sorted(folder.glob("*.txt")) or sorted(folder.glob("*.md"))
    )
    ids = decoder.tokenizer.encode(text[: 20 * WINDOW * WINDOWS])
    windows = [ids[first : first + WINDOW] for first in range(0, WINDOWS * WINDOW, WINDOW)]
    losses = np.zeros(2)
    for window, ours in zip(windows, decoder.engine.all_logits(windows), strict=True):
        theirs = logits_of(reference, window)
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()
        after = np.array(window[1:])
        losses -= [
            math.fsum(core.token_logprobs(np.asarray(rows[:-1]), after).tolist())
            for rows in (ours, theirs)
        ]
    ours, theirs = np.exp(losses / (WINDOWS * (WINDOW - 1)))
    assert abs(ours / theirs - 1) <= 1e-4
    stored = Decoder.from_pretrained(str(smollm2()))
    assert stored.engine.dtype == "gguf"
    loss = -math.fsum(
        math.fsum(core.token_logprobs(rows[:-1], np.array(window[1:])).tolist())
        for window, rows in zip(windows, stored.engine.all_logits(windows), strict=True)
    )
    assert abs(np.exp(loss / (WINDOWS * (WINDOW - 1))) / theirs - 1) <= 0.03


def test_neither_torch_nor_transformers_is_imported():
    code = f"""
import sys
from fastdecode import Decoder
decoder = Decoder.from_pretrained({str(smollm2())!r})
assert decoder.generate("The capital of France is", temperature=0.0, max_new_tokens=1)[0].text
found = {{"torch", "transformers", "gguf", "accelerate"}} & sys.modules.keys()
assert not found, found
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_conversation(decoder):
    """The chat template comes from the file."""
    reply = decoder.chat(
        [{"role": "user", "content": "What is the capital of France?"}],
        temperature=0.0,
        max_new_tokens=16,
    )
    assert "Paris" in reply[0].text
    assert reply[0].finish_reason == "eos"
