"""stream(): whole characters, exact cuts at stop strings, the same tokens as generate()."""

import itertools

import pytest
from conftest import make_model, make_tokenizer, ragged
from fastdecode import Decoder
from fastdecode.decoding.stop_strings import StopSearch
from fastdecode.decoding.text import continuation, text_cursor
from fastdecode.models.detokenizer import Detokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

TOKENIZER = make_tokenizer()
DETOKENIZER = Detokenizer(TOKENIZER)
TEXTS = st.text(alphabet=st.sampled_from("ab c\né—你🐊"), max_size=30)
SLOW_START = {"deadline": None}


def test_stream_is_generate(decoder):
    prompts = ragged(5)
    keywords = {"seed": 2, "n": 2, "temperature": 0.9, "max_new_tokens": 15}
    whole = decoder.generate(prompts, logprobs=0, **keywords)
    steps = list(decoder.stream(prompts, batch_size=4, **keywords))
    for generation in whole:
        mine = [s for s in steps if (s.stream, s.sample) == (generation.stream, generation.sample)]
        assert [s.token_id for s in mine] == generation.token_ids
        assert "".join(s.text for s in mine) == generation.text
        assert [s.logprob for s in mine] == pytest.approx(generation.logprobs, abs=1e-6)
        assert [s.finish_reason for s in mine[:-1]] == [None] * (len(mine) - 1)
        assert mine[-1].finish_reason == generation.finish_reason
        start = len(decoder.encode([generation.prompt])[0])
        assert [s.position for s in mine] == list(range(start, start + len(mine)))
        assert prompts[mine[0].prompt_index] == generation.prompt


def test_rows_are_interleaved(decoder):
    steps = decoder.stream(["Once", "It was"], max_new_tokens=3, eos_token_id=[])
    assert [s.stream for s in steps] == [0, 1] * 3


def test_arguments_are_checked_at_the_call(decoder):
    with pytest.raises(ValueError, match="max_new_tokens must be at least 1"):
        decoder.stream("Once", max_new_tokens=0)


def test_leaving_stops_the_work(decoder):
    steps = decoder.stream("Once", eos_token_id=[])
    assert len(list(itertools.islice(steps, 2))) == 2
    steps.close()


@settings(max_examples=200, **SLOW_START)
@given(TEXTS)
def test_pieces_are_whole_characters_and_the_whole_text(text):
    ids = TOKENIZER(text)["input_ids"]
    cursor = text_cursor(DETOKENIZER, TOKENIZER("It was 你")["input_ids"])
    pieces = [cursor.feed(token) for token in ids]
    assert all("\ufffd" not in piece for piece in pieces)
    assert "".join(pieces) + cursor.finish() == text


@settings(max_examples=200, **SLOW_START)
@given(st.lists(st.integers(0, 299), max_size=20))
def test_pieces_of_any_tokens_are_the_text(ids):
    """Also where the tokens are no UTF-8 at all."""
    prompt = TOKENIZER("Once")["input_ids"]
    cursor = text_cursor(DETOKENIZER, prompt)
    pieces = [cursor.feed(token) for token in ids]
    assert "".join(pieces) + cursor.finish() == continuation(DETOKENIZER, prompt, ids)


def obvious_cut(text: str, stops: list[str]) -> tuple[str, bool]:
    """Character by character: the first stop string to be complete ends the text before it."""
    for end in range(1, len(text) + 1):
        hits = [stop for stop in stops if text[:end].endswith(stop)]
        if hits:
            return text[: end - len(max(hits, key=len))], True
    return text, False


STOPS = st.lists(st.text(alphabet="abc", min_size=1, max_size=4), min_size=1, max_size=3)


@settings(max_examples=500, **SLOW_START)
@given(st.lists(st.text(alphabet="abc", max_size=3), max_size=12), STOPS)
def test_cut_is_exact_and_independent_of_pieces(pieces, stops):
    text = "".join(pieces)
    expected, stopped = obvious_cut(text, stops)
    search = StopSearch(stops)
    end = None
    for piece in pieces:
        end = search.feed(piece)
        if end is not None:
            break
        # Nothing is safe that a stop string could still take back.
        assert search.safe <= len(expected)
    assert (end is not None) == stopped
    assert text[:end] == expected


@pytest.mark.parametrize("length", [1, 2, 5])
def test_stop_strings_across_token_borders(decoder, length):
    for prompt in ragged(6):
        free = decoder.generate(prompt, max_new_tokens=16, eos_token_id=[])[0]
        start = len(free.text) // 2
        stop = free.text[start : start + length]
        cut, _ = obvious_cut(free.text, [stop])
        stopped = decoder.generate(prompt, max_new_tokens=16, eos_token_id=[], stop=stop)[0]
        assert stopped.text == cut
        if stopped.finish_reason == "stop" and "\ufffd" not in stop:
            count = len(stopped.token_ids)
            assert stopped.token_ids == free.token_ids[:count]
            # It stops with the token that completes the stop string.
            ids = decoder.encode([prompt])[0]
            assert stop not in continuation(DETOKENIZER, ids, free.token_ids[: count - 1])
        steps = decoder.stream(prompt, max_new_tokens=16, eos_token_id=[], stop=[stop, "\0\0"])
        assert "".join(step.text for step in steps) == cut


def test_stop_string_that_does_not_come(decoder):
    free = decoder.generate("Once", seed=0)
    assert decoder.generate("Once", seed=0, stop=[free[0].text + "x", "\0\0"]) == free


def test_sentencepiece_like_space_is_kept():
    """A tokenizer that drops a leading space when it decodes must not lose it between steps."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {"<s>": 0, "\u2581Once": 1, "\u2581upon": 2, "\u2581a": 3, "<unk>": 4}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="<s>")
    cursor = text_cursor(Detokenizer(fast), [1])
    pieces = [cursor.feed(token) for token in (2, 3, 3)]
    assert pieces == [" upon", " a", " a"]
    assert continuation(Detokenizer(fast), [1], [2, 3, 3]) == " upon a a"


def test_two_streams_of_one_decoder_do_not_disturb_each_other():
    decoder = Decoder(make_model("gpt2"), TOKENIZER)
    keywords = {"max_new_tokens": 6, "eos_token_id": []}
    alone = [[s.token_id for s in decoder.stream(p, **keywords)] for p in ("Once", "It was")]
    first, second = (decoder.stream(p, **keywords) for p in ("Once", "It was"))
    both = [(a.token_id, b.token_id) for a, b in zip(first, second, strict=True)]
    assert [list(ids) for ids in zip(*both, strict=True)] == alone
