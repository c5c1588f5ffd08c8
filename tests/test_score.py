"""score() and next_token() against plain log-softmax and gather."""

import math

import fastdecode
import numpy as np
import pytest
import torch
from conftest import make_model, ragged
from fastdecode import Decoder


def plain(decoder, before, ids):
    """Log-probability of each of `ids` behind `before`, one text at a time."""
    with torch.no_grad():
        logits = decoder.model(torch.tensor([before + ids])).logits[0].double()
    rows = torch.log_softmax(logits, -1)[len(before) - 1 : -1]
    return rows.gather(1, torch.tensor(ids)[:, None])[:, 0].tolist()


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("context", ["", "It was the"])
def test_score_is_log_softmax_and_gather(kind, context, tokenizer):
    decoder = Decoder(make_model(kind), tokenizer)
    texts = [*ragged(30), "", "café 你好"]
    for bos, eos in ((True, True), (True, False)):
        scores = decoder.score(texts, context=context, bos=bos, eos=eos)
        assert len(scores) == len(texts)
        for text, score in zip(texts, scores, strict=True):
            before = [0] * bos + tokenizer(context)["input_ids"]
            ids = tokenizer(text)["input_ids"] + [0] * eos
            assert score.token_ids == ids
            assert score.text == text
            expected = plain(decoder, before, ids) if ids else []
            assert score.token_logprobs == pytest.approx(expected, abs=1e-5)
            assert score.logprob == pytest.approx(sum(expected), abs=1e-4)
            if ids:
                assert score.perplexity == pytest.approx(
                    math.exp(-sum(expected) / len(ids)), rel=1e-4
                )
            else:
                assert math.isnan(score.perplexity)


def test_without_a_condition_the_first_token_is_left_out(decoder, tokenizer):
    ids = tokenizer("Once upon a time")["input_ids"]
    score = decoder.score("Once upon a time", bos=False, eos=False)[0]
    assert score.token_logprobs[0] is None
    assert score.token_logprobs[1:] == pytest.approx(plain(decoder, ids[:1], ids[1:]), abs=1e-5)
    assert decoder.score("", bos=False, eos=False)[0].logprob == 0
    assert decoder.score("", bos=False, eos=True)[0].token_logprobs == [None]


def test_contexts_one_a_text(decoder):
    texts, contexts = ragged(4), ["It was", "", "a time", "It was"]
    together = decoder.score(texts, context=contexts)
    for text, context, score in zip(texts, contexts, together, strict=True):
        alone = decoder.score(text, context=context)[0]
        assert score.token_logprobs == pytest.approx(alone.token_logprobs, abs=1e-5)
    same = decoder.score(texts, context=["It was"] * 4)
    assert same.logprobs == decoder.score(texts, context="It was").logprobs
    by_score = sorted(range(4), key=lambda i: -together[i].logprob)
    assert [c.index for c in decoder.compare(texts, context=contexts)] == by_score
    by_mean = sorted(range(4), key=lambda i: together[i].mean)
    assert [s.index for s in decoder.surprising(texts, context=tuple(contexts))] == by_mean


def test_entropies_are_those_of_the_models_distributions(decoder, tokenizer):
    texts = ragged(6)
    scores = decoder.score(texts)
    for text, entropies in zip(texts, scores.entropies, strict=True):
        with torch.no_grad():
            ids = [0, *tokenizer(text)["input_ids"]]
            logs = torch.log_softmax(decoder.model(torch.tensor([ids])).logits[0].double(), -1)
        assert entropies == pytest.approx((-logs.exp() * logs).sum(-1).tolist(), abs=1e-5)
    trace = decoder.generate("Once", trace=True, max_new_tokens=3)
    found = decoder.score(trace)[0].entropies
    assert found == pytest.approx([step.trace.entropy for step in trace[0].steps], abs=1e-5)
    bare = decoder.score("Once upon", bos=False, eos=False)[0]
    assert bare.entropies[0] is None
    assert bare.entropies[1:] == pytest.approx(bare.to_pandas()["entropy"][1:])
    windows = decoder.score("Once upon a time " * 12, stride=16)[0]
    assert len(windows.entropies) == len(windows.token_ids)
    assert None not in windows.entropies


def test_entropies_of_extreme_rows():
    from fastdecode.scoring.windows import _entropies

    rows = np.array(
        [
            [0.0, 0.0, 0.0, 0.0],
            [0.0, -np.inf, 0.0, -np.inf],
            [1e4, 0.0, 0.0, 0.0],
            [-3e38, -3e38, -3e38, 3e38],
        ],
        dtype=np.float32,
    )
    assert _entropies(rows) == pytest.approx([math.log(4), math.log(2), 0.0, 0.0], abs=1e-6)
    many = np.random.default_rng(0).normal(size=(70, 5000)).astype(np.float32)
    logs = many - np.logaddexp.reduce(many.astype(np.float64), axis=1, keepdims=True)
    assert _entropies(many) == pytest.approx((-np.exp(logs) * logs).sum(axis=1), abs=1e-5)


def test_scores_do_not_hang_on_the_batch(decoder):
    texts = ragged(20)
    together = decoder.score(texts)
    assert decoder.score(texts[::-1]).logprobs[::-1] == pytest.approx(together.logprobs, abs=1e-5)
    assert [decoder.score(t)[0].logprob for t in texts] == pytest.approx(
        together.logprobs, abs=1e-5
    )
    assert len(decoder.score([])) == 0
    assert "perplexity" in repr(together)
    assert fastdecode.score(texts, model=decoder).logprobs == together.logprobs


def test_next_token(decoder, tokenizer):
    found = decoder.next_token("Once upon", k=300)
    with torch.no_grad():
        logits = decoder.model(torch.tensor([tokenizer("Once upon")["input_ids"]])).logits[0, -1]
    expected = torch.softmax(logits, -1)
    assert [c.rank for c in found] == list(range(1, 301))
    assert [c.token_id for c in found[:5]] == expected.topk(5).indices.tolist()
    for candidate in found:
        chance = expected[candidate.token_id].item()
        assert candidate.probability == pytest.approx(chance, abs=1e-6)
        assert candidate.logprob == pytest.approx(math.log(chance), abs=1e-4)
        assert candidate.text == tokenizer.decode([candidate.token_id], skip_special_tokens=True)
    assert sum(c.probability for c in found) == pytest.approx(1.0)
    table = repr(fastdecode.next_token("Once upon", 3, model=decoder)).splitlines()
    assert len(table) == 5
    assert table[0].split() == ["rank", "id", "token", "probability", "cumulative"]
