"""The settings of a model's files and objects: token ids that are none, unknown, or impossible.

Each engine reads the same folder, and must find the same.
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
from pathlib import Path

import fastdecode
import pytest
import torch
from conftest import TEXT, make_tokenizer
from fastdecode import Decoder
from fastdecode.models import settings, strict_json
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

ENGINES = ("native", "torch", "transformers")
VOCABULARY = 300
SIZES = {"n_layer": 1, "n_head": 2, "n_embd": 8, "n_positions": 64, "initializer_range": 0.5}
FILES = ("config.json", "generation_config.json", "tokenizer_config.json")

# Values of `eos_token_id` in a file, as JSON text, and the end tokens that they mean.
NONE = ("null", "-1", "[]", "[-1]", "[-1, -1]")
UNKNOWN = ("300", "50256", "-2", str(2**62), str(-(2**63)), "[300, -2]", "[-1, 300]")
REFUSED = (
    *("1.5", "5.0", "1e3", '"x"', '"5"', "true", "false", "{}", '{"a": 1}', '[["x"]]', "[[5]]"),
    *(str(2**63), str(2**70), str(-(2**70)), "[1.5]", "[true]", "[null]", "[5, null]", '["5"]'),
    *("Infinity", "-Infinity", "NaN", "1e999", "[Infinity]", f"[5, {2**64}]"),
)


def make_gpt2(**changes) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    shared = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(**{**SIZES, **shared, **changes})).eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A tiny GPT-2 and its tokenizer, as transformers saves them."""
    folder = tmp_path_factory.mktemp("saved")
    make_gpt2().save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of it, to be damaged."""
    shutil.copytree(saved, tmp_path / "model")
    return tmp_path / "model"


def put(path: Path, key: str, value: str) -> None:
    """Set a field of a file to a value that is written as JSON, or nearly."""
    found = json.loads(path.read_text("utf-8")) | {key: "@@"}
    path.write_text(json.dumps(found, indent=2).replace('"@@"', value), "utf-8")


def remove(path: Path, key: str) -> None:
    found = json.loads(path.read_text("utf-8"))
    found.pop(key, None)
    path.write_text(json.dumps(found), "utf-8")


def opened(folder: Path, engine: str = "auto") -> tuple[tuple[int, ...], list[str]]:
    """The end tokens of a folder, and the warnings of the package while it was loaded."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        decoder = Decoder.from_pretrained(str(folder), engine=engine)
        eos = decoder.engine.eos_ids
        decoder.generate("Once", max_new_tokens=2)
    return eos, [str(item.message) for item in found if "vocabulary" in str(item.message)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", FILES[:2])
class TestEndTokens:
    def test_null_and_minus_one_are_none(self, folder, engine, name):
        put(folder / "config.json", "eos_token_id", "null")
        for value in NONE:
            put(folder / name, "eos_token_id", value)
            if name == "config.json":
                remove(folder / "generation_config.json", "eos_token_id")
            assert opened(folder, engine) == ((), []), value

    def test_unknown_ones_are_ignored_with_one_warning(self, folder, engine, name):
        remove(folder / "generation_config.json", "eos_token_id")
        for value in UNKNOWN:
            put(folder / name, "eos_token_id", value)
            eos, (message,) = opened(folder, engine)
            assert eos == ()
            assert message.startswith(f"{folder / name}: eos_token_id "), message
            assert "0..299" in message
        put(folder / name, "eos_token_id", "[7, 300, 9]")
        eos, (message,) = opened(folder, engine)
        assert eos == (7, 9)
        assert "eos_token_id 300 is outside" in message

    def test_others_are_refused_by_file_and_field(self, folder, engine, name):
        for key in ("eos_token_id", "bos_token_id", "pad_token_id"):
            whole = (folder / name).read_text("utf-8")
            for value in REFUSED if key == "eos_token_id" else (*REFUSED[:4], "true", "[5]"):
                put(folder / name, key, value)
                with pytest.raises(ValueError, match=re.escape(f"{folder / name}: {key}")):
                    Decoder.from_pretrained(str(folder), engine=engine)
            (folder / name).write_text(whole, "utf-8")


@pytest.mark.parametrize("engine", ENGINES)
def test_the_default_of_gpt2_applies_where_a_file_has_none(folder, engine):
    (folder / "generation_config.json").unlink()
    remove(folder / "config.json", "eos_token_id")
    eos, (message,) = opened(folder, engine)
    assert eos == ()
    assert "50256" in message
    torch.manual_seed(0)
    make_gpt2(vocab_size=50257).save_pretrained(folder)
    (folder / "generation_config.json").unlink()
    remove(folder / "config.json", "eos_token_id")
    assert opened(folder, engine) == ((50256,), [])


def test_generation_settings_come_first(folder):
    put(folder / "config.json", "eos_token_id", "5")
    for value, expected in (("[7, 8]", (7, 8)), ("-1", ()), ("null", (5,))):
        put(folder / "generation_config.json", "eos_token_id", value)
        for engine in ENGINES:
            assert opened(folder, engine) == (expected, []), (value, engine)


WAYS = {
    "greedy": lambda decoder: decoder.generate("Once", max_new_tokens=4),
    "sample": lambda decoder: decoder.generate("Once", seed=1, top_p=0.9, max_new_tokens=4),
    "beam": lambda decoder: decoder.generate("Once", num_beams=3, max_new_tokens=4),
    "drawn beams": lambda decoder: decoder.generate(
        "Once", strategy=fastdecode.Beam(3, stochastic=True), seed=1, max_new_tokens=4
    ),
    "penalty": lambda decoder: decoder.generate("Once", repetition_penalty=1.3, max_new_tokens=4),
    "ban": lambda decoder: decoder.generate("Once", bad_words=[[5]], max_new_tokens=4),
    "next": lambda decoder: decoder.next_token("Once", top_p=0.5),
    "listing": lambda decoder: decoder.enumerate_continuations(
        "Once", max_new_tokens=2, min_probability=0.05
    ),
    "stream": lambda decoder: list(decoder.stream("Once", temperature=0.7, seed=1)),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("eos", [50256, -1, None, [300, -1]])
def test_a_small_gpt2_from_scratch_does_everything(engine, eos, tokenizer):
    model = make_gpt2(eos_token_id=eos, bos_token_id=50256)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        decoder = Decoder(model, tokenizer, engine=engine)
        for way in WAYS.values():
            way(decoder)
    told = [str(item.message) for item in found if "vocabulary" in str(item.message)]
    assert len(told) == (eos not in (-1, None))
    assert all(message.startswith("the model's config: eos_token_id ") for message in told)


def test_engines_draw_the_same_without_an_end_token(tokenizer):
    texts = set()
    for engine in ENGINES:
        with pytest.warns(UserWarning, match="the model's config: eos_token_id 50256 is outside"):
            decoder = Decoder(make_gpt2(eos_token_id=50256), tokenizer, engine=engine)
        texts.add(decoder.generate("Once", seed=1, top_k=9, max_new_tokens=12).texts[0])
    assert len(texts) == 1


@pytest.mark.parametrize("engine", [*ENGINES, "llama"])
def test_settings_of_a_model_in_memory(engine, tokenizer):
    if engine == "llama":
        sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
        heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": VOCABULARY}
        model, engine = LlamaForCausalLM(LlamaConfig(**sizes, **heads)), "auto"
    else:
        model = make_gpt2()
    for value in (2**70, 1.5, "x", True, float("inf"), {"a": 1}, [1.5], [None]):
        model.generation_config.eos_token_id = value
        with pytest.raises(ValueError, match="the model's config: eos_token_id"):
            Decoder(model, tokenizer, engine=engine)
    model.generation_config.eos_token_id = torch.tensor([3, 4])
    decoder = Decoder(model, tokenizer, engine=engine)
    assert decoder.engine.eos_ids == (3, 4)
    # Later changes are followed.
    model.generation_config.eos_token_id = 7
    assert decoder.engine.eos_ids == (7,)
    model.generation_config.eos_token_id = [8, 999]
    with pytest.warns(UserWarning, match="eos_token_id 999 is outside"):
        found = decoder.engine.eos_ids
    assert found == (8,)
    model.generation_config.eos_token_id = "x"
    with pytest.raises(ValueError, match=r'eos_token_id must be .*, not "x"'):
        decoder.generate("Once")


@pytest.mark.parametrize("value", [300, 50256, -1, 2**40, 2**70, -(2**70)])
def test_what_a_caller_gives_must_be_in_the_vocabulary(decoder, value):
    for name, ids in (("eos_token_id", value), (r"eos_token_id\[1\]", [5, value])):
        message = rf"{name} must be in 0\.\.299, not {value}"
        with pytest.raises(ValueError, match=message):
            decoder.generate("Once", eos_token_id=ids)
        with pytest.raises(ValueError, match=message):
            decoder.enumerate_continuations(
                "Once", max_new_tokens=1, min_probability=0.5, eos_token_id=ids
            )
    for wrong in (1.5, "x", True):
        with pytest.raises(TypeError, match="eos_token_id must be an integer"):
            decoder.generate("Once", eos_token_id=wrong)
    with pytest.raises(ValueError, match=r"allowed has token id 300.*vocabulary, 0\.\.299"):
        decoder.generate("Once", allowed=[300])


def test_the_warning_is_at_the_line_of_the_caller(tokenizer):
    with pytest.warns(UserWarning, match="outside the model's vocabulary") as found:
        Decoder(make_gpt2(eos_token_id=50256), tokenizer)
    assert {item.filename for item in found if "vocabulary" in str(item.message)} == {__file__}


# Texts of a whole file, and what is said of them beside the file's name.
BROKEN = {
    "": "line 1, column 1: it is not JSON",
    "{": "line 1, column 2: it is not JSON",
    "[]": "it must be a JSON object, not []",
    "3": "it must be a JSON object, not 3",
    '{\n "a": 1,\n}': "line 3, column 1: it is not JSON",
    '\ufeff{"a": 1}': "line 1, column 1: it begins with a byte order mark",
    "[" * 100_000: "line 1, column 65: it is nested more than 64 levels",
    '{"a":\n' + "[" * 70 + "]" * 70 + "}": "line 2, column 64: it is nested more than 64 levels",
    '{"a": NaN}': "a is NaN, which is not finite",
    '{"a": {"b": [1, -Infinity]}}': "a.b[1] is -Infinity, which is not finite",
    '{"a": 1e999}': "a is Infinity, which is not finite",
    '{"a": "\\ud800"}': "a has half of a surrogate pair",
    '{"a": ' + "9" * 5000 + "}": "digits",
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_settings(folder, name):
    for engine in ENGINES:
        for text, message in BROKEN.items():
            (folder / name).write_text(text, "utf-8")
            with pytest.raises(ValueError, match=re.escape(str(folder / name))) as found:
                Decoder.from_pretrained(str(folder), engine=engine)
            assert message in str(found.value)
    for raw in (b'{"a": "\xff"}', b"\xff\xfe{\x00}\x00", b"{\n\x80"):
        (folder / name).write_bytes(raw)
        with pytest.raises(
            ValueError, match=re.escape(str(folder / name)) + r", line \d: it is no"
        ):
            Decoder.from_pretrained(str(folder))


def test_an_infinite_limit_of_time_steps_is_read(tmp_path):
    """As transformers 4 wrote it for Mamba 2."""
    path = tmp_path / "config.json"
    path.write_text('{"model_type": "mamba2", "time_step_limit": [0.0, Infinity]}')
    settings.check(tmp_path)
    path.write_text('{"model_type": "mamba2", "time_step_limits": [0.0, Infinity]}')
    with pytest.raises(ValueError, match=r"time_step_limits\[1\] is Infinity"):
        settings.check(tmp_path)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("key", ["bos_token", "eos_token", "unk_token", "pad_token"])
def test_special_tokens_are_strings(folder, engine, key):
    path = folder / "tokenizer_config.json"
    whole = path.read_text("utf-8")
    for value in ("5", "true", "1.5", "[]", '["x"]', "{}", '{"content": 5}', '"\\udc00"'):
        put(path, key, value)
        with pytest.raises(ValueError, match=re.escape(f"{path}: {key}")):
            Decoder.from_pretrained(str(folder), engine=engine)
    path.write_text(whole, "utf-8")


@pytest.mark.parametrize("engine", ["native", "transformers"])
def test_a_tokenizer_without_an_unknown_token(folder, engine):
    plain = Tokenizer(models.WordLevel({"<|endoftext|>": 0, "Once": 1, "upon": 2}, "<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=plain, bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )
    fast.save_pretrained(folder)
    decoder = Decoder.from_pretrained(str(folder), engine=engine)
    assert decoder.encode("Once upon") == [1, 2]
    with pytest.raises(ValueError, match=r"prompts\[1\] cannot be split .*tokenizer.json"):
        decoder.generate(["Once", "Once twice"])
    with pytest.raises(ValueError, match=r"texts\[0\] cannot be split into tokens"):
        decoder.score("twice")


CHAT = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def test_bos_and_eos_of_chat_models(folder):
    def told(call) -> list[str]:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            call()
        return [str(item.message) for item in found if "chat template" in str(item.message)]

    plain = Decoder.from_pretrained(str(folder))
    assert not told(lambda: plain.score("Once"))
    put(folder / "tokenizer_config.json", "chat_template", json.dumps(CHAT))
    for engine in ("native", "transformers"):
        chat = Decoder.from_pretrained(str(folder), engine=engine)
        calls = {
            "bos=True and eos=True": (
                lambda chat=chat, **more: chat.score("Once", **more),
                lambda chat=chat, **more: chat.compare(["Once", "upon"], **more),
                lambda chat=chat, **more: chat.surprising(["Once", "upon"], **more),
            ),
            "bos=True": (lambda chat=chat, **more: chat.classify("Once", ["a", "b"], **more),),
        }
        for defaults, some in calls.items():
            for call in some:
                (message,) = told(call)
                assert f"while {defaults}, the default" in message
                assert not told(lambda call=call: call(bos=True, eos=False))
                assert not told(lambda call=call: call(bos=False, eos=True))
        (message,) = told(lambda chat=chat: chat.score("Once", eos=False))
        assert "while bos=True, the default" in message
        generated = chat.generate("Once", max_new_tokens=2)
        assert not told(lambda chat=chat, some=generated: chat.score(some))
        scores = [plain.score("Once"), chat.score("Once"), chat.score("Once", bos=True, eos=True)]
        assert len({tuple(score[0].token_ids) for score in scores}) == 1


def test_a_chat_template_in_a_file_of_its_own(folder):
    (folder / "chat_template.jinja").write_text(CHAT)
    for engine in ("native", "transformers"):
        with pytest.warns(UserWarning, match="the tokenizer has a chat template"):
            Decoder.from_pretrained(str(folder), engine=engine).score("Once")


def test_warnings_on_the_command_line_are_one_line(folder, run):
    put(folder / "tokenizer_config.json", "chat_template", json.dumps(CHAT))
    put(folder / "config.json", "eos_token_id", "50256")
    put(folder / "generation_config.json", "eos_token_id", "null")
    code, _, err = run("score", "Once", "--model", str(folder))
    assert code == 0
    first, second = err.splitlines()
    assert first.startswith(f"warning: {folder / 'config.json'}: eos_token_id 50256 is outside")
    assert second.startswith("warning: the tokenizer has a chat template")
    code, _, err = run("score", "Once", "--model", str(folder), "--bos", "--no-eos")
    assert (code, "chat" in err) == (0, False)
    put(folder / "config.json", "eos_token_id", "1.5")
    code, out, err = run("generate", "Once", "--model", str(folder), "--engine", "native")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {folder / 'config.json'}: eos_token_id must be a token id")
    assert err.count("\n") == 1


def test_strict_json_of_a_line():
    assert strict_json.parse('{"a": [1, 2.5, null]}', "here") == {"a": [1, 2.5, None]}
    with pytest.raises(ValueError, match=r"^here, column 2: it is not JSON: Expecting"):
        strict_json.parse("{a}", "here")
    with pytest.raises(ValueError, match=r"^here: \"a b\"\.c is NaN"):
        strict_json.parse('{"a b": {"c": NaN}}', "here")


# Values that a field is changed to, as JSON text.
VALUES = (
    *("null", "true", "-1", "0", "1", "7", "1.5", "-0.0", '""', '"x"', "[]", "{}", "[1, 2]"),
    *(str(2**31), str(2**63), str(2**70), "1e999", "NaN", '{"a": {"b": []}}', '"\\ud83d"'),
)
# Fields that fastdecode reads, and some that it does not.
KEYS = {
    "config.json": (
        *("eos_token_id", "bos_token_id", "pad_token_id", "vocab_size", "n_embd", "n_layer"),
        *("n_head", "n_positions", "n_inner", "layer_norm_epsilon", "activation_function"),
        *("scale_attn_weights", "tie_word_embeddings", "model_type", "architectures"),
    ),
    "generation_config.json": ("eos_token_id", "bos_token_id", "pad_token_id"),
    "tokenizer_config.json": (
        *("bos_token", "eos_token", "unk_token", "added_tokens_decoder", "add_prefix_space"),
        *("tokenizer_class", "chat_template"),
    ),
}


def tried(folder: Path) -> str | None:
    """The message of a refusal; None for a result. Any other error is raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            decoder = Decoder.from_pretrained(str(folder))
            decoder.generate(["Once", TEXT[0]], max_new_tokens=2, seed=1, top_p=0.9)
            decoder.score("Once upon a time", bos=False, eos=False)
        except ValueError as error:
            return str(error)
    return None


@pytest.mark.parametrize("name", FILES)
def test_any_value_of_any_field_is_a_result_or_named(folder, name):
    whole = (folder / name).read_text("utf-8")
    refused = 0
    for key in KEYS[name]:
        for value in VALUES:
            put(folder / name, key, value)
            message = tried(folder)
            if message is not None:
                refused += 1
                assert name in message, (key, value, message)
                # Names of activations and architectures are transformers' own.
                words = (key, key.replace("_", " "), "tensor")
                named = any(word in message for word in words)
                assert named or key == "activation_function", (key, value, message)
            (folder / name).write_text(whole, "utf-8")
    assert refused > 3 * len(KEYS[name])
