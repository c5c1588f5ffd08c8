"""Every argument refuses what it cannot be by a message in the words of Python, not of Rust."""

from __future__ import annotations

import contextlib
import inspect
import math
import re

import numpy as np
import pytest
from fastdecode import Beam, Sample, core
from fastdecode._core import parameters
from fastdecode.options.keyword_types import GenerateArguments


class Unspeakable:
    """Its own `__repr__` fails."""

    def __repr__(self):
        raise RuntimeError


def some_function(*_):
    return [1]


# What users pass by mistake, and what nobody passes.
HOSTILE = [
    None,
    True,
    np.True_,
    -1,
    1.5,
    2**70,
    -(2**70),
    10**400,
    10**5000,
    math.nan,
    math.inf,
    -math.inf,
    1 + 2j,
    "",
    "5",
    "king",
    b"ab",
    bytearray(b"ab"),
    [],
    {},
    (1,),
    [1, -1],
    [2**70],
    [10**400, 1],
    (0.5, True),
    [[1]],
    [[]],
    ["king"],
    [None],
    {"king": 1},
    {1: "a"},
    {1: 10**400},
    {True: 1.0},
    {"multiplier": "a"},
    {"multiplier": 10**400},
    {3: 4},
    set(),
    range(3),
    np.array([1.5, 2.0]),
    np.array([[1]]),
    np.array([0.5]),
    np.array([True, False]),
    np.array(["a"]),
    np.float32("nan"),
    some_function,
    object(),
    Unspeakable(),
    Sample(),
    Sample,
]

# Words of Rust, PyO3 and CPython's inside that a user of Python need not know.
FOREIGN = re.compile(
    r"\b(Vec|extract|[ui](8|16|32|64|size)|f(32|64)|Py[A-Z]\w+|Option|Some|Bound|__\w+__|unwrap|"
    r"panick?\w*|has no attribute|unsupported operand|ambiguous|cannot be interpreted|"
    r"not (iterable|subscriptable|callable)|can't convert|expected \d|too large to)\b"
    r"|'[A-Za-z]+' object|&str|object is not"
)


def refusal(call):
    """The exception of a call, or None where the value is accepted."""
    try:
        call()
    except (TypeError, ValueError, IndexError) as error:
        return error
    return None


def spellings(value):
    """How messages may show a value: as it is, as Rust writes it, or by its type alone."""
    yield type(value).__name__
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        yield repr(value.tolist())
        yield value.dtype.name
        yield value.dtype.str[:3]
    try:
        text = repr(value).splitlines()[0]
    except (RuntimeError, ValueError):
        # It has no repr, or more digits than Python writes.
        return
    yield text[:12]
    yield text.replace("'", '"')
    yield text.removesuffix(".0")
    yield text.replace("nan", "NaN")


def is_named(name, value, message):
    """Whether a message names the argument, or an entry of it, and shows the value or an entry."""
    known = [*spellings(value)]
    if isinstance(value, list | tuple | set | range | np.ndarray | str | dict):
        known += [text for part in value for text in spellings(part)]
    if isinstance(value, dict):
        known += [text for part in value.values() for text in spellings(part)]
    # What is said of a whole, or of two arguments that exclude or need each other.
    known += ["empty", "entries", "no token id", "a beam search", "; give histories="]
    named = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", message)
    return named and any(text in message for text in known)


def check(name, value, call):
    error = refusal(call)
    if error is None:
        return
    assert type(error) in (TypeError, ValueError, IndexError), repr(error)
    message = str(error)
    assert not FOREIGN.search(message), message
    assert is_named(name, value, message), message
    assert "\n" not in message
    assert len(message) < 400, message


TABLE = {row["name"]: row for row in parameters()}
OF_BEAM = list(inspect.signature(Beam).parameters)


@pytest.mark.parametrize("name", TABLE)
def test_sample(name):
    for value in HOSTILE:
        check(name, value, lambda value=value: Sample(**{name: value}))


