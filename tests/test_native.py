"""The native engine against transformers, and its own promise: the same bits in any company."""

from __future__ import annotations

from importlib.resources import files

import fastdecode
import numpy as np
import pytest
import torch
from conftest import make_model, ragged
from fastdecode.models.engines import open_engine
from fastdecode.models.engines.native import LoadedEngine, NativeEngine
from fastdecode.models.tokenizer import FileTokenizer
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel


def gpt2(seed=0, **sizes):
    torch.manual_seed(seed)
    small = {"vocab_size": 300, "n_positions": 64, "n_embd": 48, "n_layer": 2, "n_head": 4}
    special = {"bos_token_id": 0, "eos_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(**{**small, **special, **sizes})).eval()


def reference(model, ids):
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0].numpy()


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"initializer_range": 0.3},
        {"n_embd": 30, "n_head": 5, "vocab_size": 301},
        {"n_embd": 96, "n_head": 2, "n_inner": 100, "vocab_size": 1000, "n_positions": 200},
        {"n_embd": 768, "n_head": 12, "n_layer": 3, "vocab_size": 5000, "n_positions": 300},
    ],
)
def test_logits_are_those_of_transformers(sizes):
    model = gpt2(**sizes)
    engine = open_engine(model, "native")
    rng = np.random.default_rng(0)
    for length in (1, 2, 16, 17, model.config.n_positions):
        ids = rng.integers(0, model.config.vocab_size, length).tolist()
        (logits,) = engine.all_logits([ids])
        assert np.abs(logits - reference(model, ids)).max() < 2e-4


@pytest.mark.slow
def test_logits_of_the_124m_model_are_those_of_transformers():
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config()).eval()
    ids = np.random.default_rng(0).integers(0, 50257, 60).tolist()
    (logits,) = open_engine(model, "native").all_logits([ids])
    expected = reference(model, ids)
    assert np.abs(logits - expected).max() < 2e-4
    exact = reference(model.double(), ids)
    # At least as near to the exact ones as torch's, over all logits.
    ours, theirs = (np.sqrt(np.mean((x - exact) ** 2)) for x in (logits, expected))
    assert ours <= theirs, (ours, theirs)


def test_greedy_texts_are_those_of_the_torch_engine(tokenizer):
    model = make_model("gpt2", torch.float32)
    prompts = ragged(200, seed=3)
    ours = fastdecode.Decoder(model, tokenizer, engine="native").generate(prompts)
    theirs = fastdecode.Decoder(model, tokenizer, engine="torch").generate(prompts)
    assert [g.token_ids for g in ours] == [g.token_ids for g in theirs]


def test_auto_takes_it_for_plain_gpt2_in_float32_only():
    assert type(open_engine(gpt2())) is LoadedEngine
    for other in (gpt2().double(), gpt2(activation_function="tanh"), make_model("llama")):
        assert not isinstance(open_engine(other), NativeEngine)
        with pytest.raises(ValueError, match="engine='native' cannot run a"):
            open_engine(other, "native")


def test_it_follows_changes_of_the_model():
    model = gpt2()
    engine = open_engine(model, "native")
    ids = [5, 6, 7]
    list(engine.all_logits([ids]))
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight.mul_(3.0)
    (logits,) = engine.all_logits([ids])
    assert np.abs(logits - reference(model, ids)).max() < 2e-4


def test_a_text_is_the_same_in_any_batch_to_the_last_bit():
    decoder = fastdecode.Decoder.from_pretrained("demo")
    assert type(decoder.engine) is NativeEngine
    prompts = ["Once upon a time", "The", "It was a dark and stormy night, and", "Alice said"] * 8
    options = {"seed": 3, "temperature": 0.9, "max_new_tokens": 12, "logprobs": 0}
    streams = list(range(32))
    together = decoder.generate(prompts, streams=streams, **options)
    for row in (0, 5, 18, 31):
        alone = decoder.generate(prompts[row], streams=[row], **options)[0]
        assert alone.token_ids == together[row].token_ids
        assert alone.logprobs == together[row].logprobs


def test_files_need_no_torch_and_their_tokenizer_is_that_of_transformers():
    folder = files("fastdecode") / "demo"
    ours, theirs = FileTokenizer(folder), AutoTokenizer.from_pretrained(str(folder))
    texts = ["Once upon a time", "", "  two  spaces\n\n", "café — 你好 🐊", "<|endoftext|>x"]
    assert ours(texts)["input_ids"] == theirs(texts)["input_ids"]
    for ids in ours(texts)["input_ids"]:
        for skip in (True, False):
            assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(
                ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False
            )
    assert (ours.bos_token_id, ours.eos_token_id) == (theirs.bos_token_id, theirs.eos_token_id)


def test_a_folder_that_it_cannot_run_is_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        fastdecode.Decoder.from_pretrained(str(tmp_path), engine="native")


def test_rows_refuse_what_makes_no_sense():
    rows, _ = open_engine(gpt2(), "native").start([[1, 2], [3]], [1, 2])
    with pytest.raises(ValueError, match="tokens has 2 entries for 3 rows; give one a row"):
        rows.step(np.array([1, 2]))
    with pytest.raises(ValueError, match=r"tokens\[1\] has -1, which is outside the vocabulary"):
        rows.step(np.array([1, -1, 2]))
    with pytest.raises(IndexError, match=r"rows\[0\]=3 is outside 0\.\.2"):
        rows.keep(np.array([3]))
    assert len(rows) == 3
