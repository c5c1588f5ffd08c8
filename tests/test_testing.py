"""`fastdecode.testing`: a right sampler passes, each planted bug is caught, the maths is right.

The number beside each planted bug is the draws (or tickets) it is caught within; the check has a
false-alarm rate of at most 1e-6, and the core passes every one of them.
"""

import itertools
import math
import subprocess
import sys

import numpy as np
import planted
import pytest
from fastdecode import core, testing
from fastdecode.testing import rows

ROW = np.array([1.0, 0.0, 2.0, -1.0, 0.5, 1.5, -0.5, 1.0], np.float32)
TIED = np.array([1.0, 0.0, 2.0, 1.0, 1.0, -3.0], np.float32)
ZERO_FIRST = np.array([-np.inf, 0.0, 1.0, 0.5, -np.inf], np.float32)
BATCH = np.random.default_rng(0).normal(size=(9, 300)).astype(np.float32)
RIGHT = planted.Right()


def law(sampler, row):
    weights = sampler.weights(row)
    return weights / weights.sum()


# Each takes a sampler, then a seed, and gives the check's result.


def fit(sampler, seed=0, draws=100_000):
    return testing.check_fit(sampler, ROW, law(RIGHT, ROW), draws=draws, seed=seed)


def fit_for_long(sampler, seed=0):
    return fit(sampler, seed, draws=30_000_000)


def cumulative(sampler, seed=0, draws=400_000):
    return testing.check_cumulative(sampler, ROW, law(RIGHT, ROW), draws=draws, seed=seed)


def support(sampler, seed=0):
    allowed = RIGHT.weights(ZERO_FIRST) > 0
    return testing.check_support(sampler, ZERO_FIRST, allowed, draws=1_000_000, seed=seed)


def top_two(sampler, seed=0):
    allowed = [True, False, True, False, False, False]
    return testing.check_support(sampler, TIED, allowed, seed=seed)


def ticket_map(sampler, seed=0, row=ROW):
    return testing.check_ticket_map(sampler.token_at(row), RIGHT.weights(row))


def map_of_banned(sampler, seed=0):
    return ticket_map(sampler, row=ZERO_FIRST)


def batch(sampler, seed=0):
    return testing.check_batch_invariance(sampler, BATCH, seed=seed)


def replay(sampler, seed=0):
    return testing.check_replay(sampler, seed=seed)


def long_tail(sampler, seed=0):
    row = rows.long_tail(300_000)
    weights = planted.Float32CumulativeSum().weights(row)
    return testing.check_fit(sampler, row, weights / weights.sum(), draws=20_000, seed=seed)


CAUGHT = {
    "off by one in the ticket, by its map": (
        planted.OffByOneInTheTicket(), ticket_map, 2 * len(ROW)),
    "off by one in the cumulative sum": (
        planted.OffByOneInTheCumulativeSum(), fit, 5_000),
    "off by one in the cumulative sum, by Dvoretzky-Kiefer-Wolfowitz": (
        planted.OffByOneInTheCumulativeSum(), cumulative, 400_000),
    "off by one in the cumulative sum, by its map": (
        planted.OffByOneInTheCumulativeSum(), ticket_map, 2 * len(ROW)),
    "cumulative sum in float32": (
        planted.Float32CumulativeSum(), long_tail, 20_000),
    "last token dropped": (
        planted.LastTokenDropped(), fit, 5_000),
    "last token dropped, by its map": (
        planted.LastTokenDropped(), ticket_map, 2 * len(ROW)),
    "tilt of 1% of the mass": (
        planted.Tilted(1.04), fit_for_long, 400_000),
    "tilt of 1% of the mass, by Dvoretzky-Kiefer-Wolfowitz": (
        planted.Tilted(1.04), cumulative, 400_000),
    "tilt of 0.1% of the mass": (
        planted.Tilted(1.004), fit_for_long, 30_000_000),
    "tilt of 0.1% of half the weights, by its map": (
        planted.Tilted(1.001), ticket_map, 2 * len(ROW)),
    "ties at the border keep k + 1": (
        planted.TiesAtTheBorder(2), top_two, 100),
    "the batch-mates matter": (planted.BatchMates(), batch, 500),
    "the place in the batch matters": (planted.RowOrder(), batch, 500),
    "the size of the batch matters": (planted.SplitBySize(), batch, 500),
    "the padding of the vocabulary matters": (planted.PaddedVocabulary(), batch, 500),
    "ticket 0 draws a token of probability zero": (
        planted.FirstTicketIsFree(), support, 1_000_000),
    "ticket 0 draws a token of probability zero, by its map": (
        planted.FirstTicketIsFree(), map_of_banned, 6),
    "the largest ticket draws a token of probability zero": (
        planted.LastTicketFallsOff(), support, 1_000_000),
    "the largest ticket draws a token of probability zero, by its map": (
        planted.LastTicketFallsOff(), map_of_banned, 6),
    "goes on where the last call ended": (planted.ForgetsItsSeed(), replay, 500),
    "ignores its seed": (planted.IgnoresTheSeed(), replay, 500),
    "one ticket for all rows": (planted.OneTicketForAll(), replay, 500),
}  # fmt: skip


