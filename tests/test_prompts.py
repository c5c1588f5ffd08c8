"""Token ids as prompts and texts: the same results as texts, bad ones refused by place."""

from __future__ import annotations

import json

import fastdecode
import numpy as np
import pytest
import torch
from fastdecode.options import prompts

TEXTS = ["Once upon a time", "It was", "The café"]


@pytest.fixture(scope="module")
def ids(decoder):
    return decoder.encode(TEXTS)


def shapes(ids):
    """One prompt in every form that is taken."""
    return [
        ids,
        tuple(ids),
        np.array(ids),
        np.array(ids, np.uint16),
        list(np.array(ids)),
        torch.tensor(ids),
        list(torch.tensor(ids)),
        np.array([ids]),
        torch.tensor([ids]),
        [ids],
        [torch.tensor(ids)],
        [np.array(ids, np.int32)],
        iter(ids),
    ]


def test_token_ids_give_what_their_text_gives(decoder, ids):
    options = {"seed": 3, "temperature": 0.9, "n": 2, "max_new_tokens": 8}
    expected = decoder.generate(TEXTS[0], **options)
    for given in shapes(ids[0]):
        found = decoder.generate(given, **options)
        assert found == expected
        assert found[0].prompt == TEXTS[0]
        assert found[0].prompt_token_ids == ids[0]
        assert found.call["prompts"] == [ids[0]]
    assert decoder.generate(ids, **options) == decoder.generate(TEXTS, **options)
    mixed = decoder.generate([TEXTS[0], ids[1], np.array(ids[2])], **options)
    assert mixed == decoder.generate(TEXTS, **options)
    assert [g.prompt_index for g in mixed] == [0, 0, 1, 1, 2, 2]
    beams = decoder.generate(ids[1], num_beams=3, max_new_tokens=5, seed=1)
    assert beams == decoder.generate(TEXTS[1], num_beams=3, max_new_tokens=5, seed=1)


def test_every_function_takes_token_ids(decoder, ids):
    stream = list(decoder.stream(ids[0], seed=1, temperature=0.8))
    assert stream == list(decoder.stream(TEXTS[0], seed=1, temperature=0.8))
    for given in (ids[0], np.array(ids[0]), torch.tensor([ids[0]])):
        found = decoder.next_token(given, 5, top_p=0.9)
        assert list(found) == list(decoder.next_token(TEXTS[0], 5, top_p=0.9))
        assert found.prompt == TEXTS[0]
        assert decoder.tokens(given).ids == decoder.tokens(TEXTS[0]).ids
    bounds = {"max_new_tokens": 2, "min_probability": 0.05}
    found = decoder.enumerate_continuations(ids[0], **bounds)
    assert list(found) == list(decoder.enumerate_continuations(TEXTS[0], **bounds))
    assert list(decoder.score(ids)) == list(decoder.score(TEXTS))
    assert list(decoder.score(ids[1])) == list(decoder.score(TEXTS[1]))
    assert list(decoder.score(ids, context="So")) == list(decoder.score(TEXTS, context="So"))
    assert list(decoder.compare(ids)) == list(decoder.compare(TEXTS))
    assert list(decoder.surprising(ids)) == list(decoder.surprising(TEXTS))


def test_runs_of_token_ids_are_saved_and_replayed(decoder, ids, tmp_path):
    path = tmp_path / "run.json"
    odd = [7, 3, 250, 250]
    run = decoder.generate(
        [odd, TEXTS[1]], seed=5, temperature=0.8, n=2, stop_token_ids=[11], logprobs=0
    )
    run.save(path)
    assert fastdecode.Generations.load(path)[0].prompt_token_ids == odd
    assert fastdecode.replay(path, model=decoder) == run
    assert fastdecode.verify(path, model=decoder).same
    run[1:3].save(path)
    assert fastdecode.verify(path, model=decoder).same
    data = json.loads(path.read_text("utf-8"))
    data["generations"][0]["token_ids"][-1] += 1
    path.write_text(json.dumps(data), "utf-8")
    first = fastdecode.verify(path, model=decoder).first
    assert (first.prompt_index, first.sample, first.kind) == (0, 1, "token")
    scores = decoder.score(run)
    for item, score in zip(run, scores, strict=True):
        assert score.token_logprobs == pytest.approx(item.logprobs, abs=1e-5)


