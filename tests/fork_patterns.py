"""Ways to fork, and places to fork from: each child must work, and give its parent's results.

    python tests/fork_patterns.py                  all of them, one after another
    python tests/fork_patterns.py stream job       some of them

The parent has used all of its threads before. Prints the names as JSON; a child that hangs is
ended as in `fork_attacks.py`.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import fastdecode
import numpy as np
from fastdecode import Decoder
from fastdecode.cli import main as cli
from fastdecode.jobs.resumable import open_job
from fastdecode.models.engines.torch_pass import torch_pass
from fork_attacks import (
    PATIENCE,
    PROMPTS,
    SAMPLED,
    Work,
    at_once,
    busy,
    check,
    expected,
    fork,
    wait,
    works,
)
from gguf_files import write
from job_attacks import Echo, fill

CHAT = "{% for message in messages %}{{ message.content }} {% endfor %}"
# Ends a program as it usually ends, in the parent and in a child that has computed.
PROGRAM = """
import os, fastdecode
def tokens():
    return fastdecode.generate(["The king", "Alice was"], model="demo", max_new_tokens=3).texts
found = tokens()
child = os.fork()
assert tokens() == found
if child:
    assert os.waitpid(child, 0)[1] == 0
"""

Calls = dict[str, Work]
Known = dict[str, Any]


def executor(calls: Calls, known: Known) -> None:
    """The pool of concurrent.futures, whose workers are forked."""
    global _shared
    _shared = calls, known
    context = multiprocessing.get_context("fork")
    with busy([calls["batch"]]), ProcessPoolExecutor(2, mp_context=context) as pool:
        for done in [pool.submit(_task) for _ in range(6)]:
            done.result(2 * PATIENCE)


_shared: tuple[Calls, Known]


def _task() -> None:
    signal.alarm(PATIENCE)
    check(*_shared)
    signal.alarm(0)


def terminal(calls: Calls, known: Known) -> None:
    """A child with a terminal of its own."""
    screens = []

    def forkpty() -> int:
        process, screen = os.forkpty()
        screens.append(screen)
        return process

    wait(fork(partial(check, calls, known), forkpty))
    os.close(screens[0])


def thread(calls: Calls, known: Known) -> None:
    """Forks by threads other than the main one, at the same time, while others compute."""

    def forks() -> None:
        for _ in range(2):
            wait(fork(partial(check, calls, known)))

    with busy([calls["beams"]]):
        at_once([forks] * 3)


def stream(calls: Calls, known: Known) -> None:
    """A stream that is begun in the parent, and goes on in both."""
    decoder = Decoder.from_pretrained("demo", engine="native")
    for arguments in (SAMPLED | {"max_new_tokens": 12}, {"num_beams": 3, "max_new_tokens": 12}):
        whole = [step.text for step in decoder.stream(PROMPTS[0], **arguments)]
        steps = decoder.stream(PROMPTS[0], **arguments)
        begun = [next(steps).text for _ in range(4)]

        def finish(begun: list[str] = begun, steps: Any = steps, whole: Any = whole) -> None:
            assert [*begun, *(step.text for step in steps)] == whole

        child = fork(lambda finish=finish: (finish(), check(calls, known)))
        finish()
        wait(child)


def handler(calls: Calls, known: Known) -> None:
    """Forks by the handler of a signal, in the middle of calls; the child goes on with the call."""
    parent, children = os.getpid(), []

    def interrupt(*_: object) -> None:
        # The child returns, too.
        children.append(os.fork())

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        for name, call in calls.items():
            forks = len(children)
            ticks = threading.Thread(target=_kick, args=(parent, children, forks))
            ticks.start()
            # At least once, since the signal may come before the first call.
            found = call()
            while len(children) == forks:
                found = call()
            if os.getpid() != parent:
                signal.alarm(PATIENCE)
                os._exit(0 if found == known[name] and call() == known[name] else 1)
            ticks.join()
    finally:
        if os.getpid() != parent:
            os._exit(1)
        signal.signal(signal.SIGUSR1, before)
    for child in children:
        wait(child)


def _kick(process: int, children: list[int], forks: int) -> None:
    time.sleep(0.003)
    if len(children) == forks:
        os.kill(process, signal.SIGUSR1)


def before_exec(calls: Calls, known: Known) -> None:
    """What subprocess runs between fork and exec."""
    with busy([calls["many rows"]]):
        subprocess.run(
            [sys.executable, "-c", ""], preexec_fn=partial(check, calls, known), check=True
        )


def c_library(calls: Calls, known: Known) -> None:
    """A fork that Python does not see, so that none of its hooks runs."""
    wait(fork(partial(check, calls, known), ctypes.PyDLL(None).fork))


def descendants(calls: Calls, known: Known) -> None:
    """Children of children, to the fourth generation."""

    def generation(left: int) -> None:
        check(calls, known)
        if left:
            with busy([calls["batch"]]):
                wait(fork(partial(generation, left - 1)))
            check(calls, known)

    wait(fork(partial(generation, 3)))


def daemon(calls: Calls, known: Known) -> None:
    """A process that detaches itself from its parent, by two forks."""
    reading, writing = os.pipe()

    def detached() -> None:
        check(calls, known)
        os.write(writing, b"done")

    def between() -> None:
        os.setsid()
        fork(detached)

    wait(fork(between))
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert pipe.read() == b"done"


def ends(calls: Calls, known: Known) -> None:
    """A program that forks, and whose two processes both end as a program ends."""
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=2 * PATIENCE)


def formats(calls: Calls, known: Known) -> None:
    """Other formats of numbers: used before the fork, and loaded after it."""
    names = ("bfloat16", "int8", "int4")
    decoders = {name: Decoder.from_pretrained("demo", dtype=name) for name in names}
    found = {name: expected(works(decoder)) for name, decoder in decoders.items()}

    def child() -> None:
        for name, decoder in decoders.items():
            check(works(decoder), found[name])
            check(works(Decoder.from_pretrained("demo", dtype=name)), found[name])

    with busy([works(decoder)["batch"] for decoder in decoders.values()]):
        wait(fork(child))


def gguf(calls: Calls, known: Known) -> None:
    """A model in a GGUF file: used before the fork, and loaded after it and while another does."""
    with tempfile.TemporaryDirectory() as folder:
        path = _small_gguf(Path(folder))
        decoder = Decoder.from_pretrained(path)
        found = expected(works(decoder))

        def child() -> None:
            check(works(decoder), found)
            check(works(Decoder.from_pretrained(path)), found)

        with busy([partial(Decoder.from_pretrained, path)]):
            for _ in range(3):
                wait(fork(child))


def _small_gguf(folder: Path) -> Path:
    """A Llama of one layer, whose tokens are letters."""
    tokens = ["<s>", "</s>", *(chr(code) for code in range(33, 127)), "Ġ", "Ċ", "th"]
    draw = np.random.default_rng(1)
    sizes = {"attn_q": (16, 16), "attn_k": (16, 16), "attn_v": (16, 16), "attn_output": (16, 16)}
    sizes |= {"ffn_gate": (32, 16), "ffn_up": (32, 16), "ffn_down": (16, 32)}
    tensors = {f"blk.0.{name}.weight": draw.normal(0, 0.5, size) for name, size in sizes.items()}
    tensors["token_embd.weight"] = draw.normal(0, 1, (len(tokens), 16))
    for norm in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        tensors[f"{norm}.weight"] = np.ones(16)
    metadata = {
        "general.architecture": "llama",
        "llama.block_count": 1,
        "llama.context_length": 64,
        "llama.embedding_length": 16,
        "llama.feed_forward_length": 32,
        "llama.attention.head_count": 2,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-6,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 3, *[1] * (len(tokens) - 2)],
        "tokenizer.ggml.merges": ["t h"],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
    }
    arrays = {name: array.astype(np.float32) for name, array in tensors.items()}
    return write(folder / "small.gguf", metadata, arrays)


def chat(calls: Calls, known: Known) -> None:
    """Conversations, whose templates have limits of time and memory."""
    decoder = Decoder.from_pretrained("demo", engine="native")
    messages = [{"role": "user", "content": "Once upon a time"}]

    def talk() -> list[str]:
        arguments = {"chat_template": CHAT, "max_new_tokens": 4}
        streamed = [step.text for step in decoder.stream_chat(messages, **arguments)]
        return [*decoder.chat(messages, **arguments).texts, *streamed]

    said = talk()
    with busy([talk]):
        for _ in range(3):
            wait(fork(lambda: check({"chat": talk}, {"chat": said})))


def bars(calls: Calls, known: Known) -> None:
    """Progress bars, which threads draw under a lock."""
    decoder = Decoder.from_pretrained("demo", engine="native")

    def draw() -> list[list[int]]:
        found = decoder.generate(PROMPTS * 5, max_new_tokens=1, progress=True)
        return [one.token_ids for one in found]

    with contextlib.redirect_stderr(io.StringIO()):
        drawn = draw()
        with busy([draw, draw]):
            for _ in range(4):
                wait(fork(lambda: check({"bars": draw}, {"bars": drawn})))


def waits(calls: Calls, known: Known) -> None:
    """A fork in the middle of another thread's pass of torch, which may hold locks."""
    begun, ended = threading.Event(), threading.Event()

    def compute() -> None:
        with torch_pass():
            begun.set()
            time.sleep(0.2)
            ended.set()

    computing = threading.Thread(target=compute)
    computing.start()
    begun.wait()
    child = fork(lambda: os._exit(0 if ended.is_set() else 1))
    computing.join()
    wait(child)


