"""Fingerprints: what a model and its tokenizer are, by their contents.

A fingerprint of the weights is a hash over the tensors in the order of their names: name, shape and
values. Values of every floating-point format are hashed as float32 where they fit in it and as
float64 otherwise, so that the number format in which they are stored, the division into files and
the notes in their headers do not matter, and a model object has the fingerprint of the files that
hold the same tensors. The quick fingerprint reads some blocks of each large tensor, at places that
depend on its size alone; the exact one reads all values. Weights that are not in safetensors are
hashed as files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from fastdecode.models.identity.files import ModelFiles
from fastdecode.models.weight_files import Header, open_weights, read_header

# Raised whenever the same model would be given another fingerprint.
_VERSION = 1
# Values of a block, and how many blocks of a tensor the quick fingerprint reads.
_BLOCK = 1024
_BLOCKS = 8
# Values that the exact fingerprint reads at a time.
_CHUNK = 1 << 20
# The same for files in bytes, with what is read at either end.
_FILE_BLOCK = 4096
_FILE_BLOCKS = 256
_FILE_END = 1 << 20
# What says where a file is or what wrote it, and nothing about what the model computes.
_IRRELEVANT = ("_name_or_path", "name_or_path", "transformers_version")
# Formats of safetensors whose values are hashed, and the bytes of a value; bfloat16 is widened.
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_SIZES = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
}
# torch's names of formats, and those of safetensors.
_FORMATS = {
    **dict.fromkeys(("float64", "float32", "float16", "bfloat16"), "float"),
    **{f"int{bits}": f"I{bits}" for bits in (64, 32, 16, 8)},
    **{f"uint{bits}": f"U{bits}" for bits in (64, 32, 16, 8)},
    "bool": "BOOL",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e8m0fnu": "F8_E8M0",
}


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a model is, by its contents.

    Each part is a string "HOW/VERSION:OF:HASH": how it was computed ("quick" or "exact"), the
    version of that computation, what of ("files", "object", "bytes") and 32 hexadecimal digits.
    Where the hashes are equal, so is what was hashed.

    Attributes:
        weights: of the weights; None where they cannot be seen, as inside an `Engine` object.
        config: of the model's configuration, such as the number of layers; None where it is part
            of the weights file.
        tokenizer: of the tokenizer; None where it cannot be seen, or is part of the weights file.
    """

    weights: str | None
    config: str | None
    tokenizer: str | None


def of_files(files: ModelFiles, *, exact: bool = False) -> Fingerprint:
    """The fingerprint of a model in files; its weights are None where they are not known by name.

    Args:
        files: the files.
        exact: read all values of the weights, not a sample of each tensor.

    Raises:
        OSError: where a file cannot be read.
        ValueError: where a weights file is damaged.
    """
    config = next((path for path in files.settings if path.name == "config.json"), None)
    return Fingerprint(
        weights=_of_weights(files.weights, exact),
        config=None if config is None else _part("exact", "files", _settings(config)),
        tokenizer=_of_tokenizer_files(files.tokenizer),
    )


def of_objects(model: Any, tokenizer: Any = None, *, exact: bool = False) -> Fingerprint:
    """The fingerprint of a model that transformers has loaded, and of a tokenizer.

    Args:
        model: a torch module; anything else has no fingerprint of weights.
        tokenizer: a tokenizer of transformers, or None.
        exact: read all values of the weights, not a sample of each tensor.

    Raises:
        ValueError: where the weights are not in memory.
    """
    weights = config = None
    if callable(getattr(model, "state_dict", None)):
        how = "exact" if exact else "quick"
        weights = _part(how, "object", _digest(_parameters(model), exact))
        settings = getattr(getattr(model, "config", None), "to_dict", None)
        if callable(settings):
            config = _part("exact", "object", _canonical(settings()))
    return Fingerprint(weights, config, _of_tokenizer(tokenizer))


