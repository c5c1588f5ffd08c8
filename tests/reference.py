"""The oracle: the decoding rules once more, slow and obvious, in exact arithmetic."""

from fractions import Fraction

import numpy as np

WEIGHT_BITS = 42
POLYNOMIAL = [
    np.float32(c)
    for c in (0.00015353279, 0.0013398977, 0.009618439, 0.055503324, 0.24022648, 0.6931472, 1.0)
]


def philox4x32(counter, key):
    """Philox4x32-10 on Python integers (Salmon et al., 2011)."""
    mask = 0xFFFFFFFF
    x, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [(b >> 32) ^ x[1] ^ k[0], b & mask, (a >> 32) ^ x[3] ^ k[1], a & mask]
        k = [(k[0] + 0x9E3779B9) & mask, (k[1] + 0xBB67AE85) & mask]
    return tuple(x)


def bits(seed, stream, sample, position, attempt=0):
    """The 64 random bits of rng "v1"."""
    block = philox4x32((attempt, position, sample, stream), (seed & 0xFFFFFFFF, seed >> 32))
    return block[0] | block[1] << 32


def ticket(total, seed, stream=0, sample=0, position=0):
    """A uniform integer below `total`: multiply-shift, rejecting the overhang of 2**64."""
    attempt = 0
    while True:
        product = bits(seed, stream, sample, position, attempt) * total
        if product % 2**64 >= 2**64 % total:
            return product >> 64
        attempt += 1


def round32(value: Fraction) -> np.float32:
    """The nearest float32 to an exact number, ties to the even mantissa."""
    near = np.float32(float(value))
    candidates = [
        np.nextafter(near, np.float32(-np.inf)),
        near,
        np.nextafter(near, np.float32(np.inf)),
    ]

    def distance(candidate):
        return abs(Fraction(float(candidate)) - value), int(candidate.view(np.uint32)) & 1

    return min((c for c in candidates if np.isfinite(c)), key=distance)


def fma(a, b, c) -> np.float32:
    """a * b + c in float32 with one rounding."""
    return round32(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)))


def weight(difference: np.float32, temperature: float) -> int:
    """The law's integer weight of a logit `difference` below the maximum."""
    exact = min(max(float(np.log2(np.e)) / temperature, 3e-37), 1e38)
    high = np.float32(exact)
    low = np.float32(exact - float(high))
    with np.errstate(over="ignore"):
        octaves = np.float32(difference) * high
    if octaves < -100:
        return 0
    whole = np.rint(octaves)
    f = fma(difference, low, fma(difference, high, -whole))
    p = POLYNOMIAL[0]
    for coefficient in POLYNOMIAL[1:]:
        p = fma(p, f, coefficient)
    mantissa = int(float(p) * 2**24)
    return (mantissa << (WEIGHT_BITS - 24)) >> min(int(-whole), 63)


def order(row):
    """Token ids in the total order: larger logit first, then lower id."""
    return sorted(range(len(row)), key=lambda i: (-float(row[i]), i))


def weights(row, temperature=1.0, top_k=None, top_p=None):
    """Every token's integer weight after truncation."""
    row = np.asarray(row, dtype=np.float32)
    ranked = order(row)
    if temperature == 0:
        return [2**WEIGHT_BITS if i == ranked[0] else 0 for i in range(len(row))]
    with np.errstate(over="ignore"):
        full = [weight(x - row[ranked[0]], temperature) for x in row]
    kept = ranked[:top_k]
    if top_p is not None and top_p < 1:
        target = Fraction(top_p) * sum(full[i] for i in kept)
        mass, count = 0, 0
        for i in kept:
            mass, count = mass + full[i], count + 1
            if mass >= target:
                break
        kept = kept[:count]
    survivors = set(kept)
    return [w if i in survivors else 0 for i, w in enumerate(full)]


def draw(row_weights, drawn_ticket):
    """The first token whose cumulative weight, by id, exceeds the ticket."""
    total = 0
    for token, w in enumerate(row_weights):
        total += w
        if total > drawn_ticket:
            return token
    raise AssertionError("the ticket is below the total")
