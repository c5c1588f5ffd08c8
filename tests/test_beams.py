"""Beam search is transformers', and wide enough it is exhaustive search."""

import itertools
import random

import fastdecode
import numpy as np
import pytest
import torch
from conftest import make_model, make_tokenizer, ragged
from fastdecode import Beam, Decoder
from fastdecode.models.engines.transformers.growing_cache import GrowingLayer
from searches import near, random_case, search, small_vocabulary_model, tied, transformers_search


@pytest.mark.parametrize("kind", ["gpt2", "gpt2-transformers", "llama"])
def test_as_transformers(kind):
    """504 random searches in three kinds of engine: the same sequences, scores within 1e-5."""
    rng = random.Random(kind)
    model_kind, _, engine = kind.partition("-")
    cases = 0
    ties = 0
    for model_seed in range(6):
        model = small_vocabulary_model(model_kind, model_seed)
        decoder = Decoder(model, make_tokenizer(), engine=engine or "auto")
        for _ in range(28):
            beam, eos, prompts, limit = random_case(rng)
            ours = search(decoder, prompts, beam, limit, eos)
            theirs = transformers_search(model, prompts, beam, limit, eos)
            for one, other in zip(ours, theirs, strict=True):
                if not near(one, other):
                    assert tied(one, other), (beam, eos, prompts, limit, one, other)
                    ties += 1
            cases += 1
    assert cases == 168
    assert ties <= 2


def test_branches_without_copies(monkeypatch):
    """Long searches from short prompts drop columns that no beam looks at, and change nothing."""
    model = small_vocabulary_model("gpt2", 2)
    dropped = []
    take = GrowingLayer.take_columns
    monkeypatch.setattr(GrowingLayer, "take_columns", lambda *a: (dropped.append(a), take(*a))[1])
    rng = random.Random(3)
    prompts = [[rng.randrange(1, 40) for _ in range(n)] for n in (2, 7, 4)]
    for eos in ([], [3, 7]):
        beam = Beam(12, num_return_sequences=12)
        lean, plain = (
            search(Decoder(model, make_tokenizer(), engine=engine), prompts, beam, 40, eos)
            for engine in ("torch", "transformers")
        )
        for one, other in zip(lean, plain, strict=True):
            assert near(one, other) or tied(one, other)
    assert dropped


def test_fewer_beams_than_asked_for():
    """Where constraints leave fewer, prompts of a batch have grids of different width."""
    model = small_vocabulary_model("gpt2", 2)
    prompts = [[4, 5, 6], [7, 8]]

    def allowed(prompt, ids):
        return [1, 2] if prompt == 0 else list(range(1, 40))

    beam = Beam(8, num_return_sequences=8, allowed=allowed)
    lean, plain = (
        search(Decoder(model, make_tokenizer(), engine=engine), prompts, beam, 6, [])
        for engine in ("torch", "transformers")
    )
    assert [len(found) for found in lean] == [8, 8]
    assert all(near(one, other) for one, other in zip(lean, plain, strict=True))


EDITS = [
    {"repetition_penalty": 1.7},
    {"no_repeat_ngram_size": 2},
    {"bad_words_ids": [[5], [9, 3], [17, 2, 2]]},
    {"min_new_tokens": 4},
    {"repetition_penalty": 1.2, "no_repeat_ngram_size": 3, "min_new_tokens": 2},
    {"sequence_bias": {(4,): 2.5, (6, 7): -3.0}},
]


@pytest.mark.parametrize("edits", EDITS, ids=lambda edits: "+".join(edits))
def test_edits_as_transformers(edits):
    """Penalties and bans act on log-probabilities, as transformers has it in a beam search."""
    rng = random.Random(5)
    model = small_vocabulary_model("gpt2", 3)
    decoder = Decoder(model, make_tokenizer())
    names = {"bad_words_ids": "bad_words", "sequence_bias": "logit_bias"}
    own = {names.get(name, name): value for name, value in edits.items()}
    for _ in range(20):
        plain, _, prompts, limit = random_case(rng)
        beam = Beam(**{**plain.settings(), **own})
        # Of one length: transformers sees the padding of ragged prompts as tokens of the text.
        prompts = [[rng.randrange(1, 40) for _ in range(5)] for _ in prompts]
        limit = max(limit, 5)
        ours = search(decoder, prompts, beam, limit, [0, 11])
        theirs = transformers_search(model, prompts, beam, limit, [0, 11], **edits)
        for one, other in zip(ours, theirs, strict=True):
            assert near(one, other) or tied(one, other), (beam, prompts, limit)


