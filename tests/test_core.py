"""`fastdecode.core` against the oracle in reference.py, and what it says to bad input."""

import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
import reference
from fastdecode import core
from fastdecode.options.table import PARAMETERS
from fastdecode.testing import strategies
from hypothesis import example, given, settings
from hypothesis import strategies as st

rows = strategies.rows()
# All but the one whose oracle would need the entropy of a row, a logarithm.
ORACLES = [n for n, p in PARAMETERS.items() if p.needs_only_the_row and n != "dynamic_temperature"]
params = strategies.parameters(*ORACLES)
word = st.integers(0, 2**32 - 1)


@given(rows, params)
def test_weights_equal_the_oracle(row, params):
    got = core.weights(row, core.Sample(**params))
    assert got.tolist() == reference.weights(row, **params)


@given(rows, params, st.integers(0, 2**64 - 1), word, word, word)
def test_sample_equals_the_oracle(row, params, seed, stream, sample, position):
    weights = reference.weights(row, **params)
    ticket = reference.ticket(sum(weights), seed, stream, sample, position)
    draws = core.sample(
        row,
        core.Sample(**params),
        seed=seed,
        streams=stream,
        samples=sample,
        positions=position,
        ledger=True,
    )
    token = reference.draw(weights, ticket)
    assert draws.tokens.tolist() == [token]
    assert draws.tickets.tolist() == [ticket]
    assert draws.totals.tolist() == [sum(weights)]
    assert draws.kept.tolist() == [sum(w > 0 for w in weights)]
    assert draws.logprobs[0] == pytest.approx(np.log(weights[token] / sum(weights)), abs=1e-12)


@given(st.tuples(word, word, word, word), st.tuples(word, word))
@example((0, 0, 0, 0), (0, 0))
def test_philox_equals_the_oracle(counter, key):
    assert core.philox4x32(counter, key) == reference.philox4x32(counter, key)


def test_philox_known_answers():
    # The vectors published with Random123.
    assert core.philox4x32([0] * 4, [0] * 2) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    most = 2**32 - 1
    assert core.philox4x32([most] * 4, [most] * 2) == (
        0x408F276D,
        0x41C83B0E,
        0xA20BC7C6,
        0x6D5451FD,
    )


def test_golden_tokens_of_rng_v1():
    # Frozen: a change here is a breaking change of rng="v1".
    assert core.RNG_VERSION == "v1"
    row = (np.arange(1000, dtype=np.float32) * 37 % 101) / 16
    tokens = core.multinomial(row, 8, seed=20260101)
    assert tokens.tolist() == GOLDEN_TOKENS
    tokens = core.multinomial(row, 8, core.Sample(temperature=0.7, top_k=50, top_p=0.9), seed=7)
    assert tokens.tolist() == GOLDEN_TRUNCATED


# Computed by reference.py.
GOLDEN_TOKENS = [543, 434, 529, 316, 535, 636, 739, 5]
GOLDEN_TRUNCATED = [737, 150, 838, 120, 666, 898, 666, 838]


@given(st.integers(1, 200), st.integers(0, 2**32))
@settings(max_examples=50)
def test_top_k_equals_a_stable_sort(k, seed):
    generator = np.random.default_rng(seed)
    logits = np.round(generator.normal(size=(3, 3000)).astype(np.float32), 1)
    values, ids = core.top_k(logits, k)
    expected = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_array_equal(values, np.take_along_axis(logits, expected, 1))
    np.testing.assert_array_equal(core.argmax(logits), expected[:, 0])


