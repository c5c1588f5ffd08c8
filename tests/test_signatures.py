"""The generated signatures and docstrings are those of the core's table of parameters."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path

import pytest
from fastdecode import _core

ROOT = Path(__file__).resolve().parent.parent
TOOL = ROOT / "tools" / "generate_signatures.py"
spec = importlib.util.spec_from_file_location("generate_signatures", TOOL)
assert spec is not None
assert spec.loader is not None
generate_signatures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(generate_signatures)

TABLE = _core.parameters()


def test_generated_files_are_those_of_the_table():
    for path, text in generate_signatures.files(TABLE).items():
        assert path.read_text(encoding="utf-8") == text, (
            f"{path.name} differs from the table; run tools/generate_signatures.py"
        )


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["name"])
def test_python_knows_each_parameter(row):
    parameter = inspect.signature(_core.Sample).parameters[row["name"]]
    assert parameter.default == row["default"]
    assert type(parameter.default) is type(row["default"])
    assert f"\n{row['name']} : " in _core.Sample.__doc__
    assert _core.Sample(**{row["name"]: row["default"]}) == _core.Sample()
    assert _core.Sample(**{row["name"]: row["off"]}).settings() in ({}, {row["name"]: row["off"]})


def test_sample_has_no_others():
    names = [row["name"] for row in TABLE]
    signature = inspect.signature(_core.Sample)
    assert sorted(signature.parameters) == sorted(names)
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    by_position = [name for name, p in signature.parameters.items() if p.kind is positional]
    assert by_position == list(generate_signatures.POSITIONAL)
    assert _core.Sample(0.5, 3, 0.9) == _core.Sample(temperature=0.5, top_k=3, top_p=0.9)


def test_beam_has_the_processors():
    parameters = inspect.signature(_core.Beam).parameters
    for row in TABLE:
        if row["stage"] == "processor":
            assert parameters[row["name"]].default == row["default"]
        else:
            assert row["name"] not in parameters
            with pytest.raises(TypeError, match="unexpected keyword argument"):
                _core.Beam(**{row["name"]: row["default"]})


WRONG = {
    "flag": (1, "True or False, got 1"),
    "integer": ("5", "an integer, got '5'"),
    "number": ("warm", "a number, got 'warm'"),
    "numbers": ((1.0,), r"\(\w+, \w+\).*, got \(1\.0,\)"),
    "tokens": (5, "a sequence of token ids, got 5"),
    "sequences": ([1], r"a sequence of sequences of token ids, .*, got \[1\]"),
    "biases": (5, "a dict from token ids, or tuples of them, to numbers, got 5"),
    "record": ({"scale": 1}, r"a dict with any of .*, got \{'scale': 1\}"),
}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["name"])
def test_values_of_another_type_are_refused_by_name(row):
    value, message = WRONG[row["kind"]]
    with pytest.raises(TypeError, match=f"^{row['name']} must be {message}"):
        _core.Sample(**{row["name"]: value})
    if row["default"] is not None:
        with pytest.raises(TypeError, match=f"^{row['name']} must be .*, got None"):
            _core.Sample(**{row["name"]: None})


def test_calls_are_refused_as_python_refuses_them():
    with pytest.raises(TypeError, match=r"got an unexpected keyword argument 'temprature'"):
        _core.Sample(temprature=0.8)
    with pytest.raises(TypeError, match=r"takes from 0 to 3 positional arguments but 4 were given"):
        _core.Sample(1.0, 5, 0.5, 0.5)
    with pytest.raises(TypeError, match=r"got multiple values for argument 'temperature'"):
        _core.Sample(1.0, temperature=1.0)
    with pytest.raises(TypeError, match=r"dry\['base'\] must be a number, got 'high'"):
        _core.Sample(dry={"multiplier": 1.0, "base": "high"})
    with pytest.raises(ValueError, match=r"bad_words=\[\[-1\]\] has a token id outside"):
        _core.Sample(bad_words=[[-1]])
    with pytest.raises(ValueError, match=r"top_k=1\d+ is outside"):
        _core.Sample(top_k=10**30)
