"""Hostile values for any argument, and the rule by which a call's answer to one is judged."""

from __future__ import annotations

import contextlib
import enum
import io
import itertools
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from fastdecode import Sample


class Own(Exception):
    """What a hostile object raises by itself; it may reach the caller as it is."""


# With what "iterator that raises" raises.
OWN = (Own, ZeroDivisionError)


class Raises:
    """An object of which each of these methods raises."""

    def __new__(cls, *methods: str) -> Any:
        def fail(*_: Any) -> Any:
            raise Own

        return type("Raises", (), dict.fromkeys(methods, fail))()


class Number(enum.Enum):
    """An enum whose values are not its members."""

    TWO = 2


class Count(enum.IntEnum):
    """An enum whose members are integers."""

    TWO = 2


class Text(str):
    """A string of another class."""


class Whole(int):
    """An integer of another class."""


class Several(list):
    """A list of another class."""


def some_function(*_: Any) -> list[int]:
    return [1]


def recursive() -> list[Any]:
    value: list[Any] = [1]
    value.append(value)
    return value


def read_only() -> np.ndarray:
    array = np.array([1, 2])
    array.flags.writeable = False
    return array


def torch_values() -> dict[str, Callable[[], Any]]:
    """Tensors, which only processes that have imported torch are given."""
    import torch

    return {
        "tensor of floats": lambda: torch.tensor([0.5, 1.0]),
        "tensor of one integer": lambda: torch.tensor([3]),
        "tensor without dimensions": lambda: torch.tensor(3),
        "tensor of a bool": lambda: torch.tensor(True),
        "tensor that requires a gradient": lambda: torch.zeros(2, 5, requires_grad=True),
        "meta tensor": lambda: torch.zeros(2, 5, device="meta"),
        "sparse tensor": lambda: torch.zeros(2, 5).to_sparse(),
        "bfloat16 tensor": lambda: torch.zeros(2, 5, dtype=torch.bfloat16),
        "complex tensor": lambda: torch.zeros(2, 5, dtype=torch.complex64),
        "torch dtype": lambda: torch.float16,
        "torch device": lambda: torch.device("cpu"),
    }


