"""Checks for samplers: fastdecode's, and anybody else's.

A sampler here is a callable `sampler(logits, seed, streams)` that gives one token for each row:
`logits` is a float32 array of shape (batch, vocab), `seed` an integer, and `streams` an int64
array of shape (batch,) that names each row's own stream of randomness. A sampler that has no such
names ignores them; it then cannot pass `check_batch_invariance`, and that is the finding.

>>> import numpy as np
>>> from fastdecode import core, testing
>>> row = np.array([2.0, 1.0, 0.0, -np.inf], np.float32)
>>> print(testing.check_fit(testing.core_sampler(), row, core.distribution(row)))
>>> print(testing.check_support(testing.torch_sampler(), row, core.weights(row) > 0))

Every check returns a `Result`, which is true where the check passed, with one sentence that states
what was observed, and the probability with which a correct sampler would fail it (0, or at most
1e-6 unless you choose another).

- `check_support`: a token of probability zero is never drawn.
- `check_fit`: the draws follow the expected probabilities; a betting test, valid however often
  one looks, so it stops as soon as it knows.
- `check_cumulative`: the same by the Dvoretzky-Kiefer-Wolfowitz bound, at a fixed number of draws.
- `check_replay`: the same seed gives the same tokens, and another seed or stream others.
- `check_batch_invariance`: a row's token depends on nothing else in the batch.
- `check_ticket_map`: every ticket of a sampler that exposes its tickets goes to the right token.
- `check_ledger`: draws that come with their tickets are the draws those tickets buy.

`fastdecode.testing.rows` has rows of logits that samplers go wrong on, and
`fastdecode.testing.strategies` makes more of them for hypothesis, which only that module needs.
"""

from fastdecode.testing import rows
from fastdecode.testing.batches import check_batch_invariance, check_replay
from fastdecode.testing.betting import Bets
from fastdecode.testing.draws import check_cumulative, check_fit, check_support
from fastdecode.testing.result import CheckFailed, Result
from fastdecode.testing.samplers import Sampler, core_sampler, torch_sampler
from fastdecode.testing.tickets import check_ledger, check_ticket_map

__all__ = [
    "Bets",
    "CheckFailed",
    "Result",
    "Sampler",
    "check_batch_invariance",
    "check_cumulative",
    "check_fit",
    "check_ledger",
    "check_replay",
    "check_support",
    "check_ticket_map",
    "core_sampler",
    "rows",
    "torch_sampler",
]
