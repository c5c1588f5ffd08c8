"""Damage to GGUF files: metadata of other types and values, tensors that lie, broken bytes."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# The numbers of the types of values, with how `struct` writes those of a fixed size.
FIXED = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "B",
    10: "Q",
    11: "q",
    12: "d",
}
STRING, ARRAY = 8, 9
_STRINGS = [
    *(b"", b" ", b"a", b"\0", b"a\0b", b"\xff", b"\xed\xa0\x80", b"\xe2\x96\x81", b"a b c"),
    *(b"a b", b"<0x41>", b"<0xZZ>", b"\xef\xbb\xbf", b"x" * 70_000, b"gpt2", b"llama", b"gemma3"),
    *(b"default", b"tekken", b"{{", b"{% for x in range(10**9) %}{% endfor %}", b"\x1b[31m"),
    *(b"{{ messages[0].content }}", b"\xf0\x9f\x90\x8a", b"\xcc\x81", b"yarn", b"linear"),
]
_INTEGERS = [0, 1, 2, 3, 7, 255, 2**15, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
_NUMBERS = [0.0, -0.0, 1.0, -1.0, 1e-45, 1e38, 1e308, float("inf"), float("-inf"), float("nan")]
_KEYS = [
    *("tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token", "tokenizer.chat_templates"),
    *("tokenizer.ggml.add_space_prefix", "tokenizer.ggml.unknown_token_id", "general.alignment"),
    *("tokenizer.chat_template.tool_use", "tokenizer.ggml.eot_token_id", "split.count", ""),
    *("tokenizer.ggml.pre", "tokenizer.ggml.scores", "llama.rope.scaling.type", "llama.unknown"),
    *("llama.rope.scaling.factor", "llama.expert_count", "llama.attention.sliding_window"),
]


@dataclass
class Parts:
    """The parts of a file.

    Attributes:
        entries: key, type and value of each metadata entry; an array is (type, values).
        tensors: name, sizes, encoding and offset of each tensor.
        data: what follows the header.
    """

    entries: list[list[Any]] = field(default_factory=list)
    tensors: list[list[Any]] = field(default_factory=list)
    data: bytes = b""

    @classmethod
    def of(cls, raw: bytes) -> Parts:
        """Those of a good file."""
        found, at = cls(), 24

        def take(form: str) -> Any:
            nonlocal at
            (value,) = struct.unpack_from("<" + form, raw, at)
            at += struct.calcsize("<" + form)
            return value

        def text() -> bytes:
            nonlocal at
            size = take("Q")
            at += size
            return raw[at - size : at]

        def value(kind: int) -> Any:
            if kind == STRING:
                return text()
            if kind == ARRAY:
                inner, count = take("I"), take("Q")
                return inner, [value(inner) for _ in range(count)]
            return take(FIXED[kind])

        _, tensors, entries = struct.unpack_from("<IQQ", raw, 4)
        for _ in range(entries):
            key, kind = text(), take("I")
            found.entries.append([key, kind, value(kind)])
        for _ in range(tensors):
            name, dimensions = text(), take("I")
            sizes = [take("Q") for _ in range(dimensions)]
            found.tensors.append([name, sizes, take("I"), take("Q")])
        found.data = raw[-(-at // 32) * 32 :]
        return found

    def raw(self) -> bytes:
        """The file."""
        whole = [b"GGUF", struct.pack("<IQQ", 3, len(self.tensors), len(self.entries))]
        for key, kind, value in self.entries:
            whole += [_text(key), struct.pack("<I", kind), _value(kind, value)]
        for name, sizes, encoding, offset in self.tensors:
            whole += [_text(name), struct.pack("<I", len(sizes))]
            whole += [struct.pack(f"<{len(sizes)}Q", *sizes), struct.pack("<IQ", encoding, offset)]
        header = b"".join(whole)
        return header + bytes(-len(header) % 32) + self.data


def _text(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _value(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return _text(value)
    if kind == ARRAY:
        inner, values = value
        return struct.pack("<IQ", inner, len(values)) + b"".join(_value(inner, v) for v in values)
    if kind not in FIXED:
        return bytes(8)
    form = FIXED[kind]
    if form in "fd":
        return struct.pack("<" + form, value if abs(value) < 1e38 or form == "d" else value * 1e300)
    size = struct.calcsize(form)
    return (int(value) % 2 ** (8 * size)).to_bytes(size, "little")


def any_value(rng: random.Random, kind: int, level: int = 0) -> Any:
    """A value of a type."""
    if kind == STRING:
        return rng.choice(_STRINGS)
    if kind in (6, 12):
        return rng.choice(_NUMBERS)
    if kind == ARRAY:
        inner = rng.choice([*FIXED, STRING, ARRAY, 13, 99]) if level < 10 else 4
        count = rng.choice([0, 1, 2, 3, 300]) if inner != ARRAY else rng.choice([0, 1, 2])
        return inner, [any_value(rng, inner, level + 1) for _ in range(count)]
    return rng.choice(_INTEGERS)


def _change_value(rng: random.Random, parts: Parts) -> None:
    entry = rng.choice(parts.entries)
    kind = rng.choice([entry[1], entry[1], *FIXED, STRING, ARRAY, 13])
    entry[1:] = [kind, any_value(rng, kind)]


def _change_array(rng: random.Random, parts: Parts) -> None:
    arrays = [entry for entry in parts.entries if entry[1] == ARRAY]
    if not arrays:
        return
    entry = rng.choice(arrays)
    inner, values = entry[2][0], list(entry[2][1])
    place = rng.randrange(len(values) + 1)
    how = rng.randrange(8)
    if how == 0 or not values:
        values.insert(place, any_value(rng, inner))
    elif how == 1:
        del values[place % len(values)]
    elif how == 2:
        values[place % len(values)] = rng.choice(values)
    elif how == 3:
        rng.shuffle(values)
    elif how == 4:
        values *= rng.choice([0, 2])
    elif how == 5:
        inner = rng.choice([*FIXED, STRING])
        values = [any_value(rng, inner) for _ in values]
    else:
        values[place % len(values)] = any_value(rng, inner)
    entry[2] = (inner, values)


def _change_entries(rng: random.Random, parts: Parts) -> None:
    entry = rng.choice(parts.entries)
    how = rng.randrange(5)
    if how == 0:
        parts.entries.remove(entry)
    elif how == 1:
        parts.entries.append(list(entry))
    elif how == 2:
        entry[0] = rng.choice([*(key.encode() for key in _KEYS), *_STRINGS, entry[0] + b"\0"])
    else:
        kind = rng.choice([*FIXED, STRING, ARRAY])
        parts.entries.append([rng.choice(_KEYS).encode(), kind, any_value(rng, kind)])


def _change_tensors(rng: random.Random, parts: Parts) -> None:
    tensor = rng.choice(parts.tensors)
    how = rng.randrange(8)
    sizes = tensor[1]
    if how == 0:
        parts.tensors.remove(tensor)
    elif how == 1:
        parts.tensors.append(list(tensor))
    elif how == 2:
        names = [other[0] for other in parts.tensors]
        tensor[0] = rng.choice([*names, b"rope_freqs.weight", b"output.weight", *_STRINGS])
    elif how == 3:
        tensor[2] = rng.choice([0, 1, 2, 3, 4, 8, 10, 12, 14, 15, 20, 24, 26, 30, 39, 99])
    elif how == 4:
        tensor[3] = rng.choice([*_INTEGERS, 32, 33, 2**63 - 32, len(parts.data)])
    elif how == 5:
        sizes.reverse()
    elif how == 6:
        sizes[:] = rng.choice([[], [1] * 4, [1] * 5, [*sizes, 1], [1, *sizes], sizes * 2])
    elif sizes:
        sizes[rng.randrange(len(sizes))] = rng.choice([*_INTEGERS, 32, 40])


def _change_data(rng: random.Random, parts: Parts) -> None:
    place = rng.randrange(len(parts.data))
    cut = parts.data[:place]
    parts.data = rng.choice(
        [cut, cut + b"\xff" * (len(parts.data) - place), parts.data + cut, b"", parts.data[place:]]
    )


_CHANGES: list[Callable[[random.Random, Parts], None]] = [
    *(_change_value, _change_value, _change_array, _change_array),
    *(_change_entries, _change_tensors, _change_data),
]


def _broken(rng: random.Random, raw: bytes, header: int) -> bytes:
    """Bytes that no parts have."""
    some = bytearray(raw)
    how = rng.randrange(6)
    if how == 0:
        return raw[: rng.randrange(len(raw))]
    if how == 1:
        return rng.choice([b"", b"GGUF", b"\0" * len(raw), raw[::-1], b"\xef\xbb\xbf" + raw])
    if how == 2:
        at = rng.randrange(header - 8)
        some[at : at + 8] = rng.choice(_INTEGERS).to_bytes(8, "little")
        return bytes(some)
    if how == 3:
        at = rng.randrange(header)
        return raw[:at] + rng.randbytes(rng.randint(1, 8)) + raw[at:]
    for _ in range(rng.randint(1, 4)):
        some[rng.randrange(header)] ^= 1 << rng.randrange(8)
    return bytes(some)


def mutated_gguf(rng: random.Random, raw: bytes) -> bytes:
    """A GGUF file with one thing wrong, mostly."""
    parts = Parts.of(raw)
    if rng.random() < 0.25:
        return _broken(rng, raw, len(raw) - len(parts.data))
    for _ in range(rng.choice([1, 1, 1, 2])):
        rng.choice(_CHANGES)(rng, parts)
        if not parts.entries or not parts.tensors or not parts.data:
            break
    return parts.raw()
