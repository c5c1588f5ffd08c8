"""Locks: one process at a time writes to a file.

A lock belongs to an open file, which a forked child shares with its parent: it would stay locked
for as long as the child lives. So children that Python forks close the files that their parents
lock, and for children that are forked in another way, a file is unlocked before it is closed.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import FileIO
from typing import BinaryIO
from weakref import WeakKeyDictionary

from fastdecode import forks

# Windows keeps others from reading what is locked, so a byte after the end of every file is.
_BYTE = 1 << 40

# The process that opened each file that is open for locking.
_owners: WeakKeyDictionary[BinaryIO, int] = WeakKeyDictionary()


@forks.undivided
def open_for_lock(path: str | os.PathLike[str], mode: str) -> BinaryIO:
    """Open a file, without a buffer, that this process alone is going to lock.

    Forked children find it closed. `release` closes it here.

    Args:
        path: the file.
        mode: as for `io.FileIO`, "a+" or "x+".

    Raises:
        OSError: where it cannot be opened.
    """
    # The text, since an error shows what it was given: a path would be shown as PosixPath(...).
    file = FileIO(os.fspath(path), mode)
    _owners[file] = os.getpid()
    return file


def is_own(file: BinaryIO) -> bool:
    """Whether this process has opened the file, and not released it."""
    return _owners.get(file) == os.getpid()


def lock(file: BinaryIO) -> bool:
    """Lock a file of `open_for_lock`; false where another opening of it has the lock.

    A process that ends, in whatever way, releases its locks.

    Raises:
        OSError: where the file system has no locks.
    """
    if sys.platform == "win32":
        import msvcrt

        return _at_the_byte(file.fileno(), msvcrt.LK_NBLCK)
    import fcntl

    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise OSError(
            error.errno,
            f"it cannot be locked ({error.strerror}); choose a folder on another file system",
        ) from error
    return True


def release(file: BinaryIO) -> None:
    """Unlock and close a file of `open_for_lock`; the lock of another process stays as it is."""
    if is_own(file) and not file.closed:
        if sys.platform == "win32":
            import msvcrt

            _at_the_byte(file.fileno(), msvcrt.LK_UNLCK)
        else:
            import fcntl

            # Closing it would not unlock it where a child has it open, too.
            with suppress(OSError):
                fcntl.flock(file.fileno(), fcntl.LOCK_UN)
    _owners.pop(file, None)
    file.close()


def is_at(file: BinaryIO, path: str | os.PathLike[str]) -> bool:
    """Whether an open file is still the one at `path`: not removed, and no other in its place."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


if sys.platform == "win32":

    def _at_the_byte(descriptor: int, what: int) -> bool:
        """Lock or unlock the byte that stands for a file; false where that is refused."""
        import msvcrt

        place = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, _BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, what, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, place, os.SEEK_SET)
        return True


@forks.in_child
def _close_in_child() -> None:
    """In a forked child: close the files that the parent has locked, or is about to lock."""
    for file in list(_owners):
        with suppress(OSError):
            file.close()
    _owners.clear()