def command(calls: Calls, known: Known) -> None:
    """The command line in a child, with a file of texts and a file of results."""
    with tempfile.TemporaryDirectory() as folder:
        texts, out = Path(folder, "texts.txt"), Path(folder, "out.jsonl")
        texts.write_text("The king\nAlice was\n", "utf-8")
        typed = ["score", "--file", str(texts), "-m", "demo", "--out", str(out)]

        def child() -> None:
            sys.argv = ["fastdecode", *typed]
            with contextlib.suppress(SystemExit):
                cli()
            assert len(out.read_text("utf-8").splitlines()) == 2

        with busy([calls["scores"]]):
            wait(fork(child))


def job(calls: Calls, known: Known) -> None:
    """A child that outlives its parent's job keeps nobody from its file, nor writes to it."""
    with tempfile.TemporaryDirectory() as folder:
        # Unlocked before it is closed, for a child without Python's hooks.
        for number, by in enumerate((os.fork, ctypes.PyDLL(None).fork)):
            path = Path(folder, f"{number}.jsonl")
            with open_job(path, Echo(7)) as running:
                records = running.run()
                next(records)
                asleep = fork(signal.pause, by)
                wait(fork(partial(_continued, path, records), by))
                wait(fork(partial(_locked, path)))
                list(records)
            with _ended(asleep):
                wait(fork(partial(fill, path, partial(Echo, 7))))
                wait(fork(partial(_exclusive, path)))
        path = Path(folder, "killed.jsonl")
        with _ended(_killed(path)):
            wait(fork(partial(fill, path, partial(Echo, 7))))


