"""The cache of packed models, in the folder that the environment variable FASTDECODE_CACHE names.

It is only ever a speed-up: whatever goes wrong with it, the model is packed from its source as if
there were none. An entry is used where its key is the same in full: the fingerprint of the source,
the sizes and times of its files, the definition of the number format, the version of the layout,
and that of the package. One process at a time writes, under a lock; others go on without waiting.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fastdecode._core import NativeModel, PackedFile, __version__
from fastdecode.files.locking import lock, open_for_lock, release
from fastdecode.files.writing import replace
from fastdecode.models.identity.files import ModelFiles
from fastdecode.models.identity.fingerprint import of_files
from fastdecode.models.packed.contents import CONFIG

VARIABLE = "FASTDECODE_CACHE"
# Bytes of all entries.
MOST = 4 * 2**30
_SUFFIX = ".fastdecode"
_ENTRY = re.compile(r"[0-9a-f]{32}" + re.escape(_SUFFIX))
_LOCK = "fastdecode.lock"
# How the names of files begin that a killed process has left half written.
_LEFT = ".fastdecode-*"
# What the head of an entry takes beside the weights, at most.
_HEAD = 16 * 2**20


def cached(
    files: ModelFiles,
    definition: str,
    kv_cache_dtype: str,
    config: Callable[[], bytes],
    read: Callable[[], NativeModel],
) -> NativeModel:
    """A model from the cache, or from its source, of which the cache then has it.

    Args:
        files: the files of the source.
        definition: that of the number format of the weights.
        kv_cache_dtype: the number format of the KV cache, on which an entry does not depend.
        config: reads the text of `config.json`.
        read: reads the source.

    Raises:
        ValueError: as `read` does; OSError and MemoryError, too.
    """
    folder = os.environ.get(VARIABLE)
    key = _key(files, definition) if folder else None
    if not folder or key is None:
        return read()
    name = hashlib.sha256(key.encode()).hexdigest()[:32] + _SUFFIX
    entry = Path(os.path.abspath(os.path.expanduser(folder))) / name
    found = _kept(entry, key, definition, kv_cache_dtype)
    if found is None:
        found = read()
        # Without memory or room for it there is no entry, and files that were changed meanwhile are
        # not those of the key.
        with suppress(OSError, ValueError, MemoryError):
            text = config()
            if _key(files, definition) == key:
                _keep(entry, found, text, key)
    return found


def _key(files: ModelFiles, definition: str) -> str | None:
    """Everything that an entry depends on; None where the files cannot be read."""
    try:
        # Before the contents, so that a change while they are read is noticed.
        stamp = [[name, size, time] for name, size, time, _ in files.stamp()]
        source = of_files(ModelFiles(files.weights, files.settings, ()))
    except (OSError, ValueError):
        return None
    if source.weights is None:
        return None
    parts = {
        "weights": source.weights,
        "config": source.config,
        "files": stamp,
        "definition": definition,
        "layout": PackedFile.LAYOUT,
        "fastdecode": __version__,
    }
    return json.dumps(parts, sort_keys=True)


def _kept(entry: Path, key: str, definition: str, kv_cache_dtype: str) -> NativeModel | None:
    """The model of an entry; one that is not what it should be is removed."""
    try:
        file = PackedFile(entry)
        if file.source != key or file.definition != definition:
            raise ValueError("it is the entry of another model")
        found = NativeModel.from_packed(file, kv_cache_dtype)
    except FileNotFoundError:
        return None
    except (ValueError, OSError):
        with suppress(OSError):
            entry.unlink()
        return None
    with suppress(OSError):
        # The time of the last use.
        os.utime(entry)
    return found


def _keep(entry: Path, model: NativeModel, config: bytes, key: str) -> None:
    """Write an entry, unless another process writes one at this moment.

    Raises:
        OSError: where that is not possible; nothing is left of it.
        ValueError: where the entry would be none.
    """
    folder = entry.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = open_for_lock(folder / _LOCK, "a+")
    try:
        if not lock(file) or entry.exists():
            return
        for left in folder.glob(_LEFT):
            left.unlink()
        if _make_room(folder, model.nbytes + _HEAD):
            replace(entry, model.pack({CONFIG: config}, key))
    finally:
        release(file)


def _make_room(folder: Path, needed: int) -> bool:
    """Remove the entries that were used least recently; whether there is room for another one."""
    if needed > MOST or needed > shutil.disk_usage(folder).free:
        return False
    entries = []
    for path in folder.iterdir():
        if _ENTRY.fullmatch(path.name):
            status = path.stat()
            entries.append((status.st_mtime_ns, status.st_size, path))
    entries.sort()
    size = sum(one for _, one, _ in entries)
    while entries and size + needed > MOST:
        _, freed, path = entries.pop(0)
        path.unlink()
        size -= freed
    return True
