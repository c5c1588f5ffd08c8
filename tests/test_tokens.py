"""tokens() and vocabulary(): ids, pieces, bytes, and what is readable of them."""

import fastdecode
import numpy as np
import pytest
from conftest import make_tokenizer
from fastdecode.models.pieces import Pieces, readable
from hypothesis import given, settings
from hypothesis import strategies as st

PIECES = Pieces(make_tokenizer())
TOKENIZER = make_tokenizer()


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_the_bytes_of_the_tokens_are_the_text(text):
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    assert b"".join(PIECES.bytes(i) for i in ids) == text.encode()
    for i in ids:
        assert len(PIECES.readable(i).splitlines()) == 1
        assert PIECES.readable(i).isprintable()


def test_tokens_of_a_text(decoder):
    found = decoder.tokens("Once upon 你")
    assert found.ids == TOKENIZER("Once upon 你", add_special_tokens=False)["input_ids"]
    assert b"".join(t.bytes for t in found) == "Once upon 你".encode()
    assert "".join(t.shown for t in found).startswith("Once␣upon␣")
    assert "".join(found.pieces).startswith("OnceĠuponĠ")
    assert repr(found).splitlines()[0].split() == ["id", "token", "piece", "bytes"]
    assert "characters, 13 bytes" in repr(found)
    assert list(found.to_pandas().columns) == ["id", "piece", "bytes", "shown", "special"]
    assert fastdecode.tokens("Once", model=decoder).ids == decoder.tokens("Once").ids
    assert found[1:3].ids == found.ids[1:3]
    assert isinstance(found[1:3], fastdecode.Tokens)
    assert len(decoder.tokens("")) == 0
    assert repr(decoder.tokens(""))


def test_slices_of_the_vocabulary(decoder):
    whole = fastdecode.vocabulary(model=decoder)
    assert len(whole) == 300
    assert whole[5:8].ids == [5, 6, 7]
    assert whole[-1].id == 299
    assert whole[0].special
    assert whole[0].bytes == b""
    assert whole[0].shown == "<|endoftext|>"
    with pytest.raises(IndexError):
        whole[300]
    some = whole.containing("on")
    assert some
    assert all(b"on" in token.bytes for token in some)
    with pytest.raises(ValueError, match="text is empty"):
        whole.containing("")
    assert "Vocabulary(300 tokens" in repr(whole)


def test_the_vocabulary_finds_tokens_by_text(decoder):
    whole = decoder.vocabulary
    for token in whole[1:]:
        try:
            text = token.bytes.decode()
        except UnicodeDecodeError:
            continue
        assert whole[text].bytes == token.bytes
        assert text in whole
        assert whole[token.piece].id == token.id or whole[token.piece].bytes == token.piece.encode()
    assert whole["<|endoftext|>"].id == 0
    assert "Once upon" not in whole
    assert "" not in whole
    assert "\ud800" not in whole
    assert whole[np.int64(5)].id == 5
    assert whole[3] in whole
    with pytest.raises(
        KeyError, match=r"'Once upon' is not one token; tokens\('Once upon'\) shows"
    ):
        whole["Once upon"]
    with pytest.raises(TypeError, match=r"indexed by a token id, a text or a slice, not 1\.5"):
        whole[1.5]
    with pytest.raises(IndexError, match=r"token id 300 is out of range: there are 300"):
        whole[300]


def test_text_must_be_a_string(decoder):
    with pytest.raises(TypeError, match=r"text must be one string or .* not list \(\['Once'\]\)"):
        decoder.tokens(["Once"])


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b" soon", "␣soon"),
        (b"\n\n", "↵↵"),
        (b"\ta\r", "⇥a␍"),
        (b"\xe4\xbd", "\\xe4\\xbd"),
        (b"\x1b[31m", "\\u001b[31m"),
        ("\u202eabc".encode(), "\\u202eabc"),
        ("你🐊é".encode(), "你🐊é"),
        (b"", ""),
    ],
)
def test_readable(raw, shown):
    assert readable(raw) == shown


def test_sentencepiece_pieces():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {"<s>": 0, "\u2581Once": 1, "<0xE4>": 2, "<unk>": 3}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    pieces = Pieces(
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>")
    )
    assert pieces.bytes(1) == b" Once"
    assert pieces.readable(1) == "␣Once"
    assert pieces.bytes(2) == b"\xe4"
    assert pieces.special(0)


def test_the_file_tokenizer_has_the_same_pieces(tmp_path):
    from fastdecode.models.tokenizer import FileTokenizer

    TOKENIZER.save_pretrained(tmp_path)
    light = Pieces(FileTokenizer(tmp_path))
    assert len(light) == len(PIECES)
    for i in range(len(PIECES)):
        assert light.piece(i) == PIECES.piece(i)
        assert light.bytes(i) == PIECES.bytes(i)
        assert light.special(i) == PIECES.special(i)
