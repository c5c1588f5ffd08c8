"""Jobs of every command: a resumed file is that of an unbroken job, and never that of two."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import fastdecode
import pytest
from fastdecode.jobs.questions.beams import Beams
from fastdecode.jobs.questions.scores import Labels, Likelihoods, Surprisals
from fastdecode.jobs.resumable import open_job
from fastdecode.jobs.resumable_file import ResumableFile
from odd_json import any_json

DAMAGES = int(os.environ.get("FASTDECODE_DAMAGES", "60"))
ATTACKS = Path(__file__).with_name("job_attacks.py")
ROWS = [
    {"id": 17, "text": "The cat sat down.", "label": "old"},
    {"id": "x-2", "text": "The king\nand the queen", "weight": 0.1},
    {"text": "Alice"},
    {"id": 17, "text": "The cat sat down.", "label": "new"},
    {"id": 5, "text": "Once upon a time", "tags": ["a", {"b": None}]},
]
# Of each command its arguments, and what would be another question.
COMMANDS = {
    "generate": (["--seed", "7", "-n", "2", "--max-new-tokens", "3"], ["--stop", "."]),
    "beam": (["-k", "3", "-n", "2", "--max-new-tokens", "3", "--seed", "7"], ["--groups", "3"]),
    "score": (["--context", "Well, "], ["--no-eos"]),
    "surprising": ([], ["--stride", "40"]),
    "classify": (["-l", "castle", "-l", "kitchen"], ["-l", "barn"]),
}
commands = pytest.mark.parametrize("command", list(COMMANDS))


def objects(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    return Path("texts.jsonl")


def call(command, *more):
    return (command, "--file", "texts.jsonl", "-m", "demo", *COMMANDS[command][0], *more)


@commands
def test_the_file_has_what_json_prints(run, source, command):
    code, out, err = run(*call(command, "--out", "out.jsonl"))
    assert (code, out) == (0, ""), err
    found = objects(Path("out.jsonl").read_text("utf-8"))
    printed = objects(run(*call(command, "--json"))[1])
    if command == "surprising":
        # What is shown is ranked, and says where each text was given.
        printed.sort(key=lambda row: row["index"])
        for row in printed:
            assert row.pop("place") == f"texts.jsonl, line {row['index'] + 1}"
    assert found == printed
    each = len(found) // len(ROWS)
    for place, item in enumerate(found):
        row = ROWS[place // each]
        for name in ("id", "weight", "tags"):
            assert item.get(name) == row.get(name)
        assert item.get("input", item).get("label") == row.get("label") or command == "classify"


@commands
@pytest.mark.parametrize("engine", ["native", "transformers"])
def test_a_cut_file_is_resumed_to_the_same_bytes(run, source, command, engine):
    out = Path("out.jsonl")
    typed = call(command, "--engine", engine, "--out", "out.jsonl")
    assert run(*typed)[0] == 0
    whole = out.read_bytes()
    ends = [0, *(i + 1 for i, byte in enumerate(whole) if byte == 10)]
    # At the end of every line, and in the middle of one.
    for cut in [*ends, ends[1] + 5, len(whole) - 1]:
        out.write_bytes(whole[:cut])
        code, _, err = run(*typed)
        assert code == 0, err
        assert out.read_bytes() == whole
        before = sum(end <= cut for end in ends[1:])
        assert (f"{before} of them from before" in err) == (before > 0)


@commands
def test_another_question_is_refused(run, source, command):
    out = Path("out.jsonl")
    assert run(*call(command, "--out", "out.jsonl"))[0] == 0
    whole = out.read_bytes()
    code, _, err = run(*call(command, *COMMANDS[command][1], "--out", "out.jsonl"))
    assert (code, "out.jsonl was begun with " in err) == (2, True), err
    for other in COMMANDS:
        if other != command:
            code, _, err = run(*call(other, "--out", "out.jsonl"))
            assert code == 2
            assert f"was begun by the command {command}, not by {other}; choose another" in err
    rows = [{**row, "id": 0} for row in ROWS]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    code, _, err = run(*call(command, "--out", "out.jsonl"))
    what = "prompts" if command in ("generate", "beam") else "texts"
    assert f"was begun with other {what} or other fields (5 then, 5 now)" in err
    assert out.read_bytes() == whole


@commands
def test_lines_that_the_job_did_not_write_are_refused(run, source, command):
    out, typed = Path("out.jsonl"), call(command, "--out", "out.jsonl")
    assert run(*typed)[0] == 0
    lines = out.read_bytes().splitlines(keepends=True)
    first = json.loads(lines[0])
    text = "prompt" if command in ("generate", "beam") else "text"
    what = "prompt 1" if text == "prompt" else "text 1"
    changes = [
        ({text: "Another"}, rf"its {text} is not "),
        ({"id": 18}, "its other fields are not those of "),
        ({"extra": 1}, "its other fields are not those of "),
    ]
    changes += {
        "generate": [({"seed": 8}, "its seed is 8, and that of the run 7")],
        "beam": [({"sample": 2}, "the run has no stream 0 and sample 2")],
        "score": [({"token_ids": [1]}, "its tokens are not those of ")],
        "surprising": [({"index": 3}, "its index is 3, and it is in the place of 0")],
        "classify": [({"posterior": {"castle": 1.0}}, "its labels are not those of the run")],
    }[command]
    for change, message in changes:
        out.write_bytes(json.dumps(first | change).encode() + b"\n" + lines[1])
        code, _, err = run(*typed)
        assert code == 2
        assert f"out.jsonl, line 1: this run did not write it: {message}" in err, (what, err)
    # More lines than the job has, and lines in another order.
    out.write_bytes(b"".join([*lines, lines[0]]))
    code, _, err = run(*typed)
    assert (code, f"out.jsonl, line {len(lines) + 1}: this run did not write it" in err) == (
        2,
        True,
    )
    if text == "text":
        out.write_bytes(lines[1] + lines[0])
        assert "line 1: this run did not write it" in run(*typed)[2]


def test_a_search_may_have_fewer_sequences_than_requested(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    typed = ["beam", "A", "B", "-m", "demo", "-k", "3", "-n", "3", "--allowed", "11,13"]
    typed += ["--max-new-tokens", "1", "--out", "out.jsonl"]
    code, _, err = run(*typed)
    assert (code, err.startswith("out.jsonl: 4 texts, seed")) == (0, True), err
    whole = Path("out.jsonl").read_bytes()
    assert whole.count(b"\n") == 4
    for cut in (1, 2, 3, 4):
        Path("out.jsonl").write_bytes(b"".join(whole.splitlines(keepends=True)[:cut]))
        code, _, err = run(*typed)
        assert code == 0
        assert err.startswith(f"out.jsonl: 4 texts, {cut} of them from before, seed")
        assert Path("out.jsonl").read_bytes() == whole


def test_long_inputs_are_scored_in_several_parts(tmp_path, monkeypatch):
    from fastdecode.jobs.questions import base

    demo = fastdecode.Decoder.from_pretrained("demo")
    texts = [f"The {i}. king said" for i in range(40)]
    questions = {
        "score": lambda: Likelihoods(demo, texts),
        "surprising": lambda: Surprisals(demo, texts),
        "classify": lambda: Labels(demo, texts, ["castle", "kitchen", "barn"]),
        "beam": lambda: Beams(demo, texts, strategy=fastdecode.Beam(2), max_new_tokens=2, seed=0),
    }
    found = {}
    for tokens in (1, 100, 10**6):
        monkeypatch.setattr(base, "_PART_TOKENS", tokens)
        for name, ask in questions.items():
            question = ask()
            assert [index for part in question.parts() for index in part] == list(range(40))
            with open_job(tmp_path / f"{name}{tokens}.jsonl", question) as job:
                assert len(list(job.run())) == 40
            found.setdefault(name, set()).add((tmp_path / f"{name}{tokens}.jsonl").read_bytes())
    assert all(len(files) == 1 for files in found.values())


def test_an_empty_job_is_complete(tmp_path):
    demo = fastdecode.Decoder.from_pretrained("demo")
    with open_job(tmp_path / "out.jsonl", Likelihoods(demo, [])) as job:
        assert (list(job.run()), job.is_complete) == ([], True)
    assert (tmp_path / "out.jsonl").read_bytes() == b""


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("score", "--tokens"), "--tokens is about what is shown"),
        (("surprising", "--top", "3"), "--top is about what is shown"),
        (("beam", "--tree"), "--tree is about what is shown"),
        (("beam", "--save", "run.json"), "--save and --out are two ways to keep a run"),
    ],
)
def test_options_that_out_would_not_heed(run, tmp_path, monkeypatch, more, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*more, "A", "-m", "demo", "--out", "out.jsonl")
    assert (code, out, message in err) == (2, "", True), err
    assert not list(tmp_path.iterdir())


def attack(*arguments):
    """What an attack has seen."""
    done = subprocess.run(
        [sys.executable, str(ATTACKS), *arguments], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX processes")
def test_a_job_that_is_killed_at_any_line():
    seen = attack("lines")
    assert seen["killed"] > 200
    assert seen["before the file"] > 20
    assert all(seen[f"with {count} lines"] for count in range(7))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX processes")
def test_each_command_is_killed_and_resumed():
    seen = attack("commands", "8")
    assert seen.keys() == COMMANDS.keys()
    assert all(found["killed"] == 8 and found["before the file"] for found in seen.values())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX processes")
def test_of_two_processes_on_one_new_file_one_wins():
    assert attack("pairs", "20")["pairs"] == 20


@pytest.mark.skipif(
    "FASTDECODE_STARTS" not in os.environ, reason="FASTDECODE_STARTS is the number of pairs"
)
def test_of_two_command_lines_started_together_one_wins():
    count = os.environ["FASTDECODE_STARTS"]
    assert attack("starts", count)["pairs"] == int(count)


@commands
def test_damaged_files_of_a_job(run, source, command):
    """A result, or an error that names the file, and the line where it is one."""
    rng = random.Random(list(COMMANDS).index(command))
    out, beside = Path("out.jsonl"), Path("out.jsonl.run.json")
    typed = call(command, "--out", "out.jsonl")
    assert run(*typed)[0] == 0
    lines, whole = out.read_bytes().splitlines(keepends=True), beside.read_bytes()
    refused = 0
    for number in range(DAMAGES):
        some, known = list(lines), whole
        if number % 2:
            index = rng.randrange(len(some))
            some[index] = any_json(rng, some[index].strip()) + rng.choice([b"\n", b"\n", b""])
        else:
            known = any_json(rng, whole)
        out.write_bytes(b"".join(some))
        beside.write_bytes(known)
        code, printed, err = run(*typed)
        assert printed == ""
        if code:
            refused += 1
            assert (code, err.startswith("error: out.jsonl"), err.count("\n")) == (2, True, 1), err
            assert not number % 2 or "out.jsonl, line " in err, err
        else:
            assert out.read_bytes().count(b"\n") == len(lines)
    assert refused > DAMAGES // 3


@commands
def test_control_c_keeps_what_is_done(run, source, command, monkeypatch):
    typed = call(command, "--out", "out.jsonl")
    assert run(*typed)[0] == 0
    whole = Path("out.jsonl").read_bytes()
    count = whole.count(b"\n")
    Path("out.jsonl").unlink()
    add, added = ResumableFile.add, []

    def interrupted(self, key, record):
        if len(added) == 3:
            raise KeyboardInterrupt
        added.append(key)
        return add(self, key, record)

    with monkeypatch.context() as patch:
        patch.setattr(ResumableFile, "add", interrupted)
        code, out, err = run(*typed)
    assert (code, out) == (130, "")
    assert err.startswith(f"out.jsonl: 3 of {count} texts")
    assert Path("out.jsonl").read_bytes().count(b"\n") == 3
    code, _, err = run(*typed)
    assert (code, f"{count} texts, 3 of them from before" in err) == (0, True)
    assert Path("out.jsonl").read_bytes() == whole


def test_one_text(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    typed = ("score", "The cat", "-m", "demo", "--out", "out.jsonl")
    assert run(*typed) == (0, "", "out.jsonl: 1 text\n")
    assert run(*typed) == (0, "", "out.jsonl: 1 text, 1 of them from before\n")


def test_a_file_of_texts_may_have_another_name(run, source):
    assert run(*call("surprising", "--out", "out.jsonl"))[0] == 0
    whole = Path("out.jsonl").read_bytes()
    Path("out.jsonl").write_bytes(whole.splitlines(keepends=True)[0])
    source.rename("moved.jsonl")
    typed = ["surprising", "-f", "moved.jsonl", "-m", "demo", "--out", "out.jsonl"]
    assert run(*typed)[0] == 0
    assert Path("out.jsonl").read_bytes() == whole


def test_a_beam_search_from_several_prompts(run, source):
    more = ("-m", "demo", "-k", "2", "-n", "2", "--max-new-tokens", "3")
    prompts = [row["text"] for row in ROWS]
    code, out, _ = run("beam", *prompts, *more)
    assert (code, out.count("\n")) == (0, 10)
    alone = [run("beam", prompt, *more)[1] for prompt in prompts]
    assert out == "".join(alone)
    found = objects(run("beam", "-f", "texts.jsonl", *more, "--json")[1])
    assert [(row["stream"], row["sample"]) for row in found] == [
        (stream, sample) for stream in range(5) for sample in range(2)
    ]
    assert [row.get("id") for row in found] == [row.get("id") for row in ROWS for _ in range(2)]
    code, _, err = run("beam", "A", "B", *more, "--tree")
    assert (code, "--tree shows the search of one prompt, and there are 2" in err) == (2, True)
