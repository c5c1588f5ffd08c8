"""The KV cache of the native engine: its size, windows that slide, and rows that are cut back."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from family_models import FAMILIES, VOCABULARY, random_model
from fastdecode.models.engines import open_engine

# Positions of a chunk, and those that layers with a window keep beyond it.
CHUNK, SLACK = 16, 32
WINDOWED = {
    "mistral": {"sliding_window": 20},
    "qwen2": {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
    "qwen3": {"use_sliding_window": True, "sliding_window": 33, "max_window_layers": 0},
    "gemma3_text": {"sliding_window": 24},
    "gpt_neo": {"window_size": 11},
}
# Without scaling, which would depend on the context.
ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}}
CONTEXT = 400


def engine_of(family, seed=3, cache="float32"):
    """An engine with a context of `CONTEXT` tokens, and whatever windows the family can have."""
    fixed = {"max_position_embeddings": CONTEXT} | WINDOWED.get(family, {})
    if family == "gpt2":
        fixed = {"n_positions": CONTEXT}
    if family in ("llama", "mistral", "qwen2", "qwen3", "smollm3"):
        fixed |= ROPE
    return open_engine(random_model(family, seed, **fixed), "native", kv_cache_dtype=cache)


def bytes_of_head(width, cache):
    """Of a key and a value in one head: whole words of integers, and values in whole vectors."""
    vectors = -(-width // 16) * 16
    return {
        "float32": 4 * 2 * width,
        "bfloat16": 2 * (width + width % 2 + vectors),
        "int8": -(-width // 4) * 4 + vectors + 2 * 4,
    }[cache]


def texts(seed, *lengths):
    draw = np.random.default_rng(seed)
    return [draw.integers(2, VOCABULARY - 1, length).tolist() for length in lengths]


def windows(engine):
    """The window of each layer, or None."""
    config = engine._model.config
    if config.model_type == "gpt_neo":
        local = [kind == "local" for kind in config.attention_layers]
        return [config.window_size if is_local else None for is_local in local]
    if config.model_type == "mistral":
        return [config.sliding_window] * config.num_hidden_layers
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    sliding = getattr(config, "sliding_window", None)
    return [sliding if kind == "sliding_attention" else None for kind in kinds]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("seed", "cache"),
    [*((seed, "float32") for seed in range(4)), (0, "bfloat16"), (1, "int8"), (2, "int8")],
)
def test_a_token_takes_its_keys_and_values_and_no_more(family, seed, cache):
    """In layers with a window only those of the last tokens, however long the text is."""
    engine = engine_of(family, seed, cache)
    config = engine._model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    layers = config.num_hidden_layers
    assert engine.bytes_per_token == layers * heads * bytes_of_head(width, cache)
    native = engine.packed()
    rows, _ = engine.start(texts(seed, CONTEXT - 80), [1])
    for token in range(80):
        rows.step(np.array([token]))
    expected = 0
    for window in windows(engine):
        kept = CONTEXT if window is None else min(CONTEXT, window + SLACK + 2 * CHUNK)
        expected += kept * engine.bytes_per_token // layers
    if all(window is None for window in windows(engine)):
        assert native.cache_nbytes == expected
    assert native.cache_nbytes <= expected
    del rows
    assert native.cache_nbytes == 0


@pytest.mark.parametrize("cache", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("family", ["gpt2", "llama", *WINDOWED])
def test_rows_that_are_cut_back_go_on_as_fresh_ones(family, cache):
    """Forks beside them, too; the bits are those of a prompt of the tokens that remain."""
    engine = engine_of(family, cache=cache)
    first, second = texts(5, 150, 70)
    rows, _ = engine.start([first, second], [2, 1])
    assert rows.lengths == [150, 150, 70]
    rows.truncate(np.array([150, 131, 40]))
    held = [first, first[:131], second[:40]]
    assert rows.lengths == [len(row) for row in held]
    for token in (7, 8, 9):
        logits = rows.step(np.array([token] * 3)).copy()
        held = [[*row, token] for row in held]
        for row, found in zip(held, logits, strict=True):
            _, fresh = engine.start([row], [1])
            assert np.array_equal(found, fresh[0])
    rows.keep([1, 2])
    rows.truncate([0, len(held[2])])
    assert rows.lengths == [0, 43]
    _, fresh = engine.start([[5], [*held[2], 5]], [1, 1])
    assert np.array_equal(rows.step(np.array([5, 5])), fresh)


def test_lengths_that_cannot_be_are_refused():
    engine = engine_of("mistral")
    rows, _ = engine.start(texts(6, 200, 9), [1, 1])
    for lengths, message in [
        ([200], r"lengths has 1 entries for 2 rows; give one a row"),
        ([200, -1], r"lengths\[1\]=-1 is outside 0..=9, the lengths that a sequence of 9 tokens"),
        ([201, 9], r"lengths\[0\]=201 is outside 0..=200"),
        (
            [100, 9],
            r"lengths\[0\]=100: layers with a window have given back what a sequence of 200 tokens "
            r"needs to go on from there; cut it back to at least 163 tokens, or to 0",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            rows.truncate(lengths)
        assert rows.lengths == [200, 9]
    for wrong in (["a", 1], [1.5, 1], None, [2**63, 1]):
        with pytest.raises((TypeError, ValueError, OverflowError), match="lengths"):
            rows.truncate(wrong)
    rows.truncate([163, 0])
    assert rows.lengths == [163, 0]


# Four layers of eight heads of 64 dimensions: 16 KiB a token.
PEAK = """
import json, sys
from pathlib import Path
import numpy as np
from fastdecode._core import NativeModel

