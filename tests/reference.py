"""The oracle: the decoding rules once more, slow and obvious, in exact arithmetic."""

import math
from fractions import Fraction

import numpy as np

WEIGHT_BITS = 42
POLYNOMIAL = [np.float32(c) for c in (0.055496223, 0.24025764, 0.69314724, 1.0)]


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
    scale = np.float32(min(max(float(np.log2(np.e)) / temperature, 3e-37), 1e38))
    difference = max(np.float32(difference), np.float32(-100.0) / scale)
    # Adding this rounds to eighths.
    rounder = np.float32(2**20 * 1.5 + WEIGHT_BITS + 127)
    eighths = fma(difference, scale, rounder) - rounder
    f = fma(difference, scale, -eighths)
    p = POLYNOMIAL[0]
    for coefficient in POLYNOMIAL[1:]:
        p = fma(p, f, coefficient)
    octaves, eighth = divmod(int(eighths * 8), 8)
    power = Fraction(float(np.float32(2 ** (eighth / 8)))) * Fraction(2) ** (octaves + WEIGHT_BITS)
    return round(Fraction(float(p)) * power)


def order(row):
    """Token ids in the total order: larger logit first, then lower id."""
    return sorted(range(len(row)), key=lambda i: (-float(row[i]), i))


def depth(difference, temperature):
    """Octaves below the maximum in units of 2**-20."""
    scale = np.float32(min(max(float(np.log2(np.e)) / temperature, 3e-37), 1e38))
    octaves = max(np.float32(difference), np.float32(-100.0) / scale) * scale
    return int(-octaves * np.float32(2**20))


def ceiling(share, total):
    """The least integer that reaches a share of a total, and at least one."""
    return max(math.ceil(Fraction(share) * total), 1)


def standard_deviation(row):
    """Of the finite logits: sixteen sums, each in order, of distances from the largest."""
    counts, sums, squares = [0.0] * 16, [0.0] * 16, [0.0] * 16
    largest = float(max(row))
    for i, x in enumerate(row):
        if np.isfinite(x):
            distance = largest - float(x)
            counts[i % 16] += 1.0
            sums[i % 16] += distance
            squares[i % 16] += distance * distance
    mean = sum(sums) / sum(counts)
    return math.sqrt(max(sum(squares) / sum(counts) - mean * mean, 0.0))


def weights(
    row,
    temperature=1.0,
    top_k=None,
    top_p=None,
    min_p=None,
    top_a=None,
    typical_p=None,
    epsilon_cutoff=None,
    eta_cutoff=None,
    top_n_sigma=None,
):
    """Every token's integer weight after truncation."""
    row = np.asarray(row, dtype=np.float32)
    ranked = order(row)
    if temperature == 0:
        return [2**WEIGHT_BITS if i == ranked[0] else 0 for i in range(len(row))]
    with np.errstate(over="ignore"):
        full = [weight(x - row[ranked[0]], temperature) for x in row]
        depths = [depth(x - row[ranked[0]], temperature) for x in row]
    kept = ranked

    def reach(least):
        """Up to the last that has such a weight, and at least one."""
        return kept[: max((n + 1 for n, i in enumerate(kept) if full[i] >= least), default=1)]

    if top_n_sigma is not None:
        bound = float(row[ranked[0]]) - top_n_sigma * standard_deviation(row)
        # As doubles: NumPy would round the bound to the row's own type.
        kept = [i for i in kept if float(row[i]) >= bound]
    kept = kept[:top_k]
    if top_p is not None and top_p < 1:
        target = Fraction(top_p) * sum(full[i] for i in kept)
        mass, count = 0, 0
        for i in kept:
            mass, count = mass + full[i], count + 1
            if mass >= target:
                break
        kept = kept[:count]
    if min_p is not None:
        kept = reach(ceiling(min_p, full[kept[0]]))
    if top_a is not None:
        square = Fraction(full[kept[0]]) ** 2
        kept = reach(Fraction(top_a) * square / sum(full[i] for i in kept))
    if typical_p is not None and typical_p < 1:
        total, moment = sum(full[i] for i in kept), sum(full[i] * depths[i] for i in kept)
        deviations = {i: abs(depths[i] * total - moment) for i in kept}
        mass = 0
        for i in sorted(kept, key=lambda i: deviations[i]):
            mass += full[i]
            if mass >= ceiling(typical_p, total):
                break
        kept = [j for j in kept if full[j] > 0 and deviations[j] <= deviations[i]]
    if epsilon_cutoff is not None:
        kept = reach(ceiling(epsilon_cutoff, sum(full[i] for i in kept)))
    if eta_cutoff is not None:
        total, moment = sum(full[i] for i in kept), sum(full[i] * depths[i] for i in kept)
        least = math.log(total) - WEIGHT_BITS * math.log(2)
        entropy = max(least + moment / total / 2**20 * math.log(2), 0.0)
        bound = min(eta_cutoff, math.sqrt(eta_cutoff) * math.exp(-entropy))
        kept = reach(ceiling(bound, total))
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