REFUSED = [
    ([[5, 300]], ValueError, r"^prompts\[0\]\[1\] is 300, but token ids go from 0 to 299"),
    (["Once", [5, -1]], ValueError, r"^prompts\[1\]\[1\] is -1, but token ids go from 0 to 299"),
    ([5, 300], ValueError, r"^prompts\[1\] is 300, but token ids"),
    ([[5], []], ValueError, r"^prompts\[1\] has no token ids; give at least one"),
    ([[5], [5, 1.0]], TypeError, r"^prompts\[1\]\[1\] must be a token id, .* not float \(1\.0\)"),
    ([[5], [True]], TypeError, r"^prompts\[1\]\[0\] must be a token id, .* not bool"),
    ([[5], ["a"]], TypeError, r"^prompts\[1\]\[0\] must be a token id, .* not str"),
    ([5, "a"], TypeError, r"^prompts\[1\] must be a token id, an integer, not str \('a'\)"),
    (["a", 5], TypeError, r"^prompts\[1\] must be a string or a list of token ids, not int \(5\)"),
    ([1.5, 2.5], TypeError, r"^prompts\[0\] must be a string or a list of token ids, not float"),
    (np.array([1.0]), TypeError, r"^prompts\[0\] must be a string or a list of token ids, not fl"),
    ([np.float32(1.0)], TypeError, r"^prompts\[0\] must be a string or a list of token ids, not"),
    (np.array(5), TypeError, r"^prompts must be a string, token ids, or a sequence"),
    ([b"Once"], TypeError, r"^prompts\[0\] must be a string or a list of token ids, not bytes"),
    ([None], TypeError, r"^prompts\[0\] must be a string or a list of token ids, not NoneType"),
    ({5, 6}, TypeError, r"^prompts must be .*, not set \(.*\), which has no order; give a list"),
    ({5: "a"}, TypeError, r"^prompts must be .*, not dict \({5: 'a'}\)"),
    ([frozenset((5, 6))], TypeError, r"^prompts\[0\] must be .*, not frozenset .*no order"),
    ({"input_ids": [[5]]}, TypeError, r'^prompts is a dict; give its "input_ids"'),
    ([list(range(64))], ValueError, r"^prompts\[0\] has 64 tokens, but the model's context is 64"),
]


@pytest.mark.parametrize(("given", "error", "message"), REFUSED)
def test_bad_token_ids_are_refused_by_place(decoder, given, error, message):
    with pytest.raises(error, match=message):
        decoder.generate(given)
    with pytest.raises(error, match=message.replace("^prompts", "^prompt", 1)):
        decoder.stream(given)


def test_a_text_in_an_array_without_dimensions_is_one_text(decoder, ids):
    text = np.array(TEXTS[0])
    options = {"temperature": 0.9, "seed": 3, "max_new_tokens": 3}
    assert decoder.generate(text, **options) == decoder.generate(TEXTS[0], **options)
    mixed = decoder.generate([text, ids[1]], **options)
    assert mixed == decoder.generate(TEXTS[:2], **options)
    assert decoder.logits(text).shape == decoder.logits(TEXTS[0]).shape
    assert decoder.tokens(text).ids == decoder.tokens(TEXTS[0]).ids


def test_token_ids_of_an_iterator_are_one_text(decoder, ids):
    for function in (decoder.logits, decoder.log_probs):
        assert np.array_equal(function(iter(ids[0])), function(ids[0]))
        assert len(function(iter(ids))) == len(ids)


