"""Digests of the demo model's logits and tokens on this process's path, as JSON.

Run by `test_golden.py` with the environment that chooses the path. Each row's logits are computed
alone, in a batch of 32, token by token, and joining late, which all have to be the same bits.
"""

import hashlib
import json
import sys

import fastdecode
import numpy as np
from fastdecode import Decoder
from fastdecode.models.engines import NATIVE_DTYPES

# Around the cache's chunks of sixteen; short, because the portable path is slow.
LENGTHS = [1, 2, 3, 17, 1, 4, 2, 5] * 4
STEPS = 2
SOME = (0, 3)


def digest(*arrays):
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes())
    return found.hexdigest()[:16]


def tokens(row, count, vocabulary):
    """Tokens that no generator of random numbers has a say in."""
    return [(row * 7919 + i * 104_729 + 1) % vocabulary for i in range(count)]


def steps(rows, logits, texts, lengths):
    """The logits of each row, shape (1 + steps, vocab), each text's next tokens being given."""
    found = [logits]
    for step in range(STEPS):
        given = [text[length + step] for text, length in zip(texts, lengths, strict=True)]
        found.append(rows.step(np.array(given)))
    return np.stack(found, axis=1)


def measure(decoder):
    """Digests of the logits and of what is generated."""
    engine = decoder.engine
    texts = [tokens(i, n + STEPS, engine.vocab_size) for i, n in enumerate(LENGTHS)]
    prompts = [text[:length] for text, length in zip(texts, LENGTHS, strict=True)]
    together = steps(*engine.start(prompts, [1] * 32), texts, LENGTHS)
    for i in SOME:
        (whole,) = engine.all_logits([texts[i]])
        assert (whole[LENGTHS[i] - 1 :] == together[i]).all(), f"row {i}, as one prompt"
        alone = steps(*engine.start([prompts[i]], [1]), [texts[i]], [LENGTHS[i]])
        assert (alone[0] == together[i]).all(), f"row {i}, alone"
    # Rows 4 to 7 join when rows 0 to 3 have taken a step, of which two are gone.
    rows, _ = engine.start(prompts[:4], [1] * 4)
    rows.step(np.array([text[n] for text, n in zip(texts[:4], LENGTHS, strict=False)]))
    rows.keep(np.array([3, 1]))
    late = rows.join(prompts[4:8], [1] * 4)
    assert (late == together[4:8, 0]).all(), "joining late"
    late = rows.step(np.array([0, 0, *(texts[i][LENGTHS[i]] for i in range(4, 8))]))[2:]
    assert (late == together[4:8, 1]).all(), "a step after joining late"
    prompts = ["Once upon a time", "The", "", "It was"]
    made = decoder.generate(
        prompts, seed=2**63, n=2, temperature=0.9, top_p=0.95, max_new_tokens=8, batch_size=3
    )
    greedy = decoder.generate("Once upon a time", max_new_tokens=12)
    ids = [np.array(item.token_ids, dtype=np.int64) for item in [*made, *greedy]]
    return {"logits": digest(together), "tokens": digest(*ids)}


if __name__ == "__main__":
    found = {}
    for dtype, cache in [
        *((dtype, "float32") for dtype in NATIVE_DTYPES),
        *(("float32", "bfloat16"), ("float32", "int8"), ("int8", "int8")),
    ]:
        decoder = Decoder.from_pretrained(
            "demo", engine="native", dtype=dtype, kv_cache_dtype=cache
        )
        name = dtype if cache == "float32" else f"{dtype}, {cache} cache"
        found[name] = measure(decoder)
        native = decoder.engine.packed()
    path = {"level": native.level, "threads": native.threads, "torch": "torch" in sys.modules}
    print(json.dumps({"path": path, "found": found, "rng": fastdecode.core.RNG_VERSION}))
