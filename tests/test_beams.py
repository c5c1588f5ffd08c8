"""Beam search end to end: transformers' results, exhaustive search, variants, refusals."""

import itertools
import math
import random

import fastdecode
import numpy as np
import pytest
import torch
from conftest import make_model, make_tokenizer, ragged
from fastdecode import Beam, Decoder, Sample
from fastdecode.beams import BeamSearch
from fastdecode.engines.branching import BranchingRows
from fastdecode.engines.torch import GrowingLayer


def small_vocabulary_model(kind, seed, vocab=40):
    """A model whose sequences end often and at different lengths."""
    torch.manual_seed(seed)
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    shared = {"vocab_size": vocab, "bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.4}
    if kind == "gpt2":
        config = GPT2Config(n_layer=1, n_head=2, n_embd=16, n_positions=64, **shared)
        model = GPT2LMHeadModel(config)
    else:
        config = LlamaConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=64,
            **shared,
        )
        model = LlamaForCausalLM(config)
    return model.to(torch.float64).eval()


def search(decoder, prompts, beam, limit, eos, **more):
    """Our loop, from token ids: (tokens, score) of each prompt's sequences."""
    from fastdecode.loop import Plan, Prompt, Timer

    jobs = [Prompt(i, ids, i, limit, "length") for i, ids in enumerate(prompts)]
    plan = Plan(jobs, 1, beam, 0, 10_000, tuple(eos), (), None, decoder.tokenizer, **more)
    found = [[] for _ in prompts]
    for rows in BeamSearch(decoder.engine, plan, beam, Timer(), trace=False):
        for row in rows:
            found[row.prompt.index].append((row.ids, row.score))
    return found


def transformers_search(model, prompts, beam, limit, eos, **more):
    """transformers' beam search: (tokens up to their end, score) of each prompt's sequences."""
    width = max(map(len, prompts))
    output = model.generate(
        torch.tensor([[0] * (width - len(row)) + row for row in prompts]),
        attention_mask=torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts]),
        do_sample=False,
        max_new_tokens=limit,
        num_beams=beam.num_beams,
        num_return_sequences=beam.num_return_sequences,
        length_penalty=beam.length_penalty,
        early_stopping=beam.early_stopping,
        eos_token_id=list(eos) or None,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_scores=True,
        **more,
    )
    found = []
    for row in output.sequences[:, width:].tolist():
        ends = [i for i, token in enumerate(row) if token in eos]
        found.append(row[: ends[0] + 1] if ends else row)
    scores = output.sequences_scores.tolist()
    count = beam.num_return_sequences
    pairs = list(zip(found, scores, strict=True))
    return [pairs[i * count : (i + 1) * count] for i in range(len(prompts))]


def near(ours, theirs):
    """Whether each sequence is the same and each score within 1e-5, beyond -1 of its size.

    transformers adds up in float32, whose spacing at -64 is 8e-6; the core adds up in float64.
    """
    return len(ours) == len(theirs) and all(
        a == b and math.isclose(x, y, rel_tol=1e-5, abs_tol=1e-5)
        for (a, x), (b, y) in zip(ours, theirs, strict=True)
    )


def tied(ours, theirs):
    """Whether they differ only where scores are within rounding of each other."""
    return len(ours) == len(theirs) and all(
        math.isclose(x, y, rel_tol=1e-6, abs_tol=2e-6)
        for (_, x), (_, y) in zip(ours, theirs, strict=True)
    )


def random_case(rng):
    beams = rng.randint(2, 16)
    beam = Beam(
        beams,
        length_penalty=rng.choice([-0.5, 0.0, 0.4, 1.0, 1.0, 2.0]),
        early_stopping=rng.choice([False, True, "never"]),
        num_return_sequences=rng.randint(1, beams),
    )
    eos = rng.choice([[], [0], [0], [3, 7], [1, 2, 3, 4]])
    prompts = [
        [rng.randrange(1, 40) for _ in range(rng.randint(1, 9))] for _ in range(rng.randint(1, 8))
    ]
    return beam, eos, prompts, rng.randint(1, 12)


@pytest.mark.parametrize("kind", ["gpt2", "gpt2-transformers", "llama"])
def test_as_transformers(kind):
    """500 random cases in three families of engines; scores within 1e-5 and sequences the same."""
    rng = random.Random(hash_of(kind))
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


def hash_of(text):
    return sum(map(ord, text))


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
        ids = decoder._tokens([item.prompt])[0]
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


def test_generate_and_its_keywords(decoder):
    prompts = ragged(3)
    said = {"num_beams": 4, "num_return_sequences": 2, "length_penalty": 0.5, "seed": 3}
    found = decoder.generate(prompts, max_new_tokens=6, early_stopping=True, **said)
    beam = Beam(4, 0.5, True, num_return_sequences=2)
    same = decoder.generate(prompts, max_new_tokens=6, strategy=beam, seed=3)
    assert found == same
    assert [(g.stream, g.sample) for g in found] == [(i, j) for i in range(3) for j in range(2)]
    assert all(isinstance(g.score, float) and g.inclusion is None for g in found)
    edited = decoder.generate(
        prompts, num_beams=3, no_repeat_ngram_size=1, bad_words=[[5]], max_new_tokens=8
    )
    for item in edited:
        assert len(set(item.token_ids)) == len(item.token_ids)
    assert decoder.generate([], num_beams=3).texts == []


