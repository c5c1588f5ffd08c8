"""A tokenizer from its files is the one that transformers makes of them, or is refused.

`FASTDECODE_STRINGS=10000 pytest tests/test_tokenizer_files.py` encodes ten thousand texts with each
tokenizer of each family.
"""

from __future__ import annotations

import json
import os
import random
import shutil

import pytest
from any_strings import strings
from family_tokenizers import KINDS, NEW, SPECIAL, write_older_files, write_tokenizer
from fastdecode import Decoder
from fastdecode.decoding.text import continuation, text_cursor
from fastdecode.models.detokenizer import Detokenizer
from fastdecode.models.tokenizer import FileTokenizer
from fastdecode.models.tokenizer_files.refusal import NeedsTransformers
from small_tokenizers import byte_level
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

STRINGS = int(os.environ.get("FASTDECODE_STRINGS", "30"))
TEXTS = [
    "Once upon a time",
    " Once",
    "",
    "  two  spaces\n\n",
    "café — 你好 🐊",
    "a<|endoftext|>b <|im_end|> <pad> [X]c",
    "e\u0301 <tool>",
]
END = {
    "content": "<|endoftext|>",
    "lstrip": False,
    "normalized": True,
    "rstrip": False,
    "single_word": False,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with the files of a small GPT-2, in both of their forms."""
    folder = tmp_path_factory.mktemp("saved")
    tokenizer = byte_level()
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.backend_tokenizer.model.save(str(folder))
    GPT2Config(vocab_size=400).save_pretrained(folder)
    return folder


def added(token, **flags):
    return {**END, "normalized": False, "special": True, "content": token} | flags


def named(token, **flags):
    return added(token, **flags) | {"__type": "AddedToken"}


SETTINGS = {
    "none": None,
    "class": {"tokenizer_class": "GPT2Tokenizer"},
    "class Fast": {"tokenizer_class": "GPT2TokenizerFast", "bos_token": "<|endoftext|>"},
    "prefix space": {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True},
    "no prefix space": {"add_prefix_space": False, "model_max_length": 1024},
    "bos": {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True},
    "bos and eos": {"add_bos_token": True, "add_eos_token": True},
    "added": {"added_tokens_decoder": {"0": added("<|endoftext|>"), "340": added("[X]")}},
    "added, not special": {
        "tokenizer_class": "GPT2Tokenizer",
        "added_tokens_decoder": {
            "0": added("<|endoftext|>"),
            "340": added("[X]", special=False, lstrip=True),
        },
    },
    "none added": {"added_tokens_decoder": {}},
    "other ends": {"bos_token": "<s>", "eos_token": "[X]", "pad_token": "<pad>"},
    "no bos": {"bos_token": None, "unk_token": None},
    "tokens as objects": {"eos_token": named("<|im_end|>"), "pad_token": named("<pad>")},
    "more special": {"additional_special_tokens": ["[X]", "<|im_end|>"]},
    "more special objects": {"extra_special_tokens": [named("[X]", rstrip=True)]},
    "as version 4 saves it": {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {"0": added("<|endoftext|>", normalized=True)},
        "bos_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|endoftext|>",
        "errors": "replace",
        "extra_special_tokens": {},
        "model_max_length": 1024,
        "pad_token": None,
        "tokenizer_class": "GPT2Tokenizer",
        "unk_token": "<|endoftext|>",
    },
    "split special": {"split_special_tokens": True},
    "plain": {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"},
    "plain, prefix space": {"tokenizer_class": "TokenizersBackend", "add_prefix_space": True},
    "plain, added": {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "added_tokens_decoder": {"0": added("<|endoftext|>"), "77": added("[X]")},
        "additional_special_tokens": ["<pad>"],
    },
    "plain, bos": {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": True},
}


def alike(folder, texts=TEXTS):
    """Compare with transformers."""
    ours, theirs = FileTokenizer(folder), AutoTokenizer.from_pretrained(str(folder))
    assert (ours.bos_token_id, ours.eos_token_id) == (theirs.bos_token_id, theirs.eos_token_id)
    assert len(ours) == len(theirs)
    assert ours.special_tokens_map == theirs.special_tokens_map
    for special in (True, False):
        rows = ours(texts, add_special_tokens=special, return_offsets_mapping=True)
        other = theirs(texts, add_special_tokens=special, return_offsets_mapping=True)
        for name in ("input_ids", "offset_mapping"):
            assert [list(row) for row in rows[name]] == [list(row) for row in other[name]]
        for ids, text in zip(rows["input_ids"], texts, strict=True):
            if text in TEXTS:
                assert ours(text, add_special_tokens=special)["input_ids"] == ids
            assert ours.convert_ids_to_tokens(ids) == theirs.convert_ids_to_tokens(ids)
            for skip in (True, False):
                assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(
                    ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False
                )
    return ours


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("form", ["tokenizer.json", "vocab.json"])
def test_settings_mean_what_they_mean_to_transformers(saved, tmp_path, name, form):
    settings = SETTINGS[name]
    for file in ("tokenizer.json",) if form == "tokenizer.json" else ("vocab.json", "merges.txt"):
        shutil.copy(saved / file, tmp_path)
    shutil.copy(saved / "config.json", tmp_path)
    if settings is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    plain = (settings or {}).get("tokenizer_class") in (
        "PreTrainedTokenizerFast",
        "TokenizersBackend",
    )
    if plain and form == "vocab.json":
        with pytest.raises(ValueError, match="needs the tokenizer of transformers"):
            FileTokenizer(tmp_path)
    else:
        alike(tmp_path)


@pytest.mark.parametrize("kind", [None, "PreTrainedTokenizerFast"])
@pytest.mark.parametrize("part", ["normalizer", "pre_tokenizer", "post_processor", "unk", "byte"])
def test_parts_of_the_tokenizer_file(saved, tmp_path, kind, part):
    """GPT2Tokenizer takes little of `tokenizer.json`; a plain one takes all of it."""
    tokenizer = Tokenizer.from_file(str(saved / "tokenizer.json"))
    if part == "normalizer":
        tokenizer.normalizer = normalizers.Lowercase()
    elif part == "pre_tokenizer":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)
    elif part == "post_processor":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
        )
        tokenizer.enable_truncation(4)
        tokenizer.enable_padding(length=9)
    data = json.loads(tokenizer.to_str())
    if part == "unk":
        data["model"]["unk_token"] = "<|endoftext|>"
    elif part == "byte":  # a vocabulary without some bytes
        data["model"]["vocab"].pop("Ĭ")
        data["model"]["unk_token"] = "a"
        data["model"]["merges"] = [m for m in data["model"]["merges"] if "Ĭ" not in "".join(m)]
        for piece in [p for p in data["model"]["vocab"] if "Ĭ" in p]:
            data["model"]["vocab"].pop(piece)
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    shutil.copy(saved / "config.json", tmp_path)
    if kind is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
    alike(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("tokenizer_config.json", {"tokenizer_class": "BertTokenizer"}, "'BertTokenizer'"),
        ("tokenizer_config.json", {"auto_map": {}}, "'auto_map'"),
        ("tokenizer_config.json", {"image_token": {"content": "<i>"}}, "'image_token'"),
        ("tokenizer_config.json", {"fix_mistral_regex": True}, "'fix_mistral_regex'"),
        ("tokenizer_config.json", {"bos_token": 5}, "bos_token must be a string"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": 3}}, "added_tokens_decoder"),
        ("tokenizer_config.json", {"added_tokens_decoder": 3}, "added_tokens_decoder"),
        ("tokenizer_config.json", {"extra_special_tokens": "<i>"}, "extra_special_tokens"),
        ("tokenizer_config.json", [], "must be a JSON object"),
        ("added_tokens.json", {"[X]": 340}, "added_tokens.json"),
        ("config.json", {"model_type": "bloom"}, "'bloom'"),
        ("config.json", {"model_type": "gpt2", "model_name": "x"}, "'model_name'"),
    ],
)
def test_what_needs_transformers_is_refused(saved, tmp_path, file, content, reason):
    shutil.copy(saved / "tokenizer.json", tmp_path)
    shutil.copy(saved / "config.json", tmp_path)
    (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=reason):
        FileTokenizer(tmp_path)


def test_transformers_reads_the_tokenizer_where_that_is_needed(saved, tmp_path):
    """The model's engine does not depend on it."""
    shutil.copy(saved / "tokenizer.json", tmp_path)
    config = GPT2Config(
        vocab_size=400, n_layer=1, n_embd=16, n_head=2, n_positions=32, eos_token_id=0
    )
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "own_setting": "<i>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    for engine in ("auto", "native"):
        decoder = Decoder.from_pretrained(str(tmp_path), engine=engine)
        assert decoder.engine.name == "native"
        assert decoder.tokenizer.init_kwargs["own_setting"] == "<i>"


def refusal(folder):
    """Why the files need transformers; empty where they do not."""
    try:
        FileTokenizer(folder)
    except NeedsTransformers as error:
        return str(error)
    return ""


FORMS = [(kind, write_tokenizer) for kind in KINDS]
FORMS += [(kind, write_older_files) for kind in ("gpt2", "smollm", "qwen2", "gpt_neox")]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("kind", "write"), FORMS)
def test_tokenizers_of_the_families(kind, write, seed, tmp_path):
    """As repositories have them, and as transformers saves what it has made of them."""
    texts = list(strings(STRINGS, (*SPECIAL, *NEW), seed))
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    write(first, kind, seed)
    reason = refusal(first)
    if reason:
        known = "without unk_token" if kind == "gemma" else "without tokenizer.json"
        assert known in reason
        return
    alike(first, texts)
    AutoTokenizer.from_pretrained(str(first)).save_pretrained(second)
    shutil.copy(first / "config.json", second)
    alike(second, texts)