def test_a_beam_of_one_is_greedy(decoder):
    prompts = ragged(12)
    greedy = decoder.generate(prompts, max_new_tokens=15)
    one = decoder.generate(prompts, strategy=Beam(1), max_new_tokens=15)
    assert [g.token_ids for g in one] == [g.token_ids for g in greedy]
    assert [g.finish_reason for g in one] == [g.finish_reason for g in greedy]


@pytest.mark.parametrize("penalty", [0.0, 1.0, 1.6])
def test_wide_beams_are_exhaustive_search(penalty):
    """All 5^4 sequences over a toy vocabulary, scored by the model one by one."""
    model = small_vocabulary_model("gpt2", 8, vocab=5)
    decoder = Decoder(model, make_tokenizer())
    beam = Beam(5**4, length_penalty=penalty, early_stopping="never", num_return_sequences=40)
    (found,) = search(decoder, [[1, 2, 3]], beam, 4, [0])
    listed = {}
    for tokens in itertools.product(range(5), repeat=4):
        tokens = tokens[: tokens.index(0) + 1] if 0 in tokens else tokens
        if tokens in listed:
            continue
        logits = model(torch.tensor([[1, 2, 3, *tokens]])).logits[0, 2:-1].float().double()
        logprobs = logits.log_softmax(-1)[range(len(tokens)), list(tokens)]
        listed[tokens] = logprobs.sum().item() / len(tokens) ** penalty
    best = sorted(listed.items(), key=lambda item: -item[1])[:40]
    assert [tuple(ids) for ids, _ in found] == [ids for ids, _ in best]
    np.testing.assert_allclose([s for _, s in found], [s for _, s in best], atol=1e-6)


def test_scores_are_the_models(decoder):
    """A score is the text's own log-probability, as `score` has it token by token."""
    prompts = ragged(5)
    found = decoder.generate(
        prompts,
        num_beams=5,
        num_return_sequences=3,
        length_penalty=0.7,
        max_new_tokens=9,
        logprobs=0,
    )
    assert len(found) == 15
    for item in found:
        ids = decoder.encode([item.prompt])[0]
        whole = torch.tensor([ids + item.token_ids])
        logits = decoder.model(whole).logits[0, len(ids) - 1 : -1].detach().float()
        logprobs = fastdecode.core.token_logprobs(logits, item.token_ids)
        np.testing.assert_allclose(item.logprobs, logprobs, atol=2e-6)
        assert item.score == pytest.approx(logprobs.sum() / len(item.token_ids) ** 0.7)
    ranked = [item.score for item in found[:3]]
    assert ranked == sorted(ranked, reverse=True)


def test_batches_change_nothing(decoder):
    prompts = ragged(7)
    keywords = {"num_beams": 4, "num_return_sequences": 2, "max_new_tokens": 8, "seed": 1}
    together = decoder.generate(prompts, **keywords)
    for size in (1, 4, 9, 100):
        assert decoder.generate(prompts, batch_size=size, **keywords) == together
    alone = [
        item
        for i, prompt in enumerate(prompts)
        for item in decoder.generate(prompt, streams=[i], **keywords)
    ]
    assert [a.token_ids for a in alone] == [t.token_ids for t in together]


@pytest.mark.parametrize("kind", ["llama", "qwen", "mistral"])
def test_other_models(tokenizer, kind):
    model = make_model(kind)
    decoder = Decoder(model, tokenizer)
    beam = Beam(3, num_return_sequences=3)
    prompts = [[5, 9, 200, 7, 7, 81, 90, 4], [5, 9, 201, 3, 77, 8, 31, 6]]
    ours = search(decoder, prompts, beam, 6, [0])
    theirs = transformers_search(model, prompts, beam, 6, [0])
    assert all(near(one, other) for one, other in zip(ours, theirs, strict=True))


def test_the_native_engine():
    """The same search in float32 by the Rust engine, up to its rounding."""
    model = small_vocabulary_model("gpt2", 4).float()
    prompts = [[3, 9, 30, 4], [17, 2], [8]]
    beam = Beam(5, num_return_sequences=5)
    native, torch_one = (
        search(Decoder(model, make_tokenizer(), engine=engine), prompts, beam, 12, [3, 7])
        for engine in ("native", "torch")
    )
    assert all(near(one, other) for one, other in zip(native, torch_one, strict=True))
