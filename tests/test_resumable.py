"""Resumable runs as a library: no printing, and the same file after an interruption."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys

import fastdecode
import pytest
from fastdecode import Sample
from fastdecode.jobs.questions.continuations import Continuations
from fastdecode.jobs.resumable import open_job
from folders import copy_of_demo, other_weights

PROMPTS = ["Once upon a time", "The king", "Alice was"]


def start(path, decoder, *, name="path", **arguments):
    question = Continuations(decoder, PROMPTS, strategy=Sample(top_p=0.9), n=2, **arguments)
    return open_job(path, question, name=name)


@pytest.mark.parametrize("engine", ["native", "transformers"])
def test_a_run_is_resumed(tmp_path, capsys, engine):
    decoder = fastdecode.Decoder.from_pretrained("demo", engine=engine)
    capsys.readouterr()
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    with start(whole, decoder, seed=7, max_new_tokens=4) as run:
        assert (run.done, run.resumed, run.whole) == (0, 0, 6)
        assert len(list(run.run())) == 6
    with start(cut, decoder, seed=7, max_new_tokens=4) as run:
        first = list(itertools.islice(run.run(), 2))
        assert run.done == 2
    with start(cut, decoder, max_new_tokens=4) as run:
        assert (run.done, run.resumed, run.seed) == (2, 2, 7)
        rest = list(run.run())
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
        assert len(list(run.run())) == 6
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
    with open_job(tmp_path / "ids.jsonl", Continuations(decoder, ids, **options)) as run:
        found = {record["stream"]: record for record in run.run()}
    expected = decoder.generate(PROMPTS, top_p=0.9, seed=7, max_new_tokens=3)
    assert [found[i]["token_ids"] for i in range(3)] == [g.token_ids for g in expected]
    assert found[1]["prompt"] == ids[1]


def begun(path, model, count=2, **more):
    """A run that is interrupted after `count` texts."""
    decoder = fastdecode.Decoder.from_pretrained(str(model), **more)
    with start(path, decoder, seed=7, max_new_tokens=4) as run:
        return list(itertools.islice(run.run(), count))


def resumed(path, model, **more):
    decoder = fastdecode.Decoder.from_pretrained(str(model), **more)
    with start(path, decoder, max_new_tokens=4) as run:
        list(run.run())
        return run


@pytest.mark.parametrize("engine", ["native", "transformers"])
def test_other_weights_are_refused(tmp_path, engine):
    folder, path = copy_of_demo(tmp_path / "model"), tmp_path / "texts.jsonl"
    begun(path, folder, engine=engine)
    before = path.read_bytes()
    other_weights(folder, 1)
    with pytest.raises(
        ValueError, match=r"begun with another model: the weights differ from those"
    ):
        resumed(path, folder, engine=engine)
    assert path.read_bytes() == before
    copy_of_demo(folder)
    assert resumed(path, folder, engine=engine).done == 6


def edit(path, **more):
    data = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(data | more), "utf-8")


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("tokenizer.json", {"truncation": None}, "the tokenizer differs from that of the run"),
        ("config.json", {"layer_norm_epsilon": 1e-4}, "the configuration differs from that of"),
        ("generation_config.json", {"eos_token_id": [11, 13]}, "the end-of-sequence tokens differ"),
    ],
)
def test_other_files_of_the_model_are_refused(tmp_path, name, more, message):
    folder, path = copy_of_demo(tmp_path / "model"), tmp_path / "texts.jsonl"
    begun(path, folder)
    edit(folder / name, **more)
    with pytest.raises(ValueError, match=f"begun with another model: {message}"):
        resumed(path, folder)


def test_another_definition_is_refused(tmp_path):
    path = tmp_path / "texts.jsonl"
    begun(path, "demo", dtype="int8")
    beside = tmp_path / "texts.jsonl.run.json"
    known = json.loads(beside.read_text("utf-8"))
    assert known["identity"]["definition"] == "int8/1"
    assert known["environment"]["fastdecode"] == fastdecode.__version__
    edit(beside, identity=known["identity"] | {"definition": "int8/0"})
    message = "definition of the number format differs: int8/1 now, int8/0 then"
    with pytest.raises(ValueError, match=message):
        resumed(path, "demo", dtype="int8")


def test_a_model_is_the_same_wherever_it_is(tmp_path, monkeypatch):
    folder, path = copy_of_demo(tmp_path / "model"), tmp_path / "texts.jsonl"
    monkeypatch.chdir(tmp_path)
    begun(path, "model")
    known = json.loads((tmp_path / "texts.jsonl.run.json").read_text("utf-8"))
    assert known["model"] == str(folder)
    shutil.move(folder, tmp_path / "moved")
    assert resumed(path, "moved").done == 6
    other = copy_of_demo(tmp_path / "other", 1)
    with pytest.raises(ValueError, match=r"was begun with model \".*/model\", not \".*/other\""):
        resumed(path, other)


def test_files_that_changed_after_loading_are_not_recorded(tmp_path):
    folder, path = copy_of_demo(tmp_path / "model"), tmp_path / "texts.jsonl"
    decoder = fastdecode.Decoder.from_pretrained(str(folder))
    other_weights(folder, 1)
    with (
        pytest.raises(ValueError, match="have changed since the model was loaded; load it again"),
        start(path, decoder),
    ):
        pass
    assert list(tmp_path.iterdir()) == [folder]


def test_a_file_of_version_0_1_is_resumed_with_a_note(tmp_path):
    path, beside = tmp_path / "texts.jsonl", tmp_path / "texts.jsonl.run.json"
    begun(path, "demo")
    known = json.loads(beside.read_text("utf-8"))
    del known["identity"], known["environment"]
    beside.write_text(json.dumps(known), "utf-8")
    run = resumed(path, "demo")
    assert run.done == 6
    assert len(run.notes) == 1
    assert "recorded no fingerprint" in run.notes[0]


def test_another_environment_of_torch_is_noted(tmp_path):
    path, beside = tmp_path / "texts.jsonl", tmp_path / "texts.jsonl.run.json"
    begun(path, "demo", engine="transformers")
    environment = json.loads(beside.read_text("utf-8"))["environment"]
    edit(beside, environment=environment | {"torch": "1.0"})
    (note,) = resumed(path, "demo", engine="transformers").notes
    assert "torch 1.0 then" in note
    path.unlink()
    begun(path, "demo")
    edit(beside, environment=environment | {"torch": "1.0"})
    assert resumed(path, "demo").notes == []


def test_lines_of_another_run_are_refused(tmp_path):
    path = tmp_path / "texts.jsonl"
    first = begun(path, "demo")[0]
    whole = path.read_bytes()
    for change, message in [
        ({"seed": 8}, "its seed is 8, and that of the run 7"),
        ({"prompt": "Another"}, r"its prompt is not prompts\[\d\]"),
        ({"sample": 2}, "the run has no stream \\d and sample 2"),
        ({}, "are there already"),
    ]:
        path.write_bytes(whole + json.dumps(first | change).encode() + b"\n")
        with pytest.raises(ValueError, match=f"line 3: this run did not write it: .*{message}"):
            resumed(path, "demo")


def test_a_start_that_was_killed_leaves_nothing_of_its_seed(tmp_path):
    """The manifest may be torn as long as the file does not exist."""
    path, beside = tmp_path / "texts.jsonl", tmp_path / "texts.jsonl.run.json"
    begun(path, "demo")
    whole = beside.read_bytes()
    path.unlink()
    for left in (b"", whole[:40], whole):
        beside.write_bytes(left)
        decoder = fastdecode.Decoder.from_pretrained("demo")
        with start(path, decoder, seed=9, max_new_tokens=4) as run:
            assert len(list(run.run())) == 6
        assert {json.loads(line)["seed"] for line in path.read_bytes().splitlines()} == {9}
        path.unlink()
    path.write_bytes(b"")
    for left in (None, b""):
        beside.unlink(missing_ok=True)
        if left is not None:
            beside.write_bytes(left)
        with pytest.raises(ValueError, match="is missing or something else"):
            resumed(path, "demo")
        assert not beside.exists()


def test_a_link_and_permissions_are_kept(tmp_path):
    real, link = tmp_path / "real.jsonl", tmp_path / "texts.jsonl"
    decoder = fastdecode.Decoder.from_pretrained("demo")
    link.symlink_to("real.jsonl")
    with start(link, decoder, seed=7, max_new_tokens=4, batch_size=4) as run:
        list(run.run())
        real.chmod(0o600)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    keys = [(x["stream"], x["sample"]) for x in map(json.loads, real.read_bytes().splitlines())]
    assert keys == sorted(keys)
    assert len(keys) == 6


START = """
import sys, fastdecode
from fastdecode.jobs.questions.continuations import Continuations
from fastdecode.jobs.resumable import open_job
decoder = fastdecode.Decoder.from_pretrained("demo")
print(flush=True)
sys.stdin.readline()
prompts = ["Once upon a time", "The king", "Alice was"]
strategy = fastdecode.Sample(top_p=0.9)
question = Continuations(decoder, prompts, strategy=strategy, max_new_tokens=4)
try:
    with open_job(sys.argv[1], question) as run:
        list(run.run())
        print(run.seed)
except ValueError as error:
    print(error)
"""


def test_of_several_processes_that_start_together_one_wins(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", START, "texts.jsonl"],
            cwd=tmp_path,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate()[0].strip() for process in processes]
    lines = (tmp_path / "texts.jsonl").read_bytes().splitlines()
    seeds = {json.loads(line)["seed"] for line in lines}
    assert len(seeds) == 1
    assert {text for text in said if "another run is writing" not in text} == set(map(str, seeds))
