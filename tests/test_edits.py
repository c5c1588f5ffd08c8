"""The edits of logits from the history: the oracle in reference.py against transformers."""

import numpy as np
import pytest
import reference
import torch
from fastdecode import Beam, Sample, core
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from transformers import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    SuppressTokensLogitsProcessor,
)

VOCABULARY = 6
token = st.integers(0, VOCABULARY - 1)
sequence = st.lists(token, min_size=1, max_size=3)
rows = hnp.arrays(np.float32, VOCABULARY, elements=st.floats(-12, 12, width=32) | st.just(-np.inf))
histories = st.lists(token, max_size=20) | st.lists(st.integers(0, 1), max_size=20)
edits = st.fixed_dictionaries(
    {"eos": st.lists(token, min_size=1, max_size=2)},
    optional={
        "logit_bias": st.dictionaries(
            sequence.map(tuple), st.floats(-4, 4, width=32) | st.just(-np.inf), max_size=5
        ),
        "repetition_penalty": st.floats(0.3, 3),
        "no_repeat_ngram_size": st.integers(1, 4),
        "bad_words": st.lists(sequence, max_size=3),
        "min_new_tokens": st.integers(0, 20),
        "allowed": st.lists(token, min_size=1),
    },
)


def edit_as_transformers(row, tokens, prompt, edits):
    """The row after transformers' processors, in its order."""
    processors = LogitsProcessorList()
    eos = edits["eos"]
    if bias := edits.get("logit_bias"):
        processors.append(SequenceBiasLogitsProcessor([[list(s), b] for s, b in bias.items()]))
    if penalty := edits.get("repetition_penalty"):
        processors.append(RepetitionPenaltyLogitsProcessor(penalty))
    if size := edits.get("no_repeat_ngram_size"):
        processors.append(NoRepeatNGramLogitsProcessor(size))
    words = edits.get("bad_words", [])
    if any(word not in [[id] for id in eos] for word in words):
        processors.append(NoBadWordsLogitsProcessor(words, eos_token_id=eos))
    if count := edits.get("min_new_tokens"):
        processors.append(MinNewTokensLengthLogitsProcessor(prompt, count, eos))
    if allowed := edits.get("allowed"):
        processors.append(
            SuppressTokensLogitsProcessor([i for i in range(len(row)) if i not in allowed])
        )
    ids = torch.tensor([tokens], dtype=torch.long)
    return processors(ids, torch.from_numpy(row[None].copy()))[0].numpy()


@settings(max_examples=400)
@given(rows, histories, st.integers(0, 20), edits)
def test_oracle_agrees_with_transformers(row, tokens, prompt, edits):
    prompt = min(prompt, len(tokens))
    got = reference.edit(row, tokens, prompt, **edits)
    expected = edit_as_transformers(row, tokens, prompt, edits)
    # transformers sums the biases of one token before it adds them.
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_penalties_on_what_occurs():
    penalties = {"frequency_penalty": 0.5, "presence_penalty": 0.25, "repetition_penalty": 2}
    got = reference.edit([4, 4, -4], [0, 2, 2], **penalties)
    assert got.tolist() == [1.25, 4, -9.25]


def test_penalties_on_what_was_generated():
    penalties = {"frequency_penalty": 0.5, "presence_penalty": 0.25}
    tokens = [0, 1, 1, 2, 1]
    got = reference.edit([4] * 4, tokens, 2, **penalties, penalties_count_prompt=False)
    assert got.tolist() == [4, 2.75, 3.25, 4]
    both = reference.edit([4] * 4, tokens, 2, **penalties)
    assert both.tolist() == [3.25, 2.25, 3.25, 4]


@settings(max_examples=300)
@given(
    rows,
    histories,
    st.integers(0, 20),
    st.floats(-2, 2, width=32),
    st.floats(-2, 2, width=32),
    st.floats(0.5, 2, width=32),
    st.booleans(),
)
def test_the_core_penalises_as_the_oracle(
    row, tokens, prompt, frequency, presence, repetition, count_prompt
):
    prompt = min(prompt, len(tokens))
    penalties = {
        "frequency_penalty": frequency,
        "presence_penalty": presence,
        "repetition_penalty": repetition,
        "penalties_count_prompt": count_prompt,
    }
    state = core.DecodeState(
        [tokens], Sample(**penalties), seed=0, limits=100, prompt_lengths=prompt
    )
    (got,) = state.process(row[None])
    np.testing.assert_array_equal(got, reference.edit(row, tokens, prompt, **penalties))
    if np.isfinite(row).any():
        law = core.distribution(
            row, Sample(**penalties), histories=[tokens], prompt_lengths=[prompt]
        )
        np.testing.assert_array_equal(law, core.distribution(got))


def test_generated_tokens_need_the_prompts_length():
    sample = Sample(presence_penalty=1.0, penalties_count_prompt=False)
    row = np.zeros((1, 4), np.float32)
    with pytest.raises(ValueError, match=r"penalties_count_prompt=False .*give prompt_lengths="):
        core.sample(row, sample, seed=1, histories=[[1, 2]])
    core.sample(row, Sample(penalties_count_prompt=False), seed=1)
    core.sample(row, sample, seed=1, histories=[[1, 2]], prompt_lengths=[1])


@pytest.mark.parametrize("strategy", [Sample(temperature=0.0), Beam(1), Sample()])
def test_texts_whose_prompts_are_not_counted(decoder, strategy):
    penalties = {"presence_penalty": 1.5, "frequency_penalty": 0.5}
    prompts = ["Once upon a time", "It was the time, it was the time"]

    def generated(**more):
        settings = strategy.settings() | penalties | more
        again = type(strategy)(**settings)
        return decoder.generate(prompts, strategy=again, seed=4, max_new_tokens=12, eos_token_id=[])

    without = generated(penalties_count_prompt=False)
    assert without != generated()
    assert generated(penalties_count_prompt=True) == generated()
    for generation in without:
        ids = decoder.encode(generation.prompt)
        tokens = ids + generation.token_ids[:-1]
        state = core.DecodeState(
            [tokens],
            Sample(temperature=0.0, **penalties, penalties_count_prompt=False),
            seed=0,
            limits=100,
            prompt_lengths=[len(ids)],
        )
        _, logits = decoder.engine.start([tokens], [1])
        if strategy != Sample():
            assert int(state.process(logits)[0].argmax()) == generation.token_ids[-1]


def test_dry_penalises_what_continues_a_repetition():
    def penalties(tokens, **settings):
        return (-reference.edit([0] * 5, tokens, dry_multiplier=1, **settings)).tolist()

    repetition = [4, 0, 1, 2, 4, 0, 1]
    assert penalties(repetition, dry_base=1.5) == [0, 0, 1.5, 0, 0]
    assert penalties(repetition, dry_sequence_breakers=[[4]]) == [0, 0, 1, 0, 0]
    assert penalties(repetition, dry_sequence_breakers=[[2]]) == [0] * 5
    assert penalties(repetition, dry_allowed_length=4) == [0] * 5
    assert penalties(repetition, dry_range=6) == [0, 0, 1, 0, 0]
    assert penalties(repetition, dry_range=5) == [0] * 5