def test_texts_in_an_array_without_dimensions_are_refused_where_ids_are_none(decoder):
    text = np.array("Once")
    for name, call in {
        "text": lambda: decoder.encode(text),
        "texts": lambda: decoder.classify(text, ["a", "b"]),
        "stop": lambda: decoder.generate("Once", stop=text),
        "context": lambda: decoder.score("Once", context=text),
    }.items():
        message = rf"^{name} must be a string or a sequence of strings, not ndarray \(array\('Once'"
        with pytest.raises(TypeError, match=message):
            call()


def test_decode_says_what_it_takes(decoder):
    for wrong, message in {
        5: r"^ids must be a list of token ids, or several, not int \(5\)",
        (True,): r"^ids\[0\] must be a list of token ids, not bool \(True\)",
        ((5,), 6): r"^ids\[1\] must be a list of token ids, not int \(6\)",
        frozenset((5, 6)): r"^ids must be .*, not frozenset .*no order",
    }.items():
        with pytest.raises(TypeError, match=message):
            decoder.decode(wrong)


def test_end_tokens_in_arrays(decoder):
    options = {"temperature": 0.9, "seed": 3, "max_new_tokens": 3}
    expected = decoder.generate(TEXTS[0], eos_token_id=[5, 6], **options)
    for given in (np.array([5, 6]), torch.tensor([5, 6]), {5, 6}, iter([5, 6])):
        assert decoder.generate(TEXTS[0], eos_token_id=given, **options) == expected
    assert decoder.generate(TEXTS[0], eos_token_id=np.array([], int), **options)
    with pytest.raises(ValueError, match=r"eos_token_id must be .* not -1; give \[\] for no end"):
        decoder.generate(TEXTS[0], eos_token_id=np.array(-1))
    with pytest.raises(TypeError, match=r"eos_token_id must be an integer, not '56'"):
        decoder.generate(TEXTS[0], eos_token_id="56")


def test_one_prompt_is_not_several(decoder):
    for several in (["Once"], [[5, 6], [7]], torch.tensor([[5], [6]])):
        with pytest.raises(TypeError, match=r"^prompt must be one string or the token ids of one"):
            decoder.next_token(several)
    with pytest.raises(TypeError) as refused:
        decoder.next_token(np.arange(80).reshape(4, 20))
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match=r"^prompt\[0\] is 300, but token ids go from 0 to 299"):
        decoder.next_token([300])
    with pytest.raises(ValueError, match=r"^prompt has no token ids"):
        decoder.enumerate_continuations([], max_new_tokens=1, min_probability=0.5)
    assert prompts.is_one("Once")
    assert prompts.is_one([np.int64(5)])
    assert not prompts.is_one(["Once"])
    assert not prompts.is_one([[5]])
    assert not prompts.is_one([])


def test_special_tokens_of_the_tokenizer_can_be_left_out(decoder):
    from conftest import make_tokenizer
    from tokenizers import processors

    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    special = fastdecode.Decoder(decoder.model, tokenizer)
    plain = decoder.encode("Once upon")
    assert special.encode("Once upon") == [0, *plain]
    assert special.encode("Once upon", add_special_tokens=False) == plain
    run = special.generate("Once upon", add_special_tokens=False, logprobs=0)
    assert run[0].prompt_token_ids == plain
    assert run.call["add_special_tokens"] is False
    assert run == decoder.generate("Once upon", seed=run.seed, logprobs=0)
    assert run != special.generate("Once upon", seed=run.seed, logprobs=0)
    assert special.score(run)[0].token_logprobs == pytest.approx(run[0].logprobs, abs=1e-5)
    bare = decoder.next_token("Once upon", 3)
    assert list(special.next_token("Once upon", 3, add_special_tokens=False)) == list(bare)
    assert list(special.next_token("Once upon", 3)) != list(bare)
    assert special.logits("Once upon").shape == (1 + len(plain), 300)
    assert special.logits("Once upon", add_special_tokens=False).shape == (len(plain), 300)
    with pytest.raises(TypeError, match="add_special_tokens must be True or False, not 1"):
        special.generate("Once upon", add_special_tokens=1)


