"""Jobs and saved runs where the disk is full, where a file has two names, and where it vanishes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import fastdecode
import pytest
from fastdecode.files import writing
from fastdecode.files.writing import remove_leftovers, replace
from fastdecode.jobs import manifest
from fastdecode.jobs.questions.continuations import Continuations
from fastdecode.jobs.questions.scores import Likelihoods
from fastdecode.jobs.resumable import open_job
from test_jobs import attack

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX processes")
TEXTS = ["Once upon a time", "The king", "Alice was"]


@pytest.fixture(scope="module")
def demo():
    return fastdecode.Decoder.from_pretrained("demo")


def start(path, decoder, seed=7):
    draw = fastdecode.Sample(top_p=0.9)
    question = Continuations(decoder, TEXTS, strategy=draw, seed=seed, n=2, max_new_tokens=3)
    return open_job(path, question)


@posix
def test_a_disk_that_is_full_at_any_call():
    seen = attack("full")
    assert seen["failed"] > 8
    assert seen["before the file"] == 2


@posix
def test_folders_and_files_that_may_not_be_written():
    said = attack("readonly")
    assert said == {
        "new": "[Errno 13] Permission denied (a run keeps its settings beside it, in "
        "out.jsonl.run.json): 'FOLDER/out.jsonl'",
        "half": "[Errno 13] Permission denied; all results are in it, but not yet in order; run "
        "the same command again: 'FOLDER/out.jsonl'",
        "file": "[Errno 13] Permission denied: 'FOLDER/out.jsonl'",
    }


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
from fastdecode.cli import main
main()
"""
CALL = ["score", "--file", "texts.txt", "-m", "demo", "--out", "out.jsonl"]