def same(then: str | None, now: str | None) -> bool | None:
    """Whether two parts of fingerprints are of the same contents; None where that is not known.

    Those of files and of an object are equal where names and values of the tensors are; but they
    may differ where only names do.
    """
    if then is None or now is None:
        return None
    kind, _, digest = then.rpartition(":")
    other, _, second = now.rpartition(":")
    how, how_now = kind.partition(":")[0], other.partition(":")[0]
    if how == how_now and digest == second:
        return True
    return False if kind == other else None


def is_exact(part: str | None) -> bool:
    """Whether a fingerprint of weights was computed from all values."""
    return part is not None and part.startswith("exact/")


class _Tensor(Protocol):
    """A tensor whose values can be read."""

    name: str
    shape: tuple[int, ...]
    # "float" for the formats that are hashed by value, else the name of the format in safetensors.
    kind: str
    count: int

    def read(self, first: int, count: int) -> NDArray[Any]:
        """`count` values from `first` on, in the tensor's own order."""
        ...


def _digest(tensors: Iterable[_Tensor], exact: bool) -> bytes:
    digest = hashlib.sha256()
    for tensor in sorted(tensors, key=lambda tensor: tensor.name):
        digest.update(json.dumps([tensor.name, tensor.kind, tensor.shape]).encode())
        for first, count in _blocks(tensor.count, exact):
            digest.update(_bytes(tensor.read(first, count)))
    return digest.digest()


def _blocks(count: int, exact: bool) -> Iterator[tuple[int, int]]:
    """Where to read a tensor of `count` values, as (first, count)."""
    if exact or count <= _BLOCK * _BLOCKS:
        yield from ((first, min(_CHUNK, count - first)) for first in range(0, count, _CHUNK))
        return
    for block in range(_BLOCKS):
        yield (count - _BLOCK) * block // (_BLOCKS - 1), _BLOCK


def _bytes(values: NDArray[Any]) -> bytes:
    """Values as they are hashed; the same for equal values of any floating-point format."""
    if values.dtype.kind != "f":
        return values.tobytes()
    with np.errstate(over="ignore", invalid="ignore"):
        short = values.astype("<f4")
    # Bits are compared, because a NaN is not equal to itself.
    fits = values.itemsize <= 4 or np.array_equal(
        short.astype("<f8").view("<i8"), values.astype("<f8").view("<i8")
    )
    return short.tobytes() if fits else values.astype("<f8").tobytes()


class _Stored:
    """A tensor of a safetensors file."""

    def __init__(self, file: BinaryIO, header: Header, name: str, entry: Mapping[str, Any]) -> None:
        self._file = file
        self.name = name
        self.shape = tuple(int(size) for size in entry["shape"])
        first, last = (int(place) for place in entry["data_offsets"])
        if not 0 <= first <= last <= header.size - header.first:
            raise ValueError(f"the tensor {name!r} is outside the file")
        self._first = header.first + first
        self._format = str(entry["dtype"])
        self.kind = "float" if self._format in _FLOATS else self._format
        self._size = _SIZES.get(self._format, 1)
        self.count = (last - first) // self._size

    def read(self, first: int, count: int) -> NDArray[Any]:
        """See `_Tensor`."""
        self._file.seek(self._first + first * self._size)
        raw = self._file.read(count * self._size)
        if len(raw) != count * self._size:
            raise ValueError(f"{self._file.name}: the tensor {self.name!r} is incomplete")
        values: NDArray[Any] = np.frombuffer(raw, _FLOATS.get(self._format, "u1"))
        return (values.astype("<u4") << 16).view("<f4") if self._format == "BF16" else values


class _Held:
    """A tensor of a torch module."""

    def __init__(self, name: str, tensor: Any) -> None:
        self.name = name
        self._flat = tensor.detach().reshape(-1)
        self.shape = tuple(tensor.shape)
        name_of_format = str(tensor.dtype).removeprefix("torch.")
        self.kind = _FORMATS.get(name_of_format, name_of_format)
        self._float = self.kind == "float"
        self.count = int(self._flat.numel())

    def read(self, first: int, count: int) -> NDArray[Any]:
        """See `_Tensor`."""
        import torch

        values = self._flat[first : first + count].cpu()
        if self._float:
            wide = torch.float64 if values.dtype is torch.float64 else torch.float32
            floats: NDArray[Any] = values.to(wide).numpy()
            return floats
        raw: NDArray[Any] = values.view(torch.uint8).numpy()
        return raw


