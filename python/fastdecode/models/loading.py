"""Opens a model: an engine and a tokenizer, from files or from objects the caller brings."""

from __future__ import annotations

import gc
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastdecode import forks
from fastdecode.models.engines import check_name, open_engine, prefers_native
from fastdecode.models.engines.base import Engine
from fastdecode.models.placement import (
    NATIVE_ONLY,
    cache_dtype_name,
    device_name,
    dtype_name,
)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to run.

    Attributes:
        engine: computes logits from tokens.
        tokenizer: a transformers tokenizer, or one that behaves like it.
        model: the transformers model; None where an engine has read the files by itself.
    """

    engine: Engine
    tokenizer: Any
    model: Any = None


@forks.undivided
def open_pretrained(
    name_or_path: str,
    *,
    engine: str = "auto",
    device: Any = None,
    dtype: Any = None,
    kv_cache_dtype: Any = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    probe: bool = True,
) -> LoadedModel:
    """Open "demo", a folder, a GGUF file or a model of the hub; see `Decoder.from_pretrained`."""
    from fastdecode.models import settings
    from fastdecode.models.checkpoints import files_of, is_gguf, load, refuse_folder_of_gguf

    dtype, cache = dtype_name(dtype), cache_dtype_name(kv_cache_dtype)
    if is_gguf(name_or_path):
        return _gguf(name_or_path, engine, device, dtype, cache, revision)
    refuse_folder_of_gguf(name_or_path)
    native = prefers_native(engine, device, dtype, cache)
    device = device_name(device)
    kept = (dtype or "float32") if native else None
    # Files on this machine are checked before weights are read, for all engines alike.
    own_code = False
    with files_of(name_or_path, revision) as folder, suppress(OSError):
        if folder is not None:
            settings.check(folder)
            # The native engine would leave out what the model's own code does.
            own_code = trust_remote_code and settings.brings_code(folder)
    if kept is not None and not (own_code and engine == "auto"):
        found = _native(name_or_path, revision, kept, cache, required=engine == "native")
        if found is not None:
            return found
    if kept in NATIVE_ONLY:
        dtype = None
    forks.uses_torch()
    model, tokenizer = load(
        name_or_path,
        device=device,
        dtype=dtype,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    return open_object(
        model, tokenizer, engine=engine, dtype=kept, kv_cache_dtype=cache, probe=probe
    )


@forks.undivided
def open_object(
    model: Any,
    tokenizer: Any,
    *,
    engine: str = "auto",
    dtype: Any = None,
    kv_cache_dtype: Any = None,
    probe: bool = True,
) -> LoadedModel:
    """Open a transformers model, or an `Engine`, with its tokenizer; see `Decoder`.

    Raises:
        TypeError: for anything else, and where `engine` or a format is given beside an `Engine`.
        ValueError: for an engine or a dtype that the model cannot run with, and for what is no
            causal language model.
    """
    check_name(engine)
    dtype, cache = dtype_name(dtype), cache_dtype_name(kv_cache_dtype)
    if not callable(getattr(tokenizer, "decode", None)):
        raise TypeError(
            f"tokenizer must be a transformers tokenizer, not {type(tokenizer).__name__}; "
            "a model object needs tokenizer=... beside it"
        )
    if hasattr(model, "all_logits") and hasattr(model, "start"):
        if engine != "auto" or dtype is not None or cache is not None:
            raise TypeError(
                "engine=, dtype= and kv_cache_dtype= go with a model; "
                f"{type(model).__name__} is an engine"
            )
        return LoadedModel(model, tokenizer)
    if not hasattr(model, "get_output_embeddings") or model.get_output_embeddings() is None:
        raise TypeError(
            f"model must be a transformers causal language model, not {type(model).__name__}"
        )
    forks.uses_torch()
    opened = open_engine(model, engine, dtype, kv_cache_dtype=cache, probe=probe)
    return LoadedModel(opened, tokenizer, model)


def _native(
    name_or_path: str, revision: str | None, dtype: str, cache: str | None, *, required: bool
) -> LoadedModel | None:
    """From files that the native engine can run; None, or its refusal if `required`."""
    from fastdecode.models.checkpoints import files_of
    from fastdecode.models.engines.native import NativeEngine

    with files_of(name_or_path, revision) as folder:
        if folder is None:
            return None
        try:
            # The tokenizer is read first: if it is refused, the weights need not be loaded.
            tokenizer = None if required else _tokenizer(folder)
            found = NativeEngine.from_folder(folder, dtype, cache or "float32")
            return LoadedModel(found, tokenizer or _tokenizer(folder))
        except ValueError as error:
            # Unless the engine is required, transformers tries next: it may read these files, or
            # explain better why not.
            if required:
                raise ValueError(f"model={name_or_path!r}: {error}") from error
            return None
        except OSError:
            if required:
                raise
            return None


def _gguf(
    path: str,
    engine: str,
    device: Any,
    dtype: str | None,
    cache: str | None,
    revision: str | None,
) -> LoadedModel:
    """From a GGUF file, which the native engine alone reads."""
    from fastdecode._core import GgufFile
    from fastdecode.models.engines.native import NativeEngine
    from fastdecode.models.gguf.tokenizer import GgufTokenizer

    if not prefers_native(engine, device, dtype):
        given = {
            "engine": None if prefers_native(engine, None, None) else engine,
            "device": device,
            "dtype": dtype,
        }
        shown = ", ".join(f"{name}={value!r}" for name, value in given.items() if value is not None)
        raise ValueError(
            f"model={path!r} is a GGUF file, which the native engine runs, on the CPU, in float32, "
            f"bfloat16, int8 or int4; {shown} asks for something else"
        )
    if revision is not None:
        raise ValueError(f"revision={revision!r} goes with a name of the hub, not with a file")
    if Path(path).exists() and not Path(path).is_file():
        raise ValueError(f"model={path!r} is not a regular file")
    try:
        # In the order of what they take: what the engine does not run is refused by its
        # architecture or its tensors, and then by its tokenizer, before weights are loaded.
        file = GgufFile(path)
        file.check()
        tokenizer = GgufTokenizer(file)
        native = NativeEngine.from_gguf(
            file, dtype or "float32", tokenizer.eos_ids, cache or "float32"
        )
    except ValueError as error:
        raise ValueError(f"model={path!r} cannot be loaded: {error}") from error
    return LoadedModel(native, tokenizer)


def release_memory() -> None:
    """Free models that nothing refers to, and what torch has set aside for them on a GPU."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _tokenizer(folder: Path) -> Any:
    """The tokenizer in a folder, by transformers only where its files need that."""
    from fastdecode.models.checkpoints import load_tokenizer
    from fastdecode.models.tokenizer import FileTokenizer
    from fastdecode.models.tokenizer_files.refusal import NeedsTransformers

    try:
        return FileTokenizer(folder)
    except NeedsTransformers:
        return load_tokenizer(folder)
