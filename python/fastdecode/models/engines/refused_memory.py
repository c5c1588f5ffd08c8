"""What torch cannot compute: passes without memory, and passes in some forked children."""

from __future__ import annotations

from contextlib import ContextDecorator
from types import TracebackType

from fastdecode import forks

# Parts of the messages with which torch's allocators on the CPU report it, in a RuntimeError.
_REPORTS = ("can't allocate memory", "Cannot allocate memory", "not enough memory", "bad_alloc")


def is_refused_memory(error: BaseException) -> bool:
    """Whether an exception of torch's reports that the system refused memory."""
    return isinstance(error, RuntimeError) and any(part in str(error) for part in _REPORTS)


def memory_error(error: BaseException) -> MemoryError:
    """The exception to raise in its place."""
    first = str(error).strip().splitlines()[0]
    return MemoryError(
        f"torch could not get the memory for a pass: {first}; give fewer prompts, or a smaller n "
        "or batch_size"
    )


class refused_memory(ContextDecorator):
    """Within it, as a context or a decorator, torch's `RuntimeError` becomes a `MemoryError`.

    In a forked process in which torch would wait forever, it cannot be entered.
    """

    def __enter__(self) -> None:
        """Refuse to begin where torch's threads are missing.

        Raises:
            RuntimeError: as for `fastdecode.forks.check_torch`.
        """
        forks.check_torch()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Raise `MemoryError` where that is what torch's error means."""
        if error is not None and is_refused_memory(error):
            raise memory_error(error) from error
