"""What the extension module has and `fastdecode.core` has not."""

from __future__ import annotations

import numpy as np
from fastdecode import _core
from hostile import anything, either, flag, path, several, text

from surface.kinds import IDS
from surface.made import DEMO, gguf, native, native_rows, packed
from surface.target import target


def enter() -> None:
    dtype = {"dtype": text, "kv_cache_dtype": text}
    config = (DEMO / "config.json").read_text()
    model = _core.NativeModel
    folder = {"path": str(DEMO)}
    target("_core.NativeModel.from_folder", model.from_folder, folder, files=("path",), **dtype)
    target(
        "_core.NativeModel.from_gguf",
        model.from_gguf,
        {"file": "no.gguf"},
        files=("file",),
        # A path is named as GgufFile names it.
        shown={"file": ("file", "path")},
        file=either(path, lambda value: isinstance(value, _core.GgufFile)),
        **dtype,
    )
    target(
        "_core.NativeModel.from_arrays",
        model.from_arrays,
        {"config": config, "tensors": {}},
        config=text,
        tensors=lambda value: isinstance(value, dict),
        shown={"tensors": ("tensors", "tensor")},
        **dtype,
    )
    target(
        "_core.NativeModel.from_packed",
        model.from_packed,
        {"file": "no.gguf"},
        files=("file",),
        # A path is named as PackedFile names it.
        shown={"file": ("file", "path")},
        file=either(path, lambda value: isinstance(value, _core.PackedFile)),
        kv_cache_dtype=text,
    )
    target(
        "_core.NativeModel.pack",
        model.pack,
        {"files": {"config.json": config.encode()}, "source": ""},
        of=native,
        source=text,
        shown={"files": ("files", "config.json")},
    )
    target("_core.NativeModel.definition_of", model.definition_of, {}, dtype=text, gguf=flag)
    target(
        "_core.NativeModel.keep_prefixes",
        model.keep_prefixes,
        {"bytes": 0},
        of=native,
    )
    target("_core.NativeModel.check", model.check, {"config": config}, config=text)
    target("_core.NativeModel.all_logits", model.all_logits, {"tokens": [1]}, of=native, tokens=IDS)
    rows = _core.NativeRows
    target(
        "_core.NativeRows.join",
        rows.join,
        {"prompts": [[1]], "repeats": [1]},
        of=native_rows,
        prompts=several(IDS),
        repeats=IDS,
        shown={"prompts": ("prompts", "repeats")},
    )
    target(
        "_core.NativeRows.step",
        rows.step,
        lambda: {"tokens": np.array([1, 2])},
        of=native_rows,
        tokens=IDS,
    )
    target(
        "_core.NativeRows.truncate",
        rows.truncate,
        {"lengths": [2, 2]},
        of=native_rows,
        lengths=IDS,
    )
    target(
        "_core.NativeRows.keep",
        rows.keep,
        lambda: {"rows": np.array([1])},
        of=native_rows,
        rows=IDS,
    )
    target("_core.GgufFile", _core.GgufFile, {"path": "no.gguf"}, files=("path",))
    target(
        "_core.GgufFile.__getitem__",
        _core.GgufFile.__getitem__,
        {"key": "a"},
        of=gguf,
        by_position=1,
        key=text,
        raises=(KeyError,),
    )
    target(
        "_core.GgufFile.get",
        _core.GgufFile.get,
        {"key": "a"},
        of=gguf,
        by_position=1,
        key=text,
        default=anything,
    )
    target("_core.PackedFile", _core.PackedFile, {"path": "no.gguf"}, files=("path",))
    target(
        "_core.PackedFile.read",
        _core.PackedFile.read,
        {"name": "config.json"},
        of=packed,
        name=text,
        shown={"name": ("name", "contains no")},
    )
    for method in (_core.GgufFile.tensor, _core.GgufFile.weight):
        target(
            f"_core.GgufFile.{method.__name__}",
            method,
            {"name": "b"},
            of=gguf,
            name=text,
            shown={"name": ("name", "tensor", "tensors")},
        )
    target("_core.check_memory", _core.check_memory, {"bytes": 1})
    target("_core.probe_memory", _core.probe_memory, {"bytes": 1})