# Each makes a fresh value: some can be used once, and a callee may change others.
VALUES: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "False": lambda: False,
    "NumPy's True": lambda: np.True_,
    "0": lambda: 0,
    "-1": lambda: -1,
    "3": lambda: 3,
    "2**33": lambda: 2**33,
    "2**70": lambda: 2**70,
    "-2**70": lambda: -(2**70),
    "10**400": lambda: 10**400,
    "10**5000": lambda: 10**5000,
    "1.5": lambda: 1.5,
    "2.0": lambda: 2.0,
    "nan": lambda: math.nan,
    "inf": lambda: math.inf,
    "-inf": lambda: -math.inf,
    "complex": lambda: 1 + 2j,
    "NumPy's integer": lambda: np.int64(2),
    "NumPy's float": lambda: np.float32(0.5),
    "NumPy's NaN": lambda: np.float32("nan"),
    "fraction": lambda: Fraction(1, 2),
    "decimal": lambda: Decimal("0.5"),
    "signalling decimal": lambda: Decimal("sNaN"),
    "integer of another class": lambda: Whole(2),
    "enum": lambda: Number.TWO,
    "integer enum": lambda: Count.TWO,
    "empty string": lambda: "",
    "digits": lambda: "5",
    "word": lambda: "king",
    "string of another class": lambda: Text("king"),
    "lone surrogate": lambda: "a\udc80b",
    "NUL": lambda: "a\0b",
    "lines": lambda: "a\nb\x1b[31m",
    "long string": lambda: "king " * 2000,
    "bytes": lambda: b"ab",
    "bytearray": lambda: bytearray(b"ab"),
    "memoryview": lambda: memoryview(b"ab"),
    "empty list": list,
    "empty tuple": tuple,
    "empty dict": dict,
    "empty set": set,
    "(1,)": lambda: (1,),
    "[1, -1]": lambda: [1, -1],
    "[2**70]": lambda: [2**70],
    "[10**400, 1]": lambda: [10**400, 1],
    "[1.5, 2]": lambda: [1.5, 2],
    "(0.5, True)": lambda: (0.5, True),
    "[[1]]": lambda: [[1]],
    "[[]]": lambda: [[]],
    "[[1], 2]": lambda: [[1], 2],
    "['king']": lambda: ["king"],
    "['king', 'queen']": lambda: ["king", "queen"],
    "['king', 1]": lambda: ["king", 1],
    "[1, 'king']": lambda: [1, "king"],
    "['']": lambda: [""],
    "[None]": lambda: [None],
    "[True, False]": lambda: [True, False],
    "list of a lone surrogate": lambda: ["\ud800"],
    "list of another class": lambda: Several([1, 2]),
    "recursive list": recursive,
    "deep list": lambda: __import__("functools").reduce(lambda x, _: [x], range(3000), 1),
    "{'king': 1}": lambda: {"king": 1},
    "{1: 'a'}": lambda: {1: "a"},
    "{1: 10**400}": lambda: {1: 10**400},
    "{True: 1.0}": lambda: {True: 1.0},
    "{3: 4}": lambda: {3: 4},
    "{'multiplier': 'a'}": lambda: {"multiplier": "a"},
    "{'multiplier': 10**400}": lambda: {"multiplier": 10**400},
    "{1, 2}": lambda: {1, 2},
    "{'a', 'b'}": lambda: {"a", "b"},
    "frozenset": lambda: frozenset((1, 2)),
    "keys": lambda: {1: 2, 3: 4}.keys(),
    "range": lambda: range(3),
    "generator": lambda: (x for x in (1, 2)),
    "generator of strings": lambda: (x for x in ("king", "queen")),
    "iterator that raises": lambda: (1 // x for x in (1, 0)),
    "float array": lambda: np.array([1.5, 2.0]),
    "float array of one": lambda: np.array([0.5]),
    "integer array": lambda: np.array([1, 2]),
    "small integer array": lambda: np.array([1, 2], np.uint8),
    "integer array of one": lambda: np.array([3]),
    "2-D array": lambda: np.array([[1, 2]]),
    "3-D array": lambda: np.zeros((2, 2, 2), np.float32),
    "bool array": lambda: np.array([True, False]),
    "bool array of one": lambda: np.array([True]),
    "string array": lambda: np.array(["king", "queen"]),
    "bytes array": lambda: np.array([b"king"]),
    "object array": lambda: np.array([1, "king", None], object),
    "complex array": lambda: np.array([1j, 2]),
    "half array": lambda: np.array([1.5, 2.0], np.float16),
    "logits": lambda: np.zeros((2, 5), np.float32),
    "double logits": lambda: np.zeros((2, 5)),
    "Fortran array": lambda: np.asfortranarray(np.ones((2, 5), np.float32)),
    "big-endian array": lambda: np.ones((2, 5), ">f4"),
    "NaN array": lambda: np.full((2, 5), np.nan, np.float32),
    "0-d integer array": lambda: np.array(3),
    "0-d float array": lambda: np.array(0.5),
    "0-d bool array": lambda: np.array(True),
    "0-d string array": lambda: np.array("king"),
    "empty array": lambda: np.zeros(0, np.int64),
    "array without rows": lambda: np.zeros((0, 5), np.float32),
    "array without columns": lambda: np.zeros((2, 0), np.float32),
    "read-only array": read_only,
    "masked array": lambda: np.ma.masked_array([1, 2], [False, True]),
    "masked logits": lambda: np.ma.masked_array(
        np.zeros((2, 5), np.float32), [[1, 0, 0, 0, 0]] * 2
    ),
    "structured array": lambda: np.zeros(2, [("a", "i4")]),
    "dates": lambda: np.array(["2020-01-01"], "M8[D]"),
    "date": lambda: np.datetime64("2020-01-01"),
    "NumPy dtype": lambda: np.dtype("float32"),
    "path": lambda: Path("nowhere"),
    "folder": lambda: Path(os.sep),
    "open file": io.StringIO,
    "class": lambda: Sample,
    "function": lambda: some_function,
    "lambda": lambda: lambda: 1,
    "object": object,
    "Sample": Sample,
    "exception": lambda: ValueError("x"),
    "module": lambda: math,
    "ellipsis": lambda: ...,
    "slice": lambda: slice(1, 2),
    "namespace": lambda: SimpleNamespace(shape=(2, 5), dtype="float32"),
    "nameless": lambda: Raises("__repr__", "__str__"),
    "raises in __len__": lambda: Raises("__len__", "__getitem__"),
    "raises in __iter__": lambda: Raises("__iter__"),
    "raises in __index__": lambda: Raises("__index__"),
    "raises in __float__": lambda: Raises("__float__"),
    "raises in __bool__": lambda: Raises("__bool__"),
    "raises in __eq__": lambda: Raises("__eq__", "__hash__"),
    "raises in __fspath__": lambda: Raises("__fspath__"),
    "raises in __array__": lambda: Raises("__array__"),
    "raises in __getattr__": lambda: Raises("__getattr__"),
    "raises in everything": lambda: Raises(
        *("__len__", "__iter__", "__index__", "__float__", "__bool__", "__eq__", "__hash__"),
        *("__repr__", "__str__", "__getattr__", "__fspath__", "__call__"),
    ),
}

