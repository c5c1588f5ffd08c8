"""Pickles of results: they load, and those of earlier versions name modules that have moved."""

from __future__ import annotations

import pickle

import fastdecode
import pytest
from conftest import make_model

OLD = {
    "anomalies": "Surprises",
    "candidates": "Candidates",
    "classifications": "Classification",
    "comparisons": "Comparison",
    "continuations": "Continuations",
    "generations": "Generations",
    "replays": "Replay",
    "scores": "Scores",
    "steps": "Step",
    "strategies": "Greedy",
    "tree": "BeamTree",
    "vocabularies": "Tokens",
}


@pytest.mark.parametrize(("module", "name"), OLD.items())
def test_pickles_of_0_1_find_their_classes(module, name):
    found = pickle.loads(f"cfastdecode.{module}\n{name}\n.".encode())
    assert found is getattr(fastdecode, name)


def test_results_are_pickled_and_read_back(decoder):
    found = decoder.generate(["Once", "It was"], seed=1, temperature=0.9, trace=True)
    tree = decoder.generate("Once", num_beams=2, trace=True).tree
    for result in (found, found[0].steps, decoder.score(["Once upon"]), tree):
        again = pickle.loads(pickle.dumps(result))
        assert again == result or repr(again) == repr(result)


def test_other_old_names_are_unknown():
    with pytest.raises(ModuleNotFoundError):
        pickle.loads(b"cfastdecode.nowhere\nX\n.")


def test_a_closed_decoder_of_objects_is_named_without_its_model(tokenizer):
    decoder = fastdecode.Decoder(make_model("gpt2"), tokenizer)
    decoder.close()
    assert repr(decoder) == "Decoder(closed)"
    with pytest.raises(ValueError, match=r"^name_or_path is empty; give a folder with a model"):
        fastdecode.Decoder.from_pretrained("")