def test_log_probabilities():
    logits = np.random.default_rng(1).normal(size=(5, 4000)).astype(np.float32) * 4
    exact = logits.astype(np.float64)
    exact = exact - np.log(np.exp(exact).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(core.log_softmax(logits), exact, atol=1e-6)
    np.testing.assert_allclose(core.logsumexp(logits), logits[:, 0] - exact[:, 0], atol=1e-6)
    tokens = [0, 17, 3999, 5, 6]
    np.testing.assert_array_equal(
        core.token_logprobs(logits, tokens), core.log_softmax(logits)[range(5), tokens]
    )


@pytest.mark.parametrize("sample", [core.Sample(), core.Sample(top_k=40), core.Sample(top_p=0.8)])
def test_batch_order_and_threads_change_nothing(sample):
    logits = np.random.default_rng(2).normal(size=(64, 5000)).astype(np.float32) * 2
    whole = core.sample(logits, sample, seed=3, streams=np.arange(64), positions=9).tokens
    alone = [
        core.sample(logits[i], sample, seed=3, streams=i, positions=9).tokens[0] for i in range(64)
    ]
    backwards = core.sample(
        logits[::-1], sample, seed=3, streams=np.arange(64)[::-1], positions=9
    ).tokens[::-1]
    assert whole.tolist() == alone == backwards.tolist()


def layouts(logits):
    """The same numbers in other places."""
    padded = np.full((logits.shape[0], logits.shape[1] + 7), np.nan, np.float32)
    padded[:, 3:-4] = logits
    spread = np.repeat(logits, 2, axis=1)
    record = np.zeros(logits.shape, [("pad", "u1"), ("x", "<f4")])
    record["x"] = logits
    yield "row stride", padded[:, 3:-4]
    yield "Fortran", np.asfortranarray(logits)
    yield "column step", spread[:, ::2]
    yield "backwards rows", logits[::-1].copy()[::-1]
    yield "backwards columns", logits[:, ::-1].copy()[:, ::-1]
    yield "unaligned", record["x"]
    yield "read-only", np.frombuffer(logits.tobytes(), np.float32).reshape(logits.shape)


def test_layouts_change_nothing():
    logits = np.random.default_rng(4).normal(size=(6, 333)).astype(np.float32)
    expected = core.sample(logits, seed=1).tokens.tolist()
    for name, other in layouts(logits):
        np.testing.assert_array_equal(other, logits)
        assert core.sample(other, seed=1).tokens.tolist() == expected, name
    with pytest.raises(TypeError, match="got >f4"):
        core.sample(logits.astype(">f4"), seed=1)
    one = np.broadcast_to(logits[0], (5, 333))
    assert core.argmax(one).tolist() == [int(logits[0].argmax())] * 5
    assert core.argmax(np.zeros((0, 5), np.float32)).shape == (0,)


def test_half_precision_is_widened_exactly():
    torch = pytest.importorskip("torch")
    single = np.random.default_rng(5).normal(size=(3, 777)).astype(np.float32)
    half = single.astype(np.float16)
    expected = core.weights(half.astype(np.float32))
    np.testing.assert_array_equal(core.weights(half), expected)
    np.testing.assert_array_equal(core.weights(torch.from_numpy(half)), expected)
    brain = torch.from_numpy(single).bfloat16()
    np.testing.assert_array_equal(core.weights(brain), core.weights(brain.float()))
    np.testing.assert_array_equal(core.weights(brain[:, 5:]), core.weights(brain[:, 5:].float()))


def test_torch_tensors_are_read_where_they_lie():
    torch = pytest.importorskip("torch")
    logits = torch.randn(4, 500, generator=torch.Generator().manual_seed(0), requires_grad=True)
    expected = core.sample(logits.detach().numpy(), seed=2).tokens.tolist()
    assert core.sample(logits, seed=2).tokens.tolist() == expected
    steps = torch.randn(4, 3, 500)[:, -1]
    assert core.argmax(steps).tolist() == steps.argmax(-1).tolist()
    with pytest.raises(ValueError, match=r"device meta.*\.cpu\(\)"):
        core.argmax(torch.empty(2, 3, device="meta"))


def test_sample_parameters_are_a_value():
    sample = core.Sample(temperature=0.7, top_k=50)
    assert repr(sample) == "Sample(temperature=0.7, top_k=50)"
    assert sample == core.Sample(0.7, 50)
    assert sample != core.Sample(0.7, 51)
    assert hash(sample) == hash(core.Sample(0.7, 50))
    assert pickle.loads(pickle.dumps(sample)) == sample
    assert (sample.temperature, sample.top_k, sample.top_p) == (0.7, 50, None)
    with pytest.raises(AttributeError):
        sample.top_k = 3


GOOD = np.zeros((2, 4), np.float32)
NAN = np.array([[0, 0], [0, np.nan]], np.float32)
INF = np.array([[0, np.inf], [0, 0]], np.float32)
BANNED = np.array([[0, 0], [-np.inf, -np.inf]], np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: core.sample(NAN, seed=1), ValueError, r"logits\[1, 1\] is NaN; .* mask"),
        (lambda: core.sample(INF, seed=1), ValueError, r"logits\[0, 1\] is \+inf.* set all others"),
        (lambda: core.argmax(BANNED), ValueError, r"row 1 has no finite entry.*leave at least"),
        (lambda: core.argmax(GOOD[:, :0]), ValueError, r"vocabulary of size 0"),
        (lambda: core.argmax(GOOD[None]), ValueError, r"got shape \(1, 2, 4\)"),
        (lambda: core.argmax(np.float32(1)), TypeError, r"NumPy array or a torch tensor"),
        (lambda: core.argmax(GOOD.astype(float)), TypeError, r"got float64; convert.*float32"),
        (lambda: core.argmax(GOOD.astype(int)), TypeError, r"got int64"),
        (
            lambda: core.argmax([1.0]),
            TypeError,
            r"NumPy array or a torch tensor, got \[1.0\] of type list",
        ),
        (lambda: core.top_k(GOOD, 0), ValueError, r"k=0 must be between 1 and .* 4"),
        (lambda: core.top_k(GOOD, 5), ValueError, r"k=5 must be between 1 and .* 4"),
        (lambda: core.Sample(temperature=-1), ValueError, r"temperature=-1 must be .*>= 0"),
        (lambda: core.Sample(temperature=np.nan), ValueError, r"temperature=NaN"),
        (lambda: core.Sample(top_k=0), ValueError, r"top_k=0 must be at least 1; leave it out"),
        (lambda: core.Sample(top_p=90), ValueError, r"top_p=90 .* for 90% write 0.9"),
        (lambda: core.sample(GOOD, seed=-1), ValueError, r"seed=-1 is outside 0..2\*\*64-1"),
        (lambda: core.sample(GOOD, seed=2**64), ValueError, r"outside 0..2\*\*64-1"),
        (lambda: core.sample(GOOD, seed=1.5), TypeError, r"seed must be an integer, got 1.5"),
        (lambda: core.sample(GOOD, seed=True), TypeError, r"seed must be an integer, got True"),
        (lambda: core.sample(GOOD, seed=1, streams=[1]), ValueError, r"streams has 1 .* 2 rows"),
        (
            lambda: core.sample(GOOD, seed=1, positions=[0, 2**32]),
            ValueError,
            r"positions\[1\]=4294967296 is outside 0..2\*\*32-1",
        ),
        (lambda: core.token_logprobs(GOOD, [0, 4]), ValueError, r"tokens\[1\]=4 .*0\.\.3"),
        (lambda: core.token_logprobs(GOOD, [0]), ValueError, r"tokens has 1 entries for 2 rows"),
    ],
)
def test_bad_input_is_refused_with_the_fix(call, error, message):
    with pytest.raises(error, match=message):
        call()


