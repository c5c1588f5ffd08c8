"""Small tokenizers of the families in files, as repositories have them."""

from __future__ import annotations

import json
import random
from functools import cache

from any_strings import strings
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

END = "<|endoftext|>"
SPECIAL = (END, "<|im_start|>", "<|im_end|>", "<unk>", "<s>", "</s>", "<bos>", "<eos>", "<pad>")
# Tokens that a vocabulary does not have.
NEW = ("[X]", "<tool>", "<|new|>", "é你", "the best")
_FLAGS = ("lstrip", "rstrip", "single_word", "normalized")
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SAMPLE = [*strings(300, seed=11), "It was the best of times, it was the worst of times. " * 20]
# What files of each kind of tokenizer name as their class, and the types of their models.
KINDS = {
    "gpt2": (
        ("GPT2Tokenizer", "GPT2TokenizerFast", "PreTrainedTokenizerFast", None),
        ("gpt2", "gpt_neo", "opt"),
    ),
    "smollm": (("GPT2Tokenizer", "PreTrainedTokenizerFast"), ("llama", "smollm3")),
    "llama3": (
        ("PreTrainedTokenizerFast", "LlamaTokenizerFast", "LlamaTokenizer", None),
        ("llama", "smollm3"),
    ),
    "qwen2": (
        ("Qwen2Tokenizer", "Qwen2TokenizerFast", "PreTrainedTokenizerFast", "LlamaTokenizer", None),
        ("qwen2", "qwen3"),
    ),
    "gpt_neox": (
        ("GPTNeoXTokenizer", "GPTNeoXTokenizerFast", "PreTrainedTokenizerFast", None),
        ("gpt_neox",),
    ),
    "llama": (("LlamaTokenizer", "LlamaTokenizerFast"), ("llama", "qwen3", "smollm3")),
    "mistral": (
        ("LlamaTokenizer", "LlamaTokenizerFast", "PreTrainedTokenizerFast", None),
        ("mistral",),
    ),
    "gemma": (("GemmaTokenizer", "GemmaTokenizerFast", None), ("gemma3_text",)),
}
_CHARACTERS = ("llama", "mistral", "gemma")


@cache
def byte_level():
    """A vocabulary of bytes and its merges, after the special tokens."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(_SAMPLE, trainer)
    model = json.loads(trained.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


@cache
def characters():
    """A vocabulary of characters and its merges, after the special tokens and the bytes."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = normalizers.Replace(" ", "\u2581")
    trained.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<unk>"], show_progress=False, limit_alphabet=150
    )
    trained.train_from_iterator(_SAMPLE, trainer)
    model = json.loads(trained.to_str())["model"]
    names = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    names += [piece for piece in model["vocab"] if piece not in names]
    vocabulary = {name: token for token, name in enumerate(names)}
    return vocabulary, [tuple(merge) for merge in model["merges"]]


def _own_steps(kind, rng):
    """A tokenizer with the steps that files of this kind have."""
    if kind in _CHARACTERS:
        vocabulary, merges = characters()
        fallback = rng.random() < 0.9
        found = Tokenizer(
            models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=fallback)
        )
        steps = [normalizers.Replace(" ", "\u2581")]
        if kind != "gemma":
            steps.insert(0, normalizers.Prepend("\u2581"))
        if rng.random() < 0.3 and kind == "mistral":
            found.pre_tokenizer = pre_tokenizers.Metaspace(
                prepend_scheme=rng.choice(["first", "always", "never"]), split=False
            )
        else:
            found.normalizer = normalizers.Sequence(steps)
        parts = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
        found.decoder = decoders.Sequence(
            [*parts, *([] if kind == "gemma" else [decoders.Strip(" ", 1, 0)])]
        )
        return found
    vocabulary, merges = byte_level()
    whole = rng.random() < (0.8 if kind == "llama3" else 0.2)
    found = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=whole))
    level = pre_tokenizers.ByteLevel(add_prefix_space=rng.random() < 0.2)
    if kind == "smollm":
        level = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), level])
    elif kind in ("llama3", "qwen2"):
        level = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_WORDS), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    if kind in ("qwen2", "gpt_neox") or rng.random() < 0.1:
        found.normalizer = normalizers.NFC()
    found.pre_tokenizer, found.decoder = level, decoders.ByteLevel()
    return found


def _surroundings(tokenizer, kind, rng):
    token = rng.choice(["<s>", "<bos>", END])
    place = tokenizer.token_to_id(token)
    template = processors.TemplateProcessing(
        single=rng.choice([f"{token} $A", f"$A {token}"]), special_tokens=[(token, place)]
    )
    level = processors.ByteLevel(trim_offsets=rng.random() < 0.5)
    choices = [None, template]
    if kind not in _CHARACTERS:
        choices += [level, processors.Sequence([level, template])]
    chosen = rng.choice(choices)
    if chosen is not None:
        tokenizer.post_processor = chosen


