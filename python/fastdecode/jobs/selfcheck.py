"""Self-checks: the package's promises, verified on this machine without a network."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdecode import core
from fastdecode.display import Column, Table, Tabular
from fastdecode.results.items import Items

_LEVELS = ("portable", "neon", "avx2", "avx512")
_MOST = 2**32 - 1
# Published with Random123: counter, key, output.
_PHILOX = (
    ([0] * 4, [0] * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ([_MOST] * 4, [_MOST] * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
)
# Draws of rng "v1", computed by a second implementation in exact fractions.
_DRAWS = (
    (core.Sample(), 20260101, [543, 434, 529, 316, 535, 636, 739, 5]),
    (
        core.Sample(temperature=0.7, top_k=50, top_p=0.9),
        7,
        [737, 150, 838, 120, 666, 898, 666, 838],
    ),
)
# SHA-256 of the weights of `_rows()`, which are whole numbers.
_WEIGHTS = "e85665c26b541b9a4e88b18301775b68dd9229db9c1c2aa2af67459431270a5e"
_PROMPTS = ("Once upon a time", "The old king", "Alice was very", "It was")
_NEW_TOKENS = 32
# SHA-256 of the demo model's greedy tokens after these prompts, as JSON.
_GREEDY = "bc39314f4b613aebbf717cf8cb48774204b846212ef5a3dae15cfd0e306e3174"
_DISTANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one check.

    Attributes:
        name: what was checked.
        passed: whether it holds; None where it could not be checked here.
        note: what was observed.
    """

    name: str
    passed: bool | None
    note: str


class SelfCheck(Tabular, Items[Check]):
    """All checks, in the order they ran."""

    @property
    def passed(self) -> bool:
        """Whether none has failed."""
        return all(check.passed is not False for check in self._items)

    def _table(self) -> Table:
        said = {True: "ok", False: "FAILED", None: "skipped"}
        items = self._items
        failed = sum(check.passed is False for check in items)
        return Table(
            [
                Column("", [said[check.passed] for check in items], code=True),
                Column("check", [check.name for check in items]),
                Column("what was seen", [check.note for check in items]),
            ],
            ["All is as promised." if self.passed else f"{failed} of {len(items)} checks failed."],
        )

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        return {name: [getattr(c, name) for c in self._items] for name in Check.__slots__}


def selfcheck() -> SelfCheck:
    """Check the random numbers, the law, the draws and the demo model on this machine.

    Needs no network and no torch. The statistical tests of the draws fail a correct sampler with a
    probability of at most 1e-6.
    """
    checks: list[Callable[[], Iterator[Check]]] = [_random, _law, _sampler, _engine]
    return SelfCheck(check for some in checks for check in some())


def _random() -> Iterator[Check]:
    right = [core.philox4x32(counter, key) == out for counter, key, out in _PHILOX]
    yield Check("random numbers", all(right), f"{sum(right)} of {len(right)} published vectors")
    row = (np.arange(1000, dtype=np.float32) * 37 % 101) / 16
    right = [
        core.multinomial(row, len(tokens), params, seed=seed).tolist() == tokens
        for params, seed, tokens in _DRAWS
    ]
    note = f"{sum(right)} of {len(right)} golden vectors of rng {core.RNG_VERSION}"
    yield Check("draws", all(right), note)


def _law() -> Iterator[Check]:
    digest = _sha256(core.weights(_rows()).astype("<u8").tobytes())
    note = "whole numbers of tickets, as committed" if digest == _WEIGHTS else f"digest {digest}"
    yield Check("weights", digest == _WEIGHTS, note)
    far = max(
        _distance(row)
        for size in (2, 1000, 50257, 300_000)
        for row in (_spread(size, 1.0), _spread(size, 12.0))
    )
    yield Check(
        "distance to softmax", far <= _DISTANCE, f"total variation {far:.1e}, at most {_DISTANCE:g}"
    )


