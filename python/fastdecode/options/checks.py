"""Checks: bad arguments are refused before any work, by messages that say what to do."""

from __future__ import annotations

import errno
import operator
import os
import re
import secrets
from collections.abc import Iterable, KeysView, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fastdecode._core import Beam

U32 = 2**32 - 1
U64 = 2**64 - 1
_SURROGATE = re.compile("[\ud800-\udfff]")
# The most characters of a value that a message shows.
_SHOWN = 80


def string(name: str, value: Any) -> str:
    """One string.

    Raises:
        TypeError: for anything else.
        ValueError: for one that is not valid Unicode.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {type(value).__name__} ({shown(value)})")
    return well_formed(name, value)


def prompts(value: Any, name: str = "prompts", *, ordered: bool = True) -> list[str]:
    """One string or a sequence of strings, as a list.

    Args:
        value: what the caller gave.
        name: what the caller calls it.
        ordered: whether their order matters, so that a set is refused.

    Raises:
        TypeError: for anything else.
        ValueError: for one that is not valid Unicode.
    """
    if isinstance(value, str):
        return [well_formed(name, value)]
    items = entries(name, value, "a string or a sequence of strings", ordered=ordered)
    for row, item in enumerate(items):
        if not isinstance(item, str):
            raise TypeError(
                f"{name}[{row}] must be a string, not {type(item).__name__} ({shown(item)})"
            )
        well_formed(f"{name}[{row}]", item)
    return items


def entries(name: str, value: Any, expected: str, *, ordered: bool = True) -> list[Any]:
    """The entries of a sequence, an iterator, an array or a tensor, as Python's own objects.

    Args:
        name: what the caller calls it.
        value: what the caller gave.
        expected: what it must be, in words.
        ordered: whether their order matters, so that a set is refused.

    Raises:
        TypeError: for anything else, such as a text, bytes and a mapping.
    """
    listed = value
    if hasattr(value, "tolist") and hasattr(value, "shape") and not isinstance(value, memoryview):
        try:
            listed = value.tolist()
        except MemoryError:
            raise
        except Exception as error:  # Such as a tensor that holds no numbers, on device="meta".
            raise TypeError(
                f"{name} must be {expected}, not {type(value).__name__} ({shown(value)}), whose "
                "entries cannot be read"
            ) from error
    others = isinstance(listed, str | bytes | bytearray | memoryview | Mapping)
    loose = ordered and isinstance(value, Set) and not isinstance(value, KeysView)
    if others or loose or not isinstance(listed, Iterable):
        hint = ", which has no order; give a list" if loose else ""
        raise TypeError(
            f"{name} must be {expected}, not {type(value).__name__} ({shown(value)}){hint}"
        )
    return [item.tolist() if getattr(item, "shape", None) == () else item for item in listed]


def well_formed(name: str, text: str) -> str:
    """A text that is valid Unicode: it has no lone surrogates, which no encoding can express.

    Raises:
        ValueError: otherwise, with the place of the first.
    """
    found = None if text.isascii() else _SURROGATE.search(text)
    if found is None:
        return text
    code = ord(found[0])
    origin = ""
    if 0xDC80 <= code <= 0xDCFF:
        origin = f", which Python puts for the byte 0x{code - 0xDC00:02x} of text that is not UTF-8"
    raise ValueError(
        f"{name} has the lone surrogate {found[0]!r} at position {found.start()}{origin}; give "
        "valid Unicode, for example text.encode('utf-8', 'replace').decode()"
    )


def filled(name: str, value: Any) -> list[str]:
    """One string or several, none of them empty.

    Raises:
        TypeError: for anything else.
        ValueError: for an empty one.
    """
    items = prompts(value, name)
    for row, item in enumerate(items):
        if not item:
            place = name if isinstance(value, str) else f"{name}[{row}]"
            raise ValueError(f"{place} is empty; give at least one character of text")
    return items


def is_one_of(value: Any, options: Iterable[Any]) -> bool:
    """Whether a value is one of some bools, numbers or strings.

    True is not 1 here, and an array or another object is none of them, whatever its `==` returns.
    """
    if isinstance(value, np.generic):
        value = value.item()
    return isinstance(value, bool | int | float | str) and any(
        isinstance(value, bool) == isinstance(option, bool) and value == option
        for option in options
    )


def shown(value: Any) -> str:
    """A value as messages show it: on one line, and not long."""
    try:
        text = " ".join(line.strip() for line in repr(value).splitlines())
    except Exception:  # A value's own `__repr__` may raise anything.
        return f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """An integer in low..high.

    Raises:
        TypeError: for a bool or for anything but an integer.
        ValueError: out of range.
    """
    number = whole(name, value)
    if number < low or (high is not None and number > high):
        span = f"at least {low}" if high is None else f"in {low}..{high}"
        raise ValueError(f"{name} must be {span}, not {shown(number)}")
    return number


def whole(name: str, value: Any) -> int:
    """An integer of any size.

    Raises:
        TypeError: for a bool or for anything but an integer.
    """
    try:
        if _is_single(value, "int"):
            return operator.index(value)
    except TypeError:
        # It has no `__index__`, or one that fails.
        pass
    raise TypeError(f"{name} must be an integer, not {shown(value)}")


def number(name: str, value: Any) -> float:
    """A number as a float, also NaN and infinity.

    Raises:
        TypeError: for a bool or for anything but a number.
        ValueError: for one that no float is near to.
    """
    kind = type(value)
    try:
        if _is_single(value, "int", "float") and (
            hasattr(kind, "__float__") or hasattr(kind, "__index__")
        ):
            return float(value)
    except OverflowError:
        raise ValueError(f"{name}={shown(value)} is outside the range of float64") from None
    except (TypeError, ValueError):
        # It has the method, and fails in it.
        pass
    raise TypeError(f"{name} must be a number, not {shown(value)}")


def _is_single(value: Any, *kinds: str) -> bool:
    """Whether a value may be one number: no bool, and of arrays, tensors and their scalars those
    without axes whose elements are of these kinds.

    The only entry of an array, and the real part of a complex number, would be taken silently.
    """
    if isinstance(value, bool):
        return False
    if isinstance(value, int | float):
        return True
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        return True
    return not getattr(value, "shape", ()) and any(kind in str(dtype) for kind in kinds)


def seed(value: Any) -> int:
    """A seed in 0..2**64-1; None takes a fresh one from the operating system."""
    if value is None:
        return secrets.randbits(64)
    try:
        return integer("seed", value, 0, U64)
    except ValueError:
        raise ValueError(
            f"seed must be in 0..2**64-1, not {shown(value)}; reduce it modulo 2**64"
        ) from None


def streams(value: Any, count: int) -> list[int]:
    """One stream a prompt; None gives the prompts' indices. The same stream may come twice."""
    if value is None:
        return list(range(count))
    items = entries("streams", value, "a sequence of integers")
    if len(items) != count:
        raise ValueError(
            f"streams has {len(items)} entries for {count} prompts; give one stream a prompt"
        )
    return [integer(f"streams[{row}]", item, 0, U32) for row, item in enumerate(items)]


