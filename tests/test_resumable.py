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
