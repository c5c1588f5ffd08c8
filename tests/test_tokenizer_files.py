"""A tokenizer from its files is the one that transformers makes of them, or is refused."""

from __future__ import annotations

import json
import shutil

import pytest
from fastdecode import Decoder
from fastdecode.models.tokenizer import FileTokenizer
from small_tokenizers import byte_level
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

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


def alike(folder):
    """Compare with transformers."""
    ours, theirs = FileTokenizer(folder), AutoTokenizer.from_pretrained(str(folder))
    assert (ours.bos_token_id, ours.eos_token_id) == (theirs.bos_token_id, theirs.eos_token_id)
    assert len(ours) == len(theirs)
    for special in (True, False):
        rows = ours(TEXTS, add_special_tokens=special, return_offsets_mapping=True)
        other = theirs(TEXTS, add_special_tokens=special, return_offsets_mapping=True)
        for name in ("input_ids", "offset_mapping"):
            assert [list(row) for row in rows[name]] == [list(row) for row in other[name]]
        for ids, text in zip(rows["input_ids"], TEXTS, strict=True):
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
        ("tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer"}, "'LlamaTokenizer'"),
        ("tokenizer_config.json", {"auto_map": {}}, "'auto_map'"),
        ("tokenizer_config.json", {"image_token": "<i>"}, "'image_token'"),
        ("tokenizer_config.json", {"bos_token": 5}, "bos_token must be a string"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": 3}}, "added_tokens_decoder"),
        ("tokenizer_config.json", {"added_tokens_decoder": 3}, "added_tokens_decoder"),
        ("tokenizer_config.json", {"extra_special_tokens": {"i": "<i>"}}, "extra_special_tokens"),
        ("tokenizer_config.json", [], "must be a JSON object"),
        ("added_tokens.json", {"[X]": 340}, "added_tokens.json"),
        ("config.json", {"model_type": "llama"}, "'llama'"),
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
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "image_token": "<i>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    for engine in ("auto", "native"):
        decoder = Decoder.from_pretrained(str(tmp_path), engine=engine)
        assert decoder.engine.name == "native"
        assert decoder.tokenizer.image_token == "<i>"


def test_special_tokens_of_older_versions(saved, tmp_path):
    shutil.copy(saved / "tokenizer.json", tmp_path)
    shutil.copy(saved / "config.json", tmp_path)
    tokens = {"eos_token": END | {"content": "<|im_end|>"}, "pad_token": "<pad>"}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(tokens))
    assert alike(tmp_path).decode(alike(tmp_path).eos_token_id) == "<|im_end|>"


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
