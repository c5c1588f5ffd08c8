"""Environments: the versions, engine and instruction set that a run was made with."""

from __future__ import annotations

import platform
import sys
from typing import Any

from fastdecode._core import __version__
from fastdecode.models.engines.base import Engine, cache_setting
from fastdecode.models.engines.native import NativeEngine


def environment(engine: Engine) -> dict[str, Any]:
    """Everything that might change a bit of a run on `engine`, as plain data.

    `fastdecode` and `python` are versions, `machine` names the system and processor family,
    `engine` is the engine's name, `kv_cache_dtype` the format of a KV cache that is not in float32,
    `threads` and `level` are its threads and instruction set; for an engine in torch, `torch`,
    `transformers` and `device` are added.
    """
    found: dict[str, Any] = {
        "fastdecode": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "engine": engine.name,
        "dtype": engine.dtype,
        **cache_setting(engine),
    }
    if isinstance(engine, NativeEngine):
        native = engine.packed()
        return found | {"threads": native.threads, "level": native.level}
    torch, transformers = sys.modules.get("torch"), sys.modules.get("transformers")
    if torch is not None:
        found |= {
            "threads": torch.get_num_threads(),
            "level": torch.backends.cpu.get_cpu_capability().lower(),
            "torch": str(torch.__version__),
            "device": str(getattr(engine, "device", "cpu")),
        }
    if transformers is not None:
        found["transformers"] = str(transformers.__version__)
    return found
