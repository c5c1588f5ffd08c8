"""The cache of packed models: never trusted, bounded, and no trouble where it cannot be written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import fastdecode
import pytest
from fastdecode import Decoder
from fastdecode._core import NativeModel, PackedFile
from fastdecode.models.engines import NATIVE_DTYPES
from fastdecode.models.packed import cache
from folders import copy_of_demo, other_weights
from gguf_models import complete

CALL = {"max_new_tokens": 6, "seed": 3, "temperature": 1.0}
# What a process of a test runs: a model by way of the cache, and the bits of its logits.
PROGRAM = """
import hashlib, sys
from fastdecode import Decoder
decoder = Decoder.from_pretrained(sys.argv[1], dtype=sys.argv[2])
print(hashlib.sha256(decoder.logits([1, 2, 3]).tobytes()).hexdigest())
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The folder of the cache."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path) -> Path:
    return copy_of_demo(tmp_path / "model")


def entries(folder: Path) -> list[Path]:
    """The entries; there is nothing else but the lock."""
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    found = sorted(folder / name for name in names if name.endswith(".fastdecode"))
    assert names - {path.name for path in found} <= {"fastdecode.lock"}, names
    return found


def tokens(model, dtype="int8") -> list[int]:
    return Decoder.from_pretrained(model, dtype=dtype).generate("Once", **CALL)[0].token_ids


@pytest.mark.parametrize("dtype", NATIVE_DTYPES)
def test_the_same_bits_with_and_without(folder, model, monkeypatch, dtype):
    first = Decoder.from_pretrained(model, dtype=dtype)
    (entry,) = entries(folder)
    before = entry.stat()
    second = Decoder.from_pretrained(model, dtype=dtype)
    assert entries(folder) == [entry]
    # It was used: its time is that of the last use.
    assert entry.stat().st_mtime_ns > before.st_mtime_ns
    assert entry.stat().st_ino == before.st_ino
    monkeypatch.delenv(cache.VARIABLE)
    third = Decoder.from_pretrained(model, dtype=dtype)
    logits = [decoder.logits([1, 2, 3]).tobytes() for decoder in (first, second, third)]
    assert logits[0] == logits[1] == logits[2]
    identities = [decoder.identity(exact=True) for decoder in (first, second, third)]
    assert identities[0] == identities[1] == identities[2]


def test_gguf_files(folder, tmp_path, monkeypatch):
    path = complete(tmp_path)
    found = [tokens(path), tokens(path)]
    assert len(entries(folder)) == 1
    monkeypatch.delenv(cache.VARIABLE)
    assert found == [tokens(path)] * 2


def test_without_the_variable_there_is_none(tmp_path, model, monkeypatch):
    monkeypatch.delenv(cache.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    tokens(model)
    monkeypatch.setenv(cache.VARIABLE, "")
    tokens(model)
    assert sorted(tmp_path.rglob("*")) == before


def test_every_model_and_format_has_an_entry_of_its_own(folder, model, tmp_path):
    other = copy_of_demo(tmp_path / "other", seed=5)
    for dtype in NATIVE_DTYPES:
        assert tokens(model, dtype) == tokens(model, dtype)
        assert tokens(other, dtype) == tokens(other, dtype)
    assert len(entries(folder)) == 2 * len(NATIVE_DTYPES)
    keys = [json.loads(PackedFile(entry).source) for entry in entries(folder)]
    assert {key["definition"] for key in keys} == {
        NativeModel.definition_of(dtype) for dtype in NATIVE_DTYPES
    }
    assert {key["layout"] for key in keys} == {PackedFile.LAYOUT}


def test_a_changed_model_is_packed_again(folder, model, monkeypatch):
    before = tokens(model)
    other_weights(model, 5)
    changed = tokens(model)
    assert len(entries(folder)) == 2
    monkeypatch.delenv(cache.VARIABLE)
    assert tokens(model) == changed != before


def test_one_value_changed_that_no_sample_reads(folder, tmp_path):
    """The quick fingerprint reads some values of a large tensor; times and sizes tell the rest."""
    model = copy_of_demo(tmp_path / "model")
    assert tokens(model) == tokens(model)
    path = model / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-4:] = bytes(4)
    time.sleep(0.02)
    path.write_bytes(raw)
    tokens(model)
    assert len(entries(folder)) == 2


@pytest.mark.parametrize("damage", ["cut", "header", "empty", "foreign", "layout", "other"])
def test_an_entry_that_does_not_match_is_replaced(folder, model, tmp_path, damage):
    expected = tokens(model)
    (entry,) = entries(folder)
    good = entry.read_bytes()
    if damage == "other":
        # The entry of another model under the name of this one.
        tokens(copy_of_demo(tmp_path / "other", seed=5))
        (second,) = (path for path in entries(folder) if path != entry)
        os.replace(second, entry)
    else:
        changed = {
            "cut": good[:-1],
            "header": good[:100] + b"#" + good[101:],
            "empty": b"",
            "foreign": b"GGUF" + good,
            "layout": good[:8] + (9).to_bytes(4, "little") + good[12:],
        }
        entry.write_bytes(changed[damage])
    assert tokens(model) == expected
    assert entry.read_bytes() == good


