"""Attacks on resumable jobs: killed at every place, and two processes on one new file.

    python tests/job_attacks.py lines          killed at every line of the code that writes
    python tests/job_attacks.py full           the disk is full at every call that writes
    python tests/job_attacks.py readonly       folders and files that may not be written
    python tests/job_attacks.py commands       the five commands, killed at places spread over a job
    python tests/job_attacks.py pairs 10       pairs of processes, forked, on one new file
    python tests/job_attacks.py starts 500     pairs of command lines, started together

Each prints what it has seen as JSON, and fails at the first thing that is not right. Processes are
forked from one that has not generated anything, so that hundreds of attacks take seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypedDict

import fastdecode
from fastdecode import files, jobs
from fastdecode.jobs import manifest, resumable_file
from fastdecode.jobs.questions.base import Drawn, Question
from fastdecode.jobs.questions.beams import Beams
from fastdecode.jobs.questions.continuations import Continuations
from fastdecode.jobs.questions.scores import Labels, Likelihoods, Surprisals
from fastdecode.jobs.resumable import open_job

WRITERS = {
    str(Path(room.__path__[0]) / name)
    for room, names in {
        files: ("locking.py", "writing.py"),
        jobs: ("manifest.py", "resumable.py", "resumable_file.py"),
    }.items()
    for name in names
}
TEXTS = ["Once upon a time", "The king said", "Alice was", "In a wood", "They"]
# Where there is one: hundreds of files, each written through to a disk, take long.
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
ATTACKS = ("lines", "full", "readonly", "commands", "pairs", "starts")
KILLED, FINISHED, REFUSED = -signal.SIGKILL, 0, 2


class EchoLine(TypedDict):
    prompt: str
    seed: int
    stream: int
    sample: int


class Echo(Drawn):
    """A question that needs no model, answered in another order than asked."""

    command, line, each = "echo", EchoLine, 2

    def __init__(self, seed: int | None) -> None:
        engine = SimpleNamespace(name="native", dtype="float32", eos_ids=())
        self.decoder: Any = SimpleNamespace(
            engine=engine, identity=dict, name="echo", revision=None
        )
        self.inputs, self.seed = TEXTS[:3], seed

    def answers(self, indices, seed):
        for stream in reversed(indices):
            for sample in range(self.each):
                fields = {"seed": seed, "stream": stream, "sample": sample}
                yield (stream, sample), {"prompt": self.inputs[stream], **fields}


def begun(work: Callable[[], object]) -> tuple[int, int]:
    """Begin something in a child: its process, and a pipe with the message of its error."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        # What is not caught here is a fault of the code that is attacked.
        code = 70
        try:
            os.close(reading)
            work()
            code = FINISHED
        except (ValueError, OSError) as error:
            os.write(writing, str(error).encode())
            code = REFUSED
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    return child, reading


def ended(child: int, reading: int) -> tuple[int, str]:
    """How a child has ended, and the message of the error that it ended with."""
    with open(reading, "rb") as pipe:
        message = pipe.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), message


def forked(work: Callable[[], object]) -> tuple[int, str]:
    """Do something in a child: how it has ended, and the message of its error."""
    return ended(*begun(work))


def fill(path: Path, ask: Callable[[], Question]) -> None:
    """Run a job to its end."""
    with open_job(path, ask()) as job:
        list(job.run())


@contextlib.contextmanager
def stopped_at(line: int) -> Iterator[Counter[str]]:
    """Kill this process at a line that it executes in the code that writes; count the lines."""
    seen: Counter[str] = Counter()

    def local(frame, event, _):
        if event == "line":
            seen["lines"] += 1
            if seen["lines"] == line:
                os.kill(os.getpid(), signal.SIGKILL)
        return local

    sys.settrace(lambda frame, *_: local if frame.f_code.co_filename in WRITERS else None)
    try:
        yield seen
    finally:
        sys.settrace(None)