# Edits of single logits from the tokens so far, one token of the vocabulary after the other.


def edited(logit, value):
    """What an edit leaves: a finite logit stays finite, and what is not finite stays as it is."""
    if not np.isfinite(logit):
        return logit
    limit = np.finfo(np.float32).max
    return np.clip(np.float32(value), -limit, limit)


def completes(sequence, tokens, token):
    """Whether `token` after `tokens` completes the sequence."""
    *before, last = sequence
    return last == token and (not before or list(tokens[-len(before) :]) == before)


def add_bias(logit, token, tokens, logit_bias):
    """`logit_bias` maps sequences to what is added; the shortest first, then by ids."""
    for sequence in sorted(logit_bias, key=lambda ids: (len(ids), ids)):
        bias = np.float32(logit_bias[sequence])
        if completes(sequence, tokens, token):
            logit = bias if np.isneginf(bias) else edited(logit, logit + bias)
    return logit


def penalise(logit, token, tokens, counted, repetition, frequency, presence):
    """transformers' repetition penalty, then OpenAI's penalties on what is `counted`."""
    repetition, frequency, presence = map(np.float32, (repetition, frequency, presence))
    if token in tokens:
        logit = edited(logit, logit * repetition if logit < 0 else logit / repetition)
    count = list(counted).count(token)
    if count == 0:
        return logit
    logit = edited(logit, logit - np.float32(count) * frequency)
    return edited(logit, logit - presence)


def common_end(a, b):
    """How many tokens two sequences have in common at their ends."""
    count = 0
    while count < min(len(a), len(b)) and a[-1 - count] == b[-1 - count]:
        count += 1
    return count


def power(base, exponent):
    """base**exponent by repeated squaring, in double precision."""
    result = 1.0
    for bit in reversed(f"{exponent:b}"):
        if bit == "1":
            result *= base
        base *= base
    return result


def dry_penalty(token, tokens, multiplier, base, allowed_length, last_n, breakers):
    """llama.cpp's penalty on `token` for continuing a repetition of how the tokens end."""
    tokens = list(tokens)[-last_n:] if last_n else list(tokens)
    breakers = [list(breaker) for breaker in breakers]
    # A repetition is counted from the end of the last breaker only.
    reach = 0
    while reach < len(tokens):
        before = tokens[: len(tokens) - reach]
        if any(before[-len(breaker) :] == breaker for breaker in breakers):
            break
        reach += 1
    earlier = [i for i in range(1, len(tokens)) if tokens[i] == token]
    length = min(reach, max((common_end(tokens[:i], tokens) for i in earlier), default=0))
    if multiplier == 0 or length < allowed_length or [token] in breakers:
        return np.float32(0)
    return np.float32(multiplier * power(base, length - allowed_length))


def repeats_ngram(token, tokens, size):
    """Whether `token` would make an n-gram occur again."""
    extended = [*tokens, token]
    ngrams = [extended[i : i + size] for i in range(len(extended) - size + 1)]
    return size > 0 and ngrams != [] and ngrams[-1] in ngrams[:-1]


def edit(
    row,
    tokens=(),
    prompt=0,
    *,
    logit_bias=None,
    repetition_penalty=1.0,
    frequency_penalty=0.0,
    presence_penalty=0.0,
    penalties_count_prompt=True,
    dry_multiplier=0.0,
    dry_base=1.75,
    dry_allowed_length=2,
    dry_range=None,
    dry_sequence_breakers=(),
    no_repeat_ngram_size=0,
    bad_words=(),
    min_new_tokens=0,
    eos=(),
    allowed=None,
):
    """The row after all edits, in their order; `prompt` is how many of the tokens are given."""
    counted = tokens if penalties_count_prompt else tokens[prompt:]
    result = []
    for token, logit in enumerate(np.asarray(row, dtype=np.float32)):
        with np.errstate(over="ignore", invalid="ignore"):
            logit = add_bias(logit, token, tokens, logit_bias or {})
            logit = penalise(
                logit,
                token,
                tokens,
                counted,
                repetition_penalty,
                frequency_penalty,
                presence_penalty,
            )
            penalty = dry_penalty(
                token,
                tokens,
                dry_multiplier,
                dry_base,
                dry_allowed_length,
                dry_range,
                dry_sequence_breakers,
            )
            logit = edited(logit, logit - penalty)
        banned = (
            repeats_ngram(token, tokens, no_repeat_ngram_size)
            or any(
                completes(word, tokens, token)
                for word in bad_words
                if not (len(word) == 1 and word[0] in eos)
            )
            or (len(tokens) - prompt < min_new_tokens and token in eos)
            or (allowed is not None and token not in allowed)
        )
        result.append(np.float32(-np.inf) if banned else logit)
    return np.array(result, dtype=np.float32)