def kept(logits, **keywords):
    """The tokens that a truncation keeps."""
    return np.flatnonzero(core.weights(np.asarray(logits, np.float32), core.Sample(**keywords)))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 10, 64, 1000])
def test_top_p_on_an_exact_border(count):
    """The token with which the sum reaches p is the last one kept, and ties go to lower ids."""
    row = np.zeros(count)
    for wanted in {1, (count + 1) // 2, count - 1, count} - {0}:
        share = Fraction(wanted, count)
        p = float(share)
        # p as a float64 may be above the share, which then does not reach it.
        reached = wanted if Fraction(p) <= share else wanted + 1
        assert kept(row, top_p=p).tolist() == list(range(min(reached, count)))
        above = math.nextafter(p, 2.0)
        assert len(kept(row, top_p=min(above, 1.0))) == min(wanted + 1, count)
    assert kept(np.zeros(4), top_p=0.5).tolist() == [0, 1]
    assert kept(np.zeros(4), top_p=0.5 - 2.0**-54).tolist() == [0, 1]
    assert kept(np.zeros(4), top_p=0.5 + 2.0**-53).tolist() == [0, 1, 2]
    assert len(kept(np.zeros(10), top_p=0.9)) == 10
    assert len(kept(np.zeros(10), top_p=0.7)) == 7
    assert kept([0, 1, 0, 1], top_p=0.0).tolist() == [1]


def test_top_n_sigma_of_zero_keeps_the_largest_and_its_ties():
    row = [1.0, 3.0, 2.0, 3.0, -np.inf]
    assert kept(row, top_n_sigma=0).tolist() == [1, 3]
    assert kept(row, top_n_sigma=None).tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="top_n_sigma=-1 must be finite and >= 0"):
        core.Sample(top_n_sigma=-1)
