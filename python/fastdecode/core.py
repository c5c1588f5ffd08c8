"""The decoding core over arrays: exact truncation, seeded sampling, log-probabilities.

Every function takes `logits` of shape (vocab,) or (batch, vocab): a NumPy array or a CPU torch
tensor of float32, float16 or bfloat16. Rows that are contiguous are read where they lie; other
layouts are copied first. Results lose the batch axis where the logits had none. torch is not
imported. NaN, +inf, and rows without a finite entry are a `ValueError` that names the place;
-inf bans a token.

The law that is drawn from is written in integers (see `weights`), the order on ties is larger
logit first, then lower token id, and a draw depends on the row and on (seed, stream, sample,
position) alone: not on the batch, the threads or the instruction set.
"""

from fastdecode._core import (
    RNG_VERSION,
    Beam,
    BeamOutcome,
    BeamState,
    BeamStep,
    DecodeState,
    DecodeStep,
    Draws,
    Listing,
    Sample,
    argmax,
    distribution,
    log_softmax,
    logsumexp,
    multinomial,
    philox4x32,
    sample,
    token_logprobs,
    top_k,
    uniform,
    weights,
)

__all__ = [
    "RNG_VERSION",
    "Beam",
    "BeamOutcome",
    "BeamState",
    "BeamStep",
    "DecodeState",
    "DecodeStep",
    "Draws",
    "Listing",
    "Sample",
    "argmax",
    "distribution",
    "log_softmax",
    "logsumexp",
    "multinomial",
    "philox4x32",
    "sample",
    "token_logprobs",
    "top_k",
    "uniform",
    "weights",
]
