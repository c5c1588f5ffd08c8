"""What a forked child must not inherit from the other threads of its parent.

A fork copies the memory of a process, and only the thread that forks. What another thread was in
the middle of stays as it was forever: its locks stay locked, its imports stay half done. So a fork
waits for work that cannot be torn in two, and the child makes its own locks and pools of threads.
The extension module sees to its own threads.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from time import monotonic
from typing import Any, Generic, ParamSpec, Self, TypeVar, overload

from fastdecode import _core

# How long a fork waits for other threads, in seconds. It takes place after that, since they may be
# waiting for it.
_PATIENCE = 30.0

_T = TypeVar("_T")
_P = ParamSpec("_P")


class _Gate:
    """The threads that a fork has to wait for."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        # How many times each thread is inside.
        self.inside: dict[int, int] = {}
        # Forks that wait; no other thread enters meanwhile.
        self.forks = 0


_gate = _Gate()
# Whether the extension module has seen an array.
_warm = False
# Whether this process was forked from one that had imported torch.
_torch_inherited = False
# Whether the package computes with torch.
_torch_used = False
# The largest number of threads that torch had when the package computed with it in this process.
_torch_threads = 1
# Whether an ancestor of this process computed with torch on several threads.
_torch_threads_missing = False


def register() -> None:
    """From now on, forks by Python wait for other threads, and children make locks of their own."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
        )


def in_child(function: Callable[[], None]) -> Callable[[], None]:
    """Run a function in the children that Python forks, where the system has forks."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)
    return function


def undivided(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Let forks by other threads wait for a function, which a child could not continue."""

    # contextlib's own decorator would be the caller that a warning within points to.
    @wraps(function)
    def whole(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with _undivided():
            return function(*args, **kwargs)

    return whole


@contextmanager
def _undivided() -> Iterator[None]:
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    me, gate = threading.get_ident(), _gate
    with gate.changed:
        if me not in gate.inside:
            gate.changed.wait_for(lambda: not gate.forks, _PATIENCE)
        gate.inside[me] = gate.inside.get(me, 0) + 1


def _leave() -> None:
    # Not the gate that was entered where this thread has forked within, and this is the child.
    me, gate = threading.get_ident(), _gate
    with gate.changed:
        gate.inside[me] -= 1
        if not gate.inside[me]:
            del gate.inside[me]
        gate.changed.notify_all()


def uses_torch() -> None:
    """Note that the package is going to load something with torch, or compute with it.

    A child whose parent has only imported torch runs its operations on one thread.
    """
    global _torch_used
    if _torch_inherited and not _torch_used:
        _one_thread_of_torch()
    _torch_used = True
    _count_threads_of_torch()


def begin_torch_pass() -> None:
    """Begin to compute with torch. Forks by other threads wait for `end_torch_pass`.

    torch keeps threads for each thread that calls it, and memory under locks that threads hold when
    they compute and when they end. A child has none of the threads, and may find the locks held, so
    that some operations would wait forever, even on one thread. So a child is refused whose parent
    computed on several threads.

    The largest number of threads that torch has at the beginning of a pass counts. What the caller
    computes with torch elsewhere leaves no trace that could be read, so it is not known here.

    Raises:
        RuntimeError: in such a child.
    """
    if _torch_threads_missing:
        raise RuntimeError(
            "this process was forked after torch had computed on several threads, and would wait "
            "for them forever; use engine='native', start processes with multiprocessing's "
            "'spawn', or call torch.set_num_threads(1) before torch first computes"
        )
    _count_threads_of_torch()
    _enter()


def end_torch_pass() -> None:
    """End what `begin_torch_pass` began, on the same thread."""
    _leave()


class cached_property(Generic[_T]):
    """`functools.cached_property`, without the lock that it has in Python 3.11.

    Threads that ask at the same time may compute the value several times.
    """

    def __init__(self, compute: Callable[[Any], _T]) -> None:
        """Compute the value with `compute`, when it is first asked for."""
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type[Any], name: str) -> None:
        """Keep the value under `name`, where it is found before this descriptor."""
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> _T: ...
    def __get__(self, instance: object | None, owner: type[Any] | None = None) -> Self | _T:
        """The value of `instance`."""
        if instance is None:
            return self
        value: _T = instance.__dict__.setdefault(self._name, self._compute(instance))
        return value


def _one_thread_of_torch() -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


def _count_threads_of_torch() -> None:
    global _torch_threads
    torch = sys.modules.get("torch")
    # Absent in the middle of its import.
    count = getattr(torch, "get_num_threads", None)
    if count is not None:
        _torch_threads = max(_torch_threads, count())


def _finish_imports() -> None:
    """Wait for the modules of the package that other threads are importing."""
    # A module has a lock from before its file is found until it is ready.
    locks = getattr(importlib._bootstrap, "_module_locks", {})
    until = monotonic() + _PATIENCE
    while names := [name for name in list(locks) if str(name).startswith("fastdecode")]:
        for name in names:
            with suppress(Exception):
                importlib.import_module(name)
        if monotonic() > until:
            return


def _warm_up() -> None:
    """Wait where another thread is the first that passes an array to the extension module."""
    global _warm
    numpy: Any = sys.modules.get("numpy")
    if not _warm and hasattr(numpy, "zeros"):
        _core.argmax(numpy.zeros(1, "float32"))
        _warm = True


def _before() -> None:
    _gate.changed.acquire()
    me = threading.get_ident()
    _gate.forks += 1
    _gate.changed.wait_for(lambda: _gate.inside.keys() <= {me}, _PATIENCE)
    _gate.forks -= 1
    _gate.changed.notify_all()
    _finish_imports()
    _warm_up()


def _after_in_parent() -> None:
    _gate.changed.release()


def _after_in_child() -> None:
    global _gate, _torch_inherited, _torch_threads, _torch_threads_missing
    me, before = threading.get_ident(), _gate
    _gate = _Gate()
    if me in before.inside:
        _gate.inside[me] = before.inside[me]
    _torch_inherited = _torch_inherited or "torch" in sys.modules
    if _torch_used:
        # The caller may have computed on more threads than the package has.
        _count_threads_of_torch()
        _torch_threads_missing = _torch_threads_missing or _torch_threads > 1
        _torch_threads = 1
        _one_thread_of_torch()
