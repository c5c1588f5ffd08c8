"""Damaged files that the package wrote: they are read, or refused with the file and the place."""

from __future__ import annotations

import json
import math
import random
import re
from dataclasses import dataclass
from typing import Any, TypedDict

import fastdecode
import pytest
from damage import DAMAGES, deep
from fastdecode.files.reading import parse_json
from fastdecode.files.shapes import shaped
from fastdecode.jobs.questions.continuations import Continuations
from fastdecode.jobs.resumable import open_job
from odd_json import any_json

PROMPTS = ["Once upon a time", "The king"]
COUNT = DAMAGES or 200


@pytest.fixture(scope="module")
def demo():
    return fastdecode.Decoder.from_pretrained("demo")


@pytest.fixture(scope="module")
def runs(demo):
    """Runs of every kind of strategy, with all that a file may contain."""
    more = {"max_new_tokens": 3, "seed": 5}
    return [
        demo.generate(PROMPTS, n=2, top_p=0.9, logprobs=2, logit_bias={11: float("-inf")}, **more),
        demo.generate(PROMPTS, temperature=0.9, trace=True, stop=["zz"], **more),
        demo.generate(PROMPTS, num_beams=2, num_return_sequences=2, logprobs=0, **more),
        demo.generate(PROMPTS, **more),
    ]


def test_run_files(runs, demo, tmp_path):
    rng, path = random.Random(0), tmp_path / "run.json"
    whole = []
    for run in runs:
        run.save(path)
        whole.append(json.loads(path.read_bytes()))
        assert fastdecode.Generations.load(path) == run
    refused = 0
    for _ in range(COUNT):
        data = rng.choice(whole)
        raw = json.dumps(data, indent=rng.choice([None, 1])).encode()
        path.write_bytes(any_json(rng, raw))
        try:
            found = fastdecode.Generations.load(path)
            assert isinstance(found, fastdecode.Generations)
            report = fastdecode.verify(path, model=demo)
            assert report.explain()
            found.save(tmp_path / "again.json")
        except ValueError as error:
            refused += 1
            said = str(error)
            assert said.startswith(str(path)), said
    assert refused > COUNT // 2


def lines_of(path):
    return path.read_bytes().splitlines(keepends=True)


def start(path, decoder, **more):
    more = {"strategy": fastdecode.Sample(top_p=0.9), "max_new_tokens": 3, **more}
    return open_job(path, Continuations(decoder, PROMPTS, n=2, **more))


@pytest.mark.parametrize("what", ["lines", "manifest"])
def test_files_of_a_resumable_run(demo, tmp_path, what):
    rng, path = random.Random(1), tmp_path / "texts.jsonl"
    beside = path.with_name("texts.jsonl.run.json")
    with start(path, demo, seed=5, logprobs=1) as run:
        assert len(list(run.run())) == 4
    lines, manifest = lines_of(path), beside.read_bytes()
    refused = 0
    for _ in range(COUNT):
        path.write_bytes(b"".join(lines))
        beside.write_bytes(manifest)
        if what == "manifest":
            beside.write_bytes(any_json(rng, manifest))
        else:
            some = list(lines)
            index = rng.randrange(len(some))
            some[index] = any_json(rng, some[index].strip()) + b"\n"
            path.write_bytes(b"".join(some))
        try:
            with start(path, demo, logprobs=1) as run:
                list(run.run())
            assert run.done == run.whole
        except ValueError as error:
            refused += 1
            said = str(error)
            assert said.startswith(str(path)), said
            assert what == "manifest" or re.search(r"line \d", said), said
    assert refused > COUNT // 2


