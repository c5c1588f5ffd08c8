"""`DecodeState` against `core.sample`, which keeps nothing: the same tokens and numbers."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from fastdecode import core
from fastdecode.core import DecodeState, Sample
from hypothesis import given, settings
from hypothesis import strategies as st

VOCABULARY = 40
EOS = 7

SAMPLES = [
    Sample(),
    Sample(temperature=0.0),
    Sample(temperature=0.7, top_k=9),
    Sample(top_p=0.8, min_p=0.02),
    Sample(typical_p=0.9, eta_cutoff=0.01),
    Sample(mirostat=(2.0, 0.4)),
    Sample(xtc=(0.5, 0.1), repetition_penalty=1.2),
    Sample(repetition_penalty=1.3, frequency_penalty=0.3, presence_penalty=-0.2),
    Sample(frequency_penalty=0.4, presence_penalty=0.6, penalties_count_prompt=False),
    Sample(temperature=0.0, repetition_penalty=1.5),
    Sample(dry={"multiplier": 0.9, "allowed_length": 1}, no_repeat_ngram_size=2),
    Sample(min_new_tokens=3, eos_token_id=[EOS], logit_bias={EOS: 6.0}),
    Sample(allowed=list(range(5, 35)), bad_words=[[9, 10], [11]], mirostat=(3.0, 0.2)),
]

samples = st.sampled_from(SAMPLES)
prompts = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=6)


def row_after(tokens):
    """A model: any logits, by the tokens before alone."""
    rng = np.random.default_rng([len(tokens), *tokens])
    return rng.normal(scale=2, size=VOCABULARY).astype(np.float32)


def rows_after(texts):
    return np.stack([row_after(text) for text in texts])


class Stateless:
    """One sequence, with everything handed to `core.sample` again at each step."""

    def __init__(self, prompt, sample, *, seed, stream, number):
        self.prompt, self.sample = list(prompt), sample
        self.key = {"seed": seed, "streams": stream, "samples": number}
        self.tokens, self.mu = list(prompt), float("nan")

    def draw(self, **more):
        return core.sample(
            row_after(self.tokens)[None],
            self.sample,
            **self.key,
            positions=[len(self.tokens)],
            histories=[self.tokens],
            prompt_lengths=[len(self.prompt)],
            mus=[self.mu],
            **more,
        )

    def step(self):
        draws = self.draw()
        self.tokens.append(int(draws.tokens[0]))
        self.mu = float(draws.mus[0])
        return draws

    def fork(self, number):
        copy = Stateless(self.prompt, self.sample, seed=0, stream=0, number=0)
        copy.key = {**self.key, "samples": number}
        copy.tokens, copy.mu = list(self.tokens), self.mu
        return copy


def state_of(one, **more):
    return DecodeState(
        [one.prompt],
        one.sample,
        seed=one.key["seed"],
        streams=[one.key["streams"]],
        samples=[one.key["samples"]],
        **{"limits": 1000, **more},
    )


def texts(state, ones):
    return [one.prompt + ids for one, ids in zip(ones, state.generated(), strict=True)]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_sequences_of_any_kind_join_leave_and_fork(data):
    state = DecodeState([], seed=0, limits=[])
    ones = []
    for number in range(data.draw(st.integers(1, 12))):
        kind = data.draw(st.sampled_from(["join", "keep", "fork", "step", "step"]))
        if kind == "join":
            seed = data.draw(st.integers(0, 2**64 - 1))
            one = Stateless(data.draw(prompts), data.draw(samples), seed=seed, stream=3, number=1)
            other = state_of(one)
            state.join(other)
            assert len(other) == 0
            ones.append(one)
        elif kind == "keep" and ones:
            rows = data.draw(st.lists(st.integers(0, len(ones) - 1), max_size=4))
            state.keep(np.array(rows, dtype=np.int64))
            ones = [ones[row].fork(ones[row].key["samples"]) for row in rows]
        elif kind == "fork" and ones:
            row = data.draw(st.integers(0, len(ones) - 1))
            state.fork(row, 100 + number)
            ones.append(ones[row].fork(100 + number))
        elif kind == "step" and ones:
            step = state.step(rows_after([one.tokens for one in ones]))
            expected = [one.step() for one in ones]
            for name in ("tokens", "tickets", "totals", "logprobs", "mus"):
                said = np.concatenate([getattr(draws, name) for draws in expected])
                np.testing.assert_array_equal(getattr(step, name), said)
        assert texts(state, ones) == [one.tokens for one in ones]
        assert state.positions.tolist() == [len(one.tokens) for one in ones]
        np.testing.assert_array_equal(state.mus, [one.mu for one in ones])


@given(samples, prompts, st.integers(0, 2**64 - 1), st.integers(0, 4), st.integers(0, 5))
@settings(max_examples=80, deadline=None)
def test_any_prefix_of_a_speculation_is_as_many_steps(sample, prompt, seed, right, cut):
    one = Stateless(prompt, sample, seed=seed, stream=0, number=0)
    state, beside = state_of(one), state_of(one)
    guess = one.fork(0)
    for _ in range(right):
        guess.step()
    proposed = [*guess.tokens[len(prompt) :], 1, 2]
    rows = rows_after([prompt + proposed[:count] for count in range(len(proposed) + 1)])
    drawn = state.draw(rows, proposed=[proposed])
    (most,) = drawn.committable.tolist()
    assert most > right
    state.commit(drawn, [min(cut, most)])
    for _ in range(min(cut, most)):
        beside.step(rows_after(texts(beside, [one])))
    assert state.generated() == beside.generated()
    np.testing.assert_array_equal(state.mus, beside.mus)
    (text,) = texts(state, [one])
    again = [each.step(rows_after([text])) for each in (state, beside)]
    assert again[0].tokens == again[1].tokens
    with pytest.raises(ValueError, match="changed since this draw"):
        state.commit(drawn)


@given(samples, prompts, st.integers(0, 2**64 - 1), st.sampled_from([np.float32, np.float16]))
@settings(max_examples=80, deadline=None)
def test_parts_and_numbers(sample, prompt, seed, dtype):
    one = Stateless(prompt, sample, seed=seed, stream=5, number=6)
    state = state_of(one)
    rows = rows_after([prompt]).astype(dtype)
    wanted = {"raw_logprobs": True, "processed_logprobs": True, "alternatives": 4}
    step = state.draw(rows, **wanted)
    place = {**one.key, "positions": [len(prompt)], "histories": [prompt]}
    place["prompt_lengths"] = [len(prompt)]
    draws = core.sample(rows, sample, **place, ledger=True, alternatives=10)
    assert step.tokens == draws.tokens
    np.testing.assert_array_equal(step.raw_logprobs, core.token_logprobs(rows, step.tokens))
    values, ids = core.top_k(rows, 4)
    logprobs = values.astype(np.float64) - core.logsumexp(rows)[:, None]
    assert step.alternatives == [list(zip(ids[0].tolist(), logprobs[0].tolist(), strict=True))]
    np.testing.assert_array_equal(step.kept_logprobs, draws.kept_logprobs)
    np.testing.assert_allclose(
        step.processed_logprobs, step.logprobs + step.kept_logprobs, atol=1e-12
    )

    noted = state.draw(rows, ledger=True, candidates=10, **wanted)
    for name in ("kept", "ranks", "entropies_before", "entropies_after", "kept_logprobs"):
        np.testing.assert_array_equal(getattr(noted, name), getattr(draws, name))
    np.testing.assert_array_equal(noted.raw_logprobs, step.raw_logprobs)
    np.testing.assert_array_equal(noted.processed_logprobs, step.processed_logprobs)
    assert noted.alternatives == step.alternatives
    (some,), (weights,) = noted.candidates, core.weights(rows, sample, **place)
    assert [x[:2] for x in some[:10]] == draws.alternatives[0]
    assert [x[2] for x in some] == [int(weights[x[0]]) for x in some]
    assert int(noted.tokens[0]) in [x[0] for x in some]

    processed = state.process(rows)
    assert processed.dtype == np.float32
    assert processed.shape == rows.shape
    apart = state.draw(rows, processed, **wanted)
    for name in ("tokens", "tickets", "raw_logprobs", "processed_logprobs", "alternatives"):
        np.testing.assert_array_equal(getattr(apart, name), getattr(step, name))
    assert state.generated() == [[]]
    state.commit(apart)
    assert state.generated() == [step.tokens.tolist()]


def test_a_change_between_the_parts_is_drawn_from():
    state = DecodeState([[1], [2]], Sample(allowed=[3, 4]), seed=1, limits=5)
    logits = np.zeros((2, VOCABULARY), np.float32)
    processed = state.process(logits)
    processed[0, [3, 6]] = [-np.inf, 50]
    drawn = state.draw(logits, processed)
    assert drawn.tokens[0] == 4
    processed[1] = np.inf
    with pytest.raises(ValueError, match=r"logits\[1, 3\] is \+inf"):
        state.draw(logits, processed)


def test_reasons():
    logits = np.zeros((4, VOCABULARY), np.float32)
    logits[:, EOS] = [9, 0, 0, 0]
    logits[1:, 5] = 9
    state = DecodeState(
        [[1]] * 4,
        Sample(temperature=0.0),
        seed=0,
        limits=[1, 1, 1, 2],
        limit_reasons=["length", "length", "context", "context"],
        eos_token_ids=[EOS],
    )
    assert state.reasons == [None] * 4
    state.step(logits)
    assert state.reasons == ["eos", "length", "context", None]
    with pytest.raises(ValueError, match="sequence 0 has ended"):
        state.step(logits)
    state.keep([3])
    state.step(logits[:1])
    assert state.reasons == ["eos"]


def test_sequences_are_resumed():
    one = Stateless(
        [1, 2],
        Sample(mirostat=(2.0, 0.5), min_new_tokens=3, eos_token_id=[EOS]),
        seed=9,
        stream=1,
        number=2,
    )
    state = state_of(one)
    for _ in range(3):
        state.step(rows_after(texts(state, [one])))
    (text,) = texts(state, [one])
    again = DecodeState(
        [text], one.sample, seed=9, streams=1, samples=2, limits=50, prompt_lengths=[2],
        mus=state.mus,
    )  # fmt: skip
    for each in (state, again):
        for _ in range(4):
            each.step(rows_after(texts(each, [one])))
    assert state.generated() == again.generated()


REFUSED = [
    (lambda s, x: s.step(x[:1]), "logits have 1 rows for 2 positions"),
    (lambda s, x: s.step(np.where(x == x[1, 3], np.nan, x)), r"logits\[1, 3\] is NaN"),
    (lambda s, x: s.draw(x, proposed=[[1]]), "proposed has 1 entries for 2 sequences"),
    (lambda s, x: s.draw(x, proposed=[[1], []]), "logits have 2 rows for 3 positions"),
    (lambda s, x: s.draw(x, proposed=[[40], []]), "proposed has token id 40"),
    (lambda s, x: s.draw(x, x[:, :-1]), "vocabulary of 40 beside processed rows of 39"),
    (lambda s, x: s.draw(x, x[:1]), "logits have 1 rows for 2 positions"),
    (lambda s, x: s.keep([0, 2]), r"rows\[1\]=2 is outside 0\.\.1"),
    (lambda s, x: s.keep(np.array([-1])), r"rows\[0\]=-1 is outside 0\.\.1"),
    (lambda s, x: s.fork(2, 0), r"row=2 is outside 0\.\.1"),
    (lambda s, x: s.commit(s.draw(x), [1]), "counts has 1 entries for 2 sequences"),
    (lambda s, x: s.commit(s.draw(x), [1, 2]), r"counts\[1\]=2 must be at most 1"),
    (lambda s, x: s.step(x, alternatives=-1), "alternatives=-1 is outside"),
]


@pytest.mark.parametrize(("wrong", "message"), REFUSED)
def test_a_refusal_changes_nothing(wrong, message):
    state = DecodeState([[1], [2]], Sample(repetition_penalty=1.1), seed=3, limits=9)
    beside = DecodeState([[1], [2]], Sample(repetition_penalty=1.1), seed=3, limits=9)
    rows = rows_after([[1], [2]])
    error = IndexError if message.startswith("row") else ValueError
    with pytest.raises(error, match=message):
        wrong(state, rows)
    assert state.step(rows).tokens.tolist() == beside.step(rows).tokens.tolist()
    assert state.generated() == beside.generated()


def test_arguments_are_checked():
    def make(prompts=([1],), **more):
        return DecodeState(prompts, **{"seed": 1, "limits": 1, **more})

    for more, message in [
        ({"limits": [1, 2]}, "limits has 2 entries"),
        ({"limits": 0}, r"limits\[0\] is 0"),
        ({"prompts": [[1], [2]], "limits": [1, 0]}, r"limits\[1\] is 0"),
        ({"limit_reasons": "eos"}, "limit_reasons has"),
        ({"limit_reasons": ["length"] * 2}, "limit_reasons has 2 entries for 1 sequences"),
        ({"prompt_lengths": 2}, "fewer than the 2 of its prompt"),
        ({"seed": -1}, "seed=-1"),
    ]:
        with pytest.raises(ValueError, match=message):
            make(**more)
    for more in ({"prompts": 3}, {"prompts": [["a"]]}, {"seed": 1.5}, {"limit_reasons": 3}):
        with pytest.raises(TypeError):
            make(**more)
    for name in ("raw_logprobs", "processed_logprobs", "kept", "candidates"):
        with pytest.raises(AttributeError, match="was not recorded"):
            getattr(make().step(rows_after([[1]])), name)


def test_states_step_in_threads():
    ones = [Stateless([i], SAMPLES[7], seed=i, stream=0, number=0) for i in range(4)]
    states = [state_of(one) for one in ones]

    def run(one, state):
        for _ in range(20):
            state.step(rows_after(texts(state, [one])))

    threads = [threading.Thread(target=run, args=pair) for pair in zip(ones, states, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, state in zip(ones, states, strict=True):
        for _ in range(20):
            one.step()
        assert texts(state, [one]) == [one.tokens]
