"""Slices of results, short representations of single items, and pickles of either."""

from __future__ import annotations

import json
import pickle

import fastdecode
import numpy as np
import pytest
from conftest import ragged
from fastdecode.display import Tabular
from fastdecode.results.items import Items

TEXTS = ["Once upon", "It was", "a time"]


@pytest.fixture(scope="module")
def runs(decoder):
    return decoder.generate(TEXTS, n=2, seed=4, temperature=0.9, logprobs=2, trace=True)


@pytest.fixture(scope="module")
def results(decoder, runs):
    candidates = decoder.next_token("Once", 5, top_p=0.9)
    return [
        runs,
        candidates,
        candidates.draw(3),
        candidates.sample(9, 3),
        decoder.score(TEXTS, alternatives=2),
        decoder.compare(TEXTS),
        decoder.classify("Once", ["a", "b", "c"]),
        decoder.classify(TEXTS, ["a", "b"]),
        decoder.surprising(TEXTS),
        decoder.tokens("Once upon"),
        decoder.enumerate_continuations("Once", max_new_tokens=2, min_probability=0.01),
    ]


def test_all_results_with_items_are_tried(results):
    def kinds(kind):
        return {kind} | {one for sub in kind.__subclasses__() for one in kinds(sub)}

    elsewhere = {"SelfCheck", "Throughputs"}
    known = {kind for kind in kinds(Items) if kind.__name__ not in elsewhere} - {Items}
    assert {type(result) for result in results} == known


@pytest.mark.parametrize("part", [slice(2), slice(1, None), slice(1, 2), slice(0), slice(None)])
def test_slices_are_of_the_same_class_and_show_themselves(results, part):
    for result in results:
        some = result[part]
        assert type(some) is type(result)
        assert len(some) == len(range(len(result))[part])
        if not isinstance(result, fastdecode.Comparison):
            assert list(some) == list(result)[part]
        assert isinstance(repr(some), str)
        assert isinstance(some.to_html(), str)
        assert isinstance(some, Tabular)
        rows = set(some) if isinstance(some, fastdecode.Tally) else list(some)
        assert len(some.to_pandas()) == len(rows)
        again = pickle.loads(pickle.dumps(some))
        assert repr(again) == repr(some)


def test_slices_of_generations(decoder, runs):
    assert runs[0:2].texts == runs.texts[0:2]
    assert runs[0:2].seed == runs.seed
    assert runs[0:2] == runs[:2]
    assert runs[1:] != runs
    count = sum(len(g.token_ids) for g in runs[4:])
    assert repr(runs[4:]).startswith(f"Generations(2, {count} tokens)")
    found = decoder.generate(TEXTS, num_beams=2, trace=True, max_new_tokens=3)
    assert found[1:2].tree is found.trees[1]
    assert found[::-1].trees == found.trees


def test_other_indexes_are_refused_by_the_name_of_the_class(decoder, runs):
    for items in (runs, decoder.next_token("Once"), decoder.tokens("Once"), decoder.score(TEXTS)):
        assert items[np.int64(0)] == items[0]
        with pytest.raises(IndexError, match=f"^index 999 is out of range: there are {len(items)}"):
            items[999]
        for wrong in ("a", 1.0, (0, 1)):
            with pytest.raises(TypeError, match=f"^{type(items).__name__} takes an integer or a s"):
                items[wrong]
    with pytest.raises(TypeError, match="indexed by a token id, a text or a slice, not True"):
        decoder.vocabulary[True]


def test_slices_of_comparisons_compare_what_is_left(decoder):
    texts = ragged(4)
    found = decoder.compare(texts)
    some = found[1:]
    assert [c.index for c in some] == [c.index for c in found][1:]
    assert some[0].difference == 0
    assert sum(c.probability for c in some) == pytest.approx(1.0)
    assert some.best == found[1].score
    assert some.explain() == decoder.compare([texts[c.index] for c in some]).explain()
    assert found[:1].explain() == "There are not two texts to compare."


def test_a_slice_of_a_raffle_knows_its_winner(decoder):
    raffle = decoder.next_token("Once", 5).draw(3)
    parts = (raffle[:1], raffle[-1:])
    without = [part for part in parts if all(s.token != raffle.winner for s in part)]
    assert without
    for part in without:
        assert part.explain() == raffle.explain()
        assert "◀" not in repr(part)
        assert not part.to_pandas()["won"].any()