def test_saved_searches_run_again(decoder, tmp_path):
    path = tmp_path / "beams.json"
    beam = Beam(3, num_return_sequences=3, sample=Sample(0.9, top_p=0.8), bad_words=[[7]])
    found = decoder.generate(ragged(2), strategy=beam, seed=5, max_new_tokens=5)
    found.save(path)
    assert fastdecode.Generations.load(path) == found
    assert fastdecode.replay(path, model=decoder) == found


def test_stop_strings(decoder):
    beam = Beam(3, length_penalty=0.0, num_return_sequences=3)
    free = decoder.generate("Once", strategy=beam, max_new_tokens=12)[0]
    cut = free.text[3:5]
    found = decoder.generate("Once", strategy=beam, stop=cut, max_new_tokens=12)
    for item in found:
        assert cut not in item.text
        assert item.finish_reason in ("stop", "eos", "length")
    assert found[0].finish_reason == "stop"
    assert free.text.startswith(found[0].text)


@pytest.mark.parametrize("more", [{}, {"sample": Sample(0.8)}], ids=["beams", "drawn"])
def test_streamed_prefixes_are_the_result(decoder, more):
    prompts = ragged(4)
    beam = Beam(4, **more)
    whole = decoder.generate(prompts, strategy=beam, seed=2, max_new_tokens=10)
    steps = list(decoder.stream(prompts, strategy=beam, seed=2, max_new_tokens=10))
    for item in whole:
        own = [step for step in steps if step.prompt_index == item.stream]
        assert [step.token_id for step in own] == item.token_ids
        assert "".join(step.text for step in own) == item.text
        assert [step.finish_reason for step in own[:-1]] == [None] * (len(own) - 1)
        assert own[-1].finish_reason == item.finish_reason


def count_steps(monkeypatch, most=math.inf):
    """Notes each step of the lean engine; at `most` comes Ctrl-C."""
    original, count = BranchingRows.step, []

    def step(self, tokens):
        if len(count) >= most:
            raise KeyboardInterrupt
        count.append(len(tokens))
        return original(self, tokens)

    monkeypatch.setattr(BranchingRows, "step", step)
    return count


def test_a_prefix_comes_before_the_end(demo64, monkeypatch):
    """Where beams agree on a beginning, it is there long before the search is over."""
    count = count_steps(monkeypatch)
    steps = demo64.stream("Once upon a time", num_beams=3, max_new_tokens=30)
    next(steps)
    early = len(count)
    assert len(list(steps)) == 29
    assert early < 15 < len(count)


def test_interrupting_keeps_the_beams(decoder, monkeypatch):
    count_steps(monkeypatch, most=4)
    with pytest.raises(fastdecode.Interrupted) as caught:
        decoder.generate(["Once upon", "It was"], num_beams=3, max_new_tokens=9, eos_token_id=[])
    found = caught.value.generations
    assert [item.finish_reason for item in found] == ["interrupted"] * 2
    assert [len(item.token_ids) for item in found] == [5, 5]


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
        first = len(decoder._tokens([item.prompt])[0])
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
    from fastdecode.keywords import read

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
    from fastdecode.loop import Plan, Prompt, Timer

    (listed,) = search(decoder, [[1, 2]], everything, 3, [0])
    assert sum(math.exp(score) for _, score in listed) == pytest.approx(1, abs=1e-5)
    exact = sum(math.exp(score) * len(ids) for ids, score in listed)
    runs = 1500
    jobs = [Prompt(i, [1, 2], i, 3, "length") for i in range(runs)]
    plan = Plan(jobs, 1, beam, 4, 10_000, (0,), (), None, decoder.tokenizer)
    sums = np.zeros(runs)
    for rows in BeamSearch(decoder.engine, plan, beam, Timer(), trace=False):
        for row in rows:
            assert 0 < row.inclusion <= 1
            sums[row.prompt.index] += math.exp(row.score) / row.inclusion * len(row.ids)
    error = sums.std() / math.sqrt(runs)
    assert abs(sums.mean() - exact) < 4 * error