window, new = json.loads(sys.argv[1])
config = dict(model_type="mistral", vocab_size=64, hidden_size=64, intermediate_size=64,
    num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=8, head_dim=64,
    max_position_embeddings=1 << 14, sliding_window=window, tie_word_embeddings=True)
shapes = {"embed_tokens": (64, 64), "norm": (64,)}
for layer in range(4):
    shapes |= {f"layers.{layer}.{name}": shape for name, shape in {
        "input_layernorm": (64,), "post_attention_layernorm": (64,),
        "self_attn.q_proj": (512, 64), "self_attn.k_proj": (512, 64),
        "self_attn.v_proj": (512, 64), "self_attn.o_proj": (64, 512),
        "mlp.gate_proj": (64, 64), "mlp.up_proj": (64, 64), "mlp.down_proj": (64, 64)}.items()}
draw = np.random.default_rng(0)
model = NativeModel.from_arrays(json.dumps(config), {f"model.{name}.weight":
    draw.standard_normal(shape, np.float32) / 8 for name, shape in shapes.items()})

def resident(field):
    text = Path("/proc/self/status").read_text()
    return int(text.split(field + ":")[1].split()[0]) * 1024

def run(prompt, new):
    rows = model.rows()
    logits = rows.join([list(range(prompt))], [1])
    for _ in range(new):
        logits = rows.step(logits.argmax(-1))
    return model.cache_nbytes

run(40, 40)
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
held = run(60, new)
print(json.dumps([held, resident("VmHWM") - before]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_of_a_long_text_is_that_of_its_windows():
    """Four thousand tokens with a window of 64 take a hundredth of what they take without one."""

    def peak(window):
        done = subprocess.run(
            [sys.executable, "-c", PEAK, f"[{window}, 4000]"],
            capture_output=True,
            text=True,
            check=True,
        )
        return tuple(map(int, done.stdout.strip("[]\n").split(",")))

    token = 2 * 4 * 8 * 64 * 4
    held, resident = peak("null")
    assert held == -(-4060 // CHUNK) * CHUNK * token
    assert resident > 0.8 * held
    held, resident = peak("64")
    assert held <= (64 + SLACK + 2 * CHUNK) * token
    # A slab is at least touched by large pages of 2 MiB.
    assert resident <= 8 << 20
