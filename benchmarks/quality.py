"""Loss of quality with smaller weights and KV caches: perplexity, and agreement with float32.

The first table has the perplexity of the demo model, measured as on its model card: on the parts of
the books that were held out of training, each after BOS, in windows of 512 tokens. It needs the
folder of books that `tools/train_demo.py` was given, and is left out without it. The second table
has the share of positions at which the likeliest next token is the same as in float32, on random
tokens and a GPT-2 124M with random weights, whose logits lie closer together than a trained
model's. With `--model`, the first table is that of another model, on the beginnings of the texts in
the folder; for a GGUF file it has the file's own formats as well, and all weights converted to int8
and int4.

    python benchmarks/quality.py --books folder/of/txt
    python benchmarks/quality.py --books folder/of/txt --model SmolLM2-135M-Instruct.Q4_1.gguf
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from fastdecode import Decoder, core
from fastdecode.models.checkpoints import is_gguf
from fastdecode.models.engines import NATIVE_DTYPES
from fastdecode.models.engines.native import LoadedEngine
from fastdecode.models.engines.transformers.engine import TorchEngine
from fastdecode.models.placement import AS_IN_FILE, CACHE_DTYPES, EARLIER
from transformers import GPT2Config, GPT2LMHeadModel

# The settings that the demo model was trained with; see its card.
_HELD_OUT = {"share": 0.05, "block_chars": 8000, "seed": 1234}


def windows(books: Path, decoder: Decoder) -> list[list[int]]:
    """The token ids of the held-out text, in windows that overlap by one token."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
    from train_demo import load_split

    found = []
    for block in load_split(books, **_HELD_OUT).held_out:
        ids = [decoder.tokenizer.bos_token_id, *decoder.tokenizer([block])["input_ids"][0]]
        found += [ids[first : first + 513] for first in range(0, len(ids) - 1, 512)]
    return found


def beginnings(books: Path, decoder: Decoder, count: int = 8) -> list[list[int]]:
    """`count` windows of 512 tokens from the beginning of each text."""
    found = []
    for path in sorted(books.glob("*.txt")):
        ids = decoder.tokenizer.encode(path.read_text("utf-8")[: count * 5000])
        found += [ids[first : first + 513] for first in range(0, count * 512, 512)]
    return [window for window in found if len(window) == 513]


def perplexities(model: str, text: list[list[int]], transformers_too: bool) -> None:
    count = sum(len(window) - 1 for window in text)
    print(f"\n{Path(model).name}, {count:,} tokens")
    print(
        "| weights | KV cache | nats per token | perplexity | cost | top-1 of float32 "
        "| weights, bytes | KV cache, bytes per token |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    base, best = 0.0, np.empty(0)
    formats = (*NATIVE_DTYPES, AS_IN_FILE, *EARLIER) if is_gguf(model) else NATIVE_DTYPES
    sides: list[tuple[str, str, str | None]] = [
        ("native", dtype, cache) for dtype in formats for cache in CACHE_DTYPES
    ]
    if transformers_too:
        sides.append(("transformers", "bfloat16", None))
    for engine, dtype, cache in sides:
        decoder = Decoder.from_pretrained(model, engine=engine, dtype=dtype, kv_cache_dtype=cache)
        logprobs, likeliest = [], []
        for window, logits in zip(
            text, decoder.engine.all_logits([window[:-1] for window in text]), strict=True
        ):
            logprobs += core.token_logprobs(logits, np.array(window[1:])).tolist()
            likeliest.append(np.asarray(core.argmax(logits)))
        loss, tops = -math.fsum(logprobs) / count, np.concatenate(likeliest)
        if not base:
            base, best = loss, tops
        size = f"{decoder.engine.packed().nbytes:,}" if engine == "native" else ""
        print(
            f"| {engine} {dtype} | {cache or ''} | {loss:.5f} | {math.exp(loss):.3f} "
            f"| {math.exp(loss - base) - 1:+.3%} | {(tops == best).mean():.2%} | {size} "
            f"| {decoder.engine.bytes_per_token:,} |",
            flush=True,
        )


def agreement(layers: int, tokens: int) -> None:
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_layer=layers)).eval()
    rng = np.random.default_rng(0)
    texts = rng.integers(0, 50256, (tokens // 100, 100)).tolist()
    print(f"\nGPT-2, {layers} layers, random weights, {len(texts) * 100} places")
    print("| weights | top-1 of float32 | largest difference of a logit | root mean square |")
    print("|---|---:|---:|---:|")
    expected = list(LoadedEngine(model).all_logits(texts))
    for name in ("native bfloat16", "native int8", "transformers bfloat16"):
        engine = (
            TorchEngine(model.to(torch.bfloat16))
            if name.startswith("transformers")
            else LoadedEngine(model, name.removeprefix("native "))
        )
        same, most, squares = 0, 0.0, 0.0
        for found, logits in zip(engine.all_logits(texts), expected, strict=True):
            logits32 = torch.as_tensor(found).float().numpy()
            apart = np.abs(logits32 - logits)
            same += int((logits32.argmax(1) == logits.argmax(1)).sum())
            most, squares = max(most, float(apart.max())), squares + float((apart**2).mean())
        print(
            f"| {name} | {same / len(texts) / 100:.2%} | {most:.3g} "
            f"| {math.sqrt(squares / len(texts)):.3g} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--books", type=Path, help="the folder of books given to train_demo.py")
    parser.add_argument(
        "--model", help="a model in place of the demo model; only its table is made"
    )
    parser.add_argument("--layers", type=int, default=12, help="12 is the 124M model")
    parser.add_argument("--tokens", type=int, default=2000, help="positions of the random text")
    arguments = parser.parse_args()
    if arguments.books is not None and arguments.model is not None:
        text = beginnings(arguments.books, Decoder.from_pretrained(arguments.model))
        perplexities(arguments.model, text, transformers_too=False)
        return
    if arguments.books is not None:
        text = windows(arguments.books, Decoder.from_pretrained("demo"))
        perplexities("demo", text, transformers_too=True)
    agreement(arguments.layers, arguments.tokens)


if __name__ == "__main__":
    main()