@pytest.mark.parametrize("kind", KINDS)
def test_streams_of_the_families(kind, tmp_path):
    """The pieces of a stream are the text, and that is the difference of decoded texts."""
    rng = random.Random(kind)
    texts = list(strings(max(60, STRINGS // 10), (*SPECIAL, *NEW), 5))
    compared = 0
    for seed in range(6):
        folder = tmp_path / str(seed)
        folder.mkdir()
        write_tokenizer(folder, kind, seed)
        if refusal(folder):
            continue
        ours, theirs = FileTokenizer(folder), AutoTokenizer.from_pretrained(str(folder))
        text, rows = Detokenizer(ours), ours(texts)["input_ids"]
        for prompt, answer in zip(rows, rows[::-1], strict=True):
            ids = answer if rng.random() < 0.5 else rng.choices(range(len(ours)), k=12)
            cursor = text_cursor(text, prompt)
            pieces = [cursor.feed(token) for token in ids]
            whole = continuation(text, prompt, ids)
            assert "".join(pieces) + cursor.finish() == whole
            both, before = (
                theirs.decode(one, skip_special_tokens=True, clean_up_tokenization_spaces=False)
                for one in (prompt + ids, prompt)
            )
            if both.startswith(before):
                assert whole == both[len(before) :]
                compared += 1
    assert compared > 3 * len(texts)


@pytest.mark.parametrize("fallback", [True, False])
@pytest.mark.parametrize("normalized", [True, False])
def test_a_special_token_that_the_normalizer_changes_is_text(normalized, fallback):
    """What is written for it is then no special token, and decoders do not leave it out."""
    vocabulary = {name: token for token, name in enumerate(["<unk>", "<s>", "\u2581", "a"])}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=fallback))
    backend.normalizer = normalizers.Prepend("\u2581")
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence(steps if fallback else [steps[0], steps[2]])
    backend.add_special_tokens([AddedToken("<s>", normalized=normalized)])
    text = Detokenizer(PreTrainedTokenizerFast(tokenizer_object=backend))
    whole = "a <s>a" if normalized else "aa"
    assert text.decode([3, 1, 3]) == continuation(text, [], [3, 1, 3]) == whole
    assert continuation(text, [3], [1, 3]) == whole[1:]
    cursor = text_cursor(text, [])
    assert "".join([cursor.feed(token) for token in (3, 1, 3)]) + cursor.finish() == whole


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma"])
@pytest.mark.parametrize("other", ["tokenizer.model", "tekken.json"])
def test_vocabularies_of_other_forms_need_transformers(kind, other, tmp_path):
    write_tokenizer(tmp_path, kind, 0)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / other).write_bytes(b"x")
    with pytest.raises(NeedsTransformers, match=other):
        FileTokenizer(tmp_path).encode("x")


