"""Beam searches on the native engine: torch's sequences, and the same bits in any batch."""

from __future__ import annotations

import random

import fastdecode
import pytest
from conftest import make_tokenizer
from fastdecode import Beam, Decoder
from searches import near, search, small_vocabulary_model, tied

BEAMS = [
    Beam(2, num_return_sequences=2),
    Beam(5, num_return_sequences=5, length_penalty=0.0),
    Beam(7, num_return_sequences=3, early_stopping=True),
    Beam(6, num_return_sequences=6, num_beam_groups=3, diversity_penalty=0.7),
    Beam(16, num_return_sequences=16, early_stopping="never", length_penalty=2.0),
]


def ragged_prompts(seed, count):
    rng = random.Random(seed)
    return [[rng.randrange(1, 40) for _ in range(rng.randint(1, 20))] for _ in range(count)]


@pytest.mark.parametrize("beam", BEAMS, ids=repr)
def test_searches_are_those_of_the_torch_engine(beam):
    ties = 0
    for seed in range(12):
        model = small_vocabulary_model("gpt2", seed).float()
        prompts = ragged_prompts(seed, 4)
        native, other = (
            search(Decoder(model, make_tokenizer(), engine=engine), prompts, beam, 16, [3, 7])
            for engine in ("native", "torch")
        )
        for one, two in zip(native, other, strict=True):
            if not near(one, two):
                assert tied(one, two)
                ties += 1
    # Two sequences within float32's rounding of each other may change places.
    assert ties <= 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "bfloat16_weights", "int8", "int4"])
def test_a_search_is_the_same_bits_in_any_batch(dtype):
    model = small_vocabulary_model("gpt2", 5).float()
    decoder = Decoder(model, make_tokenizer(), dtype=dtype)
    prompts = ragged_prompts(1, 9)
    for beam in BEAMS:
        together = search(decoder, prompts, beam, 16, [3, 7])
        for prompt, expected in zip(prompts, together, strict=True):
            (alone,) = search(decoder, [prompt], beam, 16, [3, 7])
            assert alone == expected


def test_generate_and_stream_with_beams():
    prompts = ["Alice was very", "Once upon a time", "The"]
    options = {"model": "demo", "num_beams": 4, "max_new_tokens": 12}
    native = fastdecode.generate(prompts, engine="native", **options)
    torch_one = fastdecode.generate(prompts, engine="torch", **options)
    assert [g.token_ids for g in native] == [g.token_ids for g in torch_one]
    for one, two in zip(native, torch_one, strict=True):
        assert one.score == pytest.approx(two.score, abs=1e-4)
    for size in (4, 5, 8):
        again = fastdecode.generate(prompts, batch_size=size, **options, seed=native.seed)
        assert again == native
    steps = list(fastdecode.stream(prompts, **options))
    for index, found in enumerate(native):
        assert [s.token_id for s in steps if s.prompt_index == index] == found.token_ids
