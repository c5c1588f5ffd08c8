"""Tokenizers from GGUF files against those that transformers makes of the same vocabularies.

`FASTDECODE_STRINGS=10000 pytest tests/test_gguf_tokenizer.py` encodes ten thousand texts with each.
"""

from __future__ import annotations

import json
import os
import random
import unicodedata

import pytest
from any_strings import strings
from family_tokenizers import characters
from fastdecode.models.gguf.splits import SPLITS
from fastdecode.models.gguf.tokenizer import GgufTokenizer
from gguf_files import smollm2, write
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer,
    GemmaTokenizer,
    GPT2Tokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
)
from transformers.tokenization_utils_base import generate_merges

STRINGS = int(os.environ.get("FASTDECODE_STRINGS", "150"))
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEXTS = [*strings(400, seed=7), "It was the best of times, it was the worst of times. " * 20]


def byte_level() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A vocabulary and its merges, after the special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=list(SPECIAL),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


VOCABULARY, MERGES = byte_level()
IDS = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0, "padding_token_id": 2}


def byte_level_file(path, pre: str | None, **more):
    tokens = sorted(VOCABULARY, key=VOCABULARY.get)
    metadata = {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token in SPECIAL else 1 for token in tokens],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in MERGES],
        **{f"tokenizer.ggml.{name}": token for name, token in IDS.items()},
        **({} if pre is None else {"tokenizer.ggml.pre": pre}),
        **more,
    }
    return write(path / "x.gguf", metadata, {})


def sentencepiece() -> dict[str, float]:
    """A vocabulary of SentencePiece with its scores."""
    found = {"<unk>": 0.0, "<s>": 0.0, "</s>": 0.0}
    found |= {f"<0x{byte:02X}>": 0.0 for byte in range(256)}
    pieces = ["▁the", "he", "▁t", "▁best", "est", "st", "▁b", "es", "of", "▁of", "orst", "or", "▁w"]
    pieces += [
        "▁wor",
        "▁worst",
        "times",
        "tim",
        "im",
        "▁times",
        "▁tim",
        "es,",
        "▁▁",
        "▁▁▁",
        "..",
        "你好",
    ]
    letters = dict.fromkeys("▁" + "".join(pieces) + "abcdefghijklmnopqrstuvwxyz你好é,.")
    found |= {piece: -float(row) for row, piece in enumerate(pieces)}
    return found | {letter: -1000.0 - row for row, letter in enumerate(letters)}


def sentencepiece_file(path, architecture: str = "llama", **more):
    pieces = sentencepiece()
    gemma = architecture == "gemma3"
    metadata = {
        "general.architecture": architecture,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [
            " " * len(p) if gemma and p in ("▁▁", "▁▁▁") else p for p in pieces
        ],
        "tokenizer.ggml.scores": list(pieces.values()),
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * (len(pieces) - 259),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        **more,
    }
    return write(path / "x.gguf", metadata, {})


def byte_level_oracle(pre: str):
    """The tokenizer that transformers makes of the same vocabulary for a model of that kind."""
    special = {"bos_token": SPECIAL[1], "eos_token": SPECIAL[2], "unk_token": SPECIAL[0]}
    if pre in ("default", "gpt-2", "phi-2", "mpt", "olmo"):
        return GPT2Tokenizer(vocab=VOCABULARY, merges=MERGES, **special)
    if pre == "qwen2":
        return Qwen2Tokenizer(vocab=VOCABULARY, merges=MERGES, **special, pad_token=SPECIAL[2])
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    steps = [pre_tokenizers.Digits(individual_digits=True), level]
    if pre in GGUF_PRE_TOKENIZER_SPLITS:
        pattern = Regex(GGUF_PRE_TOKENIZER_SPLITS[pre])
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        steps = [pre_tokenizers.Split(pattern, behavior="isolated"), level]
    whole = pre not in ("dbrx", "smaug-bpe") and pre in GGUF_PRE_TOKENIZER_SPLITS
    tokenizer = Tokenizer(models.BPE(vocab=VOCABULARY, merges=MERGES, ignore_merges=whole))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