def test_special_tokens_of_older_versions(saved, tmp_path):
    shutil.copy(saved / "tokenizer.json", tmp_path)
    shutil.copy(saved / "config.json", tmp_path)
    tokens = {"eos_token": END | {"content": "<|im_end|>"}, "pad_token": "<pad>"}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(tokens))
    assert alike(tmp_path).decode(alike(tmp_path).eos_token_id) == "<|im_end|>"


def test_names_of_unknown_settings_reach_no_terminal(saved, tmp_path, capfd):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    token = END | {"content": "<|im_end|>", "__type": "AddedToken", "\x1b[31m": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": token}))
    FileTokenizer(tmp_path)
    assert capfd.readouterr().err == ""


def test_a_folder_without_a_tokenizer(tmp_path):
    with pytest.raises(ValueError, match=r"no tokenizer\.json and no vocab\.json"):
        FileTokenizer(tmp_path)


def test_one_text_or_several(saved):
    tokenizer = FileTokenizer(saved)
    one = tokenizer("See you")["input_ids"]
    assert all(isinstance(token, int) for token in one)
    assert tokenizer(["See you"])["input_ids"] == [one]
    assert tokenizer(("See you",))["input_ids"] == [one]
    assert tokenizer([])["input_ids"] == []
    assert tokenizer.encode("See you") == one
    assert tokenizer.decode(one) == "See you"
    assert tokenizer.decode(one[0]) == tokenizer.decode(one[:1])
    for wrong in (3, b"See", ["See", 3], [["See"]], None):
        with pytest.raises(TypeError, match="text must be a string or a list of strings"):
            tokenizer(wrong)
