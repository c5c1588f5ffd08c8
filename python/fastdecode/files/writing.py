"""Writes files as a whole: after a crash there is the earlier file or the new one, complete."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path


def replace(path: str | os.PathLike[str], chunks: Iterable[bytes]) -> None:
    """Write a file atomically; a symbolic link and the file's permissions are kept.

    The bytes are written to a new file in the same folder, which then takes the place of the other.
    What is not a regular file, such as a pipe or /dev/stdout, is written to directly. Windows
    refuses to replace a file that is open, in this process or another.

    Args:
        path: the file.
        chunks: what it is to contain.

    Raises:
        OSError: where it cannot be written; an earlier file is as it was.
    """
    try:
        _replace(Path(path), chunks)
    except OSError as error:
        # The caller knows nothing of the new file.
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def settle(folder: Path) -> None:
    """Let the names of new files in a folder survive a power failure, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _replace(path: Path, chunks: Iterable[bytes]) -> None:
    target = Path(os.path.realpath(path))
    mode = target.stat().st_mode if target.exists() else None
    if mode is not None and not stat.S_ISREG(mode):
        _overwrite(path, chunks)
        return
    if mode is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), target)
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}")
    try:
        file = temporary.open("xb")
    except PermissionError:
        if mode is None:
            raise
        # A file may be writable in a folder that is not.
        _overwrite(target, chunks)
        return
    try:
        with file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            temporary.chmod(stat.S_IMODE(mode))
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    settle(target.parent)


def _overwrite(path: Path, chunks: Iterable[bytes]) -> None:
    # All of them first: they may be read from this very file.
    whole = b"".join(chunks)
    with path.open("wb") as file:
        file.write(whole)
