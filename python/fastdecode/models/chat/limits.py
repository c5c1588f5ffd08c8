"""What a template may use up: text, memory and time, whatever it computes.

Templates come with models, so they are input that nobody has checked. Jinja's sandbox keeps them
away from files and from Python's internals, but not from `'x' * 10**12` or from loops within loops.
Every loop, call, filter and operator of a template asks here first. A single operation of Python
on values of the largest size is never interrupted; that takes a second or so.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

# Characters of a text, or of all texts in a list. The longest contexts of models are a fifth of it.
MOST = 2**23
# Entries of a list, nested ones included.
_MOST_ENTRIES = 2**20
# Characters and entries that all operations of a template make together.
MOST_IN_ALL = 2**28
# Seconds of processor time.
LONGEST = 10.0
_SCALARS = frozenset((int, float, bool, type(None)))
# Bits of an integer.
_MOST_BITS = 2**16
# Operations between two looks at the clock.
_BETWEEN = 64
_DIGITS = re.compile(r"\d+")


class Exceeded(Exception):
    """A template would use more than it may."""


class _Budget:
    """What is left of the limits."""

    def __init__(self) -> None:
        self._left = MOST_IN_ALL
        self._until = time.thread_time() + LONGEST
        self._operations = 0

    def spend(self, size: int) -> None:
        if size > MOST:
            raise Exceeded(f"it makes a value of more than {MOST:,} characters or entries")
        self._left -= size
        if self._left < 0:
            raise Exceeded(f"it makes more than {MOST_IN_ALL:,} characters in all")
        self._operations += 1
        if self._operations % _BETWEEN == 0 and time.thread_time() > self._until:
            raise Exceeded(f"it takes more than {LONGEST:g} seconds")


_current: ContextVar[_Budget | None] = ContextVar("_current", default=None)


@contextmanager
def limited() -> Iterator[None]:
    """Apply the limits to what is done inside, as a whole."""
    token = _current.set(_Budget())
    try:
        yield
    finally:
        _current.reset(token)


def spend(size: int = 0) -> None:
    """Count an operation that makes a text or a list of `size` elements, before it does.

    Raises:
        Exceeded: where that is too much.
    """
    budget = _current.get()
    if budget is not None:
        budget.spend(size)


def weigh(value: Any, times: int = 1) -> int:
    """The characters and entries of a value, with what is in it, `times` over.

    A list that contains another one twice counts it twice, as its text has it twice.

    Raises:
        Exceeded: where they are too many.
    """
    characters = entries = 0
    waiting = [value]
    while waiting:
        item = waiting.pop()
        kind = type(item)
        entries += 1
        if kind is str:
            characters += len(item)
        elif kind is list or kind is tuple:
            waiting += item
        elif kind not in _SCALARS:
            if isinstance(item, str | bytes):
                characters += len(item)
            elif isinstance(item, Mapping):
                waiting += item.keys()
                waiting += item.values()
            elif isinstance(item, list | tuple | set | KeysView | ValuesView | ItemsView):
                waiting += item
        if entries + len(waiting) > _MOST_ENTRIES:
            raise Exceeded(
                f"it makes lists of more than {_MOST_ENTRIES:,} entries, nested ones too"
            )
        if (characters + entries) * times > MOST:
            spend(MOST + 1)
    return (characters + entries) * times


def made(value: Any) -> Any:
    """A result of an operation, unchanged.

    Raises:
        Exceeded: where it is too large.
    """
    if isinstance(value, str | bytes):
        spend(len(value))
    elif isinstance(value, list | tuple | dict | set):
        spend(len(value))
        weigh(value)
    else:
        _check_bits(_bits(value))
        spend()
    return value


def check_operator(operator: str, left: Any, right: Any) -> None:
    """Count `left operator right`.

    Raises:
        Exceeded: where the result would be too large.
    """
    if operator == "+":
        both = hasattr(left, "__len__") and hasattr(right, "__len__")
        spend(len(left) + len(right) if both else 0)
    elif operator == "*":
        for one, other in ((left, right), (right, left)):
            if isinstance(one, int) and hasattr(other, "__len__"):
                spend(weigh(other, max(int(one), 0)))
        _check_bits(_bits(left) + _bits(right))
    elif operator == "**":
        exponent = right if isinstance(right, int) else 0
        _check_bits(_bits(left) * max(int(exponent), 0))
    elif isinstance(left, str | bytes):
        template = left if isinstance(left, str) else left.decode("latin-1")
        _check_format(template, template.count("%"), right)


def check_call(function: Any, given: Sequence[Any], named: Mapping[str, Any]) -> Sequence[Any]:
    """Count a call of a method of a text or a number, and return its arguments.

    Raises:
        Exceeded: where the result would be too large.
    """
    # The sandbox wraps `str.format`.
    method = getattr(function, "__wrapped__", function)
    owner = getattr(method, "__self__", None)
    name = getattr(method, "__name__", "")
    if isinstance(owner, str | bytes | int | float):
        check = _METHODS.get(name)
        if check is not None:
            given = _listed(given)
            check(owner, *given, *named.values())
    spend()
    return given


def check_filter(name: str, given: Sequence[Any], named: Mapping[str, Any]) -> Sequence[Any]:
    """Count a filter, and return its arguments.

    Raises:
        Exceeded: where the result would be too large.
    """
    if name in _WHOLE:
        given = _listed(given)
        weigh([given, list(named.values())])
    check = _FILTERS.get(name)
    if check is not None and given:
        check(*given, *named.values())
    spend()
    return given


def _listed(given: Sequence[Any]) -> list[Any]:
    """Arguments with lists in place of iterators, which can be read only once."""
    return [
        [*_counted(item)] if hasattr(item, "__next__") and not isinstance(item, str) else item
        for item in given
    ]


def _counted(items: Iterator[Any]) -> Iterator[Any]:
    for item in items:
        spend(1)
        yield item


def _bits(value: Any) -> int:
    return int(value).bit_length() if isinstance(value, int) else 0


def _check_bits(bits: int) -> None:
    if bits > _MOST_BITS:
        raise Exceeded(f"it computes an integer of more than {_MOST_BITS:,} bits")


def _check_format(template: str, fields: int, *values: Any) -> None:
    """Count a format string: its own widths, and in each field the largest value or width."""
    whole = weigh(values)
    widths = sum(min(int(digits[:9]), MOST + 1) for digits in _DIGITS.findall(template))
    given = max((abs(int(n)) for n in _integers(values)), default=0)
    spend(len(template) + widths + fields * (whole + min(given, MOST + 1)))


def _integers(values: Sequence[Any]) -> list[int]:
    """The integers in some values, and in what is in them."""
    found: list[int] = []
    waiting = list(values)
    while waiting:
        item = waiting.pop()
        if isinstance(item, int):
            found.append(item)
        elif isinstance(item, Mapping):
            waiting += item.values()
        elif isinstance(item, list | tuple):
            waiting += item
    return found


def _check_widths(text: Any, *given: Any) -> None:
    """A text that is padded to a width, or has each line or tab widened by one."""
    width = max((abs(int(n)) for n in _integers(given)), default=0)
    lines = text.count("\n") + text.count("\t") + 1 if isinstance(text, str) else len(text)
    spend(_length(text) + lines * max(width, sum(map(_length, given))))


def _check_replaced(text: Any, old: Any = "", new: Any = "", *_: Any) -> None:
    text, old, new = (item if isinstance(item, bytes) else str(item) for item in (text, old, new))
    count = text.count(old) if isinstance(old, type(text)) else 0
    spend(len(text) + count * max(len(new) - len(old), 0))


def _check_joined(separator: Any, items: Any = (), *_: Any) -> None:
    spend(weigh(items) + _length(separator) * (len(items) if hasattr(items, "__len__") else 0))


def _check_translated(text: Any, table: Any = None, *_: Any) -> None:
    values = table.values() if isinstance(table, Mapping) else ()
    spend(_length(text) * max(map(_length, values), default=1))


def _check_number(_: Any, *given: Any) -> None:
    for number in _integers(given):
        spend(abs(int(number)))


def _check_places(_: Any, *given: Any) -> None:
    for places in _integers(given):
        _check_bits(4 * abs(int(places)))


def _check_start(_: Any, *given: Any) -> None:
    # A sum of lists takes the square of their number.
    if any(hasattr(item, "__len__") and not isinstance(item, str) for item in given):
        raise Exceeded("it sums lists")


def _length(value: Any) -> int:
    return len(value) if hasattr(value, "__len__") else 1


_Check = Callable[..., None]
_METHODS: dict[str, _Check] = {
    **dict.fromkeys(("ljust", "rjust", "center", "zfill", "expandtabs", "hex"), _check_widths),
    "replace": _check_replaced,
    "join": _check_joined,
    "translate": _check_translated,
    "to_bytes": _check_number,
    **dict.fromkeys(
        ("format", "format_map"),
        lambda text, *values: _check_format(text, text.count("{"), *values),
    ),
}
_FILTERS: dict[str, _Check] = {
    **dict.fromkeys(("center", "indent"), lambda text, *given: _check_widths(str(text), *given)),
    "replace": _check_replaced,
    "join": lambda items, separator="", *_: _check_joined(separator, items),
    "format": lambda text, *values: _check_format(str(text), str(text).count("%"), *values),
    "tojson": lambda value, *given: spend(weigh(value, 1 + sum(map(_width, given)))),
    "wordwrap": lambda text, *given: spend(len(str(text)) * max([1, *map(_length, given)])),
    **dict.fromkeys(("batch", "slice"), _check_number),
    "round": _check_places,
    "sum": _check_start,
}
# Filters that write a value as text, with all that is in it.
_WHOLE = frozenset(
    (
        *("center", "indent", "replace", "join", "format", "tojson", "wordwrap", "string"),
        *("pprint", "urlencode", "xmlattr", "escape", "e", "forceescape", "safe", "upper", "lower"),
        *("capitalize", "title", "trim", "striptags", "urlize", "wordcount", "truncate", "int"),
        *("float", "unique", "sort", "groupby", "dictsort", "min", "max"),
    )
)


def _width(value: Any) -> int:
    """What an argument of `tojson` adds to each line."""
    return abs(int(value)) if isinstance(value, int) else _length(value)