def _continued(path: Path, records: Iterator[Any]) -> None:
    """In a child of the process that writes: it does not."""
    before = path.read_bytes()
    _refused("the process that this one was forked from is writing to it", lambda: next(records))
    assert path.read_bytes() == before
    # The end of the context, as where the child leaves its parent's code by an exception.
    records.close()


def _locked(path: Path) -> None:
    """In another process: the file is locked."""
    _refused("another run is writing to it", lambda: fill(path, partial(Echo, 7)))


def _refused(message: str, call: Work) -> None:
    try:
        call()
    except ValueError as error:
        if message not in str(error):
            raise
    else:
        raise AssertionError(f"not refused: {message}")


def _exclusive(path: Path) -> None:
    """The lock of one process is not taken away by the end of another."""
    with open_job(path, Echo(7)):
        wait(fork(lambda: None))
        wait(fork(partial(_locked, path)))


def _killed(path: Path) -> int:
    """A process that is killed in the middle of a job, and whose child goes on: the child's id."""
    reading, writing = os.pipe()

    def parent() -> None:
        with open_job(path, Echo(7)) as running:
            next(running.run())
            os.write(writing, str(fork(signal.pause)).encode())
            os.kill(os.getpid(), signal.SIGKILL)

    process = fork(parent)
    os.close(writing)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    child = int(os.read(reading, 20))
    os.close(reading)
    return child


@contextlib.contextmanager
def _ended(child: int) -> Iterator[None]:
    """End a child, or a child's child, after something that is done while it lives."""
    try:
        os.kill(child, 0)
        yield
        os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)


PATTERNS: dict[str, Callable[[Calls, Known], None]] = {
    pattern.__name__: pattern
    for pattern in (
        executor,
        terminal,
        thread,
        stream,
        handler,
        before_exec,
        c_library,
        descendants,
        daemon,
        ends,
        formats,
        gguf,
        chat,
        bars,
        waits,
        command,
        job,
    )
}


def main() -> None:
    """Run the patterns that the command line names, or all."""
    faulthandler.register(signal.SIGALRM, chain=True)
    calls = works(Decoder.from_pretrained("demo", engine="native"))
    calls["loaded by name"] = lambda: fastdecode.generate(PROMPTS, model="demo", **SAMPLED).texts
    known = expected(calls)
    took: dict[str, float] = {}
    for name in sys.argv[1:] or PATTERNS:
        start = sum(os.times()[:4])
        print(name, file=sys.stderr, flush=True)
        PATTERNS[name](calls, known)
        took[name] = round(sum(os.times()[:4]) - start, 2)
    print(json.dumps({"patterns": list(took), "processor seconds": took}))


if __name__ == "__main__":
    main()
