"""A right sampler in a few lines of NumPy, and the same with one bug each.

The bugs are those that samplers really have had; `test_testing.py` shows that
`fastdecode.testing` catches every one, and how many draws that takes.
"""

import numpy as np

SCALE = 2.0**20


def mix(words):
    """Well-mixed 64-bit words from counters (splitmix64)."""
    with np.errstate(over="ignore"):
        z = np.asarray(words, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class Right:
    """Integer weights, one ticket a row from (seed, stream), a walk along the cumulative sum."""

    def weights(self, row):
        finite = row - row[np.isfinite(row)].max()
        return np.floor(np.exp(finite.astype(np.float64)) * SCALE).astype(np.uint64)

    def tickets(self, total, seed, streams, logits):
        words = mix(mix(np.uint64(seed)) + streams.astype(np.uint64))
        return (words >> np.uint64(32)) * np.uint64(total) >> np.uint64(32)

    def pick(self, weights, tickets):
        return np.searchsorted(np.cumsum(weights), tickets, side="right")

    def __call__(self, logits, seed, streams):
        if logits.strides[0] == 0:
            weights = self.weights(logits[0])
            tickets = self.tickets(weights.sum(), seed, streams, logits)
            return self.pick(weights, tickets)
        tokens = []
        for row in range(len(logits)):
            weights = self.weights(logits[row])
            tickets = self.tickets(weights.sum(), seed, streams, logits)
            tokens.append(int(self.pick(weights, tickets[row : row + 1])[0]))
        return np.array(tokens)

    def token_at(self, row):
        """The map from tickets to tokens, for `check_ticket_map`."""
        return lambda tickets: self.pick(self.weights(row), tickets)


class OffByOneInTheTicket(Right):
    """`>=` for `>`: each token owns the ticket after its last, and not its first."""

    def pick(self, weights, tickets):
        return np.searchsorted(np.cumsum(weights), tickets, side="left")


class OffByOneInTheCumulativeSum(Right):
    """The sum before the token instead of the sum with it."""

    def pick(self, weights, tickets):
        before = np.cumsum(weights) - weights
        return np.minimum(np.searchsorted(before, tickets, side="right"), len(weights) - 1)


class Float32CumulativeSum(Right):
    """Probabilities added up in single precision."""

    def pick(self, weights, tickets):
        cumulative = np.cumsum((weights / weights.sum()).astype(np.float32), dtype=np.float32)
        fractions = tickets / weights.sum() * cumulative[-1]
        return np.minimum(np.searchsorted(cumulative, fractions, side="right"), len(weights) - 1)

    def weights(self, row):
        # Fine enough for a long tail to have weights at all.
        return np.floor(np.exp(row.astype(np.float64) - row.max()) * 2.0**31).astype(np.uint64)

    def tickets(self, total, seed, streams, logits):
        words = mix(mix(np.uint64(seed)) + streams.astype(np.uint64))
        return (words / 2.0**64 * float(total)).astype(np.uint64)


class LastTokenDropped(Right):
    """A loop that ends one early."""

    def weights(self, row):
        weights = super().weights(row)
        weights[-1] = 0
        return weights


class Tilted(Right):
    """The first half of the tokens has a little too much weight."""

    def __init__(self, factor):
        self.factor = factor

    def weights(self, row):
        weights = super().weights(row)
        half = len(weights) // 2
        weights[:half] = np.round(weights[:half] * self.factor)
        return weights


class TiesAtTheBorder(Right):
    """Top-k that keeps whatever equals the k-th largest logit."""

    def __init__(self, k):
        self.k = k

    def weights(self, row):
        weights = super().weights(row)
        weights[row < np.sort(row)[-self.k]] = 0
        return weights


class BatchMates(Right):
    """Randomness that also hangs on what else is in the batch."""

    def tickets(self, total, seed, streams, logits):
        mates = int(abs(np.where(np.isfinite(logits), logits, 0).sum()) * 1024)
        return super().tickets(total, seed, streams + mates, logits)


class RowOrder(Right):
    """Randomness by the row's place in the batch, not by its name."""

    def tickets(self, total, seed, streams, logits):
        return super().tickets(total, seed, np.arange(len(streams)), logits)


class SplitBySize(Right):
    """Randomness that is used up row by row, and by whole blocks of four."""

    def tickets(self, total, seed, streams, logits):
        return super().tickets(total, seed, streams + len(streams) // 4, logits)


class PaddedVocabulary(Right):
    """A ticket that is scaled by the width of the row, banned tokens and all."""

    def tickets(self, total, seed, streams, logits):
        return super().tickets(total, seed + logits.shape[1], streams, logits)


class Coarse(Right):
    """Uniforms of a few bits only, so that their ends are seen often."""

    bits = 16

    def tickets(self, total, seed, streams, logits):
        words = mix(mix(np.uint64(seed)) + streams.astype(np.uint64)) >> np.uint64(64 - self.bits)
        return words * np.uint64(total) >> np.uint64(self.bits)


class FirstTicketIsFree(Coarse):
    """Ticket 0 goes to token 0, also where that has no weight."""

    def pick(self, weights, tickets):
        return np.where(tickets == 0, 0, super().pick(weights, tickets))


class LastTicketFallsOff(Coarse):
    """Rounding takes the largest ticket past the end, to the last token."""

    def tickets(self, total, seed, streams, logits):
        words = mix(mix(np.uint64(seed)) + streams.astype(np.uint64)) >> np.uint64(64 - self.bits)
        return np.round(words / (2**self.bits - 1) * float(total)).astype(np.uint64)

    def pick(self, weights, tickets):
        last = tickets >= weights.sum() - np.uint64(1)
        return np.where(last, len(weights) - 1, super().pick(weights, np.where(last, 0, tickets)))


class ForgetsItsSeed(Right):
    """A generator that goes on from call to call."""

    calls = 0

    def tickets(self, total, seed, streams, logits):
        self.calls += 1
        return super().tickets(total, seed + self.calls, streams, logits)


class IgnoresTheSeed(Right):
    """The same tokens whatever the seed."""

    def tickets(self, total, seed, streams, logits):
        return super().tickets(total, 0, streams, logits)


class OneTicketForAll(Right):
    """Every row of a batch gets the same ticket."""

    def tickets(self, total, seed, streams, logits):
        return super().tickets(total, seed, 0 * streams, logits)
