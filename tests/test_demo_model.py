"""The demo model that ships with the package: its files, its tokenizer, its quality."""

from __future__ import annotations

import importlib.resources
import json
import math
import warnings
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from transformers import AutoTokenizer, GPT2LMHeadModel

DEMO = Path(str(importlib.resources.files("fastdecode") / "demo"))
EOT = "<|endoftext|>"
# Written for this test; in none of the books.
PASSAGE = (
    "There was once an old miller who lived with his daughter near a dark wood. One evening, when "
    "the sun had gone down, a stranger knocked at the door and asked for a bed and a little bread. "
    '"Come in," said the girl, "and sit down by the fire. My father will be home soon." The man '
    "thanked her, and said that he had walked the whole day without meeting anyone on the road."
)


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    return GPT2LMHeadModel.from_pretrained(DEMO, dtype=torch.float32).eval()


TOKENIZER = AutoTokenizer.from_pretrained(DEMO)


def loss(model: GPT2LMHeadModel, ids: list[int]) -> float:
    """Mean loss in nats a token, every token after BOS."""
    row = torch.tensor([[TOKENIZER.bos_token_id, *ids]])
    with torch.no_grad():
        logits = model(row[:, :-1]).logits[0]
    return float(torch.nn.functional.cross_entropy(logits, row[0, 1:]))


def test_the_files_are_there_and_small() -> None:
    names = {path.name for path in DEMO.iterdir()}
    assert {"model.safetensors", "config.json", "generation_config.json"} <= names
    assert {"tokenizer.json", "tokenizer_config.json", "README.md"} <= names
    assert sum(path.stat().st_size for path in DEMO.iterdir()) <= 8_000_000


def test_weights_are_stored_once_in_float16() -> None:
    with safe_open(DEMO / "model.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert "lm_head.weight" not in tensors
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())


def test_loads_and_runs_without_a_warning(capfd: pytest.CaptureFixture[str]) -> None:
    # transformers warns through its own logger, whose handler may hold an older stderr.
    transformers.logging.set_verbosity_warning()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, info = GPT2LMHeadModel.from_pretrained(DEMO, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(DEMO)
        with torch.no_grad():
            model(torch.tensor([[tokenizer.bos_token_id, 5, tokenizer.eos_token_id]]))
    assert not any(info.values())
    output = capfd.readouterr()
    assert "warn" not in (output.out + output.err).lower()
    assert "recommend" not in (output.out + output.err).lower()


def test_configuration(model: GPT2LMHeadModel) -> None:
    config = json.loads((DEMO / "config.json").read_text())
    assert config["model_type"] == "gpt2"
    assert config["architectures"] == ["GPT2LMHeadModel"]
    assert config["dtype"] == "float16"
    assert config["vocab_size"] == len(TOKENIZER) == 4096
    assert config["n_positions"] == TOKENIZER.model_max_length == 512
    assert config["activation_function"] == "gelu_new"
    assert 1_000_000 < sum(p.numel() for p in model.parameters()) < 4_000_000
    assert next(model.parameters()).dtype == torch.float32
    assert model.lm_head.weight.data_ptr() == model.transformer.wte.weight.data_ptr()


def test_bos_and_eos_are_one_token(model: GPT2LMHeadModel) -> None:
    eot = TOKENIZER.convert_tokens_to_ids(EOT)
    assert TOKENIZER.bos_token == TOKENIZER.eos_token == EOT
    assert TOKENIZER.bos_token_id == TOKENIZER.eos_token_id == eot == 4095
    for config in (model.config, model.generation_config):
        assert config.bos_token_id == config.eos_token_id == eot
    assert model.generation_config.pad_token_id == TOKENIZER.pad_token_id == eot
    assert TOKENIZER(EOT).input_ids == [eot]


def test_tokenizer_is_like_gpt2s() -> None:
    assert TOKENIZER.is_fast
    assert TOKENIZER("").input_ids == []
    assert TOKENIZER("said").input_ids != TOKENIZER(" said").input_ids
    assert len(TOKENIZER(" said").input_ids) == 1  # no prefix space is added, no BOS either
    assert TOKENIZER.decode(TOKENIZER(" It is n't so , no .").input_ids) == " It is n't so , no ."


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8")))
def test_decode_inverts_encode(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER(text).input_ids) == text


@settings(deadline=None)
@given(st.lists(st.integers(0, 255), max_size=30))
def test_every_byte_has_a_token(data: list[int]) -> None:
    text = bytes(data).decode("latin-1")
    assert TOKENIZER.decode(TOKENIZER(text).input_ids) == text
    assert max(TOKENIZER(text).input_ids, default=0) < 4096


def test_english_is_likely(model: GPT2LMHeadModel) -> None:
    ids = TOKENIZER(PASSAGE).input_ids
    assert math.exp(loss(model, ids)) < 60.0


def test_word_order_matters(model: GPT2LMHeadModel) -> None:
    words = PASSAGE.split(" ")
    shuffled = " ".join(words[i] for i in torch.randperm(len(words), generator=GENERATOR).tolist())
    assert (
        loss(model, TOKENIZER(shuffled).input_ids) > loss(model, TOKENIZER(PASSAGE).input_ids) + 1
    )


GENERATOR = torch.Generator().manual_seed(0)


def test_the_last_position_is_trained(model: GPT2LMHeadModel) -> None:
    """A window that fills the context is not worse at its end than in its middle."""
    ids = (TOKENIZER(" " + PASSAGE).input_ids * 6)[:512]
    row = torch.tensor([ids])
    with torch.no_grad():
        logits = model(row).logits[0]
    losses = torch.nn.functional.cross_entropy(logits[:-1], row[0, 1:], reduction="none")
    assert float(losses[-100:].mean()) < float(losses[:100].mean()) + 0.5


@pytest.mark.parametrize(
    ("prompt", "continuation"),
    [
        ("Sherlock", " Holmes"),
        ("the Tin", " Woodman"),
        ("the Emerald", " City"),
        ("the March", " Hare"),
    ],
)
def test_the_likeliest_next_token(model: GPT2LMHeadModel, prompt: str, continuation: str) -> None:
    with torch.no_grad():
        logits = model(torch.tensor([TOKENIZER(prompt).input_ids])).logits[0, -1]
    assert TOKENIZER.decode(int(logits.argmax())) == continuation
