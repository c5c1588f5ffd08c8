"""Forks of a process that computes: every child must work, and give its parent's tokens.

    python tests/fork_attacks.py os 200            plain forks, while other threads compute
    python tests/fork_attacks.py pool 200          multiprocessing's pool
    python tests/fork_attacks.py servers 200       workers that serve requests on threads
    python tests/fork_attacks.py torch 100         plain forks of a process that computes with torch
    python tests/fork_attacks.py imports 20        forks while another thread loads the first model

The number is that of forks. Each prints what it has done as JSON. A child that hangs is ended after
a while, prints where its threads are, and fails the attack.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

# More threads than the machine may have cores.
os.environ.setdefault("FASTDECODE_THREADS", "3")

import fastdecode
import numpy as np
from fastdecode import Decoder, core

# Seconds after which a child counts as one that hangs. Where there are many, the machine may have
# other work as well, and some wait long for a processor.
PATIENCE = 3000 if os.environ.get("FASTDECODE_FORKS") else 300
PROMPTS = ["Once upon a time", "The king said", "Alice was", "In a wood", "They went"]
SAMPLED = {"max_new_tokens": 3, "temperature": 0.9, "seed": 7}
ROWS = np.random.default_rng(3).normal(0, 4, (32, 8000)).astype(np.float32)

Work = Callable[[], Any]


def works(decoder: Decoder) -> dict[str, Work]:
    """Calls of every kind; what they return is the same in every process."""
    params = fastdecode.Sample(top_k=50)
    return {
        "one row": lambda: core.sample(ROWS[0], params, seed=5).tokens.tolist(),
        "many rows": lambda: core.sample(ROWS, params, seed=5).tokens.tolist(),
        "batch": lambda: [g.token_ids for g in decoder.generate(PROMPTS, **SAMPLED)],
        "beams": lambda: [
            g.token_ids for g in decoder.generate(PROMPTS[:2], num_beams=3, max_new_tokens=3)
        ],
        "scores": lambda: [s.token_logprobs for s in decoder.score(PROMPTS[:3])],
        "stream": lambda: [step.token_id for step in decoder.stream(PROMPTS[1], **SAMPLED)],
        "next token": lambda: [c.token_id for c in decoder.next_token(PROMPTS[2], k=3)],
    }


def expected(calls: dict[str, Work], states: int = 2) -> dict[str, Any]:
    """What each call returns, in a process that has used its threads in several ways."""
    found = {name: call() for name, call in calls.items()}
    at_once(list(calls.values()) * states)
    return found


def at_once(calls: list[Work]) -> None:
    """Make each call on a thread of its own; what the first that fails raises is raised."""
    failed: list[BaseException] = []

    def make(call: Work) -> None:
        try:
            call()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=make, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


@contextmanager
def busy(calls: list[Work]) -> Iterator[None]:
    """Within, a thread for each call makes it again and again."""
    over = threading.Event()

    def again(call: Work) -> None:
        while not over.is_set():
            call()

    threads = [threading.Thread(target=again, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def fork(child: Callable[[], object], by: Callable[[], int] = os.fork) -> int:
    """Fork; the child's process id. A child that hangs or raises an exception reports it."""
    process = by()
    if process:
        return process
    status = 1
    try:
        signal.alarm(PATIENCE)
        child()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def wait(process: int) -> None:
    """Wait for a child.

    Raises:
        RuntimeError: where it did not exit with 0.
    """
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if code:
        raise RuntimeError(f"a child ended with {code}")


def check(calls: dict[str, Work], known: dict[str, Any]) -> None:
    """Make each call, and compare."""
    for name, call in calls.items():
        found = call()
        # torch computes other bits on another number of threads.
        if not (close(found, known[name]) if name == "scores" else found == known[name]):
            raise AssertionError(f"{name}: {found} in the child, {known[name]} in the parent")


def close(found: list[list[float]], known: list[list[float]]) -> bool:
    """Whether log-probabilities are the same up to rounding."""
    pairs = zip(found, known, strict=True)
    return all(np.allclose(one, other, rtol=1e-4, atol=1e-4) for one, other in pairs)


