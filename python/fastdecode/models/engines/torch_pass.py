"""Passes of torch: where it has no memory for one, or would wait forever, an error says so."""

from __future__ import annotations

from contextlib import ContextDecorator
from types import TracebackType

from fastdecode import forks

# Parts of the messages of torch's `RuntimeError` where the system refuses it memory on the CPU.
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


class torch_pass(ContextDecorator):
    """A context, or a decorator, in which torch computes.

    It cannot be entered in a forked process in which torch would wait forever, and forks by other
    threads wait for its end. Within it, torch's `RuntimeError` for memory that the system refuses
    becomes a `MemoryError`.
    """

    def __enter__(self) -> None:
        """Begin.

        Raises:
            RuntimeError: where torch's threads are missing; see `forks.begin_torch_pass`.
        """
        forks.begin_torch_pass()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End.

        Raises:
            MemoryError: where the system refused torch memory.
        """
        forks.end_torch_pass()
        if error is not None and is_refused_memory(error):
            raise memory_error(error) from error