@contextlib.contextmanager
def torn(call: int) -> Iterator[None]:
    """Kill this process in the middle of a write."""
    whole, calls = manifest.write_all, Counter()

    def half(file, raw):
        calls["writes"] += 1
        if calls["writes"] == call:
            whole(file, raw[: len(raw) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        whole(file, raw)

    for module in (manifest, resumable_file):
        module.write_all = half
    yield


@contextlib.contextmanager
def full(call: int) -> Iterator[None]:
    """Let the disk be full at one of the calls that write, which writes a part.

    Raises:
        ValueError: "not reached" where there are fewer calls.
    """
    calls: Counter[str] = Counter()
    write_all = manifest.write_all

    def failing(work, part=lambda *_: None):
        def attempt(*arguments):
            calls["writes"] += 1
            if calls["writes"] == call:
                part(*arguments)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return work(*arguments)

        return attempt

    for module in (manifest, resumable_file):
        module.write_all = failing(write_all, lambda file, raw: write_all(file, raw[:5]))
    for name in ("fsync", "replace"):
        setattr(os, name, failing(getattr(os, name)))
    yield
    if calls["writes"] < call:
        raise ValueError("not reached")


def count_lines(ask: Callable[[], Question]) -> int:
    """How many lines of the code that writes a whole job executes."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder) / "out.jsonl"

        def work() -> None:
            with stopped_at(0) as seen:
                fill(path, ask)
            (Path(folder) / "count").write_text(str(seen["lines"]))

        assert forked(work) == (FINISHED, "")
        return int((Path(folder) / "count").read_text())


def check_after_kill(
    stop: partial[Any],
    ask: Callable[[], Question],
    again: Callable[[], Question],
    other: Callable[[], Question],
    whole: tuple[bytes, bytes],
    seen: Counter[str],
) -> bool:
    """Kill a job, then resume it with the same and with another question; false if not killed.

    Args:
        stop: a context in which this process is killed at some place.
        ask: the question that is begun.
        again: the same question as it is asked by whoever resumes.
        other: another question.
        whole: the files of both questions, without an interruption.
        seen: counts what has happened.
    """
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder) / "out" / "out.jsonl"
        path.parent.mkdir()

        def work() -> None:
            with stop():
                fill(path, ask)

        code, message = forked(work)
        if code == REFUSED and message != "not reached":
            assert re.fullmatch(rf"\[Errno 28\] No space left on device; .*: '{path}.*'", message)
            assert not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")
        else:
            assert code in (KILLED, FINISHED) or message == "not reached", (code, message)
        there = path.exists()
        copy = Path(folder) / "copy" / "out.jsonl"
        shutil.copytree(path.parent, copy.parent)
        before = path.read_bytes() if there else None

        end = forked(lambda: fill(copy, other))
        if there:
            assert end[0] == REFUSED, end
            assert "was begun with" in end[1], end
            assert copy.read_bytes() == before
        else:
            assert end == (FINISHED, ""), end
            assert copy.read_bytes() == whole[1]
        end = forked(lambda: fill(path, again if there else ask))
        assert end == (FINISHED, ""), end
        assert path.read_bytes() == whole[0]
        # Nothing is left over but the file and its manifest.
        for place in (path, copy) if not there else (path,):
            names = {found.name for found in place.parent.iterdir()}
            assert names == {"out.jsonl", "out.jsonl.run.json"}, names
        seen[{KILLED: "killed", FINISHED: "finished", REFUSED: "failed"}[code]] += 1
        seen["before the file" if not there else f"with {before.count(10)} lines"] += 1
        return code == KILLED or (stop.func is full and message != "not reached")


def unbroken(ask: Callable[[], Question]) -> bytes:
    """The file of a job without an interruption."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder) / "out.jsonl"
        assert forked(lambda: fill(path, ask)) == (FINISHED, "")
        return path.read_bytes()


def stop_at_every_place(*stops: Callable[[int], Any]) -> Counter[str]:
    """Stop a job that needs no model in these ways, at every place there is."""
    questions = (lambda: Echo(7), lambda: Echo(None), lambda: Echo(8))
    whole = unbroken(questions[0]), unbroken(questions[2])
    seen: Counter[str] = Counter()
    for stop in stops:
        places = itertools.count(1)
        while check_after_kill(partial(stop, next(places)), *questions, whole, seen):
            pass
    return seen


def read_only() -> dict[str, str]:
    """Run jobs where the folder, or one of the files, may not be written: what they say."""
    said = {}

    def ending(path: Path) -> tuple[int, str]:
        def work() -> None:
            if os.getuid() == 0:
                # Root may write everywhere.
                os.setgid(65534)
                os.setuid(65534)
            fill(path, lambda: Echo(7))

        return forked(work)

    whole = unbroken(lambda: Echo(7))
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder) / "out.jsonl"
        beside = Path(folder) / "out.jsonl.run.json"
        os.chmod(folder, 0o555)
        code, said["new"] = ending(path)
        assert (code, path.exists(), beside.exists()) == (REFUSED, False, False)
        # Half done, in files that may be written, in a folder that may not.
        os.chmod(folder, 0o777)
        with contextlib.suppress(ZeroDivisionError), open_job(path, Echo(7)) as job:
            for done, _ in enumerate(job.run()):
                1 // (2 - done)
        for file in (path, beside):
            os.chmod(file, 0o666)
        os.chmod(folder, 0o555)
        code, said["half"] = ending(path)
        assert code == REFUSED
        assert sorted(path.read_bytes().splitlines()) == sorted(whole.splitlines())
        os.chmod(folder, 0o777)
        os.chmod(path, 0o444)
        code, said["file"] = ending(path)
        assert code == REFUSED
        os.chmod(path, 0o640)
        assert forked(lambda: fill(path, lambda: Echo(7))) == (FINISHED, "")
        assert (path.read_bytes(), path.stat().st_mode & 0o777) == (whole, 0o640)
        return {name: message.replace(folder, "FOLDER") for name, message in said.items()}


def commands() -> dict[str, tuple[Callable[[], Question], ...]]:
    """Of each command a question, as it is asked again, and another one."""
    demo = fastdecode.Decoder.from_pretrained("demo")

    def generate(seed):
        draw = fastdecode.Sample(top_p=0.9)
        return lambda: Continuations(demo, TEXTS, strategy=draw, seed=seed, max_new_tokens=3, n=2)

    def beam(seed):
        search = fastdecode.Beam(3, num_return_sequences=2, stochastic=True)
        return lambda: Beams(demo, TEXTS, strategy=search, seed=seed, max_new_tokens=3)

    def score(context):
        return lambda: Likelihoods(demo, TEXTS, context=context)

    def surprising(eos):
        return lambda: Surprisals(demo, TEXTS, eos=eos)

    def classify(label):
        return lambda: Labels(demo, TEXTS, ["castle", label])

    return {
        "generate": (generate(7), generate(None), generate(8)),
        "beam": (beam(7), beam(None), beam(8)),
        "score": (score("Well: "), score("Well: "), score("")),
        "surprising": (surprising(True), surprising(True), surprising(False)),
        "classify": (classify("kitchen"), classify("kitchen"), classify("barn")),
    }


def kill_commands(places: int) -> dict[str, Counter[str]]:
    """Kill a job of each command at places that are spread over it."""
    found = {}
    for name, questions in commands().items():
        seen: Counter[str] = Counter()
        whole = unbroken(questions[0]), unbroken(questions[2])
        count = count_lines(questions[0])
        for place in range(places):
            line = 1 + (count - 1) * place // places
            assert check_after_kill(partial(stopped_at, line), *questions, whole, seen)
        found[name] = seen
    return found


def check_pair(path: Path, ends: list[tuple[int, str]], seen: Counter[str]) -> None:
    """Of two processes with the seeds 0 and 1 one has won, and the other has said so."""
    codes = [code for code, _ in ends]
    assert sorted(codes) == [FINISHED, REFUSED], ends
    winner = codes.index(FINISHED)
    seeds = {json.loads(line)["seed"] for line in path.read_bytes().splitlines()}
    assert seeds == {winner}, (seeds, ends)
    message = ends[1 - winner][1]
    said = ("another run is writing to it", f"was begun with seed {winner}, not {1 - winner}")
    (reason,) = (reason for reason in said if reason in message)
    seen[reason.partition(" seed")[0]] += 1
    seen[f"won by {'the second' if winner else 'the first'}"] += 1


def pairs(count: int) -> Counter[str]:
    """Let two forked processes begin at the same moment on one new file."""
    demo = fastdecode.Decoder.from_pretrained("demo")
    draw = fastdecode.Sample(top_p=0.9)
    seen: Counter[str] = Counter()
    for _ in range(count):
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            path = Path(folder) / "out.jsonl"
            gate = os.pipe()

            def work(seed, path=path, gate=gate):
                question = Continuations(demo, TEXTS, strategy=draw, seed=seed, max_new_tokens=3)
                os.close(gate[1])
                os.read(gate[0], 1)
                fill(path, lambda: question)

            children = [begun(partial(work, seed)) for seed in range(2)]
            # The end of the pipe opens the gate to both.
            for end in gate:
                os.close(end)
            check_pair(path, [ended(*child) for child in children], seen)
            seen["pairs"] += 1
    return seen


def starts(count: int) -> Counter[str]:
    """Start two command lines at the same time on one new file."""
    seen: Counter[str] = Counter()
    for number in range(count):
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            command = [sys.executable, "-m", "fastdecode", "generate", *TEXTS, "--model", "demo"]
            command += ["--max-new-tokens", "3", "--sample", "--out", "out.jsonl", "--seed"]
            # Which of the two is started first alternates.
            order = (0, 1) if number % 2 else (1, 0)
            processes = {
                seed: subprocess.Popen(
                    [*command, str(seed)], cwd=folder, text=True, stderr=subprocess.PIPE
                )
                for seed in order
            }
            errors = {seed: process.communicate()[1] for seed, process in processes.items()}
            ends = [(processes[seed].returncode, errors[seed]) for seed in range(2)]
            check_pair(Path(folder) / "out.jsonl", ends, seen)
            seen["pairs"] += 1
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("attack", choices=ATTACKS)
    parser.add_argument("count", type=int, nargs="?", default=10, help="pairs, or places")
    arguments = parser.parse_args()
    if arguments.attack == "lines":
        found: Any = stop_at_every_place(stopped_at, torn)
    elif arguments.attack == "full":
        found = stop_at_every_place(full)
    elif arguments.attack == "readonly":
        found = read_only()
    elif arguments.attack == "commands":
        found = kill_commands(arguments.count)
    else:
        found = (pairs if arguments.attack == "pairs" else starts)(arguments.count)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
