"""Decoders that are kept: they follow the files of their models, and threads share them."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fastdecode
import pytest
from fastdecode import loaded
from folders import copy_of_demo, other_weights

CALL = {"max_new_tokens": 6, "seed": 3, "temperature": 1.0}


def texts(model, **more):
    return fastdecode.generate(["Once upon a time"], model=model, **CALL, **more).texts


def fresh(folder, **more):
    decoder = fastdecode.Decoder.from_pretrained(str(folder), **more)
    return decoder.generate(["Once upon a time"], **CALL).texts


@pytest.mark.parametrize("engine", ["native", "transformers"])
def test_new_weights_in_the_same_folder(tmp_path, engine):
    folder = copy_of_demo(tmp_path / "model")
    before = texts(folder, engine=engine)
    assert loaded.resolve(folder, engine=engine) is loaded.resolve(str(folder), engine=engine)
    other_weights(folder, 1)
    after = texts(folder, engine=engine)
    assert after == fresh(folder, engine=engine)
    assert after != before


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json"])
def test_other_files_of_the_model(tmp_path, name):
    folder = copy_of_demo(tmp_path / "model")
    first = loaded.resolve(folder)
    assert loaded.resolve(folder) is first
    path = folder / name
    path.write_text(path.read_text("utf-8") + "\n", "utf-8")
    assert loaded.resolve(folder) is not first
    (folder / "run.json").write_text("{}")
    second = loaded.resolve(folder)
    (folder / "run.json").write_text("[]")
    assert loaded.resolve(folder) is second


def test_a_relative_name_in_another_folder(tmp_path, monkeypatch):
    for name, seed in (("a", None), ("b", 1)):
        copy_of_demo(tmp_path / name / "model", seed)
    monkeypatch.chdir(tmp_path / "a")
    first = texts("model")
    decoder = loaded.resolve("model")
    assert decoder.name == str(tmp_path / "a" / "model")
    monkeypatch.chdir(tmp_path / "b")
    assert texts("model") == fresh("model") != first
    assert loaded.resolve(tmp_path / "a" / "model") is decoder
    shutil.rmtree(tmp_path / "b" / "model")
    with pytest.raises(ValueError, match="there is no such folder"):
        texts("./model")


def test_more_models_than_are_kept_from_several_threads(tmp_path):
    folders = [copy_of_demo(tmp_path / str(seed), seed) for seed in range(6)]
    expected = [fresh(folder) for folder in folders]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(2):
            found = list(pool.map(texts, folders * 4))
            assert found == expected * 4


@pytest.fixture
def loading(monkeypatch):
    """Loading that can be held up by name; the names in the order in which they were loaded."""
    gates: dict[str, threading.Event] = {}
    order = []
    real = fastdecode.Decoder.from_pretrained.__func__

    def slow(cls, name, **more):
        order.append(Path(name).name)
        if (gate := gates.get(Path(name).name)) is not None:
            assert gate.wait(30)
        return real(cls, name, **more)

    monkeypatch.setattr(fastdecode.Decoder, "from_pretrained", classmethod(slow))
    monkeypatch.setattr(loaded, "_kept", loaded._Kept())
    return gates, order


def test_loading_keeps_only_those_waiting_who_need_the_model(tmp_path, loading):
    gates, order = loading
    slow, quick = copy_of_demo(tmp_path / "slow"), copy_of_demo(tmp_path / "quick")
    gates["slow"] = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(loaded.resolve, slow) for _ in range(3)]
        assert loaded.resolve(quick).name == str(quick)
        assert not any(one.done() for one in waiting)
        gates["slow"].set()
        assert len({id(one.result(30)) for one in waiting}) == 1
    assert sorted(order) == ["quick", "slow"]


def test_a_model_that_cannot_be_loaded_is_tried_again(tmp_path, loading):
    _, order = loading
    folder = copy_of_demo(tmp_path / "model")
    whole = (folder / "model.safetensors").read_bytes()
    kept = loaded.resolve(copy_of_demo(tmp_path / "kept"))
    (folder / "model.safetensors").write_bytes(whole[:5000])
    for _ in range(5):
        with pytest.raises(ValueError, match="damaged or incomplete"):
            loaded.resolve(folder, engine="native")
    (folder / "model.safetensors").write_bytes(whole)
    assert loaded.resolve(folder, engine="native").name == str(folder)
    assert loaded.resolve(tmp_path / "kept") is kept
    assert order.count("kept") == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_forked_while_a_model_is_loaded(tmp_path, loading):
    gates, _ = loading
    folder = copy_of_demo(tmp_path / "slow")
    kept = loaded.resolve("demo")
    gates["slow"] = threading.Event()
    thread = threading.Thread(target=loaded.resolve, args=(folder,))
    thread.start()
    try:
        while not any(place.lock.locked() for place in list(loaded._kept._places.values())):
            pass
        child = os.fork()
        if not child:
            try:
                signal.alarm(60)
                gates["slow"].set()
                found = loaded.resolve(folder).name == str(folder)
                os._exit(0 if found and loaded.resolve("demo") is kept else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        gates["slow"].set()
        thread.join()
