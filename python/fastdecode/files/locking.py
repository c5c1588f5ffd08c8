"""Locks: one process at a time."""

from __future__ import annotations

import os
import sys

# Windows keeps others from reading what is locked, so a byte after the end of every file is.
_BYTE = 1 << 40


def lock(descriptor: int) -> bool:
    """Lock an open file until it is closed; false where another opening of it has the lock.

    A process that ends, in whatever way, releases its locks.

    Raises:
        OSError: where the file system has no locks.
    """
    if sys.platform == "win32":
        import msvcrt

        place = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, _BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, place, os.SEEK_SET)
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise OSError(
            error.errno,
            f"it cannot be locked ({error.strerror}); choose a folder on another file system",
        ) from error
    return True


def is_at(descriptor: int, path: str | os.PathLike[str]) -> bool:
    """Whether an open file is still the one at `path`: not removed, and no other in its place."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