def _sampler() -> Iterator[Check]:
    from fastdecode import testing

    sampler = testing.core_sampler()
    row = _spread(500, 6.0)
    for name, result in (
        ("fit of the draws", testing.check_fit(sampler, row, core.distribution(row))),
        ("same seed, same draws", testing.check_replay(sampler)),
        ("draws in any batch", testing.check_batch_invariance(sampler, _rows())),
    ):
        yield Check(name, bool(result), result.explanation)


def _engine() -> Iterator[Check]:
    from fastdecode._core import bfloat16_instruction
    from fastdecode.decoder import Decoder
    from fastdecode.models.engines import NATIVE_DTYPES

    if not (files("fastdecode") / "demo" / "model.safetensors").is_file():
        yield Check("demo model", None, "it is not built")
        return
    decoder = Decoder.from_pretrained("demo", engine="native")
    greedy = decoder.generate(
        list(_PROMPTS), max_new_tokens=_NEW_TOKENS, eos_token_id=[], progress=False
    )
    digest = _sha256(json.dumps([item.token_ids for item in greedy]).encode())
    tokens = sum(len(item.token_ids) for item in greedy)
    note = f"{tokens} greedy tokens, as committed" if digest == _GREEDY else f"digest {digest}"
    yield Check("demo model", digest == _GREEDY, note)
    ids = [i * 37 % decoder.engine.vocab_size for i in range(40)]
    seen: dict[str, dict[str, str]] = {dtype: {} for dtype in NATIVE_DTYPES}
    for dtype, of_dtype in seen.items():
        for level in _LEVELS:
            for threads in ("1", "2"):
                logits = _logits(ids, dtype, level, threads)
                if logits is not None:
                    of_dtype[f"{level}, {threads}"] = _sha256(logits.tobytes())
    levels = sorted({name.split(",")[0] for name in seen["float32"]}, key=_LEVELS.index)
    differing = [dtype for dtype, of_dtype in seen.items() if len(set(of_dtype.values())) != 1]
    same = f"not the same in {', '.join(differing)}" if differing else "the same bits"
    note = f"{', '.join(levels)}; 1 and 2 threads; {len(seen)} dtypes: {same}"
    yield Check("instruction sets and threads", not differing, note)
    agrees = bfloat16_instruction()
    found = {
        None: "this processor has none; multiply-adds take its place",
        True: "the same bits as multiply-adds",
        False: "not the bits of multiply-adds, which take its place",
    }
    yield Check("instruction for bfloat16", agrees is not False, found[agrees])


def _logits(ids: list[int], dtype: str, level: str, threads: str) -> NDArray[np.float32] | None:
    """The demo model's logits on this level and thread count; None where the machine lacks it."""
    from fastdecode.models.engines.native import NativeEngine

    with (
        _environment(FASTDECODE_LEVEL=level, FASTDECODE_THREADS=threads),
        as_file(files("fastdecode") / "demo") as folder,
    ):
        try:
            engine = NativeEngine.from_folder(folder, dtype)
        except ValueError as error:
            if "FASTDECODE_LEVEL" in str(error):
                return None
            raise
        (logits,) = engine.all_logits([ids])
        return logits


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _spread(size: int, scale: float) -> NDArray[np.float32]:
    """Logits spread over 0..scale, the same on every machine."""
    mixed = np.arange(1, size + 1, dtype=np.uint64) * np.uint64(2654435761) % np.uint64(2**24)
    row: NDArray[np.float32] = mixed.astype(np.float32) * np.float32(scale / 2**24)
    return row


def _rows() -> NDArray[np.float32]:
    return np.stack([_spread(5000, float(2**power)) for power in range(-2, 6)])


def _distance(row: NDArray[np.float32]) -> float:
    """Total variation between the law and the softmax in float64."""
    exact = np.exp(row.astype(np.float64) - float(row.max()))
    exact /= exact.sum()
    return float(np.abs(core.distribution(row) - exact).sum() / 2)


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
