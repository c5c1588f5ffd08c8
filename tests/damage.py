"""Damage to JSON files: values of other types, missing and unknown names, nesting, broken text."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

VALUES: list[Any] = [
    None,
    True,
    "x",
    "",
    "\ud800",
    -1,
    0,
    2**40,
    2**64,
    10**30,
    10**400,
    1.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
    [],
    {},
    [[]],
    {"a": {"b": []}},
]


def deep(levels: int) -> Any:
    """Arrays in arrays."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with every key or index in it."""
    keys = data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
    for key in keys:
        yield data, key
        yield from places(data[key])


def damaged(rng: random.Random, data: Any) -> bytes:
    """`data` as JSON with one or two things wrong, mostly."""
    data = copy.deepcopy(data)
    for _ in range(rng.choice([1, 1, 1, 2])):
        known = list(places(data))
        if not known:
            break
        # One of the outer places as often as one of the many inner ones.
        outer = [place for place in known if place[0] is data or isinstance(place[1], str)]
        around, key = rng.choice(outer if outer and rng.random() < 0.5 else known)
        how = rng.randrange(8)
        if how == 0:
            del around[key]
        elif how == 1 and isinstance(around, dict):
            around[rng.choice(["unknown", "\ud800", "a b", "x" * 1000])] = rng.choice(VALUES)
        elif how == 1:
            around.append(around[key])
        elif how == 2:
            around[key] = deep(rng.choice([1, 5, 70, 300]))
        else:
            around[key] = copy.deepcopy(rng.choice(VALUES))
    return json.dumps(data).encode()


def broken(rng: random.Random, raw: bytes) -> bytes:
    """Text with something wrong that no data can have."""
    place = rng.randrange(len(raw))
    how = rng.randrange(9)
    if how == 0:
        return raw[:place]
    if how == 1:
        return b"\xef\xbb\xbf" + raw
    if how == 2:
        return raw[:place] + b"\xff" + raw[place:]
    if how == 3:
        return raw.decode().encode("utf-16")
    if how == 4:
        return raw[:place] + rng.choice([b"[", b"}", b'"', b",", b"\\", b"\0"]) + raw[place + 1 :]
    if how == 5:
        return raw.replace(b": ", b": " + b"[" * 100_000, 1)
    if how == 6:
        digits = [i for i, byte in enumerate(raw) if 48 <= byte < 58]
        here = rng.choice(digits)
        return raw[:here] + b"7" * 5000 + raw[here:]
    if how == 7:
        return rng.choice([b"", b" ", b"null", b"[]", b"{}", b"5", b'"x"', b"NaN", b"\n\n"])
    return raw + rng.choice([b"x", b"{}", b"\0" * 40, b"]"])
