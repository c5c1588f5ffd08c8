"""Text to tokens: a text after its context, and texts that are refused before they are encoded."""

from __future__ import annotations

import random

import pytest
from conftest import make_model
from fastdecode import Decoder
from fastdecode.models.codec import Codec
from fastdecode.models.text_bound import most_bytes
from small_tokenizers import BUILDERS, byte_fallback, byte_level, metaspace, random_text
from tokenizers import AddedToken, normalizers
from transformers import PreTrainedTokenizerFast


class Slow:
    """A tokenizer that does not know where its tokens are in a text."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def __call__(self, texts, *, add_special_tokens=True, verbose=True):
        return self._tokenizer(texts, add_special_tokens=add_special_tokens)

    def __getattr__(self, name):
        if name in ("is_fast", "backend_tokenizer"):
            raise AttributeError(name)
        return getattr(self._tokenizer, name)


@pytest.mark.parametrize("kind", BUILDERS)
def test_a_text_is_encoded_with_its_context(kind):
    """Together they are the tokens of both; the text has those that end in it."""
    tokenizer, rng = BUILDERS[kind](), random.Random(kind)
    contexts = [random_text(rng) for _ in range(200)]
    texts = [rng.choice(["", " "]) + random_text(rng) for _ in range(200)]
    found = Codec(tokenizer).joined(contexts, texts)
    without_places = Codec(Slow(tokenizer)).joined(contexts, texts)
    for context, text, (before, after), slow in zip(
        contexts, texts, found, without_places, strict=True
    ):
        whole = tokenizer(context + text, add_special_tokens=False, return_offsets_mapping=True)
        assert before + after == whole["input_ids"] == slow.context + slow.text
        for place, (_, end) in enumerate(whole["offset_mapping"]):
            assert (place < len(before)) == (end <= len(context)), (context, text)
        if not context:
            assert before == []
        alone = [tokenizer(part, add_special_tokens=False)["input_ids"] for part in (context, text)]
        if alone[0] + alone[1] == before + after and text.startswith(" "):
            assert [before, after] == alone == [slow.context, slow.text]


def pieces(tokenizer, context, text):
    before, after = Codec(tokenizer).joined([context], [text])[0]
    return tokenizer.convert_ids_to_tokens(before), tokenizer.convert_ids_to_tokens(after)


@pytest.mark.parametrize("wrap", [lambda tokenizer: tokenizer, Slow])
def test_no_second_beginning_and_no_border_within_a_word(wrap):
    for tokenizer in (byte_fallback(prefix=True), metaspace(scheme="always")):
        before, after = pieces(wrap(tokenizer), "It was", " best")
        assert "".join(before) == "\u2581It\u2581was"
        assert "".join(after) == "\u2581best"
        # A token that crosses the border is the text's.
        before, after = pieces(wrap(tokenizer), "It w", "as")
        assert "".join(before + after) == "\u2581It\u2581was"
        assert "\u2581It\u2581w".startswith("".join(before))
        # So is a token that begins with the space at the end of the context.
        before, after = pieces(wrap(tokenizer), "It ", "was")
        assert "".join(after) == "\u2581was"
        assert "".join(before + after) == "\u2581It\u2581was"


def test_scores_and_classes_of_a_sentencepiece_model():
    tokenizer = byte_fallback(prefix=True)
    model = make_model("llama")
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    decoder = Decoder(model, tokenizer)
    whole = decoder.score("It was the best", eos=False)[0]
    score = decoder.score(" the best", context="It was", eos=False)[0]
    count = len(score.token_ids)
    assert score.token_ids == whole.token_ids[-count:]
    assert score.token_logprobs == pytest.approx(whole.token_logprobs[-count:], abs=1e-6)
    assert "".join(tokenizer.convert_ids_to_tokens(score.token_ids)) == "\u2581the\u2581best"
    found = decoder.classify("the best", ["It", "was"], prompts="{label}", separator=" ")
    for item in found:
        alone = decoder.score(" the best", context=item.label, eos=False)[0]
        assert item.score.token_ids == alone.token_ids
        assert item.logprob == pytest.approx(alone.logprob, abs=1e-5)


SURROGATES = [
    ("generate", (["Once", "a\ud800b"],), {}, r"prompts\[1\]"),
    ("generate", ("a\ud800b",), {}, "prompts"),
    ("generate", ("Once",), {"stop": ["x", "a\ud800"]}, r"stop\[1\]"),
    ("stream", ("a\ud800b",), {}, "prompt"),
    ("next_token", ("a\ud800b",), {}, "prompt"),
    ("score", (["Once", "a\ud800b"],), {}, r"texts\[1\]"),
    ("score", ("Once",), {"context": "a\ud800b"}, "context"),
    ("compare", (["Once", "a\ud800b"],), {}, r"texts\[1\]"),
    ("surprising", (["Once", "a\ud800b"],), {}, r"texts\[1\]"),
    ("classify", ("a\ud800b", ["x", "y"]), {}, "texts"),
    ("classify", ("Once", ["x", "a\ud800b"]), {}, r"labels\[1\]"),
    ("tokens", ("a\ud800b",), {}, "text"),
    ("encode", ("a\ud800b",), {}, r"text"),
    ("containing", ("a\ud800b",), {}, r"text"),
]


@pytest.mark.parametrize(("call", "arguments", "keywords", "name"), SURROGATES)
def test_lone_surrogates_are_refused(decoder, call, arguments, keywords, name):
    message = rf"^{name} has the lone surrogate '\\ud800' at position 1; give valid Unicode"
    with pytest.raises(ValueError, match=message):
        getattr(decoder.vocabulary if call == "containing" else decoder, call)(
            *arguments, **keywords
        )


def test_a_byte_of_a_shell_argument_that_is_not_utf_8(run):
    code, out, err = run("generate", "ab\udcff", "--model", "demo")
    assert code == 2
    assert out == ""
    assert "prompt 1 has the lone surrogate '\\udcff' at position 2" in err
    assert "byte 0xff of text that is not UTF-8" in err
    assert "Traceback" not in err


def test_texts_far_beyond_the_context_are_refused_before_they_are_encoded(decoder, monkeypatch):
    text = "a" * 10_000_000

    def encode(*_, **__):
        raise RuntimeError("encoded")

    monkeypatch.setattr(PreTrainedTokenizerFast, "__call__", encode)
    message = r"prompts\[1\] has 10,000,000 bytes, which cannot fit into a context of 64 tokens"
    with pytest.raises(ValueError, match=message):
        decoder.generate(["Once", text])
    for call in (decoder.next_token, decoder.score, decoder.stream):
        with pytest.raises(ValueError, match="has 10,000,000 bytes, which cannot fit"):
            call(text)
    with pytest.raises(RuntimeError, match="encoded"):
        decoder.score(text, stride=32)


def test_the_most_text_that_a_token_stands_for():
    tokenizer = byte_level()
    most = most_bytes(tokenizer)
    assert most == max(
        len(tokenizer.decode([token]).encode())
        for token in range(len(tokenizer))
        if "\ufffd" not in tokenizer.decode([token])
    )
    assert most_bytes(byte_level(normalizer=normalizers.NFC())) == 3 * most
    # "\u2581" is written in three bytes and stands for one.
    assert 4 <= most_bytes(byte_fallback(prefix=True)) <= 32
    # What is dropped or replaced before it is encoded has no bound.
    for kind in ("metaspace", "WordPiece", "end-of-word suffix", "no decoder"):
        assert most_bytes(BUILDERS[kind]()) is None
    assert most_bytes(byte_level(normalizer=normalizers.Strip())) is None
    tokenizer.add_tokens([AddedToken("[X]", rstrip=True)])
    assert most_bytes(tokenizer) is None
    assert most_bytes(Slow(tokenizer)) is None