@posix
@pytest.mark.parametrize("limit", [100, 5000])
def test_the_command_line_where_files_are_limited(run, tmp_path, monkeypatch, limit):
    monkeypatch.chdir(tmp_path)
    Path("texts.txt").write_text("".join(f"The {i}. king said\n" for i in range(60)))
    command = [sys.executable, "-c", LIMITED, str(limit), *CALL]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    out = Path("out.jsonl")
    if limit == 100:
        assert line == "error: out.jsonl.run.json: File too large; nothing was begun"
        assert os.listdir() == ["texts.txt"]
    else:
        count = out.read_bytes().count(b"\n")
        assert 1 < count < 60
        assert line == (
            f"error: out.jsonl: File too large; {count} of 60 results are kept, and the same "
            "command resumes the run"
        )
        assert out.read_bytes().endswith(b"\n")
    assert run(*CALL)[0] == 0
    whole = out.read_bytes()
    out.unlink()
    assert run(*CALL)[0] == 0
    assert out.read_bytes() == whole


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB, where this process may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        made = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        made = False
    if not made:
        pytest.skip("this process may not mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_small_disk(run, small_disk, tmp_path, monkeypatch):
    monkeypatch.chdir(small_disk)
    typed = ["generate", "--file", str(tmp_path / "prompts.txt"), "-m", "demo", "--seed", "7"]
    # Texts that end early do so before others that have begun earlier.
    typed += ["-n", "3", "--max-new-tokens", "8", "--stop", "e", "--batch-size", "4", "--out"]
    prompts = "".join(f"The {i}. king said\n" for i in range(60))
    (tmp_path / "prompts.txt").write_text(prompts)
    assert run(*typed, str(tmp_path / "whole.jsonl"))[0] == 0
    whole = (tmp_path / "whole.jsonl").read_bytes()
    ballast = small_disk / "ballast"
    # Room for a part of the lines, then for all of them, but not for a second file of them.
    for room in (len(whole) // 2, len(whole) + 2 * 4096):
        disk = os.statvfs(small_disk)
        ballast.write_bytes(bytes(disk.f_bavail * disk.f_frsize - room))
        before = set(os.listdir())
        code, _, err = run(*typed, "out.jsonl")
        assert code == 2
        assert err.startswith("error: out.jsonl: No space left on device; "), err
        assert set(os.listdir()) - before <= {"out.jsonl", "out.jsonl.run.json"}
        lines = Path("out.jsonl").read_bytes().splitlines(keepends=True)
        assert set(lines) <= set(whole.splitlines(keepends=True))
        assert len(lines) == len(set(lines))
        ballast.unlink()
    assert len(lines) == 180
    assert "all results are in it, but not yet in order" in err
    assert run(*typed, "out.jsonl")[0] == 0
    assert Path("out.jsonl").read_bytes() == whole


def test_a_file_under_two_names(tmp_path, demo):
    path, link, hard = (tmp_path / name for name in ("out.jsonl", "link.jsonl", "hard.jsonl"))
    link.symlink_to("out.jsonl")
    with start(path, demo) as job:
        next(job.run())
        os.link(path, hard)
        before = path.read_bytes()
        for other in (link, hard):
            with pytest.raises(ValueError, match="beside it, which would say"), start(other, demo):
                pass
            # Even with a manifest beside that name.
            beside = tmp_path / "out.jsonl.run.json"
            (tmp_path / f"{other.name}.run.json").write_bytes(beside.read_bytes())
            with (
                pytest.raises(ValueError, match="another run is writing to it"),
                start(other, demo),
            ):
                pass
        assert path.read_bytes() == before


def test_another_process_makes_the_file_first(tmp_path, demo, monkeypatch):
    path, begin = tmp_path / "out.jsonl", manifest.Manifest.begin

    def late(self, *settings):
        begin(self, *settings)
        path.write_bytes(b"")

    monkeypatch.setattr(manifest.Manifest, "begin", late)
    with (
        pytest.raises(ValueError, match="has just been made by another process; choose another"),
        start(path, demo),
    ):
        pass
    assert [found.name for found in tmp_path.iterdir()] == ["out.jsonl"]


@pytest.mark.parametrize("other", [None, b"something else\n"])
@pytest.mark.parametrize("ordered", [True, False])
def test_a_file_that_vanishes(tmp_path, demo, other, ordered):
    path = tmp_path / "out.jsonl"

    def write_on():
        opened = open_job(path, Likelihoods(demo, TEXTS)) if ordered else start(path, demo)
        with opened as job:
            next(job.run())
            path.unlink()
            if other is not None:
                path.write_bytes(other)
            list(job.run())

    message = "was removed or replaced while this run was writing to it"
    with pytest.raises(ValueError, match=message):
        write_on()
    assert other is None or path.read_bytes() == other


def test_names_that_are_no_files(tmp_path, demo):
    with pytest.raises(ValueError, match="is not a regular file"), start(tmp_path, demo):
        pass
    with (
        pytest.raises(FileNotFoundError, match=r"there is no folder .*none; make it first"),
        start(tmp_path / "none" / "out.jsonl", demo),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_leftovers_are_those_of_one_file(tmp_path):
    path, other = tmp_path / "out.jsonl", tmp_path / "out2.jsonl"
    left = [tmp_path / (writing._prefix(p) + "0123456789abcdef") for p in (path, other)]
    for file in left:
        file.write_bytes(b"")
    remove_leftovers(path)
    assert list(tmp_path.iterdir()) == left[1:]


def test_long_names(tmp_path, demo):
    path = tmp_path / ("語" * 80)
    for content in (b"one", b"two"):
        replace(path, [content])
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@posix
def test_a_saved_run_in_a_folder_that_may_not_be_written(tmp_path, monkeypatch):
    """The file itself is written over, once there is room for all of it."""
    path = tmp_path / "run.json"
    path.write_bytes(b"before")

    def refused(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", refuse_new(Path.open, refused))
    replace(path, [b"long", b"er than before"])
    assert path.read_bytes() == b"longer than before"
    replace(path, [b"short"])
    assert path.read_bytes() == b"short"
    with pytest.raises(PermissionError):
        replace(path, [b"not in place"], in_place=False)

    def no_room(descriptor, start, length):
        os.truncate(path, length)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", no_room, raising=False)
    with pytest.raises(OSError, match="No space left on device"):
        replace(path, [b"longer than there is room for"])
    assert path.read_bytes() == b"short"


def refuse_new(whole, refused):
    """`Path.open` that makes no new file."""
    return lambda self, mode="r", *more, **named: (
        refused() if "x" in mode else whole(self, mode, *more, **named)
    )
