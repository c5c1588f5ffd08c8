"""A queue of prompts on an engine that rows can join: bounded, in order, and the same tokens."""

from __future__ import annotations

import fastdecode
import fastdecode.decoding.arguments as module
import numpy as np
import pytest
import torch
from conftest import make_model, ragged
from fastdecode import Decoder, Sample
from fastdecode.decoding import loop
from fastdecode.decoding.loop import Decoding
from fastdecode.decoding.request import Prompt, Request, Timer
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def native(tokenizer):
    return Decoder(make_model("gpt2", torch.float32), tokenizer, engine="native")


class Watched:
    """Rows of an engine that remember how many there were, and how many tokens they had."""

    def __init__(self, engine, rows):
        self._engine, self._rows = engine, rows

    def join(self, prompts, repeats):
        logits = self._rows.join(prompts, repeats)
        self._engine.joined.append(sum(repeats))
        self._note()
        return logits

    def step(self, tokens):
        self._note()
        return self._rows.step(tokens)

    def keep(self, rows):
        self._rows.keep(rows)

    def _note(self):
        self._engine.most = max(self._engine.most, len(self._rows))


class WatchedEngine:
    """An engine that watches its rows; everything else is the engine's."""

    def __init__(self, engine):
        self._engine = engine
        self.most, self.joined, self.started = 0, [], 0

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def start(self, prompts, repeats):
        rows, logits = self._engine.start(prompts, repeats)
        self.started += 1
        self.most = max(self.most, len(rows))
        return Watched(self, rows), logits


def plan_of(lengths, limits, batch_size, *, n=1, cache_tokens=None, strategy=None, eos=()):
    rng = np.random.default_rng(len(lengths))
    jobs = [
        Prompt(i, rng.integers(1, 300, length).tolist(), i, limit, "length")
        for i, (length, limit) in enumerate(zip(lengths, limits, strict=True))
    ]
    strategy = strategy or Sample(temperature=1.2)
    return Request(jobs, n, strategy, 9, batch_size, eos, (), 0, None, cache_tokens=cache_tokens)


def run(engine, request):
    """Tokens and log-probabilities of each row, and the most tokens that were reserved at once."""
    found, reserved = {}, 0
    decoding = Decoding(engine, request, Timer())
    for rows in decoding:
        reserved = max(reserved, sum(row.prompt.longest for row in decoding.in_progress()))
        for row in rows:
            if row.reason is not None:
                key = (row.prompt.index, row.sample)
                assert key not in found
                found[key] = (row.ids, row.logprobs)
    return found, reserved


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 20)), min_size=1, max_size=24),
    batch_size=st.integers(1, 9),
    n=st.integers(1, 4),
    cache_tokens=st.one_of(st.none(), st.integers(1, 200)),
)
def test_tokens_do_not_hang_on_how_rows_come_and_go(native, rows, batch_size, n, cache_tokens):
    lengths, limits = zip(*rows, strict=True)
    request = plan_of(lengths, limits, batch_size, n=n, cache_tokens=cache_tokens, eos=(0, 7))
    engine = WatchedEngine(native.engine)
    found, reserved = run(engine, request)
    assert len(found) == len(rows) * n
    assert engine.most <= batch_size
    if cache_tokens is not None:
        assert reserved <= max(cache_tokens, max(map(sum, rows)))
    whole, _ = run(native.engine, plan_of(lengths, limits, 10_000, n=n, eos=(0, 7)))
    # Log-probabilities are compared bit for bit.
    assert found == whole


def test_rows_take_the_places_of_those_that_end(native):
    limits = [2, 30] * 20
    engine = WatchedEngine(native.engine)
    found, _ = run(engine, plan_of([5] * 40, limits, 16))
    assert [len(found[i, 0][0]) for i in range(40)] == limits
    assert engine.started == 1
    # Several at a time, but for the last ones.
    assert sum(engine.joined) == 24
    assert min(engine.joined[:-1]) >= 2


def test_an_engine_without_join_goes_batch_by_batch(decoder):
    engine = decoder.engine
    assert not engine.joins
    request = plan_of([5, 9, 2, 7, 5], [4, 2, 6, 3, 5], 2)
    whole, _ = run(engine, plan_of([5, 9, 2, 7, 5], [4, 2, 6, 3, 5], 10))
    found, _ = run(engine, request)
    assert {key: ids for key, (ids, _) in found.items()} == {
        key: ids for key, (ids, _) in whole.items()
    }