@pytest.mark.parametrize("pre", SPLITS)
def test_byte_level_ids_are_those_of_transformers(pre, tmp_path):
    found = GgufTokenizer(byte_level_file(tmp_path, pre))
    oracle = byte_level_oracle(pre)
    oracle.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    for text in strings(max(600, STRINGS), SPECIAL):
        expected = oracle.encode(text, add_special_tokens=False)
        assert found.encode(text, add_special_tokens=False) == expected, text
        assert found.decode(expected) == oracle.decode(expected)
    bos = [1] if SPLITS[pre].bos else []
    assert found.encode("best") == bos + oracle.encode("best", add_special_tokens=False)
    assert (found.bos_token_id, found.eos_token_id, found.eos_ids) == (1, 2, (2,))


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_ids_are_those_of_transformers(prefix, tmp_path):
    flag = {"tokenizer.ggml.add_space_prefix": prefix}
    found = GgufTokenizer(sentencepiece_file(tmp_path, **flag))
    scores = sentencepiece()
    vocabulary = {piece: token for token, piece in enumerate(scores)}
    merges = generate_merges(vocabulary, scores)
    oracle = LlamaTokenizer(vocab=vocabulary, merges=merges, add_prefix_space=prefix)
    for text in strings(max(1000, STRINGS), ("<s>", "</s>", "▁the", "of the times")):
        expected = oracle.encode(text, add_special_tokens=False)
        assert found.encode(text, add_special_tokens=False) == expected, text
        assert found.decode(expected) == oracle.decode(expected)
    assert found.encode("times")[0] == 1


def test_gemma_ids_are_those_of_transformers(tmp_path):
    found = GgufTokenizer(sentencepiece_file(tmp_path, "gemma3"))
    vocabulary = {piece: token for token, piece in enumerate(sentencepiece())}
    merges = generate_merges(vocabulary, {piece: -token for piece, token in vocabulary.items()})
    oracle = GemmaTokenizer(
        vocab=vocabulary,
        merges=merges,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<unk>",
        mask_token="<unk>",
    )
    for text in strings(max(1000, STRINGS), ("<s>", "</s>", "▁the", "of the times", "a    b")):
        expected = oracle.encode(text, add_special_tokens=False)
        assert found.encode(text, add_special_tokens=False) == expected, text


def converted(path):
    """The tokenizer that transformers' reader of GGUF files makes of a file."""
    from transformers.integrations.gguf import convert_gguf_tokenizer, get_gguf_tokenizer

    architecture, described, _ = get_gguf_tokenizer(str(path))
    return convert_gguf_tokenizer(architecture, described)[0]


def some_kinds(tokens, rng, special):
    """Types of tokens: special ones, bytes, some that users defined, and normal ones."""
    kinds = []
    for token in tokens:
        kind = 3 if token in special else 6 if token.startswith("<0x") else 1
        if kind == 1 and len(token) > 2 and rng.random() < 0.03:
            kind = rng.choice([3, 4])
        kinds.append(kind)
    return kinds


def alike(path, oracle, texts):
    """Whether the tokenizer of a file is this one, but for what is put around a text."""
    found = GgufTokenizer(path).backend_tokenizer
    pairs = [one.encode_batch(texts, add_special_tokens=False) for one in (found, oracle)]
    for text, ours, theirs in zip(texts, *pairs, strict=True):
        assert ours.ids == theirs.ids, text
        for skip in (True, False):
            assert found.decode(ours.ids, skip) == oracle.decode(ours.ids, skip)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("pre", ["default", "gpt-2", "dbrx", "smaug-bpe", "llama-bpe", "qwen2"])
