"""Beam search as it is called: keywords, stop strings, streams, Ctrl-C, refusals."""

import math
import pickle

import fastdecode
import pytest
from conftest import ragged
from fastdecode import Beam, Sample
from fastdecode.models.engines.gpt2.branching import BranchingBatch


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
    original, count = BranchingBatch.step, []

    def step(self, tokens):
        if len(count) >= most:
            raise KeyboardInterrupt
        count.append(len(tokens))
        return original(self, tokens)

    monkeypatch.setattr(BranchingBatch, "step", step)
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
    beam = Beam(6, 0.5, "never", 2, num_beam_groups=3, diversity_penalty=0.4, bad_words=[[1, 2]])
    assert repr(beam) == (
        "Beam(num_beams=6, length_penalty=0.5, early_stopping='never', num_return_sequences=2, "
        "num_beam_groups=3, diversity_penalty=0.4, bad_words=[[1, 2]])"
    )
    for copy in (Beam(**beam.settings()), pickle.loads(pickle.dumps(beam))):
        assert copy == beam
        assert hash(copy) == hash(beam)
    assert beam != Beam(6)