@pytest.mark.parametrize(
    ("damage", "place"),
    [
        (
            lambda run: run["generations"][1]["token_ids"].__setitem__(0, "x"),
            r'token_ids\[0\]: .*"x"',
        ),
        (lambda run: run["generations"][0].pop("text"), r"generations\[0\]\.text: is missing"),
        (
            lambda run: run["call"].__setitem__("prompts", "Once"),
            r"call\.prompts: must be an array",
        ),
        (lambda run: run["call"].__setitem__("seed", 2**64), r"call\.seed: must be an integer"),
        (lambda run: run["call"].__setitem__("seed", True), r"call\.seed: must be an integer"),
        (lambda run: run["call"].__setitem__("n", 2**40), r"call: n must be in"),
        (lambda run: run["call"].__setitem__("dtype", "int9"), "call: .*int9"),
        (lambda run: run["call"].__setitem__("coffee", 1), "call: .*coffee"),
        (
            lambda run: run["call"]["strategy"].__setitem__("name", "luck"),
            r"call\.strategy: .*luck",
        ),
        (lambda run: run["call"]["strategy"].__setitem__("top_p", []), r"call\.strategy: top_p"),
        (lambda run: run["call"]["streams"].pop(), r"call\.streams: must have one stream"),
        (
            lambda run: run["generations"][2].__setitem__("prompt", "?"),
            r"generations\[2\]: the prompt",
        ),
        (
            lambda run: run["generations"][2].__setitem__("seed", 6),
            r"\[2\]\.seed: must be the seed",
        ),
        (lambda run: run["generations"][0]["logprobs"].pop(), r"\.logprobs: must have one entry"),
        (lambda run: run["generations"][0].__setitem__("hue", 1), r"\[0\]\.hue: is unknown"),
        (lambda run: run["stats"].__setitem__("seconds", math.nan), r"stats\.seconds: .*not NaN"),
        (lambda run: run.__setitem__("environment", deep(70)), r"environment: must be an object"),
        (lambda run: run["environment"].__setitem__("a", deep(70)), r"environment\.a: is nested"),
        (
            lambda run: run["identity"].__setitem__("weights", 5),
            r"identity\.weights: .*or null, not 5",
        ),
    ],
)
def test_a_fault_is_named_with_its_place(runs, tmp_path, damage, place):
    path = tmp_path / "run.json"
    runs[0].save(path)
    run = json.loads(path.read_bytes())
    damage(run)
    path.write_text(json.dumps(run))
    with pytest.raises(ValueError, match=f"run.json, .*{place}"):
        fastdecode.verify(path)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "f, line 1, column 1: it is not JSON: Expecting value"),
        (b'{"a": 1,\n "b": }', "f, line 2, column 7: it is not JSON: Expecting value"),
        (b'{"a":\n\xff', "f, line 2: it is not UTF-8 text (byte 0xff)"),
        (
            b'{"a[": \n' + b"[" * 10**5,
            "f, line 2, column 64: it is nested more than 64 levels deep",
        ),
        (b"\n " + b"9" * 5000, "f, line 2, column 2: it has an integer of more than 4300 digits"),
    ],
)
def test_text_that_is_not_json(raw, message):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        parse_json(raw, "f")


def test_a_byte_order_mark_is_no_fault():
    assert parse_json(b'\xef\xbb\xbf{"a": 1}', "f") == {"a": 1}


@dataclass(frozen=True)
class Inner:
    pair: tuple[int, float]
    names: list[str] | None = None


class Outer(TypedDict):
    inner: Inner
    flag: bool
    either: list[int] | str
    any: dict[str, Any]
    row: tuple[float, ...]


def test_data_takes_the_types_of_a_class():
    data = {"inner": {"pair": [1, 2]}, "flag": True, "either": "x", "any": {"a": None}, "row": [1]}
    found = shaped(Outer, {**data, "more": [1]}, "f")
    assert found["inner"] == Inner((1, 2.0))
    assert type(found["inner"].pair[1]) is float
    assert (found["row"], found["more"]) == ((1.0,), [1])
    for change, message in [
        ({"inner": {"pair": [1]}}, "f, inner.pair: must be an array of 2, not an array"),
        ({"inner": {"pair": [1, "a"]}}, 'f, inner.pair[1]: must be a number, not "a"'),
        ({"inner": {}}, "f, inner.pair: is missing"),
        ({"inner": {"pair": [1, 2], "names": ["a", 1]}}, "f, inner.names[1]: must be a string"),
        (
            {"inner": {"pair": [1, 2], "names": 5}},
            "f, inner.names: must be an array or null, not 5",
        ),
        ({"either": ["a"]}, "f, either[0]: must be an integer"),
        ({"either": {}}, "f, either: must be a string or an array, not an object"),
        ({"either": "\udc80"}, "f, either: has half of a surrogate pair"),
        ({"flag": 1}, "f, flag: must be true or false, not 1"),
        ({"any": {"a b": deep(70)}}, 'f, any["a b"]: is nested more than 64 deep'),
        ({"row": [math.inf]}, "f, row[0]: must be a number, not Infinity"),
    ]:
        with pytest.raises(ValueError, match="^" + re.escape(message)):
            shaped(Outer, data | change, "f")