def test_generations_by_prompt(decoder, runs):
    groups = runs.by_prompt()
    assert list(groups) == [0, 1, 2]
    for index, group in groups.items():
        assert type(group) is fastdecode.Generations
        assert group == runs[2 * index : 2 * index + 2]
        assert {g.prompt for g in group} == {TEXTS[index]}
    assert list(runs[3:].by_prompt()) == [1, 2]
    twice = decoder.generate(["Once", "Once"], n=2, seed=1, do_sample=True).by_prompt()
    assert [len(group) for group in twice.values()] == [2, 2]
    assert decoder.generate([]).by_prompt() == {}


def test_prompt_indices(decoder, runs, tmp_path):
    assert [g.prompt_index for g in runs] == [0, 0, 1, 1, 2, 2]
    assert list(runs.to_pandas()["prompt_index"]) == [0, 0, 1, 1, 2, 2]
    path = tmp_path / "run.json"
    runs.save(path)
    data = json.loads(path.read_text("utf-8"))
    assert [g["prompt_index"] for g in data["generations"]] == [0, 0, 1, 1, 2, 2]
    assert [g.prompt_index for g in fastdecode.Generations.load(path)] == [0, 0, 1, 1, 2, 2]
    # The order of a call is no property of its generations.
    streams = {"streams": [2, 1, 0], "seed": runs.seed, "temperature": 0.9, "n": 2}
    backwards = decoder.generate(TEXTS[::-1], logprobs=2, **streams)
    plain = decoder.generate(TEXTS, logprobs=2, **(streams | {"streams": None}))
    assert [backwards[i] for i in (4, 5, 2, 3, 0, 1)] == list(plain)


def test_files_without_prompt_indices_get_them(decoder, tmp_path):
    path = tmp_path / "run.json"
    run = decoder.generate(["Once", "Once", "It"], n=2, seed=1, streams=[0, 0, 0], do_sample=True)
    run.save(path)
    data = json.loads(path.read_text("utf-8"))
    for fields in data["generations"]:
        del fields["prompt_index"], fields["prompt_token_ids"]
    path.write_text(json.dumps(data), "utf-8")
    old = fastdecode.Generations.load(path)
    assert [g.prompt_index for g in old] == [0, 0, 1, 1, 2, 2]
    assert old[0].prompt_token_ids is None
    assert old == run
    assert fastdecode.verify(path, model=decoder).same
    assert [len(s.token_ids) for s in decoder.score(old)] == [len(g.token_ids) for g in run]


def test_items_introduce_themselves_in_short(decoder, runs):
    long = decoder.generate("Once", max_new_tokens=50, trace=True, seed=1, do_sample=True)
    compared = decoder.compare(TEXTS)
    items = [
        *long,
        *long[0].steps,
        *decoder.score(ragged(3, longest=30), alternatives=5),
        *compared,
        *decoder.classify("Once upon a time", ["a", "b"]),
        *decoder.surprising(TEXTS),
    ]
    for item in items:
        assert len(repr(item)) < 600, repr(item)
        assert str(item) == repr(item)
        assert len(repr(item).splitlines()) == 1
    assert repr(runs[0]).startswith("Generation(prompt='Once upon', text=")
    assert f"tokens=20, finish_reason='length', prompt_index=0, sample=0, seed={runs.seed}, " in (
        repr(runs[0])
    )
    assert repr(runs[0]).endswith("steps=20)")
    step = runs[0].steps[0]
    assert f"token_id={step.token_id}, position={step.position}" in repr(step)
    assert f"alternatives=2, trace={step.explain()[:20]!r}"[:-1] in repr(step)
    score = decoder.score("Once upon a time")[0]
    assert repr(score).startswith(f"Score(text='Once upon a time', tokens={len(score.token_ids)}, ")


def test_pickles_with_fewer_fields_are_restored(runs, decoder):
    """Those of version 0.1, which had neither prompt indices nor entropies."""
    for item, added in ((runs[0], 2), (decoder.score("Once")[0], 1)):
        state = item.__getstate__()
        old = object.__new__(type(item))
        old.__setstate__(state[:-added])
        for name, value in zip(type(item).__slots__, state[:-added], strict=False):
            assert getattr(old, name) == value
        assert [getattr(old, name) for name in type(item).__slots__[-added:]] in ([0, None], [[]])


def test_interrupts_are_pickled(runs):
    error = pickle.loads(pickle.dumps(fastdecode.Interrupted(runs)))
    assert error.generations == runs
    assert "6 generations" in str(error)
