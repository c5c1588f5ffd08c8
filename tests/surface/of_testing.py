"""`fastdecode.testing`."""

from __future__ import annotations

import numpy as np
from fastdecode import core, testing
from fastdecode.testing import rows as testing_rows
from hostile import either, flag, function, integer, number, optional, several

from surface.kinds import IDS, sample
from surface.target import target


def enter() -> None:
    row = np.array([2.0, 1.0, 0.0, -np.inf], np.float32)
    law = core.distribution(row)
    sampler = testing.core_sampler()
    batch = np.zeros((4, 5), np.float32)
    # NumPy makes numbers of the bools beside them.
    numbers = several(either(number, flag))
    matrix = either(several(numbers))
    seeded = {"seed": integer, "sampler": function, "row": numbers}
    many = {"sampler": sampler, "row": row, "draws": 10}
    target("testing.Bets", testing.Bets, {"expected": [0.5, 0.5]}, expected=numbers)
    target(
        "testing.Bets.add",
        testing.Bets.add,
        {"tokens": [0, 1]},
        tokens=IDS,
        of=lambda: testing.Bets([0.5, 0.5]),
    )
    target(
        "testing.check_batch_invariance",
        testing.check_batch_invariance,
        {"sampler": sampler, "logits": batch},
        **seeded,
        logits=matrix,
    )
    target(
        "testing.check_replay",
        testing.check_replay,
        {"sampler": sampler},
        **seeded,
        logits=optional(matrix),
    )
    target(
        "testing.check_cumulative",
        testing.check_cumulative,
        many | {"expected": law},
        **seeded,
        expected=numbers,
        key=optional(function),
    )
    target(
        "testing.check_fit", testing.check_fit, many | {"expected": law}, **seeded, expected=numbers
    )
    target(
        "testing.check_support",
        testing.check_support,
        many | {"allowed": law > 0},
        **seeded,
        allowed=several(flag),
    )
    weights = core.weights(row)
    target(
        "testing.check_ledger",
        testing.check_ledger,
        {"draws": core.sample(np.stack([row]), seed=1), "weights": weights},
        weights=IDS,
        draws=lambda value: hasattr(value, "tickets"),
    )
    target(
        "testing.check_ticket_map",
        testing.check_ticket_map,
        {"token_at": lambda tickets: np.zeros(len(tickets), int), "weights": [5]},
        weights=IDS,
        token_at=function,
    )
    target("testing.core_sampler", testing.core_sampler, {}, params=optional(sample))
    target("testing.torch_sampler", testing.torch_sampler, {}, processors=optional(function))
    for function_ in (testing_rows.adversarial, testing_rows.long_tail):
        target(
            f"testing.rows.{function_.__name__}",
            function_,
            {"vocabulary": 5},
            seed=integer,
            vocabulary=integer,
            mass=number,
        )
