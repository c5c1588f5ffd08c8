"""Gives data from a file the types that a class declares, or refuses it with its place.

A class is a dataclass, or a `TypedDict` where further names are allowed. Their annotations are all
that is written down of a file's format: `shaped(Generations, data, "run.json")` raises "run.json,
generations[3].token_ids[0]: must be an integer from 0 to 2**64-1, not "x"".
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

from fastdecode.files.reading import DEEPEST

T = TypeVar("T")

_MOST = 2**64 - 1


class _Fault(Exception):
    """What is wrong with a value, and where it stands, the innermost place first."""

    def __init__(self, problem: str, *, kind: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        # Whether the value is of another kind altogether.
        self.kind = kind
        self.place: list[str] = []

    def inside(self, place: str) -> _Fault:
        """The same, seen from the array or object around it."""
        self.place.append(place)
        return self


@dataclasses.dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of value: how it is read, and what it is called."""

    read: Callable[[Any], Any]
    name: str


def shaped(kind: type[T], data: Any, where: str) -> T:
    """`data` as a value of the type `kind`.

    Integers are those from 0 to 2**64-1. Numbers are finite, or minus infinity, which is the
    logarithm of zero. Strings have no lone surrogates. Arrays become lists or tuples as the type
    says, objects become dictionaries or instances of dataclasses.

    Args:
        kind: a dataclass, a `TypedDict`, or a type of one of the kinds that these may contain:
            bool, int, float, str, None, `Any`, lists, tuples, dictionaries with strings as keys,
            and unions.
        data: what `parse_json` returned.
        where: the file, for messages.

    Raises:
        ValueError: where it is something else; the message names the file and the place in it.
    """
    try:
        annotation: Any = kind
        value: T = _kind(annotation).read(data)
    except _Fault as fault:
        place = "".join(reversed(fault.place)).removeprefix(".")
        raise ValueError(f"{where}{', ' if place else ''}{place}: {fault.problem}") from None
    return value


