"""Opens a model: an engine and a tokenizer, from files or from objects the caller brings."""

from __future__ import annotations

import gc
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastdecode import forks
from fastdecode.models.engines import check_name, open_engine, prefers_native
from fastdecode.models.engines.base import Engine
from fastdecode.models.placement import (
    AS_IN_FILE,
    EARLIER,
    NATIVE_ONLY,
    cache_dtype_name,
    check_not_of_file,
    device_name,
    dtype_name,
)

if TYPE_CHECKING:
    from fastdecode._core import GgufFile, NativeModel


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
    """Open what `Decoder.from_pretrained` opens; see there."""
    from fastdecode.models import settings
    from fastdecode.models.checkpoints import (
        files_of,
        is_gguf,
        is_packed,
        load,
        refuse_folder_of_gguf,
    )

    dtype, cache = dtype_name(dtype), cache_dtype_name(kv_cache_dtype)
    if is_packed(name_or_path):
        return _packed(name_or_path, engine, device, dtype, cache, revision)
    if is_gguf(name_or_path):
        return _gguf(name_or_path, engine, device, dtype, cache, revision)
    refuse_folder_of_gguf(name_or_path)
    check_not_of_file(dtype)
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
    check_not_of_file(dtype)
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
    from fastdecode.models.tokenizer import read_tokenizer

    with files_of(name_or_path, revision) as folder:
        if folder is None:
            return None
        try:
            # The tokenizer is read first: if it is refused, the weights need not be loaded.
            tokenizer = None if required else read_tokenizer(folder)
            formats = (dtype, cache or "float32")
            found = NativeEngine.from_folder(folder, *formats, _folder_through_cache)
            return LoadedModel(found, tokenizer or read_tokenizer(folder))
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

    stored = dtype in (None, "auto", AS_IN_FILE, *EARLIER)
    asked = None if stored else dtype
    if not prefers_native(engine, device, asked):
        raise ValueError(
            f"model={path!r} is a GGUF file, which the native engine runs, on the CPU, as it is "
            "stored or in float32, bfloat16, bfloat16_weights, int8 or int4; "
            f"{_asked(engine, device, asked)} asks for something else"
        )
    _check_file(path, revision)
    try:
        # In the order of what they take: what the engine does not run is refused by its
        # architecture or its tensors, and then by its tokenizer, before weights are loaded.
        file = GgufFile(path)
        file.check()
        tokenizer = GgufTokenizer(file)
        kept = AS_IN_FILE if dtype in (None, "auto") else dtype
        native = NativeEngine.from_gguf(
            file, kept, tokenizer.eos_ids, cache or "float32", _gguf_through_cache
        )
    except ValueError as error:
        raise ValueError(f"model={path!r} cannot be loaded: {error}") from error
    return LoadedModel(native, tokenizer)


def _packed(
    path: str,
    engine: str,
    device: Any,
    dtype: str | None,
    cache: str | None,
    revision: str | None,
) -> LoadedModel:
    """From a packed file, which has its own number format."""
    from fastdecode._core import NativeModel, PackedFile
    from fastdecode.files.inner import InnerPath
    from fastdecode.models import settings
    from fastdecode.models.engines.native import NativeEngine
    from fastdecode.models.packed import contents
    from fastdecode.models.packed.background import Background

    _check_file(path, revision)
    if not prefers_native(engine, device, None):
        raise ValueError(
            f"model={path!r} is a packed file, which the native engine runs, on the CPU; "
            f"{_asked(engine, device, None)} asks for something else"
        )
    try:
        file = PackedFile(path)
        if dtype not in (None, file.dtype, "auto"):
            raise ValueError(
                f"its weights are {file.dtype}, and dtype={dtype!r} was given; leave dtype out, or "
                f"pack the model again with `fastdecode pack MODEL --dtype {dtype}`"
            )
        folder = InnerPath(file)
        settings.check(folder)
        # Most of the time goes into the tokenizer, and the weights can be read meanwhile.
        with Background(partial(NativeModel.from_packed, file, cache or "float32")) as weights:
            if contents.is_of_gguf(folder):
                gguf = contents.gguf_tokenizer(folder)
                return LoadedModel(NativeEngine.with_ends(weights.result(), gguf.eos_ids), gguf)
            tokenizer = contents.tokenizer(folder)
            return LoadedModel(NativeEngine.of_packed(weights.result(), folder), tokenizer)
    except ValueError as error:
        raise ValueError(f"model={path!r} cannot be loaded: {error}") from error


def _folder_through_cache(folder: Path, dtype: str, kv_cache_dtype: str) -> NativeModel:
    """`NativeModel.from_folder`, by way of the cache where there is one."""
    from fastdecode._core import NativeModel
    from fastdecode.models.identity.files import ModelFiles
    from fastdecode.models.packed.cache import cached

    config = (folder / "config.json").read_bytes
    read = partial(NativeModel.from_folder, folder, dtype, kv_cache_dtype)
    definition = NativeModel.definition_of(dtype)
    return cached(ModelFiles.of(folder), definition, kv_cache_dtype, config, read)


def _gguf_through_cache(file: GgufFile | Path, dtype: str, kv_cache_dtype: str) -> NativeModel:
    """`NativeModel.from_gguf`, by way of the cache where there is one."""
    from fastdecode._core import GgufFile, NativeModel
    from fastdecode.models.identity.files import ModelFiles
    from fastdecode.models.packed.cache import cached

    opened = file if isinstance(file, GgufFile) else GgufFile(file)
    read = partial(NativeModel.from_gguf, opened, dtype, kv_cache_dtype)
    definition = NativeModel.definition_of(dtype, gguf=True)
    files = ModelFiles.of(opened.path)
    return cached(files, definition, kv_cache_dtype, opened.config.encode, read)


def _asked(engine: str, device: Any, dtype: str | None) -> str:
    """What a call asks for that the native engine does not do."""
    given = {
        "engine": None if prefers_native(engine, None, None) else engine,
        "device": device,
        "dtype": dtype,
    }
    return ", ".join(f"{name}={value!r}" for name, value in given.items() if value is not None)


def _check_file(path: str, revision: str | None) -> None:
    """Refuse what cannot be the file of a model, and a revision of one."""
    if revision is not None:
        raise ValueError(f"revision={revision!r} goes with a name of the hub, not with a file")
    if Path(path).exists() and not Path(path).is_file():
        raise ValueError(f"model={path!r} is not a regular file")


def release_memory() -> None:
    """Free models that nothing refers to, and what torch has set aside for them on a GPU."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
