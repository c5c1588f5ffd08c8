"""Odd JSON files: damage to the text of a file, token by token, and values of swapped types.

`damage.py` changes the data, and writes it again; here the text is changed, so that there are
fields twice, numbers in odd spellings, broken UTF-8 and whatever else no writer would write.
"""

from __future__ import annotations

import contextlib
import copy
import json
import random
import re
from collections.abc import Callable
from typing import Any

from damage import mutated, mutated_json_lines, mutated_weights, places

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null|[\[\]{}:,]')
_NUMBERS = [
    b"-0",
    b"-0.0",
    b"0e0",
    b"1e400",
    b"-1e400",
    b"1e-400",
    b"5e-324",
    b"1E+2",
    b"9" * 4301,
    b"1" + b"0" * 400,
    b"18446744073709551615",
    b"18446744073709551616",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"4294967296",
    b"2147483648",
    b"0." + b"3" * 5000,
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"+1",
    b".5",
    b"1.",
    b"0x10",
    b"1_000",
    b"01",
    b"\xef\xbc\x91",
]
_STRINGS = [
    b'""',
    b'" "',
    b'"\\u0000"',
    b'"a\\u0000b"',
    b'"\x00"',
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\\ud83d\\ude00"',
    b'"\xed\xa0\x80"',
    b'"\xc3"',
    b'"\xc0\xaf"',
    b'"\xf4\x90\x80\x80"',
    b'"\\u202e\\u2066"',
    b'"\\u001b[31m"',
    b'"\xef\xbb\xbf"',
    b'"\\x41"',
    b'"\\u12"',
    b'"line\nline"',
    b'"tab\ttab"',
    b'"__proto__"',
    b'"__class__"',
    b'"../../etc/passwd"',
    b'"/dev/zero"',
    b'"C:\\\\nul"',
    b'"{0.__class__}"',
    b'"%s%n"',
    b'"true"',
    b'"null"',
    b'"NaN"',
    b'"1"',
    b'"-1"',
    b'"1e999"',
]
_FRAGMENTS = [
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b"//x\n",
    b"/*x*/",
    b"#x\n",
    b"'a'",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b"\xc2\xa0",
    b"\x0b",
    b"\x00",
    b"\x1a",
    b"\xff\xfe",
    b"\xe2\x82",
    b"undefined",
    b"None",
    b"True",
]
_WHOLE = [
    b"",
    b"\n",
    b"\x00",
    b"\xef\xbb\xbf",
    b"\xff\xfe{\x00}\x00",
    b"\x1f\x8b\x08\x00",
    b"PK\x03\x04",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    b"<html>404</html>",
    b"0",
    b"-0",
    b"[[]]",
    b'{"": {}}',
    b"[{}]",
    b'"\\ud800"',
    b"true",
    b"1e999",
]


def swapped(rng: random.Random, data: Any) -> Any:
    """`data` with a value of another type in its place, that looks much like it."""
    data = copy.deepcopy(data)
    known = list(places(data)) if isinstance(data, dict | list) else []
    if not known:
        return [data]
    around, key = rng.choice(known)
    value = around[key]
    around[key] = rng.choice(_KIN)(value)
    if rng.random() < 0.3:
        # A whole subtree in the place of another one.
        (one, here), (other, there) = rng.choice(known), rng.choice(known)
        with contextlib.suppress(KeyError, IndexError, TypeError):
            one[here] = copy.deepcopy(other[there])
    return data


def _listed(value: Any) -> Any:
    return list(value.values()) if isinstance(value, dict) else [value]


def _numbered(value: Any) -> Any:
    return {str(i): one for i, one in enumerate(value)} if isinstance(value, list) else {"": value}


def _nested(value: Any) -> Any:
    for _ in range(65):
        value = {"a": value}
    return value


_KIN: list[Callable[[Any], Any]] = [
    _listed,
    _numbered,
    _nested,
    lambda value: [value, value],
    lambda value: [] if value else {},
    str,
    json.dumps,
    lambda value: None if value else 0,
    lambda value: float(value) if isinstance(value, int) else 0.5,
    lambda value: int(value) if isinstance(value, float | bool) else 2**64 - 1,
    lambda value: value == 1,
    lambda value: -value if isinstance(value, int | float) else -1,
    lambda value: value + 1 if isinstance(value, int | float) else 1,
    lambda value: [*value.items()] if isinstance(value, dict) else [[value, value]],
    lambda value: value[::-1] if isinstance(value, str | list) else "",
    lambda value: value * 3 if isinstance(value, str | list) else "a",
    lambda value: value.upper() if isinstance(value, str) else {"content": value},
    lambda value: f"{value}\0",
    lambda value: "x" * 10**6,
]


def _replaced(rng: random.Random, raw: bytes) -> bytes:
    """One to three tokens are other ones."""
    for _ in range(rng.randint(1, 3)):
        found = list(_TOKEN.finditer(raw))
        if not found:
            break
        token = rng.choice(found)
        fragment = rng.choice(_FRAGMENTS)
        other = rng.choice(found)[0]
        known = (rng.choice(_NUMBERS), rng.choice(_STRINGS), fragment, b"", other)
        new = rng.choice([*known, token[0] + fragment])
        raw = raw[: token.start()] + new + raw[token.end() :]
    return raw


