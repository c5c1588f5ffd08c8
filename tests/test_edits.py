"""The edits of logits from the history: the oracle in reference.py against transformers."""

import numpy as np
import reference
import torch
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