@pytest.mark.parametrize("name", OF_BEAM)
def test_beam(name):
    for value in HOSTILE:
        check(name, value, lambda value=value: Beam(**{name: value}))


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


LOGITS = np.zeros((2, 5), np.float32)
PENALTY = Sample(repetition_penalty=2.0)


def decode_state(**given):
    return core.DecodeState(**{"prompts": [[1], [2]], "seed": 1, "limits": 3} | given)


def beam_state(**given):
    place = {"beam": Beam(2), "prompts": [[1], [2]], "limits": [4, 4], "eos_token_ids": [0]}
    return core.BeamState(**place | given)


def listing(**given):
    return core.Listing(
        **{"min_probability": 0.1, "max_new_tokens": 3, "eos_token_ids": [0]} | given
    )


def sample(**given):
    return core.sample(LOGITS, **{"seed": 1} | given)


def penalised(**given):
    return core.sample(LOGITS, PENALTY, **{"seed": 1, "histories": [[1], [2]]} | given)


def multinomial(**given):
    return core.multinomial(LOGITS, **{"num_samples": 2, "seed": 1} | given)


CALLS = [
    *((core.top_k, {"logits": LOGITS, "k": 2}, [name]) for name in ("logits", "k")),
    (core.argmax, {}, ["logits"]),
    (core.log_softmax, {}, ["logits"]),
    (core.logsumexp, {}, ["logits"]),
    (core.token_logprobs, {"logits": LOGITS}, ["tokens"]),
    (core.distribution, {"logits": LOGITS}, ["params", "seed", "streams", "histories"]),
    (core.weights, {"logits": LOGITS}, ["params"]),
    (
        sample,
        {},
        ["params", "seed", "streams", "samples", "positions", "mus", "ledger", "alternatives"],
    ),
    (penalised, {}, ["prompt_lengths"]),
    (sample, {"params": PENALTY}, ["histories"]),
    (multinomial, {}, ["num_samples", "params", "replacement", "seed", "streams", "positions"]),
    (core.uniform, {"seed": 1}, ["seed", "stream", "sample", "position"]),
    (core.philox4x32, {"counter": [1] * 4, "key": [1] * 2}, ["counter", "key"]),
    (
        decode_state,
        {},
        [
            *("prompts", "params", "seed", "limits", "streams", "samples", "limit_reasons"),
            *("eos_token_ids", "prompt_lengths", "mus"),
        ],
    ),
    (
        beam_state,
        {},
        ["beam", "prompts", "limits", "eos_token_ids", "seed", "streams", "indices", "trace"],
    ),
    (listing, {}, ["min_probability", "max_new_tokens", "eos_token_ids"]),
]
ARGUMENTS = [(function, rest, name) for function, rest, names in CALLS for name in names]


@pytest.mark.parametrize(
    ("function", "rest", "name"), ARGUMENTS, ids=[f"{f.__name__}-{n}" for f, _, n in ARGUMENTS]
)
def test_the_core(function, rest, name):
    for value in HOSTILE:
        check(name, value, lambda value=value: function(**{**rest, name: value}))


OF_GENERATE = [
    name
    for name in GenerateArguments.__annotations__
    if name not in ("strategy", "logits_processor")
]


@pytest.mark.parametrize("name", OF_GENERATE)
def test_generate(decoder, monkeypatch, name):
    class Begun(Exception):
        pass

    def work(*_, **__):
        raise Begun

    for method in ("start", "prefill"):
        monkeypatch.setattr(type(decoder.engine), method, work)
    beams = {} if name in ("num_beams", "logprobs") else {"num_beams": 2}
    for more in ({}, beams):
        for value in HOSTILE:

            def call(value=value, more=more):
                with contextlib.suppress(Begun):
                    decoder.generate("Once", **{**more, name: value})

            check(name, value, call)


def test_generate_refuses_other_strategies(decoder):
    for value in HOSTILE:
        if not isinstance(value, Sample) and value is not None:
            check("strategy", value, lambda value=value: decoder.generate("Once", strategy=value))
