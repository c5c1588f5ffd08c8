"""What is public, and the targets that stand for it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import fastdecode
from fastdecode import Beam, Decoder, Greedy, Sample, _core, core, testing

from surface import of_core, of_decoder, of_extension, of_results, of_testing
from surface.target import TARGETS, Target


def targets() -> dict[str, Target]:
    """All of them, once."""
    if not TARGETS:
        for module in (of_core, of_extension, of_decoder, of_results, of_testing):
            module.enter()
    return TARGETS


# Objects that calls return; nobody makes them.
RESULTS = {
    value
    for name in fastdecode.__all__
    if inspect.isclass(value := getattr(fastdecode, name))
    and value not in (Sample, Beam, Decoder)
    and value is not Greedy
} | {testing.Result, testing.CheckFailed}
# Their makers, and what a drawing is made of, which the package gives what it has checked.
MADE_INSIDE = {"of", "restore", "flow"}
# Methods that Python itself has given them.
PYTHONS = {
    "count",
    "index",
    "add_note",
    "with_traceback",
    "__eq__",
    "__lt__",
    "__len__",
    "__iter__",
}


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public callable that takes an argument, by its name."""
    for module, prefix in (
        (fastdecode, ""),
        (core, "core."),
        (testing, "testing."),
        (_core, "_core."),
    ):
        names = getattr(module, "__all__", None) or [n for n in dir(module) if n[0] != "_"]
        for name in names:
            value = getattr(module, name)
            if inspect.isclass(value):
                yield from _of_class(prefix + name, value)
            elif callable(value):
                yield prefix + name, value


def _of_class(name: str, kind: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    if kind not in RESULTS and not getattr(kind, "_is_protocol", False):
        yield name, kind
    for method in dir(kind):
        if method in PYTHONS or method in MADE_INSIDE or method == "__init__":
            continue
        if method.startswith("_") and method != "__getitem__":
            continue
        value = getattr(kind, method)
        if callable(value) and not inspect.isdatadescriptor(value):
            yield f"{name}.{method}", value


def entry(name: str) -> Target | None:
    """The target of a public callable; the core's have several names."""
    names = (name, name.removeprefix("_"), f"core.{name}")
    return next((targets()[one] for one in names if one in targets()), None)


def takes_arguments(function_: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(function_)
    except ValueError:
        return True
    return any(name != "self" for name in signature.parameters)
