"""The KV cache that is kept for prompts which begin alike changes no result."""

from __future__ import annotations

import dataclasses
import os

import fastdecode
import numpy as np
import pytest
import torch
from fastdecode import Beam, Decoder, Sample
from fastdecode.models.engines.native import LoadedEngine
from transformers import GPT2Config, GPT2LMHeadModel

BEGINNING = "Once upon a time there was an old king who lived by the sea with his daughter. " * 5
PROMPTS = [
    BEGINNING,
    BEGINNING + "One day",
    BEGINNING + "One night the wind",
    "The old king",
    BEGINNING,
    BEGINNING[:100],
]


def outcome(generations):
    """Everything but the seed, of which greedy decoding and beams take a new one."""
    return [dataclasses.replace(item, seed=0) for item in generations]


@pytest.fixture(scope="module")
def keeping():
    decoder = Decoder.from_pretrained("demo", engine="native")
    decoder.keep_prefixes(64 * 2**20)
    yield decoder
    decoder.keep_prefixes(0)
    assert decoder.engine.packed().prefix_nbytes == 0


@pytest.mark.parametrize("strategy", [None, Sample(temperature=0.9, top_p=0.9), Beam(3)])
def test_results_are_the_same(keeping, strategy):
    plain = Decoder.from_pretrained("demo", engine="native")
    arguments = {"strategy": strategy, "seed": 3, "max_new_tokens": 12, "progress": False}
    if not isinstance(strategy, Sample):
        del arguments["seed"]
    for prompts in (PROMPTS[:1], PROMPTS, PROMPTS[::-1]):
        expected = outcome(plain.generate(prompts, logprobs=0, **arguments))
        for batch_size in (None, 1, 2):
            found = keeping.generate(prompts, logprobs=0, batch_size=batch_size, **arguments)
            assert outcome(found) == expected
    assert 0 < keeping.engine.packed().prefix_nbytes <= 64 * 2**20


def test_streams_and_next_tokens(keeping):
    plain = Decoder.from_pretrained("demo", engine="native")
    for prompt in PROMPTS:
        steps = [
            [step.token_id for step in decoder.stream(prompt, max_new_tokens=8)]
            for decoder in (plain, keeping)
        ]
        assert steps[0] == steps[1]
        assert str(keeping.next_token(prompt)) == str(plain.next_token(prompt))


def test_only_what_is_new_is_computed():
    decoder = Decoder.from_pretrained("demo", engine="native")
    decoder.keep_prefixes(64 * 2**20)
    native = decoder.engine.packed()
    ids = decoder.encode(BEGINNING)
    rows, first = decoder.engine.start([ids], [1])
    alone = native.cache_nbytes
    again, second = decoder.engine.start([ids, [*ids, 5]], [1, 1])
    assert (first[0] == second[0]).all()
    # The three share their full chunks of sixteen tokens.
    assert native.cache_nbytes < 1.6 * alone
    del rows, again
    assert 0 < native.cache_nbytes <= native.prefix_nbytes
    decoder.keep_prefixes(0)
    assert native.cache_nbytes == 0


def test_what_was_used_last_stays():
    decoder = Decoder.from_pretrained("demo", engine="native")
    native = decoder.engine.packed()
    prompts = [[i, *range(100, 200)] for i in range(5)]
    decoder.engine.start(prompts[:1], [1])
    decoder.keep_prefixes(2**40)
    for prompt in prompts[:2]:
        decoder.engine.start([prompt], [1])
    decoder.keep_prefixes(native.prefix_nbytes)
    limit = native.prefix_nbytes
    for prompt in prompts:
        decoder.engine.start([prompt], [1])
        assert 0 < native.prefix_nbytes <= limit
    decoder.keep_prefixes(1)
    assert native.prefix_nbytes == 0


def test_parameters_that_change_end_what_is_kept():
    torch.manual_seed(0)
    config = GPT2Config(n_layer=1, n_embd=32, n_head=2, vocab_size=100, n_positions=64)
    model = GPT2LMHeadModel(config).eval()
    engine = LoadedEngine(model)
    engine.keep_prefixes(2**30)
    _, before = engine.start([list(range(40))], [1])
    with torch.no_grad():
        model.transformer.wte.weight.mul_(1.5)
    _, after = engine.start([list(range(40))], [1])
    assert not np.array_equal(before, after)
    assert np.array_equal(after, LoadedEngine(model).start([list(range(40))], [1])[1])
    assert engine.packed().prefix_nbytes > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_keeps_its_own(keeping):
    expected = outcome(keeping.generate(BEGINNING, max_new_tokens=4))
    child = os.fork()
    if child == 0:
        same = outcome(keeping.generate(BEGINNING, max_new_tokens=4)) == expected
        os._exit(0 if same and keeping.engine.packed().prefix_nbytes > 0 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_bad_arguments(keeping):
    with pytest.raises(ValueError, match=r"^nbytes must be in 0\.\.9223372036854775807, not -1$"):
        keeping.keep_prefixes(-1)
    with pytest.raises(TypeError, match=r"^nbytes must be an integer, not '1GB'$"):
        keeping.keep_prefixes("1GB")
    torch_decoder = Decoder.from_pretrained("demo", engine="torch")
    with pytest.raises(ValueError, match=r"^the engine 'torch' cannot keep prefixes; the native"):
        torch_decoder.keep_prefixes(1)


def test_a_closed_decoder():
    decoder = Decoder.from_pretrained("demo", engine="native")
    decoder.close()
    with pytest.raises(ValueError, match="closed"):
        decoder.keep_prefixes(1)


def test_generate_takes_the_decoder(keeping):
    found, expected = (
        outcome(fastdecode.generate(PROMPTS, model=model, max_new_tokens=3))
        for model in (keeping, "demo")
    )
    assert found == expected