REFUSALS = [
    ({"num_beams": 0}, ValueError, r"num_beams=0 must be between 1 and 4096; 1 is greedy"),
    ({"num_beams": -3}, ValueError, r"num_beams=-3 must be between 1"),
    ({"num_beams": 2.5}, TypeError, r"num_beams"),
    (
        {"num_beams": 2, "num_return_sequences": 3},
        ValueError,
        r"num_return_sequences=3 must be between 1 and num_beams=2; raise num_beams",
    ),
    (
        {"num_beams": 4, "num_beam_groups": 3},
        ValueError,
        r"num_beam_groups=3 does not divide num_beams=4 .* use one of its divisors",
    ),
    ({"num_beams": 4, "diversity_penalty": 0.5}, ValueError, r"needs groups; set num_beam_groups"),
    ({"num_beams": 4, "length_penalty": math.inf}, ValueError, r"length_penalty=inf must be fin"),
    ({"num_beams": 4, "early_stopping": "yes"}, ValueError, r"early_stopping='yes' must be True"),
    (
        {"length_penalty": 2.0},
        ValueError,
        r"length_penalty shapes a beam search.*num_beams above 1",
    ),
    ({"num_beams": 4, "n": 2}, ValueError, r"n=2 counts samples.*num_return_sequences"),
    ({"num_beams": 4, "logprobs": 3}, ValueError, r"logprobs=3 asks for alternatives.*trace=True"),
    ({"prefix_allowed_tokens_fn": len}, ValueError, r"constrains a beam search, and there is none"),
    ({"num_beams": 2, "prefix_allowed_tokens_fn": 3}, TypeError, r"must be a function, not 3"),
    ({"strategy": Beam(2), "num_beams": 4}, ValueError, r"strategy and num_beams both say"),
    ({"strategy": Beam(2, bad_words=[[300]])}, ValueError, r"bad_words has token id 300"),
    ({"num_beams": 4, "mirostat": (3, 0.1)}, ValueError, r"mirostat does not go with sample"),
]


@pytest.mark.parametrize(("keywords", "error", "message"), REFUSALS)
def test_refusals(decoder, monkeypatch, keywords, error, message):
    def work(*_):
        raise RuntimeError("work began before the arguments were checked")

    monkeypatch.setattr(type(decoder.engine), "start", work)
    with pytest.raises(error, match=message):
        decoder.generate("Once", **keywords)


@pytest.mark.parametrize(
    ("beam", "message"),
    [
        (Beam(3, num_return_sequences=2), r"which num_return_sequences=2 does not have"),
        (Beam(4, num_beam_groups=2), r"which num_beam_groups=2 does not have; use generate"),
        (Beam(3, stochastic=True), r"which stochastic=True does not have"),
    ],
)
def test_what_cannot_be_streamed(decoder, beam, message):
    with pytest.raises(ValueError, match=message):
        decoder.stream("Once", strategy=beam)


def test_refusals_of_the_strategy():
    with pytest.raises(TypeError, match=r"allowed must be token ids, or a function"):
        Beam(allowed="abc")
    with pytest.raises(ValueError, match=r"sample has penalties or bans of its own"):
        Beam(sample=Sample(repetition_penalty=1.2))
    with pytest.raises(TypeError, match=r"bad_words must be a sequence of sequences"):
        Beam(bad_words=[3])


def test_dead_ends_name_the_prompt(decoder):
    beam = Beam(2, allowed=lambda prompt, _: [] if prompt == 1 else [5])
    with pytest.raises(ValueError, match=r"prompts\[1\] is at a dead end after 0 tokens"):
        decoder.generate(["Once upon a time", "It"], strategy=beam)
    beam = Beam(2, allowed=lambda *_: 5)
    with pytest.raises(TypeError, match=r"allowed\(0, ...\) must return a sequence"):
        decoder.generate("Once", strategy=beam)


def test_a_strategy_is_a_value():
    import pickle

    beam = Beam(6, 0.5, "never", 2, num_beam_groups=3, diversity_penalty=0.4, bad_words=[[1, 2]])
    assert repr(beam) == (
        "Beam(num_beams=6, length_penalty=0.5, early_stopping='never', num_return_sequences=2, "
        "num_beam_groups=3, diversity_penalty=0.4, bad_words=[[1, 2]])"
    )
    for copy in (Beam(**beam.settings()), pickle.loads(pickle.dumps(beam))):
        assert copy == beam
        assert hash(copy) == hash(beam)
    assert beam != Beam(6)


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
    from fastdecode.continuations import enumerate_continuations
    from fastdecode.loop import Prompt

    for bound in (1e-9, 0.003, 0.03):
        job = Prompt(0, [2], 0, 4, "length")
        listed = enumerate_continuations(small.engine, small.tokenizer, "", job, bound, [0])
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
    assert lines[0].startswith("Continuations of 'Once upon a' (")
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


def test_stochastic_beams_of_a_truncated_law(decoder):
    """They draw from the sample's law: nothing outside its top-k, and temperature counts."""
    beam = Beam(4, stochastic=True, sample=Sample(0.7, top_k=3), num_return_sequences=4)
    found = decoder.generate("Once", strategy=beam, seed=6, max_new_tokens=5, eos_token_id=[])
    assert len({tuple(item.token_ids) for item in found}) == 4
    ids = decoder._tokens(["Once"])[0]
    for item in found:
        logits = decoder.model(torch.tensor([ids + item.token_ids])).logits[0, len(ids) - 1 : -1]
        law = fastdecode.core.distribution(logits.detach().float().numpy(), Sample(0.7, top_k=3))
        chosen = law[range(5), item.token_ids]
        assert (chosen > 0).all()
        assert item.score == pytest.approx(np.log(chosen).sum(), abs=1e-5)