def described(value: Any) -> str:
    """A value as a message shows it: short, on one line."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


@cache
def _kind(kind: Any) -> _Kind:
    """The kind of value that a type annotation stands for."""
    if kind is None:
        kind = type(None)
    if kind in _PLAIN:
        return _PLAIN[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _union([_kind(one) for one in arguments])
    if origin is list:
        return _Kind(_array(_kind(arguments[0])), "an array")
    if origin is tuple and arguments[-1] is ...:
        items = _array(_kind(arguments[0]))
        return _Kind(lambda value: tuple(items(value)), "an array")
    if origin is tuple:
        return _tuple([_kind(one) for one in arguments])
    if origin is dict:
        return _Kind(_mapping(_kind(arguments[1])), "an object")
    if dataclasses.is_dataclass(kind):
        return _Kind(_dataclass(kind), "an object")
    if is_typeddict(kind):
        return _Kind(_typed_dict(kind), "an object")
    raise TypeError(f"{kind} is not a type of data from a file")


def _refused(value: Any, name: str) -> _Fault:
    return _Fault(f"must be {name}, not {described(value)}", kind=True)


def _plain(value: Any, depth: int = 0) -> Any:
    """Any data that is not nested too deeply to be printed or written again."""
    if depth > DEEPEST:
        raise _Fault(f"is nested more than {DEEPEST} deep")
    if type(value) is list:
        for item in value:
            _plain(item, depth + 1)
    elif type(value) is dict:
        for name, item in value.items():
            _string(name)
            _plain(item, depth + 1)
    return _string(value) if type(value) is str else value


def _bool(value: Any) -> bool:
    if type(value) is not bool:
        raise _refused(value, "true or false")
    return value


def _integer(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MOST:
        raise _refused(value, _INTEGER)
    return value


def _number(value: Any) -> float:
    # A program that is not Python's may have written 1.0 as 1.
    if type(value) is int and -_MOST <= value <= _MOST:
        return float(value)
    if type(value) is not float or math.isnan(value) or value == math.inf:
        raise _refused(value, "a number")
    return value


def _string(value: Any) -> str:
    if type(value) is not str:
        raise _refused(value, "a string")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            problem = f"has half of a surrogate pair at character {error.start}"
            raise _Fault(problem) from None
    return value


def _none(value: Any) -> None:
    if value is not None:
        raise _refused(value, "null")


_INTEGER = "an integer from 0 to 2**64-1"
_PLAIN: dict[Any, _Kind] = {
    bool: _Kind(_bool, "true or false"),
    int: _Kind(_integer, _INTEGER),
    float: _Kind(_number, "a number"),
    str: _Kind(_string, "a string"),
    type(None): _Kind(_none, "null"),
    Any: _Kind(_plain, "anything"),
}


def _union(kinds: list[_Kind]) -> _Kind:
    # A union with another order of its types is the same to the cache of `_kind`.
    name = " or ".join(sorted(kind.name for kind in kinds))

    def read(value: Any) -> Any:
        refusal = _refused(value, name)
        for kind in kinds:
            try:
                return kind.read(value)
            except _Fault as fault:
                # What is wrong inside a value says more than that none of the kinds fits.
                if fault.place or not fault.kind:
                    refusal = fault
        raise refusal

    return _Kind(read, name)


def _array(kind: _Kind) -> Callable[[Any], list[Any]]:
    read = kind.read

    def array(value: Any) -> list[Any]:
        if type(value) is not list:
            raise _refused(value, "an array")
        found = []
        for index, item in enumerate(value):
            try:
                found.append(read(item))
            except _Fault as fault:
                raise fault.inside(f"[{index}]") from None
        return found

    return array


def _tuple(kinds: list[_Kind]) -> _Kind:
    name = f"an array of {len(kinds)}"

    def read(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) != len(kinds):
            raise _refused(value, name)
        found = []
        for index, (kind, item) in enumerate(zip(kinds, value, strict=True)):
            try:
                found.append(kind.read(item))
            except _Fault as fault:
                raise fault.inside(f"[{index}]") from None
        return tuple(found)

    return _Kind(read, name)


def _mapping(kind: _Kind) -> Callable[[Any], dict[str, Any]]:
    def mapping(value: Any) -> dict[str, Any]:
        return {
            name: _inside(kind, name, item) for name, item in _object(value).items() if _name(name)
        }

    return mapping


def _dataclass(owner: Any) -> Callable[[Any], Any]:
    hints = get_type_hints(owner)
    fields = {field.name: _kind(hints[field.name]) for field in dataclasses.fields(owner)}
    required = [
        field.name
        for field in dataclasses.fields(owner)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]

    def read(value: Any) -> Any:
        found = _object(value)
        _complete(found, required)
        for name in found:
            if name not in fields:
                raise _Fault("is unknown to this version of fastdecode").inside(_step(name))
        return owner(**{name: _inside(fields[name], name, item) for name, item in found.items()})

    return read


def _typed_dict(owner: Any) -> Callable[[Any], dict[str, Any]]:
    fields = {name: _kind(hint) for name, hint in get_type_hints(owner).items()}
    required = [name for name in fields if name in owner.__required_keys__]
    anything = _PLAIN[Any]

    def read(value: Any) -> dict[str, Any]:
        found = _object(value)
        _complete(found, required)
        return {
            name: _inside(fields.get(name, anything), name, item)
            for name, item in found.items()
            if _name(name)
        }

    return read


def _object(value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise _refused(value, "an object")
    return value


def _name(name: str) -> bool:
    """True, for a name that is a string that can be printed."""
    _inside(_PLAIN[str], name, name)
    return True


def _complete(found: Mapping[str, Any], required: list[str]) -> None:
    for name in required:
        if name not in found:
            raise _Fault("is missing").inside(_step(name))


def _inside(kind: _Kind, name: str, value: Any) -> Any:
    try:
        return kind.read(value)
    except _Fault as fault:
        raise fault.inside(_step(name)) from None


def _step(name: str) -> str:
    """A name as a step of a place: `.name`, or `["any other"]`."""
    return f".{name}" if name.isidentifier() and name.isascii() else f"[{described(name)}]"
