"""Every argument of the public surface refuses what it cannot be, by a message that helps.

The values are those of `hostile.py`, which also has the rule, and the callables those of
`surface`. `FASTDECODE_MESSAGES=1` tries all values on all of them.
"""

from __future__ import annotations

import os

import hostile
import hostile_commands
import numpy as np
import pytest
import surface
from fastdecode import Beam, Decoder, Sample, core, generate, score
from fastdecode._core import parameters
from fastdecode.models import checkpoints
from fastdecode.models.engines.native import NativeEngine

ALL = bool(os.environ.get("FASTDECODE_MESSAGES"))
TABLE = {row["name"]: row for row in parameters()}


def values():
    """What is tried."""
    if ALL:
        return hostile.VALUES | hostile.torch_values()
    return {name: hostile.VALUES[name] for name in hostile.FEW}


def test_every_public_callable_is_attacked():
    missing = [
        name
        for name, function in surface.public()
        if surface.takes_arguments(function) and surface.entry(name) is None
    ]
    assert not missing, f"give them valid arguments in tests/surface: {missing}"


@pytest.mark.parametrize("name", surface.targets())
def test_hostile_values(name):
    with surface.place():
        found = list(surface.findings(surface.targets()[name], values(), everywhere=ALL))
    assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize("name", surface.targets())
def test_the_valid_arguments_are_valid(name):
    """Without them, every refusal could be about something else."""
    target = surface.targets()[name]
    if any(isinstance(value, str) and value == "no.gguf" for value in target.valid().values()):
        pytest.skip("there is no such file")
    with surface.place():
        if name.startswith("_core.GgufFile.") and target.shown:
            with pytest.raises(ValueError, match=r"no tensor|no metadata key"):
                target.call(**target.valid())
            return
        if name == "_core.NativeModel.from_arrays":
            with pytest.raises(ValueError, match="no tensor"):
                target.call(**target.valid())
            return
        target.call(**target.valid())


@pytest.mark.parametrize("command", hostile_commands.RUNS)
def test_commands(command):
    tried = hostile_commands.VALUES if ALL else hostile_commands.FEW
    with surface.place():
        found = list(hostile_commands.findings([command], list(tried)))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", TABLE)
def test_numbers_out_of_range_are_value_errors(name):
    """Of the right type, and too large for any machine."""
    row = TABLE[name]
    large = {
        "integer": [2**70, -(2**70), 10**400],
        "number": [10**400],
        "numbers": [(10**400,) * len(row.get("names", ())), (10**400, 1)],
        "tokens": [[2**70], [10**400], [-1]],
        "sequences": [[[2**70]], [[1], [10**400, 2]]],
        "biases": [{2**70: 1.0}, {(1, 10**400): 1.0}, {1: 10**400}, {1: 1e300}, [[[-1], 1.0]]],
        "record": [{"multiplier": 10**400}, {"multiplier": 1, "range": 2**70}],
        "flag": [],
    }
    for value in large[row["kind"]]:
        with pytest.raises(ValueError, match=f"^{name}"):
            Sample(**{name: value})


@pytest.mark.parametrize("name", TABLE)
def test_bools_are_no_numbers(name):
    kind = TABLE[name]["kind"]
    wrong = {
        "integer": [True, np.True_],
        "number": [True, np.False_],
        "numbers": [(True, 1.0), (1.0, np.True_)],
        "tokens": [[True], np.array([True])],
        "sequences": [[[True]]],
        "biases": [{True: 1.0}, {1: True}, {(1, False): 1.0}],
        "record": [{"multiplier": True}],
        "flag": [1, 0, "yes", np.array([True]), [True]],
    }
    for value in wrong[kind]:
        with pytest.raises(TypeError, match=f"^{name}"):
            Sample(**{name: value})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Sample(temprature=1), r"'temprature'; did you mean 'temperature'\?$"),
        (lambda: Sample(topk=1), r"'topk'; did you mean 'top_k'\?$"),
        (lambda: Sample(typical=0.5), r"'typical'.*typical_p"),
        (lambda: Sample(repeat_penalty=1.5), r"'repeat_penalty'.*repetition_penalty"),
        (lambda: Sample(num_beams=2), r"'num_beams'; it is a parameter of Beam$"),
        (lambda: Sample(zzz=2), r"'zzz'$"),
        (lambda: Beam(num_beam=3), r"'num_beam'; did you mean 'num_beams'\?$"),
        (lambda: Beam(2, lenght_penalty=3), r"'lenght_penalty'; did you mean 'length_penalty'\?$"),
        (lambda: Beam(2, badwords=[[1]]), r"'badwords'; did you mean 'bad_words'\?$"),
        (lambda: Beam(2, top_k=3), r"'top_k'; give it to the draw: Beam\(\.\.\., sample=Sample"),
        (lambda: score("Once", modle="demo"), r"'modle'; did you mean 'model'\?$"),
    ],
)
def test_unknown_keywords(call, message):
    with pytest.raises(TypeError, match=r"\(\) got an unexpected keyword argument " + message):
        call()


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"device": "xyz"}, ValueError, "device='xyz' is unknown"),
        ({"device": 2**70}, ValueError, "device=1180.* is unknown"),
        ({"device": 1.5}, TypeError, "device must be a torch device"),
        ({"device": "meta"}, ValueError, 'device="meta" holds no numbers'),
        ({"dtype": "xyz"}, ValueError, "dtype='xyz' is unknown"),
        ({"dtype": 32}, TypeError, "dtype must be a torch dtype"),
        ({"dtype": np.zeros(3)}, TypeError, "dtype must be a torch dtype"),
        ({"engine": "xyz"}, ValueError, "engine='xyz' is unknown"),
        ({"engine": None}, TypeError, "engine must be a string"),
        ({"engine": ["auto"]}, TypeError, "engine must be a string"),
        ({"revision": 5}, TypeError, "revision must be a string"),
        ({"trust_remote_code": "yes"}, TypeError, "trust_remote_code must be True or False"),
        ({"engine": "native", "device": "cuda"}, ValueError, "engine='native' runs on the CPU"),
        ({"engine": "native", "dtype": "float64"}, ValueError, "dtype='float64' is none"),
        ({"engine": "torch", "dtype": "int8"}, ValueError, "dtype='int8' needs the native"),
        ({"device": "mps", "dtype": "int8"}, ValueError, "dtype='int8' needs the native"),
    ],
)
def test_what_a_model_cannot_run_with_is_refused_before_it_is_loaded(
    monkeypatch, given, error, message
):
    def work(*_, **__):
        raise RuntimeError("it was loaded first")

    monkeypatch.setattr(NativeEngine, "from_folder", work)
    monkeypatch.setattr(checkpoints, "_read", work)
    for call in (
        lambda: Decoder.from_pretrained("demo", **given),
        lambda: generate("Once", model="demo", **given),
    ):
        with pytest.raises(error, match=message):
            call()


def test_arrays_with_a_mask_are_no_plain_numbers():
    """NumPy would leave the mask out without a word."""
    rows = np.ma.masked_array(np.zeros((2, 3), np.float32), [[1, 0, 0]] * 2)
    with pytest.raises(ValueError, match=r"logits are a masked array.*\.filled\(-numpy\.inf\)"):
        core.argmax(rows)
    with pytest.raises(TypeError, match=r"tokens\[1\] must be an integer, got masked"):
        core.token_logprobs(rows.data, np.ma.masked_array([1, 2], [0, 1]))