# A part that has a value of each kind, for where all would take too long.
FEW = (
    *("None", "True", "-1", "2**70", "1.5", "nan", "digits", "bytes", "{'king': 1}", "{1, 2}"),
    *("['king', 1]", "[[1], 2]", "float array", "bool array of one", "0-d float array", "object"),
    *("2-D array", "raises in everything", "class", "lone surrogate", "0-d integer array"),
)


# What may be accepted ---------------------------------------------------------------------------

Kind = Callable[[Any], bool]


def anything(_: Any) -> bool:
    return True


def nothing(_: Any) -> bool:
    return False


def flag(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


def axes(value: Any) -> int | None:
    """The number of dimensions of an array or a tensor."""
    shape = getattr(value, "shape", None) if type(value).__module__ in ("numpy", "torch") else None
    return None if shape is None else len(shape)


def _has(value: Any, method: str) -> bool:
    return hasattr(type(value), method)


def integer(value: Any) -> bool:
    """A whole number of any class but bool's; NumPy's and torch's, too."""
    if axes(value) is not None and (axes(value) or "int" not in str(value.dtype)):
        return False
    return _has(value, "__index__") and not flag(value)


def number(value: Any) -> bool:
    if axes(value) is not None:
        return axes(value) == 0 and any(kind in str(value.dtype) for kind in ("int", "float"))
    return (_has(value, "__float__") or integer(value)) and not flag(value)


def text(value: Any) -> bool:
    return isinstance(value, str)


def function(value: Any) -> bool:
    return callable(value)


def path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)


def several(kind: Kind) -> Kind:
    """An ordered collection of some kind."""

    def accepts(value: Any) -> bool:
        if isinstance(value, str | bytes | bytearray | memoryview | set | frozenset | Mapping):
            return False
        dimensions = axes(value)
        if dimensions is not None:
            # Its entries as Python has them: the rows of a structured array are tuples.
            return dimensions > 0 and all(kind(x) for x in value.tolist())
        return isinstance(value, Iterable) and all(kind(x) for x in value)

    return accepts


def group(kind: Kind) -> Kind:
    """Some of a kind, in no order."""
    return lambda value: isinstance(value, set | frozenset) and all(kind(x) for x in value)


def either(*kinds: Kind) -> Kind:
    def accepts(value: Any) -> bool:
        for kind in kinds:
            # A value may raise where one kind looks, and be of another.
            with contextlib.suppress(Exception):
                if kind(value):
                    return True
        return False

    return accepts


def optional(*kinds: Kind) -> Kind:
    return lambda value: value is None or either(*kinds)(value)


def also(*values: Any) -> Kind:
    """One of some strings or numbers."""
    return lambda value: isinstance(value, str | int) and value in values


def array(*dtypes: str, dimensions: tuple[int, ...] = (1, 2)) -> Kind:
    def accepts(value: Any) -> bool:
        if isinstance(value, np.ma.MaskedArray):
            return False
        return axes(value) in dimensions and any(str(value.dtype).endswith(d) for d in dtypes)

    return accepts


