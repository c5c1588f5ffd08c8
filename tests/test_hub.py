"""The course page's figures for the real GPT-2, wherever its checkpoint is available."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit

import numpy as np
import pytest

MODEL = "openai-community/gpt2"
PROMPT_IDS = [6214, 345]
TOP_TEN = [
    (" soon", 0.084681),
    (" there", 0.073554),
    (" all", 0.072775),
    (" next", 0.072505),
    (" guys", 0.061731),
    (" in", 0.055900),
    (" out", 0.053875),
    (" on", 0.040310),
    (" later", 0.028322),
    (",", 0.027074),
]
GREEDY_IDS = [
    *(2582, 11, 198, 198, 464, 4453, 286, 262, 26028, 198, 198),
    *(464, 4453, 286, 262, 26028, 25, 383, 5172, 3776),
]
GREEDY_TEXT = " soon,\n\nThe Lord of the Rings\n\nThe Lord of the Rings: The Card Game"
LOGPROBS = {
    "See you later, alligator.": -31.0388,
    "See you later, crocodile.": -35.5485,
    "See you later, asdf.": -42.2685,
}

pytestmark = pytest.mark.hub


def _why_not() -> str | None:
    """Why the checkpoint is not available, or None. A second or two at most."""
    from huggingface_hub import constants, try_to_load_from_cache

    needed = ("config.json", "model.safetensors", "tokenizer.json")
    if all(isinstance(try_to_load_from_cache(MODEL, name), str) for name in needed):
        return None
    if constants.HF_HUB_OFFLINE or os.environ.get("TRANSFORMERS_OFFLINE"):
        return f"{MODEL} is not in the cache, and the hub is switched off (HF_HUB_OFFLINE)"
    address = urlsplit(constants.ENDPOINT)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname, port), timeout=1.5).close()
    except OSError as error:
        return f"{MODEL} is not in the cache, and {address.hostname} cannot be reached: {error}"
    return None


@pytest.fixture(scope="session")
def decoder():
    """GPT-2, or a skip with the reason; found out once."""
    reason = _why_not()
    if reason is not None:
        pytest.skip(reason)
    import fastdecode

    return fastdecode.Decoder.from_pretrained(MODEL)


def test_the_tokens_of_the_prompt(decoder):
    assert decoder.tokenizer("See you")["input_ids"] == PROMPT_IDS


def test_a_word_may_be_two_tokens(decoder):
    assert decoder.tokenizer.tokenize("alligator") == ["all", "igator"]


def test_logits_are_one_row_a_position(decoder):
    import torch

    with torch.inference_mode():
        logits = decoder.model(torch.tensor([PROMPT_IDS])).logits
    assert tuple(logits.shape) == (1, 2, 50257)


def test_the_ten_likeliest_next_tokens(decoder):
    import torch
    from fastdecode import core

    with torch.inference_mode():
        row = decoder.model(torch.tensor([PROMPT_IDS])).logits[0, -1].float()
    logits, ids = core.top_k(row, 10)
    probabilities = np.exp(np.float64(logits) - core.logsumexp(row))
    assert [decoder.tokenizer.decode([i]) for i in ids] == [token for token, _ in TOP_TEN]
    np.testing.assert_allclose(probabilities, [p for _, p in TOP_TEN], rtol=0, atol=1e-5)


def test_greedy_text(decoder):
    (generation,) = decoder.generate("See you", max_new_tokens=20)
    assert generation.token_ids == GREEDY_IDS
    assert generation.text == GREEDY_TEXT
    assert generation.finish_reason == "length"


@pytest.mark.parametrize(("text", "logprob"), LOGPROBS.items())
def test_log_probability_between_bos_and_eos(decoder, text, logprob):
    (score,) = decoder.score([text], bos=True, eos=True)
    assert score.logprob == pytest.approx(logprob, abs=1e-3)


def test_the_views_have_the_same_figures(decoder):
    assert decoder.tokens("See you").ids == PROMPT_IDS
    assert decoder.tokens("alligator").pieces == ["all", "igator"]
    found = decoder.next_token("See you")
    assert [c.text for c in found] == [token for token, _ in TOP_TEN]
    np.testing.assert_allclose(
        [c.probability for c in found], [p for _, p in TOP_TEN], rtol=0, atol=1e-5
    )
    compared = decoder.compare(list(LOGPROBS))
    assert [c.score.text for c in compared] == list(LOGPROBS)
    assert [c.score.logprob for c in compared] == pytest.approx(list(LOGPROBS.values()), abs=1e-3)
