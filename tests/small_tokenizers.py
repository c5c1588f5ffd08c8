"""Small tokenizers of every kind that models use, built here, and random tokens for them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence

from conftest import TEXT
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

STOP = "<|im_end|>"
_SAMPLE = [
    *TEXT,
    "Naïve façade — 你好，世界。 😀😀 👩‍👩‍👧 e\u0301 \u1230\u120b\u121d",
    "a  b\n\n c\t",
]


def _fast(tokenizer: Tokenizer, *, special: Sequence[str]) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens(list(special))
    tokenizer.add_special_tokens([STOP])
    tokenizer.add_tokens([AddedToken("<tool>", special=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=special[0], eos_token=special[-1]
    )


def byte_level(*, prefix: bool = False, normalizer: normalizers.Normalizer | None = None):
    """Byte-level BPE, as GPT-2, Llama-3 and Qwen have it."""
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_SAMPLE, trainer)
    tokenizer.add_tokens(["café"])
    return _fast(tokenizer, special=["<|endoftext|>"])


def byte_fallback(*, prefix: bool):
    """BPE with tokens for bytes: with a prefix space as Llama-2 has it, without as Gemma."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    steps = [normalizers.Replace(" ", "\u2581")]
    if prefix:
        steps.insert(0, normalizers.Prepend("\u2581"))
    trained.normalizer = normalizers.Sequence(steps)
    # No piece spans words.
    trained.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    trainer = trainers.BpeTrainer(
        vocab_size=120, special_tokens=["<unk>"], show_progress=False, limit_alphabet=48
    )
    trained.train_from_iterator(TEXT, trainer)
    model = json.loads(trained.to_str())["model"]
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    names += [piece for piece in model["vocab"] if piece not in names]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={name: place for place, name in enumerate(names)},
            merges=[tuple(merge) for merge in model["merges"]],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(steps)
    parts = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*parts, *([decoders.Strip(" ", 1, 0)] * prefix)])
    if prefix:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
    return _fast(tokenizer, special=["<s>", "<unk>", "</s>"])


def metaspace(*, scheme: str, byte_tokens: bool = False):
    """A unigram model over words that begin with a sign for a space, as T5 and XLM-R have it."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    trainer = trainers.UnigramTrainer(
        vocab_size=130,
        special_tokens=["<s>", "<unk>", "</s>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(_SAMPLE, trainer)
    if byte_tokens:
        model = json.loads(tokenizer.to_str())["model"]
        pieces = [(piece, score) for piece, score in model["vocab"]]
        pieces += [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
        tokenizer.model = models.Unigram(pieces, unk_id=model["unk_id"], byte_fallback=True)
        tokenizer.decoder = decoders.Sequence(
            [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=scheme)]
        )
    return _fast(tokenizer, special=["<s>", "<unk>", "</s>"])


def word_piece(*, cleanup: bool):
    """Words and their continuations, as BERT has them."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=cleanup)
    trainer = trainers.WordPieceTrainer(
        vocab_size=150, special_tokens=["[CLS]", "[UNK]", "[SEP]"], show_progress=False
    )
    tokenizer.train_from_iterator(_SAMPLE, trainer)
    return _fast(tokenizer, special=["[CLS]", "[UNK]", "[SEP]"])


def word_suffix():
    """BPE that marks the end of words, as GPT-1 and CLIP have it."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=150,
        special_tokens=["<s>", "<unk>", "</s>"],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(_SAMPLE, trainer)
    return _fast(tokenizer, special=["<s>", "<unk>", "</s>"])


def words():
    """Whole words and no decoder: they are joined by spaces."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(
        special_tokens=["<s>", "<unk>", "</s>"], show_progress=False
    )
    tokenizer.train_from_iterator(_SAMPLE, trainer)
    return _fast(tokenizer, special=["<s>", "<unk>", "</s>"])


BUILDERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "byte-level": byte_level,
    "byte-level, prefix space": lambda: byte_level(prefix=True),
    "byte-level, NFC": lambda: byte_level(normalizer=normalizers.NFC()),
    "byte fallback, prefix space": lambda: byte_fallback(prefix=True),
    "byte fallback": lambda: byte_fallback(prefix=False),
    "metaspace, prefix space": lambda: metaspace(scheme="always"),
    "metaspace": lambda: metaspace(scheme="never"),
    "metaspace with byte fallback": lambda: metaspace(scheme="always", byte_tokens=True),
    "WordPiece": lambda: word_piece(cleanup=False),
    "WordPiece, tidied up": lambda: word_piece(cleanup=True),
    "end-of-word suffix": word_suffix,
    "no decoder": words,
}

_ALPHABET = "ab c\n.,'é—你😀🐊\u0301\ufffd"


def random_text(rng: random.Random) -> str:
    """A few characters, from one byte to four each, or words that the tokenizers know."""
    if rng.random() < 0.4:
        return " ".join(rng.choices(_SAMPLE[0].split(), k=rng.randint(1, 5)))
    return "".join(rng.choices(_ALPHABET, k=rng.randint(0, 8)))


def random_tokens(tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> list[int]:
    """Tokens of texts, damaged ones, bytes that are no UTF-8, special tokens, unknown ids."""
    size = len(tokenizer)
    vocab = tokenizer.get_vocab()
    byte_tokens = [vocab[f"<0x{byte:02X}>"] for byte in range(128, 256) if "<0xFF>" in vocab]
    found: list[int] = []
    while len(found) < 24 and rng.random() < 0.85:
        kind = rng.random()
        if kind < 0.45:
            ids = tokenizer(random_text(rng), add_special_tokens=False)["input_ids"]
            if ids and rng.random() < 0.4:
                del ids[rng.randrange(len(ids))]
            found += ids
        elif kind < 0.6 and byte_tokens:
            found += rng.choices(byte_tokens, k=rng.randint(1, 6))
        elif kind < 0.9:
            found += [rng.randrange(size) for _ in range(rng.randint(1, 3))]
        else:
            found.append(rng.choice([vocab[STOP], vocab["<tool>"], size + 3]))
    return found[:24]
