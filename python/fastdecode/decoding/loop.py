"""The decode loop: rows in, a token a row and step out, until each row ends.

An engine gives logits, the core chooses tokens, and this loop keeps the books. `generate` and
`stream` are both built on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fastdecode import core
from fastdecode.decoding.batch import Group
from fastdecode.decoding.request import Plan, Prompt, Row, Timer
from fastdecode.decoding.scheduler import Waiting, by_length, in_order
from fastdecode.models.engines.base import Engine, JoinableRows, Rows
from fastdecode.options.strategies import Beam, choose
from fastdecode.results import trace as traces

# Rows that wait are let in once this share of the batch is free, so that several prompts go
# through the model at once. Measured: benchmarks/ragged.py.
_REFILL = 1 / 4


class Decoding:
    """The decode of a plan; iterate over it to run it.

    After each step come the rows that took a token. They are updated in place and live on in the
    next step unless their `reason` is set; `under_way` has all that live.

    Where the engine lets rows join, those that wait take the places of those that end; elsewhere a
    batch begins when the one before has ended. Either way memory does not grow with the number of
    prompts.
    """

    def __init__(self, engine: Engine, plan: Plan, timer: Timer) -> None:
        """Decode `plan`, whose strategy is no beam search."""
        if isinstance(plan.strategy, Beam):
            raise TypeError("a beam search is run by fastdecode.decoding.beam_search.BeamSearch")
        self._engine = engine
        self._plan = plan
        self._strategy = plan.strategy
        self._timer = timer
        self._waiting = Waiting(plan, in_order(plan) if engine.joins else by_length(plan))
        self._group = Group.of(plan, [])
        self._rows: Rows | None = None

    def __iter__(self) -> Iterator[list[Row]]:
        """Run until each row has ended."""
        while True:
            self._drop_ended()
            fresh = self._waiting.take(self._room(), self._group.rows)
            if fresh:
                yield self._begin(fresh)
            elif self._group.rows:
                yield self._step()
            else:
                return

    def under_way(self) -> list[Row]:
        """The rows that have begun and have not been dropped; some may have ended just now."""
        return self._group.rows

    def _drop_ended(self) -> None:
        rows = self._group.rows
        going = np.array([i for i, row in enumerate(rows) if row.reason is None], dtype=np.int64)
        if len(going) == len(rows):
            return
        clock = perf_counter()
        if len(going) == 0:
            self._rows = None
        elif self._rows is not None:
            self._rows.keep(going)
        self._timer.forward += perf_counter() - clock
        self._group = self._group.take(going)

    def _room(self) -> int:
        """How many rows may begin now."""
        free = self._plan.batch_size - len(self._group.rows)
        if not self._group.rows:
            return free
        if not self._engine.joins:
            return 0
        worth = max(1, int(self._plan.batch_size * _REFILL))
        return free if free >= min(worth, len(self._waiting)) else 0

    def _begin(self, rows: list[Row]) -> list[Row]:
        """Send prompts through the model; their rows take their first token."""
        prompts, repeats = _unique(rows)
        ids = [prompt.ids for prompt in prompts]
        clock = perf_counter()
        if self._rows is None:
            self._rows, logits = self._engine.start(ids, repeats)
        else:
            logits = cast(JoinableRows, self._rows).join(ids, repeats)
        self._timer.forward += perf_counter() - clock
        fresh = Group.of(self._plan, rows)
        self._choose(fresh, logits)
        self._group = self._group.join(fresh)
        return rows

    def _step(self) -> list[Row]:
        """Send the last tokens through the model; all rows take their next one."""
        group, rows = self._group, self._rows
        if rows is None:
            raise RuntimeError("there are no rows to step")
        clock = perf_counter()
        logits = rows.step(np.array([row.ids[-1] for row in group.rows], dtype=np.int64))
        self._timer.forward += perf_counter() - clock
        self._choose(group, logits)
        return group.rows

    def _choose(self, group: Group, logits: Any) -> None:
        """Each row of `group` takes the token that the core chooses for it."""
        plan = self._plan
        clock = perf_counter()
        place = group.place(plan)
        if plan.trace:
            tokens, mus, seen = traces.choose(logits, self._strategy, plan.pieces, **place)
            for row, trace in zip(group.rows, seen, strict=True):
                row.traces.append(trace)
        else:
            tokens, mus = choose(logits, self._strategy, **place)
        if plan.logprobs is not None:
            _note_logprobs(group.rows, logits, tokens, plan.logprobs)
        self._timer.core += perf_counter() - clock
        ended = group.positions >= group.last
        for eos in plan.eos_ids:
            ended |= tokens == eos
        group.positions = group.positions + np.uint32(1)
        group.mus = mus
        _advance(plan, group.rows, tokens, ended)


def _advance(
    plan: Plan, live: list[Row], tokens: NDArray[np.int64], ended: NDArray[np.bool_]
) -> None:
    """Give each row its token, its new text, and the reason if it ends here."""
    for row, token, last in zip(live, tokens.tolist(), ended.tolist(), strict=True):
        row.ids.append(token)
        if last:
            row.reason = "eos" if token in plan.eos_ids else row.prompt.limit_reason
        if row.cursor is not None and row.cutter is not None and row.pieces is not None:
            piece = row.cutter.feed(row.cursor.feed(token))
            if last and not row.cutter.stopped:
                piece += row.cutter.feed(row.cursor.finish())
                piece += row.cutter.flush()
            row.pieces.append(piece)
            if row.cutter.stopped:
                row.reason = "stop"


def _note_logprobs(live: list[Row], logits: Any, tokens: NDArray[np.int64], count: int) -> None:
    for row, logprob in zip(live, core.token_logprobs(logits, tokens).tolist(), strict=True):
        row.logprobs.append(logprob)
    if count == 0:
        return
    values, ids = core.top_k(logits, count)
    logprobs = values.astype(np.float64) - core.logsumexp(logits)[:, None]
    for row, some, best in zip(live, ids.tolist(), logprobs.tolist(), strict=True):
        row.alternatives.append(list(zip(some, best, strict=True)))


def _unique(live: list[Row]) -> tuple[list[Prompt], list[int]]:
    """The prompts of neighbouring rows, and how many rows each has."""
    prompts: list[Prompt] = []
    repeats: list[int] = []
    for row in live:
        if prompts and prompts[-1] is row.prompt:
            repeats[-1] += 1
        else:
            prompts.append(row.prompt)
            repeats.append(1)
    return prompts, repeats
