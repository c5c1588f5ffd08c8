"""Models, results and files that calls need, made when they are first asked for."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import fastdecode
import gguf_files
import numpy as np
from fastdecode import Beam, Decoder, Sample, _core, core
from fastdecode.models.engines.native import NativeEngine

TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
LOGITS = np.zeros((2, 5), np.float32)
PENALTY = Sample(repetition_penalty=2.0)
DEMO = files("fastdecode") / "demo"


class Work:
    """Whether a model has run, or its weights were read, since `begun` was set to False."""

    begun = False

    @classmethod
    def watch(cls, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def watched(*given: Any, **named: Any) -> Any:
            cls.begun = True
            return method(*given, **named)

        return watched


@cache
def decoder() -> Decoder:
    made = Decoder.from_pretrained("demo")
    for method in ("start", "all_logits"):
        setattr(made.engine, method, Work.watch(getattr(made.engine, method)))
    return made


@contextlib.contextmanager
def place() -> Iterator[None]:
    """A folder of its own, which hostile paths are written to, and a watch over what is loaded."""
    before, read = Path.cwd(), NativeEngine.__dict__["from_folder"]
    with tempfile.TemporaryDirectory(prefix="fastdecode-surface-") as folder:
        os.chdir(folder)
        watched = staticmethod(Work.watch(NativeEngine.from_folder))
        NativeEngine.from_folder = watched  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            NativeEngine.from_folder = read  # type: ignore[method-assign]
            os.chdir(before)


@cache
def saved() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fastdecode-surface-"))
    run = folder / "run.json"
    fastdecode.generate("Once", model="demo", max_new_tokens=1).save(run)
    return run


@cache
def native() -> _core.NativeModel:
    return _core.NativeModel.from_folder(str(DEMO))


def native_rows() -> _core.NativeRows:
    rows = native().rows()
    rows.join([[1, 2]], [2])
    return rows


@cache
def candidates() -> fastdecode.Candidates:
    return decoder().next_token("Once", 3)


@cache
def tree() -> fastdecode.BeamTree:
    return decoder().generate("Once", num_beams=2, max_new_tokens=2, trace=True).tree


@cache
def generations() -> fastdecode.Generations:
    return decoder().generate("Once", max_new_tokens=1, trace=True)


def decode_state(**given: Any) -> core.DecodeState:
    return core.DecodeState(**{"prompts": [[1], [2]], "seed": 1, "limits": 3} | given)


def beam_state(**given: Any) -> core.BeamState:
    place = {"beam": Beam(2), "prompts": [[1], [2]], "limits": [4, 4], "eos_token_ids": [0]}
    return core.BeamState(**place | given)


@cache
def packed() -> _core.PackedFile:
    path = saved().with_name("a.fastdecode")
    config = (DEMO / "config.json").read_bytes()
    path.write_bytes(b"".join(native().pack({"config.json": config}, "")))
    return _core.PackedFile(path)


@cache
def gguf() -> _core.GgufFile:
    return _core.GgufFile(str(gguf_files.write(saved().with_name("a.gguf"), {"a": 1}, {})))
