"""Scoring: log-probabilities of given tokens, each given all before it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdecode import core
from fastdecode.models.engines.base import Engine
from fastdecode.options import checks

# A number whose exponential is zero in float32.
_SMALLEST = np.float32(-1e4)


@dataclass(frozen=True, slots=True)
class Task:
    """Tokens to score, and the tokens before them, which are the condition.

    `name` is used in messages, such as "texts[3]".
    """

    name: str
    before: Sequence[int]
    tokens: Sequence[int]

    @property
    def first(self) -> int:
        """The index, in condition and tokens together, of the first token that can be scored."""
        return max(len(self.before), 1)

    @property
    def unscored(self) -> int:
        """How many of `tokens` have nothing before them: 0 or 1."""
        return min(self.first - len(self.before), len(self.tokens))


@dataclass(slots=True)
class Found:
    """The scores of the tokens of a task; None for a token with nothing before it."""

    logprobs: list[float | None]
    ranks: list[int | None]
    alternatives: list[list[tuple[int, float]] | None]
    entropies: list[float | None]

    @classmethod
    def nothing(cls, count: int) -> Found:
        """Empty scores for `count` tokens."""
        return cls([None] * count, [None] * count, [None] * count, [None] * count)


@dataclass(frozen=True, slots=True)
class _Window:
    """A pass over tokens `start` to `end` that scores tokens `first` to `end`, inclusive."""

    task: int
    start: int
    end: int
    first: int


def run(
    engine: Engine,
    tasks: Sequence[Task],
    *,
    stride: int | None = None,
    alternatives: int = 0,
    done: Callable[[], object] = lambda: None,
) -> list[Found]:
    """Score every task, short ones first, so that a batch has similar lengths.

    Args:
        engine: the model.
        tasks: the tasks, each checked by `check`.
        stride: new tokens of each window, where a task is longer than the context.
        alternatives: how many of the likeliest tokens to record at each position.
        done: called as each task is finished.
    """
    found = [Found.nothing(len(task.tokens)) for task in tasks]
    windows = [w for i, task in enumerate(tasks) for w in _windows(i, task, engine.context, stride)]
    windows.sort(key=lambda w: w.end - w.start)
    left = [0] * len(tasks)
    for window in windows:
        left[window.task] += 1
    for _ in range(left.count(0)):
        done()
    whole = [[*task.before, *task.tokens] for task in tasks]
    sequences = [whole[w.task][w.start : w.end] for w in windows]
    for window, logits in zip(windows, engine.all_logits(sequences), strict=True):
        targets = whole[window.task][window.first : window.end + 1]
        rows = logits[window.first - 1 - window.start :]
        place = window.first - len(tasks[window.task].before)
        _note(found[window.task], place, rows, targets, alternatives)
        left[window.task] -= 1
        if not left[window.task]:
            done()
    return found


def check(tasks: Sequence[Task], context: int | None, stride: int | None) -> None:
    """Refuse tasks that the context has no room for.

    Raises:
        ValueError: with the task's name and what to do.
    """
    if context is None:
        return
    if stride is not None and stride > context:
        raise ValueError(
            f"stride must be at most the model's context, {context}, "
            f"not {checks.shown(stride)}; "
            f"{max(1, context // 2)} is usual"
        )
    for task in tasks:
        length = len(task.before) + len(task.tokens)
        if length - 1 <= context or stride is not None:
            continue
        raise ValueError(
            f"{task.name} has {length} tokens, but the model's context is {context}; "
            "shorten the text or its context, or give "
            f"stride={max(1, context // 2)} to score it in overlapping windows"
        )


def _windows(index: int, task: Task, context: int | None, stride: int | None) -> Iterator[_Window]:
    """Windows that score each token once, each with as much context as fits."""
    last = len(task.before) + len(task.tokens) - 1
    first = task.first
    if first > last:
        return
    size = last if context is None else context
    step = size if stride is None else stride
    end = min(last, max(size, first))
    while True:
        yield _Window(index, max(0, end - size), end, first)
        if end == last:
            return
        first, end = end + 1, min(last, end + step)


def _note(found: Found, place: int, logits: Any, targets: Sequence[int], alternatives: int) -> None:
    """Record the scores of `targets`, from position `place` on, by their rows of logits."""
    places = slice(place, place + len(targets))
    found.logprobs[places] = core.token_logprobs(logits, targets).tolist()
    rows = _array(logits)
    found.ranks[places] = _ranks(rows, targets)
    found.entropies[places] = _entropies(rows)
    if alternatives:
        values, ids = core.top_k(logits, alternatives)
        logprobs = values.astype(np.float64) - core.logsumexp(logits)[:, None]
        found.alternatives[places] = [
            list(zip(some, best, strict=True))
            for some, best in zip(ids.tolist(), logprobs.tolist(), strict=True)
        ]


def _ranks(rows: NDArray[np.float32], targets: Sequence[int]) -> list[int]:
    """Ranks in the order of the core: larger logit first, then lower token id."""
    return [
        1
        + int(np.count_nonzero(row > row[token]))
        + int(np.count_nonzero(row[:token] == row[token]))
        for row, token in zip(rows, targets, strict=True)
    ]


def _entropies(rows: NDArray[np.float32]) -> list[float]:
    """The entropy in nats of the softmax of each row."""
    found: list[float] = []
    # One row at a time, in the same memory, stays in the processor's cache.
    logs, shares = np.empty((2, rows.shape[1]), dtype=np.float32)
    with np.errstate(over="ignore"):
        for row in rows.astype(np.float32, copy=False):
            np.subtract(row, row.max(), out=logs)
            # A banned token has probability 0, and 0 times -inf would be NaN.
            np.maximum(logs, _SMALLEST, out=logs)
            np.exp(logs, out=shares)
            total = float(shares.sum())
            found.append(max(math.log(total) - float(shares @ logs) / total, 0.0))
    return found


def _array(logits: Any) -> NDArray[np.float32]:
    if isinstance(logits, np.ndarray):
        return logits
    array: NDArray[np.float32] = logits.float().numpy()
    return array
