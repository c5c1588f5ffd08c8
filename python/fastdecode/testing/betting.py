"""The evidence of draws against expected probabilities, by a bet that is fair under the law.

A gambler starts with one unit and bets on every draw at the odds of the expected law. Under that
law no strategy makes money on average, and the probability that its wealth *ever* reaches 1/a is
at most a (Ville, 1939). So the wealth is evidence, valid however often one looks and whenever one
stops (Shafer, "Testing by betting", 2021).

The strategy here bets on a binary tree over the tokens: at each node, that the share of draws
which go left differs from what is expected. Each node's bet is a mixture of beta-binomial bets of
several sharpnesses (Krichevsky and Trofimov's, centred on the expected share), and each node
stakes a part of its wealth only, so that thousands of idle nodes cost a factor e together. One
tree has the tokens by id, where errors of cumulative sums show; another by probability, where
errors of temperature and truncation do. The wealth is the mean of the two.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdecode.testing import arguments

# Pseudo-counts of the beta priors: from "any share at all" to deviations of 1e-4.
SHARPNESSES = (1.0, 1e2, 1e4, 1e6, 1e8)

Floats = NDArray[np.float64]


class Bets:
    """The running evidence against a law.

    >>> bets = Bets([0.5, 0.25, 0.25])
    >>> bets.add([0, 0, 1, 2])
    >>> bets.log_evidence  # ln of the wealth; a correct sampler exceeds ln(1e6) once in a million

    Parameters
    ----------
    expected : array of float, (vocab,)
        The probabilities of the law; they are normalised.
    """

    def __init__(self, expected: ArrayLike):
        """Start with a wealth of one; see the class."""
        law = arguments.probabilities("expected", expected)
        self.expected = law
        self.counts = np.zeros(len(law), dtype=np.int64)
        self._orders = [
            np.arange(len(law)),
            np.argsort(-law, kind="stable"),
        ]

    @property
    def draws(self) -> int:
        """The number of draws added."""
        return int(self.counts.sum())

    def add(self, tokens: ArrayLike) -> None:
        """Add draws: token ids.

        Raises
        ------
        TypeError
            For what are no integers.
        ValueError
            For another shape than (draws,), and for a token that the law does not have.
        """
        drawn = arguments.array("tokens", tokens, np.int64, "iu")
        outside = (drawn < 0) | (drawn >= len(self.counts))
        if outside.any():
            raise ValueError(
                f"tokens has {drawn[outside][0]}, which is outside 0..{len(self.counts) - 1}"
            )
        self.counts += np.bincount(drawn, minlength=len(self.counts))

    @property
    def log_evidence(self) -> float:
        """ln of the wealth; infinite once a token of probability zero was drawn."""
        if self.counts[self.expected == 0].any():
            return math.inf
        trees = [float(self._tree(order).wealth.sum()) for order in self._orders]
        return float(np.logaddexp(trees[0], trees[1])) - math.log(2)

    def worst(self) -> tuple[NDArray[np.int64], int, float]:
        """Where the law fails most: the tokens, how often they were drawn, and how often expected.

        The expected number is given how often the tokens of the node above were drawn.
        """
        banned = np.flatnonzero((self.expected == 0) & (self.counts > 0))
        if banned.size:
            return banned, int(self.counts[banned].sum()), 0.0
        best, found = 0.0, (np.arange(len(self.counts)), self.draws, float(self.draws))
        for order in self._orders:
            tree = self._tree(order)
            node = int(tree.wealth.argmax())
            if tree.wealth[node] > best:
                best = float(tree.wealth[node])
                first, width = tree.first[node], tree.width[node]
                children = order[first : first + width], order[first + width : first + 2 * width]
                drawn = [int(self.counts[ids].sum()) for ids in children]
                mass = [float(self.expected[ids].sum()) for ids in children]
                expected = [sum(drawn) * part / sum(mass) for part in mass]
                # Both children deviate by the same number, which is clearer on the rarer one.
                side = min((0, 1), key=lambda child: (expected[child], drawn[child]))
                found = np.sort(children[side]), drawn[side], expected[side]
        return found

    def _tree(self, order: NDArray[np.int64]) -> "_Tree":
        depth = max(len(order) - 1, 0).bit_length()
        padding = np.zeros(2**depth - len(order))
        counts = np.concatenate([self.counts[order], padding])
        law = np.concatenate([self.expected[order], padding])
        levels = []
        for level in range(depth):
            children = [counts[::2], counts[1::2], law[::2], law[1::2]]
            nodes = len(children[0])
            width = 2**level
            first = np.arange(nodes) * 2 * width
            drawn = children[0] + children[1] > 0
            # All levels stake the same amount, and the nodes of a level divide it equally.
            stake = np.full(nodes, 1 / (depth * nodes))
            levels.append([x[drawn] for x in (first, np.full(nodes, width), stake, *children)])
            counts, law = children[0] + children[1], children[2] + children[3]
        if not levels:
            return _Tree(np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1))
        first, width, stake, *nodes_of_all = map(np.concatenate, zip(*levels, strict=True))
        bets = _node_bets(*nodes_of_all)
        with np.errstate(divide="ignore"):
            wealth = np.logaddexp(np.log1p(-stake), np.log(stake) + bets)
        return _Tree(first, width, wealth)


class _Tree(NamedTuple):
    """The nodes with draws: where each begins in the order, its children's width, ln of wealth."""

    first: NDArray[np.int64]
    width: NDArray[np.int64]
    wealth: Floats


def _node_bets(left: Floats, right: Floats, law_left: Floats, law_right: Floats) -> Floats:
    """ln of each node's winnings: the beta-binomial likelihood over the expected one."""
    bets = np.zeros(len(left))
    both = (law_left > 0) & (law_right > 0)
    left, right, law_left, law_right = (x[both] for x in (left, right, law_left, law_right))
    share_left, share_right = law_left / (law_left + law_right), law_right / (law_left + law_right)
    fair = left * np.log(share_left) + right * np.log(share_right)
    sharpness = np.array(SHARPNESSES)[:, None]
    prior_left, prior_right = sharpness * share_left, sharpness * share_right
    mixed = _log_beta(left + prior_left, right + prior_right) - _log_beta(prior_left, prior_right)
    bets[both] = np.logaddexp.reduce(mixed - fair) - math.log(len(SHARPNESSES))
    return bets


def _log_beta(a: Floats, b: Floats) -> Floats:
    import torch

    def log_gamma(x: Floats) -> Floats:
        values: Floats = torch.lgamma(torch.from_numpy(x)).numpy()
        return values

    return log_gamma(a) + log_gamma(b) - log_gamma(a + b)