def _flags(rng):
    return {name: rng.random() < 0.25 for name in _FLAGS}


def _as_object(text, rng):
    return {"__type": "AddedToken", "content": text, "special": True, **_flags(rng)}


def _settings(tokenizer, name, rng):
    """The contents of a `tokenizer_config.json`."""
    found = {} if name is None else {"tokenizer_class": name}
    for flag in ("add_bos_token", "add_eos_token", "legacy", "split_special_tokens"):
        if rng.random() < (0.1 if flag.startswith("split") else 0.4):
            found[flag] = rng.random() < 0.5
    if rng.random() < 0.4:
        found["add_prefix_space"] = rng.random() < 0.5
    for token in ("bos", "eos", "unk", "pad", "mask"):
        chance = rng.random()
        if chance < 0.35:
            found[f"{token}_token"] = rng.choice(SPECIAL)
        elif chance < 0.45:
            found[f"{token}_token"] = _as_object(rng.choice(SPECIAL), rng)
        elif chance < 0.5:
            found[f"{token}_token"] = rng.choice(NEW)
        elif chance < 0.55:
            found[f"{token}_token"] = None
    if rng.random() < 0.3:
        extra = rng.sample([*SPECIAL, *NEW], 2)
        names = ("additional_special_tokens", "extra_special_tokens")
        found[rng.choice(names)] = rng.choice([extra, [_as_object(extra[0], rng), extra[1]]])
    if rng.random() < 0.15:
        found["extra_special_tokens"] = {"boi_token": rng.choice([*SPECIAL, *NEW])}
    if rng.random() < 0.15:
        found["image_token"] = rng.choice([*SPECIAL, *NEW])
    if rng.random() < 0.6:
        inside = tokenizer.get_added_tokens_decoder()
        declared = {str(token): one.__getstate__() for token, one in inside.items()}
        if rng.random() < 0.3:
            for one in declared.values():
                if rng.random() < 0.2:
                    one[rng.choice([*_FLAGS, "special"])] = rng.random() < 0.5
        if rng.random() < 0.3:
            size = tokenizer.get_vocab_size()
            for place, text in enumerate(rng.sample(NEW, 2)):
                declared[str(size + place)] = {
                    "content": text,
                    "special": rng.random() < 0.5,
                    **_flags(rng),
                }
        if rng.random() < 0.1:
            declared.pop(next(iter(declared)), None)
        found["added_tokens_decoder"] = declared
    plain = {
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
        "errors": "replace",
        "sp_model_kwargs": {},
        "spaces_between_special_tokens": False,
        "use_default_system_prompt": False,
        "trim_offsets": True,
        "padding_side": "left",
    }
    return found | {key: value for key, value in plain.items() if rng.random() < 0.3}


def write_tokenizer(folder, kind, seed):
    """Write the files of a tokenizer whose details are drawn from `seed`."""
    rng = random.Random(f"{kind} {seed}")
    names, types = KINDS[kind]
    tokenizer = _own_steps(kind, rng)
    _surroundings(tokenizer, kind, rng)
    for text in SPECIAL:
        if rng.random() < 0.8:
            flags = _flags(rng) if rng.random() < 0.3 else {"normalized": False}
            tokenizer.add_tokens([AddedToken(text, special=rng.random() < 0.9, **flags)])
    if rng.random() < 0.5:
        tokenizer.add_tokens([AddedToken(rng.choice(NEW), special=False, **_flags(rng))])
    if rng.random() < 0.1:
        tokenizer.enable_padding(pad_id=3, pad_token=rng.choice(SPECIAL))
    if rng.random() < 0.1:
        tokenizer.enable_truncation(5)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": rng.choice(types)}))
    settings = _settings(tokenizer, rng.choice(names), rng)
    if settings or rng.random() < 0.8:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if rng.random() < 0.2:
        older = {"eos_token": rng.choice(SPECIAL), "unk_token": rng.choice(SPECIAL)}
        if rng.random() < 0.5:
            older["bos_token"] = {"content": rng.choice(SPECIAL), **_flags(rng)}
        (folder / "special_tokens_map.json").write_text(json.dumps(older))


def write_older_files(folder, kind, seed):
    """The same with `vocab.json` and `merges.txt` instead of `tokenizer.json`."""
    write_tokenizer(folder, kind, seed)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.model.save(str(folder))
    (folder / "tokenizer.json").unlink()
