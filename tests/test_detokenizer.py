"""Text of tokens: all at once, token by token, up to stop strings; every kind of tokenizer."""

from __future__ import annotations

import itertools
import random
from functools import cache

import numpy as np
import pytest
from conftest import make_model, make_tokenizer
from fastdecode import Decoder
from fastdecode.decoding.stop_strings import StoppableText, has_stop
from fastdecode.decoding.text import continuation, text_cursor
from fastdecode.models.detokenizer import REPLACEMENT, Detokenizer
from fastdecode.models.pieces import byte_of_character
from small_tokenizers import BUILDERS, STOP, random_text, random_tokens
from transformers import PreTrainedTokenizerFast

STREAMS = 400


@cache
def built(kind):
    return BUILDERS[kind]()


@cache
def detokenizer(kind):
    return Detokenizer(built(kind))


def decoded(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def visible(tokenizer, ids):
    names = tokenizer.convert_ids_to_tokens(ids)
    special = {"<s>", "<unk>", "</s>", "[CLS]", "[UNK]", "[SEP]", "<|endoftext|>", STOP, None}
    return [(i, name) for i, name in zip(ids, names, strict=True) if name not in special]


def leading_run(tokens):
    return list(itertools.takewhile(lambda one: one[1].startswith("<0x"), tokens))


def raw(tokens):
    return bytes(int(name[3:5], 16) for _, name in tokens)


def added_text(tokenizer, prompt, ids):
    """The text of both without that of the prompt, and what is documented where that cannot be."""
    whole, before = decoded(tokenizer, prompt + ids), decoded(tokenizer, prompt)
    if whole.startswith(before):
        return whole[len(before) :]
    run = leading_run(visible(tokenizer, ids))
    if not run:
        # The prompt begins a character, which is U+FFFD in its text.
        assert before.endswith(REPLACEMENT)
        assert whole.startswith(before[:-1])
        return whole[len(before) - 1 :]
    old = raw(leading_run(visible(tokenizer, prompt)[::-1])[::-1])
    try:
        text = (old + raw(run)).decode()[len(old.decode(errors="ignore")) :]
    except UnicodeDecodeError:
        text = REPLACEMENT * len(run)
    after = decoded(tokenizer, prompt + [one for one, _ in run])
    return text + whole[len(after) :]


def cases(kind, seed=0):
    tokenizer, rng = built(kind), random.Random(f"{kind} {seed}")
    for _ in range(STREAMS):
        prompt = tokenizer(random_text(rng))["input_ids"]
        if rng.random() < 0.3:
            prompt = prompt + random_tokens(tokenizer, rng)[:6]
        yield prompt, random_tokens(tokenizer, rng), rng


@pytest.mark.parametrize("kind", BUILDERS)
def test_pieces_are_the_text_and_the_difference_of_decoded_texts(kind):
    tokenizer = built(kind)
    for prompt, ids, _ in cases(kind):
        expected = added_text(tokenizer, prompt, ids)
        assert continuation(detokenizer(kind), prompt, ids) == expected
        cursor = text_cursor(detokenizer(kind), prompt)
        pieces = [cursor.feed(token) for token in ids]
        assert "".join(pieces) + cursor.finish() == expected


@pytest.mark.parametrize("kind", BUILDERS)
def test_stop_strings_are_found_with_the_token_that_completes_them(kind):
    tokenizer, found = built(kind), 0
    for prompt, ids, rng in cases(kind, seed=1):
        texts = [added_text(tokenizer, prompt, ids[:count]) for count in range(len(ids) + 1)]
        stops = set()
        for _ in range(rng.randint(1, 2)):
            start = rng.randrange(len(texts[-1]) + 1)
            stops.add(texts[-1][start : start + rng.randint(1, 4)] or "zz")
        if any(REPLACEMENT in stop for stop in stops):
            continue
        count = next((n for n, text in enumerate(texts) if any(s in text for s in stops)), None)
        stopped = StoppableText(detokenizer(kind), prompt, sorted(stops))
        given = ""
        for place, token in enumerate(ids):
            given += stopped.feed(token)
            assert stopped.stopped == (place + 1 == count), (stops, texts)
            assert has_stop(detokenizer(kind), prompt, ids[: place + 1], sorted(stops)) == (
                stopped.stopped
            )
            if stopped.stopped:
                text = texts[place + 1]
                ends = [(text.find(s) + len(s), text.find(s)) for s in stops if s in text]
                assert given == text[: min(ends)[1]]
                found += 1
                break
        else:
            assert given + stopped.finish() == texts[-1]
    assert found > 50


class Scripted:
    """An engine whose tokens are known before."""

    context, eos_ids, name, joins, dtype, bytes_per_token = None, (), "scripted", False, "none", 1

    def __init__(self, vocab_size, script):
        self.vocab_size, self._script = vocab_size, iter(script)

    def start(self, prompts, repeats):
        return self, self.step(None)

    def step(self, tokens):
        logits = np.zeros((1, self.vocab_size), np.float32)
        logits[0, next(self._script)] = 9
        return logits

    def keep(self, rows):
        pass

    def all_logits(self, sequences):
        raise NotImplementedError


@pytest.mark.parametrize("kind", BUILDERS)
def test_stream_and_generate_of_scripted_tokens(kind):
    tokenizer, rng = built(kind), random.Random(kind)
    for _ in range(20):
        text, ids = random_text(rng) or "a", random_tokens(tokenizer, rng) or [5]
        prompt = tokenizer(text)["input_ids"]
        if not prompt:
            continue

        def opened(ids=ids):
            return Decoder(Scripted(len(tokenizer) + 5, ids), tokenizer)

        count = {"max_new_tokens": len(ids)}
        expected = added_text(tokenizer, prompt, ids)
        assert opened().generate(text, **count)[0].text == expected
        assert opened().generate(text, stop="\0", **count)[0].text == expected
        assert "".join(step.text for step in opened().stream(text, **count)) == expected
        stops = {"stop": expected[len(expected) // 2 :][:2] or "zz"}
        whole = opened().generate(text, **stops, **count)[0]
        steps = list(opened().stream(text, **stops, **count))
        assert "".join(step.text for step in steps) == whole.text
        assert [step.token_id for step in steps] == whole.token_ids
        assert steps[-1].finish_reason == whole.finish_reason


def byte_tokens(kind, data):
    vocab = built(kind).get_vocab()
    return [vocab[f"<0x{byte:02X}>"] for byte in data]


FALLBACK = "byte fallback, prefix space"


def test_characters_in_byte_tokens_after_a_prompt_that_ends_in_some():
    tokenizer = built(FALLBACK)
    prompt = tokenizer("😀😀")["input_ids"]
    ids = byte_tokens(FALLBACK, "😀".encode())
    assert continuation(detokenizer(FALLBACK), prompt, ids) == "😀"
    decoder = Decoder(Scripted(len(tokenizer), [*ids, *ids]), tokenizer)
    found = decoder.generate("😀😀", stop="😀", max_new_tokens=8)[0]
    assert (found.text, found.finish_reason, len(found.token_ids)) == ("", "stop", 4)


def test_a_run_that_becomes_invalid_leaves_the_text_of_the_prompt():
    prompt = built(FALLBACK)("a😀")["input_ids"]
    ids = byte_tokens(FALLBACK, b"\xf0\x9f\xff")
    cursor = text_cursor(detokenizer(FALLBACK), prompt)
    assert [cursor.feed(token) for token in ids] == ["", "", "\ufffd\ufffd\ufffd"]
    assert cursor.finish() == ""


def test_a_run_that_is_valid_is_given_out_at_its_end():
    """Before that, a byte may make every byte of it U+FFFD."""
    tokenizer = built(FALLBACK)
    prompt, run = tokenizer("a")["input_ids"], byte_tokens(FALLBACK, "😀你".encode())
    word = tokenizer.get_vocab()["\u2581w"]
    cursor = text_cursor(detokenizer(FALLBACK), prompt)
    assert [cursor.feed(token) for token in run] == [""] * 7
    assert cursor.ahead == "😀你"
    assert cursor.feed(word) == "😀你 w"
    other = text_cursor(detokenizer(FALLBACK), prompt)
    pieces = [other.feed(token) for token in run]
    pieces.append(other.feed(*byte_tokens(FALLBACK, b"\x80")))
    assert pieces == [""] * 7 + [REPLACEMENT * 8]


class Counting(Detokenizer):
    """Counts the tokens that it decodes."""

    count = 0

    def decode(self, ids):
        self.count += len(ids)
        return super().decode(ids)


def byte_character(byte):
    return next(c for c, b in byte_of_character().items() if b == byte)


@pytest.mark.parametrize("kind", ["byte-level", FALLBACK, "metaspace with byte fallback"])
@pytest.mark.parametrize("data", [b"\x80", b"\xe4\xbd", b"\xff", "😀".encode()])
def test_long_runs_are_neither_held_back_nor_decoded_again_and_again(kind, data):
    """Bytes that continue no character are given out at once; work grows with their number."""
    tokenizer, text, count = built(kind), Counting(built(kind)), 2000
    if kind == "byte-level":
        vocab = tokenizer.get_vocab()
        ids = [vocab[byte_character(byte)] for byte in data]
    else:
        ids = byte_tokens(kind, data)
    cursor = text_cursor(text, tokenizer("a")["input_ids"])
    given = sum(len(cursor.feed(token)) for token in ids * count)
    if data in (b"\x80", b"\xff"):
        assert given == count
    if data == b"\xe4\xbd":
        assert given >= count - 1
    cursor.finish()
    assert text.count < 4 * len(ids) * count


def test_the_work_for_a_token_is_bounded():
    for kind in BUILDERS:
        tokenizer, text = built(kind), Counting(built(kind))
        rng, count = random.Random(kind), 3000
        cursor = text_cursor(text, list(range(10, 20)) * 100)
        for _ in range(count):
            cursor.feed(rng.randrange(len(tokenizer)))
        assert text.count < 40 * count, kind


@pytest.mark.parametrize("kind", BUILDERS)
def test_a_stop_string_may_be_a_special_token(kind):
    tokenizer, rng = built(kind), random.Random(kind)
    end = tokenizer.get_vocab()[STOP]
    for _ in range(30):
        prompt = tokenizer("Once")["input_ids"]
        ids = [token for token in random_tokens(tokenizer, rng) if token != end]
        stopped = StoppableText(detokenizer(kind), prompt, [STOP])
        given = "".join(stopped.feed(token) for token in ids)
        assert not stopped.stopped
        given += stopped.feed(end)
        assert stopped.stopped
        assert given == added_text(tokenizer, prompt, ids)


def test_a_stop_string_may_contain_a_special_token():
    tokenizer = built("byte-level")
    ids = tokenizer(f"a b{STOP}\nc")["input_ids"]
    for stop, count in ((f"b{STOP}", 1), (f"{STOP}\n", 2), (f"b{STOP}\nc", 3), (STOP, 1)):
        text = StoppableText(detokenizer("byte-level"), tokenizer("x")["input_ids"], [stop])
        place = ids.index(tokenizer.get_vocab()[STOP])
        given = "".join(text.feed(token) for token in ids[: place + count])
        assert text.stopped, stop
        assert given == ("a " if stop.startswith("b") else "a b")


def test_an_end_token_that_is_a_stop_string_as_well_ends_by_itself():
    tokenizer = built("byte-level")
    engine = Scripted(len(tokenizer), [*tokenizer("ab")["input_ids"], 0, 0])
    engine.eos_ids = (0,)
    found = Decoder(engine, tokenizer).generate("x", stop="<|endoftext|>", max_new_tokens=9)[0]
    assert (found.text, found.finish_reason) == ("ab", "eos")


@pytest.mark.parametrize("more", [{}, {"num_beams": 4, "length_penalty": 0.0}])
def test_generations_stop_at_a_special_token(more):
    tokenizer, model = make_tokenizer(), make_model("gpt2")
    keywords = {"max_new_tokens": 12, "eos_token_id": [], **more}
    free = Decoder(model, tokenizer).generate("Once", **keywords)[0]
    token = free.token_ids[9]
    (name,) = tokenizer.convert_ids_to_tokens([token])
    tokenizer.add_special_tokens({"additional_special_tokens": [name]})
    decoder = Decoder(model, tokenizer)
    assert decoder.generate("Once", **keywords)[0].token_ids == free.token_ids
    found = decoder.generate("Once", stop=name, **keywords)[0]
    assert found.finish_reason == "stop"
    assert found.token_ids.index(token) == len(found.token_ids) - 1
    if not more:
        assert found.token_ids == free.token_ids[: len(found.token_ids)]
    steps = list(decoder.stream("Once", stop=name, **keywords))
    assert [step.token_id for step in steps] == found.token_ids
    assert "".join(step.text for step in steps) == found.text
    assert steps[-1].finish_reason == "stop"


def test_a_stop_string_ends_with_a_token_that_begins_the_next_character():
    tokenizer = built("byte-level")
    tokenizer = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer)
    tokenizer.add_tokens(["!\u00e4"])  # "!" and the first byte of a character
    joint = tokenizer.get_vocab()["!\u00e4"]
    text = StoppableText(Detokenizer(tokenizer), tokenizer("x")["input_ids"], ["a!"])
    assert "".join(text.feed(token) for token in tokenizer("ba")["input_ids"]) == "b"
    assert text.feed(joint) == ""
    assert text.stopped


def test_with_special_tokens():
    tokenizer = built("byte-level")
    whole = Detokenizer(tokenizer, skip_special_tokens=False)
    ids = tokenizer(f"a{STOP}b")["input_ids"]
    assert continuation(whole, [5], ids) == f"a{STOP}b"
    assert continuation(detokenizer("byte-level"), [5], ids) == "ab"


@pytest.mark.parametrize("kind", BUILDERS)
def test_a_class_with_a_method_of_its_own_to_decode(kind):
    class Own(PreTrainedTokenizerFast):
        def decode(self, *arguments, **keywords):
            return super().decode(*arguments, **keywords)

    tokenizer = Own(tokenizer_object=built(kind).backend_tokenizer)
    own = Detokenizer(tokenizer)
    assert own.kind != "bytes"
    for prompt, ids, _ in itertools.islice(cases(kind, seed=2), 100):
        cursor = text_cursor(own, prompt)
        pieces = "".join([cursor.feed(token) for token in ids])
        expected = added_text(built(kind), prompt, ids)
        assert pieces + cursor.finish() == expected == continuation(own, prompt, ids)


class Letters:
    """A tokenizer without a backend: a letter or a byte a token, as SentencePiece decodes them."""

    all_special_ids = (0,)

    def __call__(self, texts, **_):
        return {"input_ids": [[ord(c) + 256 for c in text] for text in texts]}

    def convert_ids_to_tokens(self, ids):
        return ["</s>" if i == 0 else f"<0x{i:02X}>" if i < 256 else chr(i - 256) for i in ids]

    def decode(self, ids, *, skip_special_tokens=False, clean_up_tokenization_spaces=False):
        out = b""
        for i in ids:
            if i or not skip_special_tokens:
                out += bytes([i]) if i < 256 else chr(i - 256).encode()
        return "".join(
            # Each invalid byte by itself.
            REPLACEMENT if "\udc80" <= c <= "\udcff" else c
            for c in out.decode(errors="surrogateescape")
        )


def test_a_tokenizer_of_another_kind():
    tokenizer, rng = Letters(), random.Random(0)
    text = Detokenizer(tokenizer)
    assert text.kind == "windows"
    for _ in range(400):
        prompt = [rng.choice([300, 353, *"😀".encode(), 0]) for _ in range(rng.randint(1, 9))]
        ids = [
            token
            for _ in range(rng.randint(0, 12))
            for token in rng.choice([[300], list("😀".encode()), [0], [rng.randrange(1, 256)]])
        ]
        whole = tokenizer.decode(prompt + ids, skip_special_tokens=True)
        before = tokenizer.decode(prompt, skip_special_tokens=True)
        if whole.startswith(before):
            assert continuation(text, prompt, ids) == whole[len(before) :]
        cursor = text_cursor(text, prompt)
        pieces = "".join([cursor.feed(token) for token in ids])
        assert pieces + cursor.finish() == continuation(text, prompt, ids)
    cursor = text_cursor(text, [300])
    given = sum(len(cursor.feed(0x80)) for _ in range(1000))
    assert given >= 990
