"""Files within a packed file, with the methods of `pathlib.Path` that readers of settings call."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeAlias

from fastdecode._core import PackedFile


class InnerPath:
    """A file or a folder within a packed file. Nothing is written to a disk.

    As text it is the path of the packed file with the name within it, which messages show.
    """

    __slots__ = ("_file", "_inner", "_read")

    def __init__(
        self, file: PackedFile, inner: str = "", read: dict[str, bytes] | None = None
    ) -> None:
        """Name a place within a file.

        Args:
            file: the packed file.
            inner: the name within it; empty for the folder that holds everything.
            read: the files that have been read, by name, which paths of one packed file share.
        """
        self._file = file
        self._inner = inner
        self._read: dict[str, bytes] = {} if read is None else read

    def __truediv__(self, name: str) -> InnerPath:
        """The place of that name within this folder."""
        inner = f"{self._inner}/{name}" if self._inner else name
        return InnerPath(self._file, inner, self._read)

    def __str__(self) -> str:
        """The path, for messages."""
        return os.path.join(self._file.path, self._inner) if self._inner else str(self._file.path)

    def __repr__(self) -> str:
        """The path."""
        return f"InnerPath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        """Whether another path names the same."""
        return isinstance(other, InnerPath) and str(self) == str(other)

    def __hash__(self) -> int:
        """By the path."""
        return hash(str(self))

    def __lt__(self, other: InnerPath) -> bool:
        """By the path."""
        return str(self) < str(other)

    @property
    def name(self) -> str:
        """The last part of the name."""
        return self._inner.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The last part of the name without its suffix."""
        return Path(self.name).stem

    def exists(self) -> bool:
        """Whether there is such a file or folder."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Whether there is such a file."""
        return self._inner in self._file.names

    def is_dir(self) -> bool:
        """Whether there are files below this name."""
        return not self._inner or any(
            name.startswith(f"{self._inner}/") for name in self._file.names
        )

    def iterdir(self) -> Iterator[InnerPath]:
        """What is in this folder."""
        start = f"{self._inner}/" if self._inner else ""
        below = [name[len(start) :] for name in self._file.names if name.startswith(start)]
        return (self / name for name in dict.fromkeys(rest.partition("/")[0] for rest in below))

    def glob(self, pattern: str) -> Iterator[InnerPath]:
        """What is in this folder and has a name like `pattern`, which has no "/"."""
        return (path for path in self.iterdir() if fnmatchcase(path.name, pattern))

    def read_bytes(self) -> bytes:
        """The contents.

        Raises:
            FileNotFoundError: where there is no such file.
            ValueError: where it is damaged.
            OSError: where it cannot be read.
        """
        if not self.is_file():
            raise FileNotFoundError(2, os.strerror(2), str(self))
        if self._inner not in self._read:
            self._read[self._inner] = self._file.read(self._inner)
        return self._read[self._inner]

    def read_text(self, encoding: str) -> str:
        """The contents as text."""
        return self.read_bytes().decode(encoding)


# Where the files of a model are: a folder on a disk, or one within a packed file.
Folder: TypeAlias = Path | InnerPath


def size_of(path: Folder) -> int:
    """The size of a file in bytes.

    Raises:
        OSError: where there is no such file.
    """
    return len(path.read_bytes()) if isinstance(path, InnerPath) else path.stat().st_size
