"""Damage to files: values of other types, other names, nesting, broken text and bytes."""

from __future__ import annotations

import copy
import json
import os
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# How often each kind of file is damaged; CONTRIBUTING has the command for more.
DAMAGES = int(os.environ.get("FASTDECODE_DAMAGES", "0"))
VALUES: list[Any] = [
    None,
    True,
    False,
    "x",
    "",
    "\ud800",
    "x" * 5000,
    -1,
    0,
    1,
    7,
    2**31,
    2**40,
    2**63,
    2**64,
    2**70,
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
    [1, 2],
    {"a": {"b": []}},
]
# Names that mean something in some file.
NAMES = ["unknown", "\ud800", "a b", "x" * 1000, "auto_map", "quantization_config", "text_config"]


def deep(levels: int) -> Any:
    """Arrays in arrays."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def places(data: Any, most: int = 2000) -> Iterator[tuple[Any, Any]]:
    """Every container with every key or index in it, of large ones with the first few."""
    keys = list(data) if isinstance(data, dict) else range(len(data))
    for key in keys[:most]:
        yield data, key
        if isinstance(data[key], dict | list):
            yield from places(data[key], 50)


def damaged(rng: random.Random, data: Any) -> bytes:
    """`data` as JSON with one or two things wrong, mostly."""
    data = copy.deepcopy(data)
    twice = None
    for _ in range(rng.choice([1, 1, 1, 2])):
        known = list(places(data)) if isinstance(data, dict | list) else []
        if not known:
            break
        # One of the outer places as often as one of the many inner ones.
        outer = [place for place in known if place[0] is data or isinstance(place[1], str)]
        around, key = rng.choice(outer if outer and rng.random() < 0.5 else known)
        how = rng.randrange(10)
        if how == 0:
            del around[key]
        elif how == 1 and isinstance(around, dict):
            around[rng.choice(NAMES)] = rng.choice(VALUES)
        elif how == 1:
            around.append(around[key])
        elif how == 2:
            around[key] = deep(rng.choice([1, 5, 70, 300]))
        elif how == 3 and isinstance(around, dict) and isinstance(key, str):
            around[rng.choice([key + "x", key.upper(), *NAMES])] = around.pop(key)
        elif how == 4 and isinstance(around, dict) and isinstance(key, str):
            twice = key
        else:
            around[key] = copy.deepcopy(rng.choice(VALUES))
    text = json.dumps(data, indent=rng.choice([None, None, 1]))
    if twice is not None:
        # A field that is there twice, with two values.
        name = json.dumps(twice)
        text = text.replace(f"{name}: ", f"{name}: {json.dumps(rng.choice(VALUES))}, {name}: ", 1)
    if rng.random() < 0.1:
        number = rng.choice(["1e400", "-1e999", "0x1", "01"])
        text = re.sub(r"(?<=: )\d+", number, text, count=1)
    return text.encode()


def broken(rng: random.Random, raw: bytes) -> bytes:
    """Text with something wrong that no data can have."""
    place = rng.randrange(len(raw))
    how = rng.randrange(11)
    if how == 0:
        return raw[:place]
    if how == 1:
        return b"\xef\xbb\xbf" + raw
    if how == 2:
        return raw[:place] + b"\xff" + raw[place:]
    if how == 3:
        return raw.decode(errors="replace").encode("utf-16")
    if how == 4:
        return raw[:place] + rng.choice([b"[", b"}", b'"', b",", b"\\", b"\0"]) + raw[place + 1 :]
    if how == 5:
        return raw.replace(b": ", b": " + b"[" * 100_000, 1)
    if how == 6:
        digits = [i for i, byte in enumerate(raw) if 48 <= byte < 58]
        here = rng.choice(digits or [0])
        return raw[:here] + b"7" * 5000 + raw[here:]
    if how == 7:
        return rng.choice([b"", b" ", b"null", b"[]", b"{}", b"5", b'"x"', b"NaN", b"\n\n"])
    if how == 8:
        flipped = bytearray(raw)
        for _ in range(rng.randint(1, 4)):
            flipped[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        return bytes(flipped)
    if how == 9:
        some = bytearray(raw)
        for _ in range(rng.randint(1, 4)):
            some[rng.randrange(len(raw))] = rng.choice(b'09-{}[]":,.ex\x00\xff \\u')
        return bytes(some)
    return raw + rng.choice([b"x", b"{}", b"\0" * 40, b"]"])


def mutated(rng: random.Random, raw: bytes) -> bytes:
    """A JSON file with other data, or with broken text."""
    return damaged(rng, json.loads(raw)) if rng.random() < 0.7 else broken(rng, raw)


def mutated_lines(rng: random.Random, raw: bytes) -> bytes:
    """A text file with a line that is broken, missing, repeated or in another place."""
    lines = raw.splitlines(keepends=True)
    index, how = rng.randrange(len(lines)), rng.randrange(8)
    if how == 0:
        del lines[index]
    elif how == 1:
        lines.insert(rng.randrange(len(lines)), lines[index])
    elif how == 2:
        lines[index] = lines[index].replace(b" ", b"  ", 1) + rng.choice(
            [b"\n", b" \n", b"a b c\n"]
        )
    elif how == 3:
        lines[index] = b" ".join(reversed(lines[index].split())) + b"\n"
    elif how == 4:
        lines.insert(index, rng.choice([b"\r\n", b"\x00\n", b"\xe2\x80\xa8 x\n"]))
    else:
        return broken(rng, raw)
    return b"".join(lines)


def mutated_json_lines(rng: random.Random, raw: bytes) -> bytes:
    """A file of JSON lines with one line that is damaged."""
    lines = raw.splitlines(keepends=True)
    index = rng.randrange(len(lines))
    lines[index] = mutated(rng, lines[index].strip()) + b"\n"
    return b"".join(lines) if rng.random() < 0.9 else broken(rng, raw)


def mutated_weights(rng: random.Random, raw: bytes) -> bytes:
    """A safetensors file with another header, and at times another length before it."""
    size = int.from_bytes(raw[:8], "little")
    header = mutated(rng, raw[8 : 8 + size])
    lies = [size, 0, 7, len(raw), 2**31, 2**63, 2**64 - 1, 10**8, rng.randrange(2**64)]
    length = rng.choice(lies) if rng.random() < 0.2 else len(header)
    whole = length.to_bytes(8, "little") + header + raw[8 + size :]
    return broken(rng, whole) if rng.random() < 0.1 else whole


Mutation = Callable[[random.Random, bytes], bytes]


def refusals(
    path: Path, mutation: Mutation, attempt: Callable[[], str | None], count: int, seed: str
) -> list[tuple[bytes, str]]:
    """Damages a file in many ways, each time from what it contains now.

    Args:
        path: the file.
        mutation: makes the damage.
        attempt: reads the file, and returns the message of a refusal, or None for a result.
        count: the number of ways.
        seed: what the damage depends on.

    Returns:
        The beginning of the damaged file and the message, for each refusal.

    Raises:
        AssertionError: where the attempt raises an error.
    """
    rng, good, found = random.Random(seed), path.read_bytes(), []
    for _ in range(count):
        raw = mutation(rng, good)
        path.write_bytes(raw)
        try:
            message = attempt()
        except Exception as error:
            raise AssertionError(f"{raw[:3000]!r}: {type(error).__name__}: {error}") from error
        if message is not None:
            found.append((raw[:3000], message))
    print(f"{path.name}: {len(found)} of {count} refused")
    return found
