"""score() and next_token() against plain log-softmax and gather."""

import math

import fastdecode
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
