"""Writes files as a whole: after a crash there is the earlier file or the new one, complete."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

# What a system reports where there is no room for a file.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def replace(
    path: str | os.PathLike[str], chunks: Iterable[bytes], *, in_place: bool = True
) -> None:
    """Write a file atomically; a symbolic link, permissions and, where allowed, owner are kept.

    The bytes are written to a new file in the same folder, which then takes the place of the other.
    What is not a regular file, such as a pipe or /dev/stdout, is written to directly. Windows
    refuses to replace a file that is open, in this process or another.

    Args:
        path: the file.
        chunks: what it is to contain.
        in_place: whether a writable file in a folder that is not writable may be written over,
            which a crash can leave half done.

    Raises:
        OSError: where it cannot be written; an earlier file is as it was.
    """
    try:
        _replace(Path(path), chunks, in_place)
    except OSError as error:
        # The caller knows nothing of the new file.
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove new files that `replace` was killed before it could put them in the place of `path`.

    Only who keeps all others from replacing the file, by a lock, may call this.
    """
    target = Path(os.path.realpath(path))
    with contextlib.suppress(OSError):
        for left in target.parent.glob(_prefix(target) + "*"):
            left.unlink()


def write_all(file: BinaryIO, raw: bytes) -> None:
    """Write all of `raw` to an unbuffered file, whose `write` may write a part.

    Raises:
        OSError: where there is no room for it; a part of it may have been written.
    """
    view = memoryview(raw)
    while view:
        view = view[file.write(view) :]


def settle(folder: Path) -> None:
    """Let the names of new files in a folder survive a power failure, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _prefix(target: Path) -> str:
    """What the names of new files for `target` begin with: short enough for any file system."""
    digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:8]
    return f".fastdecode-{digest}-"


def _replace(path: Path, chunks: Iterable[bytes], in_place: bool) -> None:
    target = Path(os.path.realpath(path))
    known = target.stat() if target.exists() else None
    if known is not None and not stat.S_ISREG(known.st_mode):
        with path.open("wb") as file:
            file.writelines(chunks)
        return
    if known is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), target)
    temporary = target.with_name(_prefix(target) + secrets.token_hex(8))
    try:
        file = temporary.open("xb")
    except PermissionError:
        if known is None or not in_place:
            raise
        # A file may be writable in a folder that is not.
        _overwrite(target, b"".join(chunks))
        return
    try:
        with file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        if known is not None:
            _keep(temporary, known)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    settle(target.parent)


def _keep(path: Path, known: os.stat_result) -> None:
    """Give a new file the owner, where that is allowed, and the permissions of another."""
    if hasattr(os, "chown"):
        with contextlib.suppress(OSError):
            os.chown(path, known.st_uid, known.st_gid)
    path.chmod(stat.S_IMODE(known.st_mode))


def _overwrite(path: Path, whole: bytes) -> None:
    """Write a file in its place, with nothing of it changed before there is room for all of it."""
    with path.open("r+b", buffering=0) as file:
        before = os.fstat(file.fileno()).st_size
        if hasattr(os, "posix_fallocate") and len(whole) > before:
            try:
                os.posix_fallocate(file.fileno(), 0, len(whole))
            except OSError as error:
                file.truncate(before)
                # Some file systems cannot reserve room.
                if error.errno in _FULL:
                    raise
        write_all(file, whole)
        file.truncate(len(whole))
        os.fsync(file.fileno())
