"""Attacks on resumable jobs: killed at every place, and two processes on one new file.

    python tests/job_attacks.py lines          killed at every line of the code that writes
    python tests/job_attacks.py commands       the five commands, killed at places spread over a job
    python tests/job_attacks.py pairs 10       pairs of processes, forked, on one new file
    python tests/job_attacks.py starts 500     pairs of command lines, started together

Each prints what it has seen as JSON, and fails at the first thing that is not right. Processes are
forked from one that has not generated anything, so that hundreds of attacks take seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
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
    stop: Callable[[], Any],
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
        assert code in (KILLED, FINISHED), (code, message)
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
        seen["killed" if code == KILLED else "finished"] += 1
        seen["before the file" if not there else f"with {before.count(10)} lines"] += 1
        return code == KILLED


def unbroken(ask: Callable[[], Question]) -> bytes:
    """The file of a job without an interruption."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder) / "out.jsonl"
        assert forked(lambda: fill(path, ask)) == (FINISHED, "")
        return path.read_bytes()


def kill_at_every_line() -> Counter[str]:
    """Kill a job that needs no model at every line, and in the middle of every write."""
    questions = (lambda: Echo(7), lambda: Echo(None), lambda: Echo(8))
    whole = unbroken(questions[0]), unbroken(questions[2])
    seen: Counter[str] = Counter()
    for stop in (stopped_at, torn):
        places = itertools.count(1)
        while check_after_kill(partial(stop, next(places)), *questions, whole, seen):
            pass
    return seen


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
    parser.add_argument("attack", choices=["lines", "commands", "pairs", "starts"])
    parser.add_argument("count", type=int, nargs="?", default=10, help="pairs, or places")
    arguments = parser.parse_args()
    if arguments.attack == "lines":
        found: Any = kill_at_every_line()
    elif arguments.attack == "commands":
        found = kill_commands(arguments.count)
    else:
        found = (pairs if arguments.attack == "pairs" else starts)(arguments.count)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