def test_the_least_recently_used_is_removed(folder, model, monkeypatch):
    sizes = {}
    for dtype in ("float32", "int8", "int4"):
        before = set(entries(folder))
        tokens(model, dtype)
        (new,) = set(entries(folder)) - before
        sizes[dtype] = (new, new.stat().st_size)
        time.sleep(0.02)
    tokens(model, "float32")
    # Room for what there is, less a byte: what was used first has to go.
    total = sum(size for _, size in sizes.values())
    monkeypatch.setattr(cache, "_HEAD", 0)
    monkeypatch.setattr(cache, "MOST", total + sizes["int8"][1])
    (folder / "notes.txt").write_text("not an entry")
    tokens(model, "bfloat16")
    left = {path.name for path in folder.glob("*.fastdecode")}
    assert sizes["int8"][0].name not in left
    assert sizes["float32"][0].name in left
    assert (folder / "notes.txt").exists()
    size = sum(path.stat().st_size for path in folder.glob("*.fastdecode"))
    assert size <= cache.MOST
    (folder / "notes.txt").unlink()
    # A model that is larger than the whole cache is not kept, and nothing goes for it.
    monkeypatch.setattr(cache, "MOST", 1000)
    other_weights(model, 5)
    before = entries(folder)
    tokens(model)
    assert entries(folder) == before


def run(model: Path, folder: Path, dtype: str = "int8", **more) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(model), dtype]
    env = {**os.environ, cache.VARIABLE: str(folder)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=env, **pipes, **more)


def finished(processes: list[subprocess.Popen[str]]) -> set[str]:
    """What processes have printed, none of them anything on standard error."""
    found = set()
    for process in processes:
        out, err = process.communicate(timeout=100)
        assert (process.returncode, err) == (0, "")
        found.add(out)
    return found


def test_processes_that_start_at_once(folder, model):
    assert len(finished([run(model, folder) for _ in range(6)])) == 1
    (entry,) = entries(folder)
    PackedFile(entry).check()
    # And with an entry that is there.
    assert len(finished([run(model, folder) for _ in range(3)])) == 1
    assert entries(folder) == [entry]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_folder_that_cannot_be_written(tmp_path, model):
    folder = tmp_path / "cache"
    folder.mkdir()
    if os.geteuid() == 0:
        # Nothing is forbidden to this user: a file in the place of the folder is.
        folder.rmdir()
        folder.write_text("")
        assert len(finished([run(model, folder), run(model, folder / "below")])) == 1
        assert folder.read_text() == ""
        return
    folder.chmod(0o500)
    try:
        assert len(finished([run(model, folder)])) == 1
        assert list(folder.iterdir()) == []
    finally:
        folder.chmod(0o700)


def test_an_entry_in_a_folder_that_cannot_be_written(folder, model, monkeypatch):
    """It is used: its time is all that cannot be changed."""
    expected = tokens(model)
    (entry,) = entries(folder)

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "utime", refused)
    assert tokens(model) == expected
    assert entries(folder) == [entry]


@pytest.mark.skipif(os.name == "nt", reason="RLIMIT_FSIZE")
@pytest.mark.parametrize("limit", [0, 1000, 1 << 20])
def test_a_full_disk(tmp_path, model, limit):
    import resource

    folder = tmp_path / "cache"

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    assert len(finished([run(model, folder, preexec_fn=limited)])) == 1
    # Neither an entry nor a part of one.
    assert entries(folder) == []
    assert len(finished([run(model, folder)])) == 1
    assert len(entries(folder)) == 1


def test_no_room_is_no_entry(folder, model, monkeypatch):
    full = type("Usage", (), {"free": 10})
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: full)
    tokens(model)
    assert entries(folder) == []


def test_what_a_killed_process_has_left_is_removed(folder, model):
    folder.mkdir()
    left = folder / ".fastdecode-0123abcd-0123456789abcdef"
    left.write_bytes(bytes(1000))
    tokens(model)
    assert not left.exists()
    assert len(entries(folder)) == 1


def test_while_another_process_writes_nobody_waits(folder, model):
    from fastdecode.files.locking import lock, open_for_lock, release

    folder.mkdir()
    file = open_for_lock(folder / "fastdecode.lock", "a+")
    try:
        assert lock(file)
        assert len(finished([run(model, folder)])) == 1
        assert entries(folder) == []
    finally:
        release(file)


def test_a_model_in_memory_is_not_kept(folder, model):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(model)
    decoder = Decoder(loaded, AutoTokenizer.from_pretrained(model), dtype="int8")
    decoder.generate("Once", **CALL)
    assert entries(folder) == []


def test_the_source_is_still_what_refuses(folder, model):
    (model / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="damaged"):
        Decoder.from_pretrained(model, dtype="int8", engine="native")
    assert entries(folder) == []


def test_a_run_through_the_cache_replays_without_it(folder, model, tmp_path, monkeypatch):
    tokens(model)
    fastdecode.unload()
    run = fastdecode.generate("Once", model=model, dtype="int8", logprobs=2, **CALL)
    run.save(tmp_path / "run.json")
    monkeypatch.delenv(cache.VARIABLE)
    fastdecode.unload()
    report = fastdecode.verify(tmp_path / "run.json")
    assert (report.same, report.model, report.largest) == (True, {}, 0)