def test_byte_level_files_are_read_as_by_transformers(pre, seed, tmp_path):
    rng = random.Random(f"{pre} {seed}")
    tokens = sorted(VOCABULARY, key=VOCABULARY.get)
    more = {"tokenizer.ggml.token_type": some_kinds(tokens, rng, SPECIAL)}
    path = byte_level_file(tmp_path, pre, **more)
    oracle = converted(path)
    # In these two steps the models' own tokenizers differ from that reader.
    if SPLITS[pre].whole_words:
        oracle.model.ignore_merges = True
    if SPLITS[pre].composed:
        oracle.normalizer = normalizers.NFC()
    alike(path, oracle, list(strings(STRINGS, SPECIAL, seed)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
@pytest.mark.parametrize("merged", [True, False])
def test_character_files_are_read_as_by_transformers(architecture, merged, seed, tmp_path):
    """With merges, and with scores from which merges follow."""
    rng = random.Random(f"{architecture} {merged} {seed}")
    vocabulary, merges = characters()
    special = ("<unk>", "<s>", "</s>", "<bos>", "<eos>")
    tokens = [*special, *(token for token in vocabulary if token not in special)]
    if architecture == "gemma3":
        tokens = [token.replace("▁", " ") if not token.strip("▁") else token for token in tokens]
        tokens = ["▁" if token == " " else token for token in tokens]
    scores = [0.0 if place < 300 else -float(rng.randrange(200)) for place in range(len(tokens))]
    more = {"tokenizer.ggml.merges": [" ".join(pair) for pair in merges]} if merged else {}
    metadata = {
        "general.architecture": architecture,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": some_kinds(tokens, rng, special[1:]),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        **more,
    }
    path = write(tmp_path / "x.gguf", metadata, {})
    alike(path, converted(path), list(strings(STRINGS, (*special, "the best", "▁▁"), seed)))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [({}, [1, 7]), ({"add_bos_token": False}, [7]), ({"add_eos_token": True}, [1, 7, 2])],
)
def test_bos_and_eos(flags, expected, tmp_path):
    flags = {f"tokenizer.ggml.{name}": value for name, value in flags.items()}
    found = GgufTokenizer(byte_level_file(tmp_path, "llama-bpe", **flags))
    text = found.decode([7])
    assert found.encode(text) == expected


def test_templates_ends_and_user_defined_tokens(tmp_path):
    more = {
        "tokenizer.chat_template": "{{ messages }}",
        "tokenizer.ggml.eot_token_id": 0,
        "tokenizer.ggml.token_type": [3, 3, 3, 4] + [1] * (len(VOCABULARY) - 4),
    }
    found = GgufTokenizer(byte_level_file(tmp_path, "gpt-2", **more))
    assert found.chat_template == "{{ messages }}"
    assert found.chat_templates["default"].place.endswith("x.gguf: tokenizer.chat_template")
    assert found.eos_ids == (2, 0)
    assert found.special_tokens_map["bos_token"] == "<|im_start|>"
    added = found.backend_tokenizer.get_added_tokens_decoder()
    assert {token: one.special for token, one in added.items()} == {
        0: True,
        1: True,
        2: True,
        3: False,
    }
    more = {"tokenizer.chat_templates": ["tool_use"], "tokenizer.chat_template.tool_use": "{{ x }}"}
    found = GgufTokenizer(
        byte_level_file(tmp_path, "gpt-2", **more, **{"tokenizer.chat_template": "y"})
    )
    assert found.chat_template == {"default": "y", "tool_use": "{{ x }}"}


@pytest.mark.parametrize(
    ("pre", "more", "message"),
    [
        ("pear", {}, "tokenizer.ggml.pre is 'pear', a way to split texts that fastdecode does not"),
        (None, {}, "tokenizer.ggml.pre is missing"),
        ("gpt-2", {"model": "bert"}, "tokenizer.ggml.model is 'bert'; GGUF files are read whose"),
        ("gpt-2", {"token_type": [1]}, "tokenizer.ggml.token_type must have an entry for each"),
        ("gpt-2", {"tokens": [1, 2]}, "tokenizer.ggml.tokens must be a list of strings"),
        ("gpt-2", {"merges": ["ab"]}, r"tokenizer.ggml.merges\[0\] is 'ab'; it must be two"),
        ("gpt-2", {"merges": ["zzz q"]}, "merges do not fit tokenizer.ggml.tokens: "),
        (["gpt-2"], {}, r"tokenizer.ggml.pre is \['gpt-2'\], a way"),
        ("gpt-2", {"bos_token_id": 10**6}, "tokenizer.ggml.bos_token_id is 1000000; it must be"),
        ("gpt-2", {"add_bos_token": 1}, "tokenizer.ggml.add_bos_token must be a boolean, not 1"),
    ],
)
def test_what_is_refused(pre, more, message, tmp_path):
    more = {f"tokenizer.ggml.{name}": value for name, value in more.items()}
    with pytest.raises(ValueError, match=message) as refusal:
        GgufTokenizer(byte_level_file(tmp_path, pre, **more))
    assert "x.gguf" in str(refusal.value)


@pytest.mark.real
def test_ids_of_smollm2_are_those_of_its_tokenizer():
    """Of its `tokenizer.json`, which splits digits; transformers' reader of GGUF does not."""
    path = smollm2()
    found = GgufTokenizer(path)
    pytest.importorskip("gguf")
    oracle = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    alike = digits = 0
    backend = Tokenizer.from_str(oracle.backend_tokenizer.to_str())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), backend.pre_tokenizer]
    )
    for text in strings(10_000, ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<repo_name>")):
        ids = found.encode(text)
        assert ids == backend.encode(text).ids, text
        if any(unicodedata.category(c).startswith("N") for c in text):
            digits += 1
        else:
            assert ids == oracle.encode(text), text
            alike += 1
        assert found.decode(ids) == oracle.decode(ids)
    assert min(alike, digits) > 1000
    assert found.chat_template == oracle.chat_template
