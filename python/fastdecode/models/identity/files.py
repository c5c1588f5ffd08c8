"""The files of a model: which files of a folder it is read from, and whether they have changed."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fastdecode.models.checkpoints import files_of
from fastdecode.models.weight_files import NAMES, listed_files

_SETTINGS = ("config.json", "generation_config.json")
_TOKENIZER = (
    "added_tokens.json",
    "bpe.codes",
    "merges.txt",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tekken.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)

# The size, the time of the last change and the number of each file, by name.
Stamp = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files that a model is read from.

    Attributes:
        weights: the files with the weights, the index first where there is one; empty where the
            folder has none that the package knows by name.
        settings: the configuration and the generation settings, where they exist.
        tokenizer: the tokenizer's files.
    """

    weights: tuple[Path, ...]
    settings: tuple[Path, ...]
    tokenizer: tuple[Path, ...]

    @classmethod
    def of(cls, path: Path) -> ModelFiles:
        """Those of a folder, or a model in one file."""
        try:
            names = set(os.listdir(path))
        except NotADirectoryError:
            return cls((path,), (), ())
        except FileNotFoundError:
            return cls((), (), ())
        return cls(
            tuple(_weights(path, names)),
            tuple(path / name for name in _SETTINGS if name in names),
            tuple(path / name for name in _TOKENIZER if name in names),
        )

    def stamp(self) -> Stamp:
        """A value that changes when a file is written, replaced, added or removed.

        No file is read. Of two writes within the resolution of the file system's clock that leave
        the size as it is, the second may be missed.
        """
        found = []
        for path in (*self.weights, *self.settings, *self.tokenizer):
            try:
                status = os.stat(path)
            except OSError:
                found.append((path.name, -1, 0, 0))
            else:
                found.append((path.name, status.st_size, status.st_mtime_ns, status.st_ino))
        return tuple(found)


def full_name(name_or_path: str) -> str:
    """A folder or a file by its absolute path; "demo" and names of the hub as they are."""
    if name_or_path != "demo" and os.path.exists(name_or_path):
        return os.path.abspath(name_or_path)
    return name_or_path


def stamp_of(name_or_path: str, revision: str | None = None) -> Stamp | None:
    """The stamp of a model's files; None for "demo", and where they are not on this machine."""
    if name_or_path == "demo":
        return None
    if Path(name_or_path).is_file():
        return ModelFiles.of(Path(name_or_path)).stamp()
    with files_of(name_or_path, revision) as folder:
        return None if folder is None else ModelFiles.of(folder).stamp()


def _weights(folder: Path, names: Collection[str]) -> Iterator[Path]:
    for single, index in NAMES:
        if single in names:
            yield folder / single
            return
        if index in names:
            status = os.stat(folder / index)
            yield folder / index
            for name in _shards(folder / index, status.st_size, status.st_mtime_ns, status.st_ino):
                yield folder / name
            return


@lru_cache(maxsize=8)
def _shards(index: Path, *_: int) -> tuple[str, ...]:
    """The names of the files that an index lists; none where it is damaged.

    An index may be large, so it is read again only where its stamp, the other arguments, differs.
    """
    try:
        return listed_files(index)
    except (OSError, ValueError):
        return ()