# The rule ---------------------------------------------------------------------------------------

# Words of Rust, PyO3, NumPy and CPython's inside that a user of Python need not know.
FOREIGN = re.compile(
    r"\b(Vec|extract|[ui](8|16|32|64|size)|f(32|64)|Py[A-Z]\w+|Option|Some|Bound|__\w+__|unwrap|"
    r"panick?\w*|has no attribute|unsupported operand|ambiguous|cannot be interpreted|"
    r"not (iterable|subscriptable|callable)|can't convert|expected \d|too large to|recursion|"
    r"unhashable|not supported between|inhomogeneous|ufunc|codec can't)\b"
    r"|'[A-Za-z]+' object|&str|object is not"
)
REFUSALS = (TypeError, ValueError, IndexError, MemoryError)
FILES = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError, OSError)


def _plain(text: str) -> str:
    """A text without quotes and spaces, in which Rust's and Python's ways to write it are one."""
    return re.sub(r"[\s'\"]+", "", text).lower()


def spellings(value: Any, depth: int = 0) -> Iterator[str]:
    """How a message may show a value: its type, its text, or an entry of it."""
    yield type(value).__name__
    if isinstance(value, type):
        yield value.__name__
    if isinstance(value, np.generic):
        value = value.item()
    if axes(value) is not None:
        yield str(value.dtype)
        yield str(value.device) if hasattr(value, "device") else type(value).__name__
        yield str(tuple(value.shape))
        # A sparse tensor, or one without memory, has none that could be listed.
        with contextlib.suppress(RuntimeError, NotImplementedError):
            yield str(value.tolist())
    if isinstance(value, np.ma.MaskedArray):
        yield from ("masked", "nan")
    if isinstance(value, Path):
        yield str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        # An enum's member shows more than its number.
        value = int(value)
    try:
        shown = repr(value).splitlines()[0]
    except Exception:  # It has no repr, or more digits than Python writes.
        return
    yield shown[:12]
    yield shown.removesuffix(".0")
    if isinstance(value, str):
        yield from (repr(one) for one in value if not one.isprintable())
        yield from value[:1]
    elif depth < 3 and not isinstance(value, type):
        yield from _of_entries(value, depth)


def _of_entries(value: Any, depth: int) -> Iterator[str]:
    entries: list[Any] = []
    # It may have none, or some that cannot be read.
    with contextlib.suppress(Exception):
        for entry in itertools.islice(iter(value), 4):
            entries.append(entry)
        entries.extend(value.values() if isinstance(value, dict) else ())
    for entry in entries:
        if entry is not value:
            yield from spellings(entry, depth + 1)


# What is said of a whole, or of two arguments that exclude or need each other.
_OF_A_WHOLE = re.compile(
    r"empty|entries|no token id|a beam search|; give |goes with|go with|leave|leaves|tokens|shape|"
    r"needs|say the same|both say|at least one|line \d+ column \d+|nested|"
    r"a single message|has nothing for|no tensor|no metadata"
)


def fault(
    names: tuple[str, ...], value: Any, error: BaseException, *, files: bool = False
) -> str | None:
    """What is wrong with the exception that refuses a value, or None.

    Args:
        names: what the caller calls the argument, any of them; without one it has no name.
        value: what was given.
        error: the exception.
        files: whether the argument names a file.
    """
    if isinstance(error, OWN):
        return None
    allowed = (*REFUSALS, *(FILES if files else ()))
    if type(error) not in allowed:
        return f"{type(error).__name__} is none that a caller expects"
    message = str(error)
    if isinstance(error, OSError):
        return None if error.filename is not None else "no file is named"
    if names and not re.search(rf"(?<!\w)({'|'.join(names)})(?!\w)", message):
        return f"{names[0]} is not named"
    if FOREIGN.search(message):
        return f"words of the implementation: {FOREIGN.search(message)[0]}"
    if "\n" in message or not message.isprintable():
        return "characters that a terminal does not print"
    if len(message) > 500:
        return "the message is long"
    said = _plain(message)
    if not _OF_A_WHOLE.search(message) and not any(
        _plain(one) in said for one in spellings(value) if one
    ):
        return "the value is not shown"
    return None
