"""Makes packed files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastdecode._core import GgufFile, NativeModel, PackedFile, __version__
from fastdecode.files.writing import replace
from fastdecode.models.checkpoints import (
    download,
    files_of,
    is_gguf,
    is_packed,
    refuse_folder_of_gguf,
)
from fastdecode.models.engines.native import NativeEngine
from fastdecode.models.gguf.tokenizer import GgufTokenizer
from fastdecode.models.identity.files import ModelFiles
from fastdecode.models.identity.fingerprint import of_files
from fastdecode.models.identity.packed import PackedSource
from fastdecode.models.packed import contents
from fastdecode.models.placement import AS_IN_FILE, check_not_of_file
from fastdecode.models.tokenizer import read_tokenizer

SUFFIX = ".fastdecode"


def pack(
    model: str,
    output: str | os.PathLike[str] | None = None,
    *,
    dtype: str | None = None,
    revision: str | None = None,
) -> PackedFile:
    """Make a packed file of a model, which runs wherever the name of a model is given.

    Args:
        model: "demo", a folder, a GGUF file, or a name of the hub.
        output: the file; None is NAME-DTYPE.fastdecode in the working directory. An earlier packed
            file of that name is replaced, another file is not.
        dtype: the number format of the weights: one of the native engine's. None is "gguf" for a
            GGUF file, whose weights are then kept as they are, and float32 for other models.
        revision: a revision of the hub.

    Raises:
        ValueError: where the native engine cannot run the model, or `output` is another file.
        OSError: where a file cannot be read or written. An earlier file is then as it was.
        MemoryError: where the system refuses memory for the weights.
    """
    if is_packed(model):
        raise ValueError(f"model={model!r} is a packed file; give the model that it was made of")
    kept = dtype or (AS_IN_FILE if is_gguf(model) else "float32")
    if not is_gguf(model):
        check_not_of_file(kept)
    target = Path(_default(model, kept) if output is None else output)
    if os.path.lexists(target) and not (target.is_file() and is_packed(str(target))):
        raise ValueError(
            f"{target} exists, and is not a packed file; give another name, or remove it first"
        )
    with _found(model, revision) as path:
        try:
            files = ModelFiles.of(path)
            stamp = files.stamp()
            native, inner = (_of_folder if path.is_dir() else _of_gguf)(path, kept)
            quick, exact = of_files(files), of_files(files, exact=True)
            if files.stamp() != stamp:
                raise ValueError("its files were written to meanwhile; try again")
        except ValueError as error:
            raise ValueError(f"model={model!r} cannot be packed: {error}") from error
    source = PackedSource(_name(model), revision, __version__, quick, exact)
    replace(target, native.pack(inner, source.text()), in_place=False)
    return PackedFile(target)


@contextmanager
def _found(model: str, revision: str | None) -> Iterator[Path]:
    """Where the files of a model are: a folder, or a file."""
    refuse_folder_of_gguf(model)
    if is_gguf(model):
        if revision is not None:
            raise ValueError(f"revision={revision!r} goes with a name of the hub, not with a file")
        yield Path(model)
        return
    with files_of(model, revision) as folder:
        if folder is not None:
            yield folder
            return
    yield download(model, revision)


def _of_folder(folder: Path, dtype: str) -> tuple[NativeModel, dict[str, bytes]]:
    # What is refused is refused before the weights are read.
    read_tokenizer(folder)
    inner = contents.of_folder(folder)
    return NativeEngine.from_folder(folder, dtype).packed(), inner


def _of_gguf(path: Path, dtype: str) -> tuple[NativeModel, dict[str, bytes]]:
    file = GgufFile(path)
    file.check()
    GgufTokenizer(file)
    return NativeModel.from_gguf(file, dtype), contents.of_gguf(file)


def _name(model: str) -> str:
    """The name of a model without the folders that are before it."""
    return os.path.basename(os.path.abspath(model)) if os.path.exists(model) else model


def _default(model: str, dtype: str) -> str:
    name = _name(model).rpartition("/")[2]
    stem = name[: -len(".gguf")] if name.lower().endswith(".gguf") else name
    return f"{stem}-{dtype.replace('/', '.')}{SUFFIX}"
