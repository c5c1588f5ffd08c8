"""Constraints, beam sampling, groups, stochastic beams, and exact listings."""

import math

import fastdecode
import numpy as np
import pytest
import torch
from conftest import make_tokenizer
from fastdecode import Beam, Decoder, Sample
from fastdecode.decoding.beam_search import BeamSearch
from fastdecode.decoding.request import Prompt, Request, Timer
from fastdecode.options.keywords import read
from fastdecode.scoring.continuations import enumerate_continuations
from searches import near, search, small_vocabulary_model, transformers_search


def test_allowed_function(decoder):
    seen = []

    def allowed(prompt, ids):
        seen.append((prompt, len(ids)))
        return [40, 41, 42] if len(ids) % 2 else np.array([50, 51])

    found = decoder.generate(
        ["Once", "It was the"], strategy=Beam(3, allowed=allowed), max_new_tokens=5
    )
    assert {i for i, _ in seen} == {0, 1}
    for item in found:
        first = len(decoder.encode([item.prompt])[0])
        for place, token in enumerate(item.token_ids, start=first):
            assert token in ([40, 41, 42] if place % 2 else [50, 51])


def test_prefix_function_as_transformers():
    """transformers' own keyword, with its tensor, and the same sequences."""
    model = small_vocabulary_model("gpt2", 5)
    decoder = Decoder(model, make_tokenizer())

    def allowed(prompt, ids):
        return [(int(ids[-1]) * 7 + step) % 39 + 1 for step in range(6)]

    ids = [1, 2, 3]
    theirs = transformers_search(
        model, [ids], Beam(3, num_return_sequences=3), 6, [], prefix_allowed_tokens_fn=allowed
    )
    said = {"num_beams": 3, "num_return_sequences": 3, "prefix_allowed_tokens_fn": allowed}
    ours = search(decoder, [ids], read(said, None).strategy, 6, [])
    assert near(ours[0], theirs[0])


def test_keywords_of_beam_sampling(decoder):
    said = {"num_beams": 3, "max_new_tokens": 5, "seed": 4}
    drawn = decoder.generate("Once", do_sample=True, top_k=5, **said)
    assert drawn == decoder.generate("Once", top_k=5, **said)
    same = Beam(3, sample=Sample(top_k=5))
    assert drawn == decoder.generate("Once", strategy=same, max_new_tokens=5, seed=4)
    with pytest.warns(UserWarning, match=r"do_sample=False searches without top_k"):
        plain = decoder.generate("Once", do_sample=False, top_k=5, **said)
    assert plain == decoder.generate("Once", **said)


def diverse(logprobs_of, groups, size, penalty, limit, eos):
    """Diverse beam search (Vijayakumar et al., 2018), slowly: the best of each group's step."""
    live = [[((), 0.0)] for _ in range(groups)]
    done = [[] for _ in range(groups)]
    for length in range(1, limit + 1):
        taken = []
        for g in range(groups):
            candidates = []
            for beam, (ids, score) in enumerate(live[g]):
                for token, logprob in enumerate(logprobs_of(ids)):
                    value = score + logprob - penalty * taken.count(token)
                    candidates.append((-value, beam, token, (*ids, token)))
            candidates.sort()
            live[g] = []
            for rank, (value, _, token, ids) in enumerate(candidates[: 2 * size]):
                if token == eos or length == limit:
                    if rank < size:
                        done[g].append((-value / length, ids))
                        if token != eos:
                            taken.append(token)
                elif len(live[g]) < size:
                    live[g].append((ids, -value))
                    taken.append(token)
            done[g] = sorted(done[g], reverse=True)[:size]
            full = len(done[g]) == size
            if live[g] and full and live[g][0][1] / length <= done[g][-1][0]:
                live[g] = []
    return sorted((one for group in done for one in group), reverse=True)


def test_groups_as_the_slow_search():
    model = small_vocabulary_model("gpt2", 9, vocab=12)
    decoder = Decoder(model, make_tokenizer())
    prompt = [3, 1]

    def logprobs_of(ids):
        logits = model(torch.tensor([[*prompt, *ids]])).logits[0, -1].detach().float().double()
        return logits.log_softmax(-1).tolist()

    for groups, size, penalty in ((2, 2, 0.5), (3, 1, 2.0), (2, 3, 0.0), (4, 2, 1.1)):
        beam = Beam(
            groups * size,
            num_beam_groups=groups,
            diversity_penalty=penalty,
            num_return_sequences=groups * size,
        )
        (ours,) = search(decoder, [prompt], beam, 5, [0])
        slow = diverse(logprobs_of, groups, size, penalty, 5, 0)
        assert sorted(ids for ids, _ in ours) == sorted(list(ids) for _, ids in slow)
        np.testing.assert_allclose([s for _, s in ours], [s for s, _ in slow], atol=1e-5)