def _parameters(model: Any) -> Iterator[_Held]:
    """The parameters and kept buffers of a module; a tied one once, by its first name."""
    seen = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) in seen or not hasattr(tensor, "detach"):
            continue
        seen.add(id(tensor))
        if tensor.is_meta:
            raise ValueError(f"the parameter {name!r} is not in memory, so it has no fingerprint")
        # The name of a module that `torch.compile` has wrapped.
        yield _Held(name.replace("_orig_mod.", ""), tensor)


def _of_weights(paths: tuple[Path, ...], exact: bool) -> str | None:
    files = [path for path in paths if not path.name.endswith(".index.json")]
    if not files:
        return None
    index = next((path for path in paths if path not in files), None)
    how = "exact" if exact else "quick"
    if any(path.suffix != ".safetensors" for path in files):
        return _part(how, "bytes", _raw(files, index, exact))
    with ExitStack() as stack:
        tensors: list[_Stored] = []
        for path in files:
            tensors += _stored(stack.enter_context(open_weights(path, index)))
        return _part(how, "files", _digest(tensors, exact))


def _stored(file: BinaryIO) -> list[_Stored]:
    """The tensors that the header of a safetensors file lists."""
    header = read_header(file)
    try:
        return [_Stored(file, header, name, entry) for name, entry in header.tensors.items()]
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"{file.name}: the header is damaged: {error}") from error


def _raw(files: Iterable[Path], index: Path | None, exact: bool) -> bytes:
    """A hash over the bytes of files: their sizes, both ends and some blocks, or all of them."""
    digest = hashlib.sha256()
    for path in files:
        with open_weights(path, index) as file:
            size = path.stat().st_size
            digest.update(json.dumps([path.name, size]).encode())
            if exact or size <= 4 * _FILE_END:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
                continue
            file_blocks = (
                ((size - _FILE_BLOCK) * block // (_FILE_BLOCKS - 1), _FILE_BLOCK)
                for block in range(_FILE_BLOCKS)
            )
            for first, count in [(0, _FILE_END), *file_blocks, (size - _FILE_END, _FILE_END)]:
                file.seek(first)
                digest.update(file.read(count))
    return digest.digest()


def _of_tokenizer_files(paths: tuple[Path, ...]) -> str | None:
    if not paths:
        return None
    digest = hashlib.sha256()
    for path in paths:
        whole = _settings(path) if path.name.endswith("_config.json") else path.read_bytes()
        digest.update(json.dumps([path.name, len(whole)]).encode())
        digest.update(whole)
    return _part("exact", "files", digest.digest())


def _of_tokenizer(tokenizer: Any) -> str | None:
    """Of a tokenizer object, by what determines the tokens of a text."""
    to_json = getattr(getattr(tokenizer, "backend_tokenizer", None), "to_str", None)
    if callable(to_json):
        whole = json.loads(to_json())
        # Calls change these two; they do not change the tokens of a text.
        whole.pop("padding", None)
        whole.pop("truncation", None)
    elif callable(getattr(tokenizer, "get_vocab", None)):
        whole = [type(tokenizer).__name__, sorted(tokenizer.get_vocab().items())]
    else:
        return None
    special = [getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos")]
    return _part("exact", "object", _canonical([whole, special]))


def _settings(path: Path) -> bytes:
    """A file of settings as it is hashed: without its layout and what does not matter."""
    raw = path.read_bytes()
    try:
        return _canonical(json.loads(raw))
    except (ValueError, RecursionError):
        return raw


def _canonical(data: Any) -> bytes:
    """Plain data as bytes that do not depend on the order of keys."""
    if isinstance(data, dict):
        data = {str(name): value for name, value in data.items() if name not in _IRRELEVANT}
    return json.dumps(data, sort_keys=True, default=str).encode()


def _part(how: str, of: str, contents: bytes) -> str:
    return f"{how}/{_VERSION}:{of}:{hashlib.sha256(contents).hexdigest()[:32]}"
