"""Work that is done while the calling thread does something else."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Background(Generic[T]):
    """A call in a thread of its own, which has ended when the `with` statement ends."""

    def __init__(self, call: Callable[[], T]) -> None:
        """Prepare `call`, which begins with the `with` statement."""
        self._call = call
        self._done: T | None = None
        self._error: BaseException | None = None
        # An interpreter that ends does not wait for it.
        self._thread = Thread(target=self._run, name="fastdecode", daemon=True)

    def __enter__(self) -> Self:
        """Begin; without another thread, where the system has none, the work is done at once."""
        try:
            self._thread.start()
        except RuntimeError:
            self._run()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the end."""
        if self._thread.ident is not None:
            self._thread.join()

    def result(self) -> T:
        """What the call has returned; its exception is raised here.

        It waits for the end.
        """
        self.__exit__()
        if self._error is not None:
            raise self._error
        return self._done  # type: ignore[return-value]

    def _run(self) -> None:
        try:
            self._done = self._call()
        except BaseException as error:
            self._error = error
