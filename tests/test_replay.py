"""Replays: what has changed of the model since a run was saved, said and not only shown."""

from __future__ import annotations

import json
import os
import shutil
import warnings

import fastdecode
import pytest
from conftest import make_model
from fastdecode import Decoder
from folders import copy_of_demo, other_weights

CALL = {"max_new_tokens": 5, "seed": 3, "temperature": 1.0, "logprobs": 0}


@pytest.fixture
def folder(tmp_path):
    return copy_of_demo(tmp_path / "model")


def saved(tmp_path, model, **more):
    path = tmp_path / "run.json"
    fastdecode.generate(["Once", "The king"], model=model, **CALL, **more).save(path)
    return path


def change(path, edit):
    data = json.loads(path.read_text("utf-8"))
    edit(data)
    path.write_text(json.dumps(data), "utf-8")


@pytest.mark.parametrize("engine", ["native", "transformers"])
def test_the_weights_differ(tmp_path, folder, engine, run):
    path = saved(tmp_path, folder, engine=engine)
    assert fastdecode.verify(path).model == {}
    other_weights(folder, 1)
    report = fastdecode.verify(path)
    assert not report.same
    assert list(report.model) == ["weights"]
    then, now = report.model["weights"]
    assert then == report.saved.identity["weights"]
    assert now == fastdecode.fingerprint(folder).weights
    said = report.explain().splitlines()
    assert said[0] == "The weights differ from those of the saved run."
    assert said[1].startswith("Not the same: ")
    with pytest.warns(
        UserWarning, match="run.json: the weights differ from those of the saved run"
    ):
        fastdecode.replay(path)
    code, out, _ = run("replay", str(path))
    assert code == 1
    assert "The weights differ from those of the saved run." in out
    code, out, _ = run("replay", "--json", str(path))
    assert json.loads(out)["model"] == {"weights": {"then": then, "now": now}}


def test_other_parts_of_the_model(tmp_path, folder):
    path = saved(tmp_path, folder)
    for name, edit, said in [
        ("config.json", {"layer_norm_epsilon": 1e-4}, "The configuration differs from that of"),
        ("tokenizer.json", {"truncation": None}, "The tokenizer differs from that of"),
    ]:
        whole = (folder / name).read_text("utf-8")
        data = json.loads(whole)
        (folder / name).write_text(json.dumps(data | edit, indent=3), "utf-8")
        try:
            assert fastdecode.verify(path).explain().startswith(said)
        finally:
            (folder / name).write_text(whole, "utf-8")
    other_weights(folder, 1)
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, indent=3), "utf-8")
    said = "The weights and tokenizer differ from those of the saved run."
    assert fastdecode.verify(path).explain().startswith(said)


def test_another_definition_of_the_number_format(tmp_path):
    path = saved(tmp_path, "demo", dtype="int8")
    assert fastdecode.Generations.load(path).identity["definition"] == "int8/1"
    # Another number format has its own definition; the environments say which it was.
    assert "definition" not in fastdecode.verify(path, dtype="float32").explain()
    change(path, lambda run: run["identity"].__setitem__("definition", "int8/0"))
    report = fastdecode.verify(path)
    assert report.same
    said = "The definition of the number format differs: int8/1 now, int8/0 then."
    assert report.explain().startswith(said)


def test_a_file_without_fingerprints_is_replayed_with_a_note(tmp_path):
    path = saved(tmp_path, "demo")
    change(path, lambda run: run.pop("identity"))
    report = fastdecode.verify(path)
    assert report.same
    assert report.explain().endswith(
        "The file records no fingerprint of its model, so models are not compared."
    )
    assert report.saved.identity == {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fastdecode.replay(path) == report.saved
    # What is not known does not become known by saving the run again.
    report.saved.save(tmp_path / "again.json")
    assert "identity" not in json.loads((tmp_path / "again.json").read_text("utf-8"))
    with pytest.raises(ValueError, match="exact=True needs the model"):
        report.saved.save(tmp_path / "again.json", exact=True)


def test_the_exact_fingerprint(tmp_path, folder):
    path = tmp_path / "run.json"
    fastdecode.generate("Once", model=folder, **CALL).save(path, exact=True)
    assert json.loads(path.read_text("utf-8"))["identity"]["weights"].startswith("exact/")
    report = fastdecode.verify(path)
    assert (report.model, report.note) == ({}, "")
    other_weights(folder, 1)
    assert list(fastdecode.verify(path).model) == ["weights"]


def test_a_folder_is_recorded_by_its_absolute_path(tmp_path, folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path, "model")
    monkeypatch.chdir(os.sep)
    run = fastdecode.Generations.load(path)
    assert run.call["model"] == str(folder)
    report = fastdecode.verify(path)
    assert report.same
    assert report.largest == 0
    assert report.model == {}
    shutil.move(folder, tmp_path / "moved")
    with pytest.raises(ValueError, match=r"run\.json, call: model='.*/model'"):
        fastdecode.verify(path)
    report = fastdecode.verify(path, model=tmp_path / "moved")
    assert report.same
    assert report.model == {}


def test_model_objects(tmp_path, tokenizer):
    path = tmp_path / "run.json"
    model = make_model("gpt2")
    Decoder(model, tokenizer).generate("Once", **CALL).save(path)
    again = {"model": make_model("gpt2"), "tokenizer": tokenizer}
    assert fastdecode.verify(path, **again).model == {}
    other = fastdecode.verify(path, model=make_model("gpt2", seed=1), tokenizer=tokenizer)
    assert list(other.model) == ["weights"]


def test_fingerprints_that_cannot_be_compared(tmp_path, tokenizer):
    """The model is seen as files in one run and behind an engine in the other."""
    path = saved(tmp_path, "demo")
    decoder = Decoder.from_pretrained("demo")
    behind = Decoder(decoder.engine, decoder.tokenizer)
    report = fastdecode.verify(path, model=behind)
    assert report.same
    assert report.model == {}
    assert report.explain().endswith(
        "Whether the weights, configuration and tokenizer are the same is not known: their "
        "fingerprints are of different kinds."
    )


def test_what_a_file_says_is_printed_without_control_characters(tmp_path):
    path = saved(tmp_path, "demo")

    def escapes(run):
        run["environment"]["\x1b[2J"] = "\x1b[31m"
        run["environment"]["machine"] = "\x1b]0;title\x07"
        run["identity"] = {"note": "\x1b[1m"}

    change(path, escapes)
    assert "\x1b" not in fastdecode.verify(path).explain()


def test_saving_replaces_a_file_as_a_whole(tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    folder.mkdir()
    path = saved(folder, "demo")
    before = path.read_bytes()
    link = folder / "link.json"
    link.symlink_to(path.name)
    path.chmod(0o640)
    run = fastdecode.generate("Alice", model="demo", **CALL)
    run.save(link)
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert fastdecode.Generations.load(path) == run
    path.write_bytes(before)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*link\.json'"):
        run.save(link)
    assert path.read_bytes() == before
    assert sorted(item.name for item in folder.iterdir()) == ["link.json", "run.json"]
    monkeypatch.undo()
    with pytest.raises(IsADirectoryError):
        run.save(folder)
    with pytest.raises(FileNotFoundError, match=r"nowhere/run\.json"):
        run.save(folder / "nowhere" / "run.json")
    run.save(os.devnull)
