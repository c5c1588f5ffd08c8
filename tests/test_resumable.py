"""Resumable runs as a library: no printing, and the same file after an interruption."""

from __future__ import annotations

import itertools

import fastdecode
import pytest
from fastdecode import Sample
from fastdecode.jobs.resumable import open_run

PROMPTS = ["Once upon a time", "The king", "Alice was"]


def start(path, decoder, **arguments):
    return open_run(path, decoder, PROMPTS, strategy=Sample(top_p=0.9), n=2, **arguments)


@pytest.mark.parametrize("engine", ["native", "transformers"])
def test_a_run_is_resumed(tmp_path, capsys, engine):
    decoder = fastdecode.Decoder.from_pretrained("demo", engine=engine)
    capsys.readouterr()
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    with start(whole, decoder, seed=7, max_new_tokens=4) as run:
        assert (run.done, run.resumed, run.whole) == (0, 0, 6)
        assert len(list(run.generate())) == 6
    with start(cut, decoder, seed=7, max_new_tokens=4) as run:
        first = list(itertools.islice(run.generate(), 2))
        assert run.done == 2
    with start(cut, decoder, max_new_tokens=4) as run:
        assert (run.done, run.resumed, run.seed) == (2, 2, 7)
        rest = list(run.generate())
        assert run.done == run.whole
    keys = [(record["stream"], record["sample"]) for record in first + rest]
    assert sorted(keys) == [(stream, sample) for stream in range(3) for sample in range(2)]
    assert cut.read_bytes() == whole.read_bytes()
    assert capsys.readouterr() == ("", "")


def test_messages_name_the_argument_of_the_caller(tmp_path):
    decoder = fastdecode.Decoder.from_pretrained("demo")
    path = tmp_path / "texts.jsonl"
    with start(path, decoder, seed=7) as run:
        assert run.seed == 7
        with pytest.raises(ValueError, match="another run is writing to it"), start(path, decoder):
            pass
    for name in ("path", "--out"):
        advice = f"seed 7, not 8; .*, choose another {name}, or remove"
        with pytest.raises(ValueError, match=advice), start(path, decoder, seed=8, name=name):
            pass
    with pytest.raises(ValueError, match="logprobs"), start(tmp_path / "new", decoder, logprobs=-1):
        pass
    assert not (tmp_path / "new").exists()


def test_other_tokens_and_texts_are_other_runs(tmp_path):
    decoder = fastdecode.Decoder.from_pretrained("demo")
    path = tmp_path / "texts.jsonl"
    options = {"stop_token_ids": [11], "max_new_tokens": 3, "seed": 7}
    with start(path, decoder, **options) as run:
        assert len(list(run.generate())) == 6
    for other in (
        {"stop_token_ids": [13]},
        {"stop_token_ids": None},
        {"skip_special_tokens": False},
        {"add_special_tokens": False},
    ):
        (name,) = other
        message = f"was begun with {name}"
        with pytest.raises(ValueError, match=message), start(path, decoder, **(options | other)):
            pass
    with start(path, decoder, **options) as run:
        assert run.resumed == 6


def test_prompts_may_be_token_ids(tmp_path):
    decoder = fastdecode.Decoder.from_pretrained("demo")
    ids = decoder.encode(PROMPTS)
    options = {"strategy": Sample(top_p=0.9), "seed": 7, "max_new_tokens": 3}
    with open_run(tmp_path / "ids.jsonl", decoder, ids, **options) as run:
        found = {record["stream"]: record for record in run.generate()}
    expected = decoder.generate(PROMPTS, top_p=0.9, seed=7, max_new_tokens=3)
    assert [found[i]["token_ids"] for i in range(3)] == [g.token_ids for g in expected]
    assert found[1]["prompt"] == ids[1]