def _keys(rng: random.Random, raw: bytes) -> bytes:
    """A field is there twice, or has another name."""
    keys = [*re.finditer(rb'"((?:[^"\\]|\\.)*)"\s*:', raw)]
    if not keys:
        return raw
    key = rng.choice(keys)
    name, other = key[1], rng.choice(keys)[1]
    value = rng.choice([b"null", b"0", b'"x"', b"[]", b"{}", b"1e999", *_NUMBERS, *_STRINGS])
    new = rng.choice(
        [
            b'"%s": %s, "%s":' % (name, value, name),
            b'"%s":' % other,
            b'"%s\\u0000":' % name,
            b'"%s ":' % name,
            b'"":',
            b'"\\u%04x%s":' % (name[0] if name else 0, name[1:]),
            b'"%s":' % name.swapcase(),
            b'"\xef\xbb\xbf%s":' % name,
        ]
    )
    return raw[: key.start()] + new + raw[key.end() :]


def _deep(rng: random.Random, raw: bytes) -> bytes:
    """A value is nested deeply, closed or not."""
    values = [*re.finditer(rb':\s*("(?:[^"\\]|\\.)*"|[\d.eE+-]+|true|false|null)', raw)]
    if not values:
        return raw
    value = rng.choice(values)
    levels = rng.choice([60, 64, 65, 130, 1000, 100_000])
    first, last = rng.choice([(b"[", b"]"), (b'{"a":', b"}"), (b"[{", b"}]"), (b'[{"a":', b"}]")])
    new = first * levels + value[1] + last * (levels if rng.random() < 0.7 else 0)
    return raw[: value.start(1)] + new + raw[value.end(1) :]


def _bytes(rng: random.Random, raw: bytes) -> bytes:
    """The file is cut, filled, doubled, or written in another way."""
    text = raw.decode("utf-8", "surrogateescape")
    place = rng.randrange(len(raw) + 1)
    return rng.choice(
        [
            lambda: rng.choice(_WHOLE),
            lambda: raw[:place],
            lambda: raw[place:],
            lambda: raw[:place] + b"\x00" * (len(raw) - place),
            lambda: b"\x00" * len(raw),
            lambda: b"\xff" * len(raw),
            lambda: raw + raw,
            lambda: raw.replace(b"\n", b"\r\n"),
            lambda: raw.replace(b"\n", b"\r"),
            lambda: raw.replace(b" ", b"\t"),
            lambda: raw.replace(b" ", b"\xc2\xa0"),
            lambda: b"\xef\xbb\xbf" * rng.randint(1, 2) + raw,
            lambda: raw[:place] + b"\xef\xbb\xbf" + raw[place:],
            lambda: text.encode("utf-16-le", "surrogatepass"),
            lambda: text.encode("utf-16-be", "surrogatepass"),
            lambda: text.encode("utf-32", "surrogatepass"),
            lambda: raw.replace(b'"', b"'"),
            lambda: raw.replace(b",", b",,", 1),
            lambda: raw.replace(b"}", b",}"),
            lambda: b" " * 10**6 + raw,
            lambda: raw + b"\n" * 10**5,
            lambda: raw.strip().strip(b"{}[]"),
            lambda: b"[" + raw + b"]",
            lambda: raw[:place] + rng.randbytes(rng.randint(1, 9)) + raw[place:],
            lambda: raw[:place] + rng.choice([b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xf0"]),
        ]
    )()


def odd(rng: random.Random, raw: bytes) -> bytes:
    """A JSON file with something odd in it."""
    how = rng.randrange(10)
    if how < 4:
        text = json.dumps(swapped(rng, json.loads(raw)), ensure_ascii=rng.random() < 0.7)
        return text.encode("utf-8", "surrogatepass")
    return rng.choice((_replaced, _replaced, _keys, _deep, _bytes))(rng, raw)


def odd_lines(rng: random.Random, raw: bytes) -> bytes:
    """A file of JSON lines with something odd in it."""
    lines = raw.splitlines(keepends=True)
    index = rng.randrange(len(lines))
    how = rng.randrange(8)
    if how < 4:
        lines[index] = odd(rng, lines[index].strip()) + b"\n"
    elif how == 4:
        lines[index] = lines[index].strip()
    elif how == 5:
        lines[index] = lines[index].replace(
            b"\n", rng.choice([b"\r\n", b"\n\n", b" \n", b"\x00\n"])
        )
    elif how == 6:
        lines.insert(index, rng.choice(lines))
    else:
        return _bytes(rng, raw)
    return b"".join(lines)


def odd_weights(rng: random.Random, raw: bytes) -> bytes:
    """A safetensors file with an odd header."""
    size = int.from_bytes(raw[:8], "little")
    header = odd(rng, raw[8 : 8 + size])
    whole = len(header).to_bytes(8, "little") + header + raw[8 + size :]
    return _bytes(rng, whole) if rng.random() < 0.1 else whole


def any_json(rng: random.Random, raw: bytes) -> bytes:
    """A JSON file that is damaged, or odd."""
    return rng.choice((mutated, odd))(rng, raw)


def any_json_lines(rng: random.Random, raw: bytes) -> bytes:
    """A file of JSON lines that is damaged, or odd."""
    return rng.choice((mutated_json_lines, odd_lines))(rng, raw)


def any_weights(rng: random.Random, raw: bytes) -> bytes:
    """A safetensors file that is damaged, or odd."""
    return rng.choice((mutated_weights, odd_weights))(rng, raw)