@pytest.mark.parametrize("name", CAUGHT)
def test_planted_bugs_are_caught(name):
    sampler, check, within = CAUGHT[name]
    result = check(sampler)
    assert not result, name
    assert result.draws <= within
    assert result.false_alarm <= 1e-6
    assert str(result) == f"{result.check}: FAILED: {result.explanation}"
    with pytest.raises(testing.CheckFailed, match="FAILED"):
        result.require()


def test_a_right_sampler_passes_everything():
    for check in (fit, cumulative, support, ticket_map, map_of_banned, batch, replay):
        check(RIGHT).require()
    support(planted.Coarse()).require()


@pytest.mark.parametrize(
    "sample",
    [core.Sample(), core.Sample(temperature=0.7, top_k=5), core.Sample(top_p=0.8)],
    ids=str,
)
def test_the_core_passes_everything(sample):
    sampler = testing.core_sampler(sample)
    expected = core.distribution(ROW, sample)
    testing.check_fit(sampler, ROW, expected, draws=1_000_000).require()
    testing.check_cumulative(sampler, ROW, expected, draws=200_000).require()
    for row in (ROW, TIED, ZERO_FIRST):
        mask = core.weights(row, sample) > 0
        testing.check_support(sampler, row, mask, draws=200_000).require()
        draws = core.sample(np.broadcast_to(row, (10_000, len(row))), sample, seed=1)
        testing.check_ledger(draws, core.weights(row, sample)).require()
    testing.check_batch_invariance(sampler, BATCH).require()
    testing.check_replay(sampler, seed=5).require()


def many_of_one_row(logits, seed, streams):
    """The core on one row many times, which it draws from faster when told so."""
    return core.multinomial(logits[0], len(logits), seed=seed)


def test_the_core_passes_where_a_tilt_of_a_thousandth_shows():
    fair, tilted = testing.Bets([0.5, 0.5]), testing.Bets([0.501, 0.499])
    for seed in range(16):
        tokens = core.multinomial(np.zeros(2, np.float32), 1_000_000, seed=seed)
        fair.add(tokens)
        tilted.add(tokens)
    assert fair.log_evidence < math.log(1e6) < tilted.log_evidence


def test_the_core_passes_on_the_long_tail():
    # The same draws that catch a cumulative sum in float32.
    row = rows.long_tail(300_000)
    expected = core.distribution(row)
    testing.check_fit(many_of_one_row, row, expected, draws=10_000).require()


def test_two_ways_to_the_same_verdict_on_other_peoples_samplers():
    pytest.importorskip("torch")
    torch_sampler = testing.torch_sampler()
    expected = core.distribution(ROW)
    testing.check_fit(torch_sampler, ROW, expected, draws=200_000).require()
    testing.check_replay(torch_sampler).require()
    # One generator for the whole batch: a row's token hangs on the rows before it.
    assert not testing.check_batch_invariance(torch_sampler, BATCH)


def test_explanations_are_sentences():
    said = str(support(planted.FirstTicketIsFree()))
    assert "is token 0, whose probability is zero (its logit is -inf)." in said
    said = str(fit(planted.LastTokenDropped()))
    assert "token 7 was drawn 0 times where" in said
    assert "(1e6 to 1 decide)" in said
    said = str(map_of_banned(planted.OffByOneInTheTicket()))
    assert said == "ticket map: FAILED: the first ticket gave token 0; it is 1's."
    said = str(map_of_banned(planted.LastTicketFallsOff()))
    assert said == "ticket map: FAILED: the last ticket gave token 4; it is 3's."
    said = str(batch(planted.RowOrder()))
    assert "in the batch and" in said
    assert "in reverse order." in said
    assert str(fit(RIGHT)).startswith("fit: passed: after 100,000 draws the odds against")


def test_hypothesis_is_needed_by_the_strategies_only():
    code = "import sys, fastdecode.testing; print('hypothesis' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout == "False\n"


# The evidence itself