def test_groups_explore_apart(decoder):
    beam = Beam(6, num_beam_groups=3, diversity_penalty=50.0, num_return_sequences=6)
    found = decoder.generate("Once", strategy=beam, max_new_tokens=4, eos_token_id=[])
    firsts = [item.token_ids[0] for item in found]
    assert len(set(firsts)) >= 3
    # Without a penalty each group repeats the search of its own size.
    beam = Beam(4, num_beam_groups=2, num_return_sequences=4)
    twice = decoder.generate("Once", strategy=beam, max_new_tokens=4)
    once = decoder.generate("Once", strategy=Beam(2, num_return_sequences=2), max_new_tokens=4)
    assert sorted(g.token_ids for g in twice) == sorted(2 * [g.token_ids for g in once])


def test_stochastic_beams_estimate_without_bias():
    """The estimate of the mean length, weighted by inclusion, against all sequences listed."""
    model = small_vocabulary_model("gpt2", 8, vocab=4)
    decoder = Decoder(model, make_tokenizer())
    beam = Beam(4, stochastic=True, num_return_sequences=4)
    everything = Beam(4**3, length_penalty=0.0, early_stopping="never", num_return_sequences=40)
    (listed,) = search(decoder, [[1, 2]], everything, 3, [0])
    assert sum(math.exp(score) for _, score in listed) == pytest.approx(1, abs=1e-5)
    exact = sum(math.exp(score) * len(ids) for ids, score in listed)
    runs = 1500
    jobs = [Prompt(i, [1, 2], i, 3, "length") for i in range(runs)]
    request = Request(jobs, 1, beam, 4, 10_000, (0,), (), None, decoder.tokenizer)
    sums = np.zeros(runs)
    for rows in BeamSearch(decoder.engine, request, beam, Timer(), trace=False):
        for row in rows:
            assert 0 < row.inclusion <= 1
            sums[row.prompt.index] += math.exp(row.score) / row.inclusion * len(row.ids)
    error = sums.std() / math.sqrt(runs)
    assert abs(sums.mean() - exact) < 4 * error


def test_listed_continuations_are_complete():
    """Against a wide beam over everything: all above the bound, and the mass of the rest."""
    model = small_vocabulary_model("gpt2", 8, vocab=5)
    small = Decoder(model, make_tokenizer())
    (everything,) = search(
        small,
        [[2]],
        Beam(5**4, length_penalty=0.0, early_stopping="never", num_return_sequences=5**4),
        4,
        [0],
    )
    for bound in (1e-9, 0.003, 0.03):
        job = Prompt(0, [2], 0, 4, "length")
        listed = enumerate_continuations(small.engine, small.codec.detokenizer, "", job, bound, [0])
        expected = [(ids, score) for ids, score in everything if math.exp(score) >= bound]
        assert [item.token_ids for item in listed] == [ids for ids, _ in expected]
        mass = sum(math.exp(score) for _, score in expected)
        assert listed.left_out == pytest.approx(1 - mass, abs=1e-5)


def test_continuations_of_the_demo_model(demo64):
    found = demo64.enumerate_continuations("Once upon a", max_new_tokens=2, min_probability=0.002)
    assert len(found) > 3
    assert all(item.probability >= 0.002 for item in found)
    assert 0 < found.left_out < 1
    assert sum(item.probability for item in found) + found.left_out == pytest.approx(1)
    lines = repr(found).splitlines()
    assert lines[0].split() == ["probability", "continuation", "ends"]
    assert found._repr_html_().count("<tr") == 1 + min(20, len(found))
    assert list(found.to_pandas().columns)[:3] == ["text", "token_ids", "probability"]
    assert lines[-1].endswith("left out, each below 0.002")
    greedy = demo64.generate("Once upon a", max_new_tokens=2)[0]
    assert greedy.token_ids in [item.token_ids for item in found]


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"min_probability": 0.0}, ValueError, r"min_probability=0 must be above 0 and at most 1"),
        ({"min_probability": 2}, ValueError, r"min_probability=2 must be above 0"),
        ({"min_probability": "1"}, TypeError, r"min_probability must be a number, not '1'"),
        ({"max_new_tokens": 0}, ValueError, r"max_new_tokens must be at least 1, not 0"),
    ],
)
def test_refusals_of_a_listing(decoder, keywords, error, message):
    said = {"max_new_tokens": 3, "min_probability": 0.1} | keywords
    with pytest.raises(error, match=message):
        decoder.enumerate_continuations("Once", **said)


def test_stochastic_beams_of_a_truncated_law(decoder):
    """They draw from the sample's law: nothing outside its top-k, and temperature counts."""
    beam = Beam(4, stochastic=True, sample=Sample(0.7, top_k=3), num_return_sequences=4)
    found = decoder.generate("Once", strategy=beam, seed=6, max_new_tokens=5, eos_token_id=[])
    assert len({tuple(item.token_ids) for item in found}) == 4
    ids = decoder.encode(["Once"])[0]
    for item in found:
        logits = decoder.model(torch.tensor([ids + item.token_ids])).logits[0, len(ids) - 1 : -1]
        law = fastdecode.core.distribution(logits.detach().float().numpy(), Sample(0.7, top_k=3))
        chosen = law[range(5), item.token_ids]
        assert (chosen > 0).all()
        assert item.score == pytest.approx(np.log(chosen).sum(), abs=1e-5)