def test_mirostat_and_penalties_survive_a_refill(native):
    prompts = ragged(9)
    for strategy in (
        Sample(mirostat=(3.0, 0.1)),
        Sample(repetition_penalty=1.3, temperature=0.9, no_repeat_ngram_size=2),
    ):
        options = {"strategy": strategy, "seed": 1, "n": 2, "logprobs": 0}
        whole = native.generate(prompts, **options)
        for size in (1, 3, 4):
            assert native.generate(prompts, batch_size=size, **options) == whole


def test_results_come_in_the_order_of_the_prompts(native):
    prompts = ragged(50)
    found = native.generate(prompts, n=2, seed=3, do_sample=True, batch_size=7)
    assert [g.prompt for g in found] == [prompt for prompt in prompts for _ in range(2)]
    assert [(g.stream, g.sample) for g in found] == [(i, s) for i in range(50) for s in range(2)]
    steps = list(native.stream(prompts, n=2, seed=3, do_sample=True, batch_size=7))
    for g in found:
        mine = [s for s in steps if (s.stream, s.sample) == (g.stream, g.sample)]
        assert [s.token_id for s in mine] == g.token_ids
        assert [s.position - mine[0].position for s in mine] == list(range(len(mine)))


def test_the_cache_is_bounded_without_a_batch_size(native, monkeypatch):
    """A long prompt among short ones does not make the batch small."""
    engine = WatchedEngine(native.engine)
    watched = Decoder(engine, native.tokenizer)
    monkeypatch.setattr(module, "_CACHE_BYTES", 120 * engine.bytes_per_token)
    prompts = ["Once"] * 40 + ["It was the best of times, it was the worst"]
    found = watched.generate(prompts, max_new_tokens=4, eos_token_id=[])
    longest = max(len(native.encode([prompt])[0]) + 4 for prompt in prompts)
    assert 120 // longest < engine.most < 32
    assert found == native.generate(prompts, max_new_tokens=4, eos_token_id=[], seed=found.seed)


def test_interrupted_after_a_refill(native, monkeypatch):
    engine = WatchedEngine(native.engine)
    watched = Decoder(engine, native.tokenizer)
    prompts, options = ragged(12), {"seed": 1, "max_new_tokens": 6, "batch_size": 4}
    whole = native.generate(prompts, eos_token_id=[], logprobs=0, **options)
    step, calls = Watched.step, 0

    def hooked(self, tokens):
        nonlocal calls
        calls += 1
        if calls == 8:  # in the midst of the second four
            raise KeyboardInterrupt
        return step(self, tokens)

    monkeypatch.setattr(Watched, "step", hooked)
    with pytest.raises(fastdecode.Interrupted) as caught:
        watched.generate(prompts, eos_token_id=[], logprobs=0, **options)
    found = caught.value.generations
    assert [g.finish_reason for g in found] == ["length"] * 4 + ["interrupted"] * 4
    for mine, full in zip(found, whole, strict=False):
        assert mine.token_ids == full.token_ids[: len(mine.token_ids)]
        assert mine.logprobs == full.logprobs[: len(mine.token_ids)]
    assert [len(g.token_ids) for g in found] == [6] * 4 + [3] * 4


def test_interrupted_between_a_probability_and_its_token(native, monkeypatch):
    advance, calls = loop._advance, 0

    def hooked(*arguments):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        advance(*arguments)

    monkeypatch.setattr(loop, "_advance", hooked)
    with pytest.raises(fastdecode.Interrupted) as caught:
        native.generate(ragged(3), logprobs=2, eos_token_id=[], trace=True)
    for found in caught.value.generations:
        lengths = map(len, (found.token_ids, found.logprobs, found.alternatives, found.steps))
        assert list(lengths) == [2] * 4


def test_ten_thousand_prompts(native):
    engine = WatchedEngine(native.engine)
    watched = Decoder(engine, native.tokenizer)
    prompts = ragged(10_000, longest=2)
    found = watched.generate(prompts, max_new_tokens=2)
    assert engine.most == 32
    assert [g.prompt for g in found] == prompts
    assert found[7654].token_ids == native.generate(prompts[7654], max_new_tokens=2)[0].token_ids