def plain(count: int, calls: dict[str, Work], disturbances: list[list[Work]]) -> None:
    """Fork `count` times, some of them within each disturbance; some children fork again."""
    known = expected(calls)
    each = -(-count // len(disturbances))
    left = count
    for disturbance in disturbances:
        with busy(disturbance):
            for i in range(min(each, left)):
                wait(fork(partial(check, calls, known)) if i % 10 else fork(twice(calls, known)))
        left -= min(each, left)


def twice(calls: dict[str, Work], known: dict[str, Any]) -> Work:
    """What a child does that has a child of its own, before and after."""

    def child() -> None:
        wait(fork(partial(check, calls, known)))
        check(calls, known)

    return child


def by_os(count: int) -> None:
    """Plain forks: quiet, and while other threads sample, step, score, load and stream."""
    decoder = Decoder.from_pretrained("demo", engine="native")
    calls = works(decoder)
    plain(
        count,
        calls,
        [
            [],
            [calls["many rows"], calls["batch"]],
            [calls["scores"], calls["beams"], calls["stream"]],
            [partial(Decoder.from_pretrained, "demo"), partial(fastdecode.unload)],
        ],
    )


_shared: tuple[dict[str, Work], dict[str, Any]]


def _task(_: int) -> None:
    signal.alarm(PATIENCE)
    check(*_shared)
    signal.alarm(0)


def by_pool(count: int) -> None:
    """multiprocessing's pool, each worker of which is replaced after two tasks."""
    global _shared
    calls = works(Decoder.from_pretrained("demo", engine="native"))
    _shared = calls, expected(calls)
    context = multiprocessing.get_context("fork")
    with busy([calls["many rows"]]), context.Pool(2, maxtasksperchild=2) as pool:
        done = pool.imap_unordered(_task, range(2 * count), chunksize=1)
        for _ in range(2 * count):
            # The task of a worker that has hung and was ended is never done.
            done.next(2 * PATIENCE)


def by_servers(count: int) -> None:
    """A server that forks its workers: each serves on threads, some die, all are replaced."""
    calls = works(Decoder.from_pretrained("demo", engine="native"))
    known = expected(calls)

    def serve() -> None:
        at_once([partial(check, calls, known)] * 3)

    def die() -> None:
        threading.Thread(target=check, args=(calls, known), daemon=True).start()
        calls["many rows"]()
        os._exit(0)

    running: list[int] = []
    for i in range(count):
        running.append(fork(die if i % 4 == 3 else serve))
        if len(running) == 2:
            wait(running.pop(0))
    for process in running:
        wait(process)


def by_torch(count: int) -> None:
    """Forks of a process that has computed with torch: on one thread, and then on several."""
    import torch
    import transformers

    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer = Decoder.from_pretrained("demo", engine="native").tokenizer
    config = transformers.GPT2Config(
        vocab_size=4096, n_embd=256, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
    )
    model = transformers.GPT2LMHeadModel(config)
    decoders = [Decoder(model, tokenizer, engine=engine) for engine in ("torch", "transformers")]
    each = -(-count // 6)
    for decoder in decoders:
        calls = works(decoder)
        plain(each, calls, [[], [calls["batch"]], [calls["scores"]]])
    # What the caller computes with torch elsewhere is not known to the package.
    torch.set_num_threads(2)
    model.generate(torch.ones((4, 20), dtype=torch.int64), max_new_tokens=4)
    torch.set_num_threads(1)
    for decoder in decoders:
        calls = works(decoder)
        plain(each, calls, [[]])
    for decoder in decoders:
        calls = works(decoder)
        torch.set_num_threads(2)
        expected(calls)
        # Those that were missing in the child remain so.
        torch.set_num_threads(1)
        for _ in range(each):
            wait(fork(partial(refused, calls)))


def refused(calls: dict[str, Work]) -> None:
    """Expect that each call of the model says why it cannot be made in this process."""
    for name, call in calls.items():
        if name in ("one row", "many rows"):
            call()
            continue
        try:
            call()
        except RuntimeError as error:
            if "forked after torch had computed on several threads" not in str(error):
                raise
        else:
            raise AssertionError(f"{name} was not refused")


def by_imports(count: int) -> None:
    """Fork while another thread imports what the first model needs, each time in a new process."""
    for i in range(count):
        delay = 0.3 * i / count
        command = [
            sys.executable,
            __file__,
            "first",
            "0",
            "--delay",
            str(delay),
        ]
        subprocess.run(command, check=True)


def first(delay: float) -> None:
    """Load a model on another thread, and fork after `delay` seconds."""

    def load() -> list[list[int]]:
        decoder = Decoder.from_pretrained("demo", engine="native")
        return [g.token_ids for g in decoder.generate(PROMPTS, max_new_tokens=2)]

    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(load()))
    thread.start()
    time.sleep(delay)
    read, write = os.pipe()
    process = fork(lambda: _send(write, load()))
    os.close(write)
    with os.fdopen(read) as pipe:
        of_child = pipe.read()
    wait(process)
    thread.join()
    if [json.loads(of_child)] != found:
        raise AssertionError(f"{of_child} in the child, {found} in the parent")


def _send(pipe: int, data: Any) -> None:
    os.write(pipe, json.dumps(data).encode())


ATTACKS: dict[str, Callable[[int], None]] = {
    "os": by_os,
    "pool": by_pool,
    "servers": by_servers,
    "torch": by_torch,
    "imports": by_imports,
}


def main() -> None:
    """Run the attack that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("attack", choices=[*ATTACKS, "first"])
    parser.add_argument("count", type=int)
    parser.add_argument("--delay", type=float, default=0.0)
    options = parser.parse_args()
    # A child inherits this, unlike the thread of `dump_traceback_later`.
    faulthandler.register(signal.SIGALRM, chain=True)
    if options.attack == "first":
        first(options.delay)
        return
    start = time.perf_counter()
    ATTACKS[options.attack](options.count)
    times = os.times()
    seconds = times.user + times.system + times.children_user + times.children_system
    done = {
        "attack": options.attack,
        "forks": options.count,
        "processor seconds": round(seconds, 1),
    }
    print(json.dumps(done | {"seconds": round(time.perf_counter() - start, 1)}))


if __name__ == "__main__":
    main()
