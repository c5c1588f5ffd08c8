"""A callable that is attacked: its valid arguments, and what each may be."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from hostile import Kind

from surface.kinds import NAMES


@dataclasses.dataclass(frozen=True)
class Target:
    """A callable that is called with one argument exchanged.

    Attributes:
        name: where it is.
        call: the callable; the arguments are its keywords.
        valid: makes arguments with which it works.
        kinds: what an argument may be, where `NAMES` does not say it.
        shown: names of which a message has one, where that is not the argument's alone: what
            stands in brackets has none, and of two that do not match either may be named.
        files: arguments that name a file.
        raises: exceptions that belong to what it does.
        late: arguments that only a model which has been loaded can tell to be bad.
        of: makes the object of a method.
        parameters: the names of all arguments.
    """

    name: str
    call: Callable[..., Any]
    valid: Callable[[], dict[str, Any]]
    kinds: Mapping[str, Kind] = dataclasses.field(default_factory=dict)
    shown: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    files: tuple[str, ...] = ()
    raises: tuple[type[Exception], ...] = ()
    late: tuple[str, ...] = ()
    of: Callable[..., Any] | None = None
    parameters: tuple[str, ...] = ()

    def admits(self, parameter: str, value: Any) -> bool:
        """Whether an argument may have a value."""
        kind = self.kinds[parameter] if parameter in self.kinds else NAMES[parameter]
        try:
            return kind(value)
        except Exception:  # The value's own.
            return False

    def run(self, parameter: str, value: Any) -> Any:
        found = self.call(**self.valid() | {parameter: value})
        # A stream checks at its call, and works as it is read.
        return list(found) if isinstance(found, Iterator) else found


TARGETS: dict[str, Target] = {}


def target(
    name: str,
    call: Callable[..., Any],
    valid: Callable[[], dict[str, Any]] | dict[str, Any],
    /,
    *,
    by_position: int = 0,
    more: Iterable[str] = (),
    of: Callable[..., Any] | None = None,
    shown: Mapping[str, tuple[str, ...]] | None = None,
    files: tuple[str, ...] = (),
    raises: tuple[type[Exception], ...] = (),
    late: tuple[str, ...] = (),
    **kinds: Kind,
) -> None:
    """Enter a callable.

    Args:
        name: where it is.
        call: the callable, or a method without its object.
        valid: arguments with which it works, or what makes them.
        by_position: how many of the arguments it takes by position alone.
        more: arguments that its signature does not list.
        of: makes the object of a method.
        shown: as for `Target`.
        files: as for `Target`.
        raises: as for `Target`.
        late: as for `Target`.
        **kinds: as for `Target`.
    """
    signature = inspect.signature(call).parameters
    names = [
        one.name
        for one in signature.values()
        if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL) and one.name != "self"
    ]

    def called(**given: Any) -> Any:
        first = [] if of is None else [of()]
        placed = [given.pop(one) for one in names[:by_position] if one in given]
        return call(*first, *placed, **given)

    made = valid if callable(valid) else lambda: dict(valid)
    every = (*names, *(one for one in more if one not in names))
    TARGETS[name] = Target(name, called, made, kinds, shown or {}, files, raises, late, of, every)