def test_stop_tokens(decoder, tmp_path):
    whole = decoder.generate("Once upon", max_new_tokens=12, eos_token_id=[])[0]
    token = whole.token_ids[4]
    cut = whole.token_ids.index(token) + 1
    found = decoder.generate(
        "Once upon", max_new_tokens=12, eos_token_id=[], stop_token_ids=[299, token]
    )
    assert found[0].token_ids == whole.token_ids[:cut]
    assert found[0].finish_reason == "stop"
    assert found[0].text == decoder.decode(found[0].token_ids)
    assert found.call["stop_token_ids"] == [299, token]
    steps = list(decoder.stream("Once upon", max_new_tokens=12, stop_token_ids=token))
    assert steps[-1].finish_reason == "stop"
    # The model's own end token keeps its reason.
    both = decoder.generate(
        "Once upon", max_new_tokens=12, eos_token_id=token, stop_token_ids=[token]
    )
    assert both[0].finish_reason == "eos"
    path = tmp_path / "run.json"
    found.save(path)
    assert fastdecode.verify(path, model=decoder).same
    longer = decoder.generate(
        "Once upon",
        max_new_tokens=12,
        eos_token_id=[],
        stop_token_ids=np.array([token]),
        min_new_tokens=cut + 1,
    )
    assert token not in longer[0].token_ids[: cut + 1]
    beams = decoder.generate("Once upon", num_beams=3, max_new_tokens=8, stop_token_ids=range(300))
    assert [(len(g.token_ids), g.finish_reason) for g in beams] == [(1, "stop")]
    for value, error, message in [
        ([300], ValueError, r"stop_token_ids\[0\] must be in 0\.\.299, not 300"),
        (-1, ValueError, r"stop_token_ids must be in 0\.\.299, not -1"),
        (["a"], TypeError, r"stop_token_ids\[0\] must be an integer, not 'a'"),
        ("a", TypeError, r"stop_token_ids must be an integer, not 'a'"),
    ]:
        with pytest.raises(error, match=message):
            decoder.generate("Once", stop_token_ids=value)


def test_special_tokens_in_the_output(decoder, tmp_path):
    # The end token is forced by a bias.
    options = {"logit_bias": {0: 1e4}, "max_new_tokens": 3}
    plain = decoder.generate("Once", **options)
    assert (plain[0].text, plain[0].token_ids) == ("", [0])
    shown = decoder.generate("Once", skip_special_tokens=False, **options)
    assert shown[0].text == "<|endoftext|>"
    assert shown[0].text == decoder.decode(shown[0].token_ids, skip_special_tokens=False)
    assert shown.call["skip_special_tokens"] is False
    path = tmp_path / "run.json"
    shown.save(path)
    assert fastdecode.replay(path, model=decoder) == shown
    steps = list(decoder.stream("Once", skip_special_tokens=False, **options))
    assert [step.text for step in steps] == ["<|endoftext|>"]
    unending = {**options, "eos_token_id": [], "skip_special_tokens": False}
    assert decoder.generate([0, 70], **unending)[0].prompt == decoder.decode(
        [0, 70], skip_special_tokens=False
    )
    assert decoder.generate("Once", **unending)[0].text == "<|endoftext|>" * 3
    cut = decoder.generate("Once", stop="text|><|", **unending)[0]
    assert (cut.text, cut.finish_reason) == ("<|endof", "stop")
    beams = decoder.generate("Once", num_beams=2, **{**options, "skip_special_tokens": False})
    assert beams[0].text == "<|endoftext|>"
    with pytest.raises(TypeError, match="skip_special_tokens must be True or False, not None"):
        decoder.generate("Once", skip_special_tokens=None)