def stops(value: Any, name: str = "stop") -> tuple[str, ...]:
    """Stop strings, none of them empty."""
    if value is None:
        return ()
    items = prompts(value, name, ordered=False)
    for row, item in enumerate(items):
        if not item:
            raise ValueError(f"{name}[{row}] is empty; a stop string needs at least one character")
    return tuple(items)


def eos(value: Any, vocab_size: int) -> tuple[int, ...]:
    """End-of-sequence tokens: one id or several, also in an array; an empty sequence is none.

    Raises:
        TypeError: for anything but an integer.
        ValueError: for a token that the model does not have.
    """
    try:
        return token_ids("eos_token_id", value, vocab_size)
    except ValueError as error:
        raise ValueError(f"{error}; give [] for no end token") from None


def fits(
    ids: Sequence[Sequence[int]],
    context: int | None,
    vocab_size: int,
    names: Sequence[str] | None = None,
) -> None:
    """Refuse prompts that leave no room in the context, or that the model has no tokens for."""
    for row, prompt in enumerate(ids):
        name = f"prompts[{row}]" if names is None else names[row]
        if context is not None and len(prompt) >= context:
            raise ValueError(
                f"{name} has {len(prompt)} tokens, but the model's context is {context} "
                f"and a new token needs room; shorten the prompt to {context - 1} tokens"
            )
        known(name, prompt, vocab_size)


def streamable(beam: Beam) -> None:
    """Refuse to stream a beam search that has no one best sequence to settle on."""
    reasons = [
        ("num_return_sequences", beam.num_return_sequences, beam.num_return_sequences > 1),
        ("num_beam_groups", beam.num_beam_groups, beam.num_beam_groups > 1),
        ("stochastic", beam.stochastic, beam.stochastic),
    ]
    for name, value, on in reasons:
        if on:
            raise ValueError(
                f"stream gives the one best sequence as it settles, which {name}={value} does not "
                "have; use generate, or leave it out"
            )


def known(name: str, ids: Sequence[int], vocab_size: int) -> None:
    """Refuse tokens that the model does not have."""
    if ids and max(ids) >= vocab_size:
        raise ValueError(
            f"{name} has token {max(ids)}, but the model knows 0..{vocab_size - 1}; "
            "the tokenizer is of another model"
        )


def boolean(name: str, value: Any) -> bool:
    """True or False, also NumPy's.

    Raises:
        TypeError: for anything else.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, not {shown(value)}")
    return bool(value)


def choice(name: str, value: Any) -> bool | None:
    """True or False, or None where it is left to the call.

    Raises:
        TypeError: for anything else.
    """
    return None if value is None else boolean(name, value)


def token_ids(name: str, value: Any, vocab_size: int) -> tuple[int, ...]:
    """One token id or several; None is none.

    Raises:
        TypeError: for anything but an integer.
        ValueError: for a token that the model does not have.
    """
    if value is None:
        return ()
    several = isinstance(value, Iterable) and getattr(value, "shape", None) != ()
    if not several or isinstance(value, str | bytes):
        return (integer(name, value, 0, vocab_size - 1),)
    items = entries(name, value, "a token id or a sequence of them", ordered=False)
    return tuple(
        integer(f"{name}[{row}]", item, 0, vocab_size - 1) for row, item in enumerate(items)
    )


def path(name: str, value: Any) -> str:
    """The path of a file or a folder, as text.

    Raises:
        TypeError: for anything but a string and what has a path in text, such as `pathlib.Path`.
        ValueError: for an empty one, and for one that no file system takes.
    """
    found = os.fspath(value) if isinstance(value, str | os.PathLike) else value
    if not isinstance(found, str):
        raise TypeError(
            f"{name} must be a string or a path, not {type(found).__name__} ({shown(value)})"
        )
    if not found:
        raise ValueError(f"{name} is empty; give the path of a file")
    if "\0" in found:
        raise ValueError(f"{name}={shown(found)} has a NUL character, which no path can have")
    try:
        # Only for its length, which no other program changes: who opens the file finds all else.
        os.stat(found)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ValueError(f"{name}={shown(found)} is longer than a path can be") from None
    except ValueError:
        # Lone surrogates that stand for no byte; who opens the file says so.
        pass
    return found