@pytest.mark.parametrize("law", [[0.5, 0.5], [0.6, 0.3, 0.1], [0.7, 0.0, 0.1, 0.2, 0.0]])
def test_the_bets_are_fair(law):
    """Over all sequences of draws the mean wealth is 1, so that Ville's inequality holds."""
    possible = [token for token, p in enumerate(law) if p > 0]
    for length in (1, 2, 5):
        mean = 0.0
        for sequence in itertools.product(possible, repeat=length):
            bets = testing.Bets(law)
            bets.add(sequence)
            mean += math.prod(law[token] for token in sequence) * math.exp(bets.log_evidence)
        assert mean == pytest.approx(1, abs=1e-7)


def test_each_bet_is_fair_given_the_past():
    law = np.array([0.5, 0.2, 0.2, 0.1])
    past = [3, 3, 0, 3, 1]
    bets = testing.Bets(law)
    bets.add(past)
    wealth = math.exp(bets.log_evidence)
    after = 0.0
    for token, p in enumerate(law):
        bets = testing.Bets(law)
        bets.add([*past, token])
        after += p * math.exp(bets.log_evidence)
    assert after == pytest.approx(wealth, rel=1e-7)


def test_the_false_alarm_rate_is_kept_however_often_one_looks():
    generator = np.random.default_rng(1)
    law = generator.dirichlet(np.ones(6))
    runs, alarms = 200, 0
    for _ in range(runs):
        bets = testing.Bets(law)
        evidence = []
        for _ in range(25):
            bets.add(generator.choice(6, size=40, p=law))
            evidence.append(bets.log_evidence)
        alarms += max(evidence) >= math.log(1 / 0.05)
    # 200 runs at 5%: more than 27 has a probability below 1e-6.
    assert alarms <= 27


def test_no_draw_of_probability_zero_is_forgiven():
    bets = testing.Bets([0.5, 0.5, 0.0])
    bets.add([0, 1, 2])
    assert bets.log_evidence == math.inf
    assert bets.worst()[0].tolist() == [2]


def test_one_token_and_unnormalised_laws():
    bets = testing.Bets([3.0])
    bets.add([0] * 50)
    assert bets.log_evidence == 0
    assert testing.Bets([2, 2]).expected.tolist() == [0.5, 0.5]


def wrong_shape(logits, seed, streams):
    return np.zeros((len(logits), 1), int)


def out_of_range(logits, seed, streams):
    return np.full(len(logits), logits.shape[1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: testing.Bets([[1.0]]), r"expected must be \(vocab,\), with .*got shape \(1, 1\)"),
        (lambda: testing.Bets([1.0, -1.0]), r"expected must be finite and >= 0"),
        (
            lambda: testing.check_fit(RIGHT, ROW, [1.0]),
            r"expected has shape \(1,\), and must have \(8,\)",
        ),
        (lambda: testing.check_fit(RIGHT, ROW, ROW * 0 + 1, false_alarm=0), "false_alarm=0 must"),
        (
            lambda: testing.check_fit(RIGHT, ROW, ROW * 0 + 1, draws=0),
            "draws must be in 1.*, not 0",
        ),
        (
            lambda: testing.check_support(RIGHT, ROW, [True]),
            r"allowed has shape \(1,\), and must have",
        ),
        (lambda: fit(wrong_shape), r"tokens of shape \(4096, 1\) for 4096 rows.*one a row"),
        (lambda: fit(out_of_range), r"token 8 for row 0, outside the vocabulary, 0\.\.7"),
        (lambda: testing.check_batch_invariance(RIGHT, BATCH[:1]), "at least two rows"),
        (
            lambda: testing.check_batch_invariance(RIGHT, ROW),
            r"logits must be \(batch, vocab\), .*got shape \(8,\)",
        ),
        (lambda: testing.check_ticket_map(np.copy, [-1]), "weights must not be negative"),
        (lambda: testing.check_ticket_map(np.copy, [0, 0]), "add up to 0, which must be in"),
        (lambda: testing.check_ticket_map(np.max, [1, 2]), r"shape \(\) for 3 tickets"),
        (lambda: rows.adversarial(0), "vocabulary must be in 1.*not 0"),
    ],
)
def test_bad_input_is_refused_with_the_fix(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_weights_are_integers():
    with pytest.raises(TypeError, match=r"weights must be an array of integers, not list \(\[0\.5"):
        testing.check_ticket_map(np.copy, [0.5])


@pytest.mark.parametrize("vocabulary", [1, 2, 3, 17, 5000])
def test_adversarial_rows_are_rows_of_logits(vocabulary):
    made = rows.adversarial(vocabulary)
    assert len(made) >= 15
    for name, row in made.items():
        assert row.dtype == np.float32, name
        assert row.shape == (vocabulary,), name
        assert np.isfinite(row).any(), name
        assert not np.isnan(row).any(), name
        assert not np.isposinf(row).any(), name
