"""The decoder itself: logits, texts and ids, pickles and copies, and how it is released."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import fastdecode
import numpy as np
import pytest
import torch
from conftest import make_model, make_tokenizer
from fastdecode import Decoder, core, loaded

TEXTS = ["Once upon a time", "It was the best", "O"]


@pytest.fixture(scope="module")
def demo():
    return Decoder.from_pretrained("demo")


@pytest.fixture
def unloaded():
    """No decoder is kept by name."""
    fastdecode.unload()
    yield
    fastdecode.unload()


def test_logits_are_the_models(decoder):
    rows = decoder.logits(TEXTS)
    assert isinstance(rows, list)
    for text, found in zip(TEXTS, rows, strict=True):
        ids = decoder.encode(text)
        with torch.no_grad():
            expected = decoder.model(torch.tensor([ids])).logits[0].float().numpy()
        assert found.dtype == np.float32
        assert found.shape == (len(ids), 300)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_array_equal(decoder.logits(ids), decoder.logits(text))
        np.testing.assert_array_equal(decoder.logits(np.array(ids)), decoder.logits(text))
        np.testing.assert_allclose(decoder.logits(text), found, atol=1e-5)
    found = rows[0]
    found[:] = 0
    assert found.flags.writeable
    assert found.flags.c_contiguous


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "bfloat16_weights", "int8", "int4"])
def test_logits_are_what_next_token_and_score_see(dtype):
    decoder = Decoder.from_pretrained("demo", dtype=dtype)
    text = "The old king"
    logs = decoder.log_probs(text)
    assert logs.dtype == np.float64
    np.testing.assert_array_equal(logs, core.log_softmax(decoder.logits(text)))
    np.testing.assert_allclose(np.exp(logs).sum(axis=1), 1.0, atol=1e-6)
    best = decoder.next_token(text, 3)
    assert [c.token_id for c in best] == np.argsort(-logs[-1], kind="stable")[:3].tolist()
    ids = decoder.encode(text)
    score = decoder.score(text, bos=False, eos=False)[0]
    assert score.token_logprobs[1:] == [logs[i, t] for i, t in enumerate(ids[1:])]
    several = decoder.log_probs([text, ids[:2]])
    np.testing.assert_array_equal(several[0], logs)
    np.testing.assert_array_equal(several[1], logs[:2])


def test_logits_refuse_what_does_not_fit(decoder):
    assert decoder.logits([5] * 64).shape == (64, 300)
    with pytest.raises(ValueError, match=r"^text has 65 tokens, but the model's context is 64"):
        decoder.logits([5] * 65)
    with pytest.raises(ValueError, match=r"^text\[1\] has 65 tokens"):
        decoder.log_probs([[5], [5] * 65])
    with pytest.raises(ValueError, match=r"^text\[1\] is 300, but token ids"):
        decoder.logits([5, 300])
    with pytest.raises(TypeError, match=r"^text must be a string, token ids, or a sequence"):
        decoder.logits(5)
    assert decoder.logits([]) == []
    assert decoder.logits("").shape == (1, 300)


def test_decode_is_the_way_back(decoder, tokenizer):
    for text in TEXTS:
        assert decoder.decode(decoder.encode(text)) == text
        assert decoder.decode(np.array(decoder.encode(text))) == text
    assert decoder.decode(decoder.encode(TEXTS)) == TEXTS
    assert decoder.decode(torch.tensor([[0, 70], [71, 0]])) == [
        tokenizer.decode([70]),
        tokenizer.decode([71]),
    ]
    assert decoder.decode([]) == ""
    assert decoder.decode([[], [70]]) == ["", tokenizer.decode([70])]
    ids = [0, *decoder.encode("Once"), 0]
    assert decoder.decode(ids) == "Once"
    assert decoder.decode(ids, skip_special_tokens=False) == "<|endoftext|>Once<|endoftext|>"
    with pytest.raises(ValueError, match=r"^ids\[1\] is 300, but token ids go from 0 to 299"):
        decoder.decode([5, 300])
    with pytest.raises(TypeError, match=r"^ids must be token ids, not a string \('Once'\)"):
        decoder.decode("Once")
    with pytest.raises(TypeError, match=r"^skip_special_tokens must be True or False, not 'no'"):
        decoder.decode([5], skip_special_tokens="no")


def test_a_decoder_loaded_by_name_is_pickled_as_its_name(demo, unloaded):
    raw = pickle.dumps(demo)
    assert len(raw) < 1000
    again = pickle.loads(raw)
    assert repr(again) == repr(demo)
    options = {"seed": 3, "temperature": 0.8}
    assert again.generate("The old king", **options) == demo.generate("The old king", **options)
    narrow = Decoder.from_pretrained("demo", engine="torch", dtype=torch.float64)
    again = copy.deepcopy(narrow)
    assert again.engine is not narrow.engine
    assert (again.engine.name, again.engine.dtype) == ("torch", "float64")


def test_a_folder_is_pickled_by_its_place(tmp_path, tokenizer, monkeypatch):
    make_model("gpt2", torch.float32).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    decoder = Decoder.from_pretrained(Path("model"))
    assert decoder.name == str(tmp_path / "model")
    raw = pickle.dumps(decoder)
    monkeypatch.chdir("/")
    assert pickle.loads(raw).encode("Once") == decoder.encode("Once")


def test_other_processes_unpickle(demo, tmp_path):
    (tmp_path / "decoder.pickle").write_bytes(pickle.dumps(demo))
    code = (
        "import pickle, sys; decoder = pickle.load(open(sys.argv[1], 'rb'));"
        "print(decoder.generate('The old king', seed=3, temperature=0.8).texts)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "decoder.pickle")],
        capture_output=True,
        text=True,
        check=True,
    )
    expected = demo.generate("The old king", seed=3, temperature=0.8).texts
    assert done.stdout == f"{expected}\n"


def test_a_decoder_made_of_objects_is_pickled_with_them():
    decoder = Decoder(make_model("gpt2", torch.float32), make_tokenizer(), dtype="int8")
    again = pickle.loads(pickle.dumps(decoder))
    assert again.engine.dtype == "int8"
    np.testing.assert_array_equal(again.logits("Once"), decoder.logits("Once"))
    with torch.no_grad():
        again.model.transformer.wte.weight.mul_(2.0)
    assert not np.array_equal(again.logits("Once"), decoder.logits("Once"))


def test_what_cannot_be_pickled_is_named():
    model = make_model("gpt2", torch.float32)
    model.lock = threading.Lock()
    decoder = Decoder(model, make_tokenizer())
    message = (
        r"cannot be pickled, because its model, a GPT2LMHeadModel, cannot \(.*lock.*\); load it"
    )
    with pytest.raises(TypeError, match=message):
        pickle.dumps(decoder)


def test_copies_share_the_weights(decoder):
    copied = copy.copy(decoder)
    assert copied is not decoder
    assert copied.engine is decoder.engine
    copied.close()
    assert copied.closed
    assert not decoder.closed
    assert decoder.generate("Once").texts


def test_a_closed_decoder_has_released_its_model():
    decoder = Decoder(make_model("gpt2", torch.float32), make_tokenizer())
    model = weakref.ref(decoder.model)
    with decoder as entered:
        assert entered is decoder
        steps = decoder.stream("Once", max_new_tokens=3)
        next(steps)
    assert len(list(steps)) == 2
    del steps
    gc.collect()
    assert model() is None
    assert decoder.closed
    assert "closed" in repr(decoder)
    for use in (
        lambda: decoder.generate("Once"),
        lambda: decoder.logits("Once"),
        lambda: decoder.score("Once"),
        lambda: pickle.dumps(decoder),
    ):
        with pytest.raises(ValueError, match="this decoder is closed"):
            use()
    decoder.close()


def test_models_loaded_by_name_are_kept_until_they_are_unloaded(unloaded):
    first = loaded.resolve("demo")
    assert loaded.resolve("demo") is first
    assert loaded.resolve("demo", dtype="int8") is not first
    assert loaded.resolve("demo", device="cpu").engine.dtype == "float32"
    assert fastdecode.unload("elsewhere") == 0
    assert fastdecode.unload("demo") == 3
    assert not first.closed
    engine = weakref.ref(first.engine)
    del first
    gc.collect()
    assert engine() is None
    assert fastdecode.unload() == 0
    with pytest.raises(TypeError, match=r"a name or a folder, not Decoder; a Decoder is released"):
        fastdecode.unload(Decoder.from_pretrained("demo"))


def test_paths_are_names(tmp_path, tokenizer):
    make_model("gpt2", torch.float32).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    decoder = Decoder.from_pretrained(tmp_path)
    assert decoder.name == str(tmp_path)
    assert fastdecode.tokens("Once", model=tmp_path).ids == decoder.tokens("Once").ids
    with pytest.raises(TypeError, match="name_or_path must be a string or a path, not int"):
        Decoder.from_pretrained(3)
    with pytest.raises(TypeError, match="name_or_path must be a string or a path, not bytes"):
        Decoder.from_pretrained(bytes(tmp_path))


FUNCTIONS = {
    "generate": ("Once",),
    "stream": ("Once",),
    "next_token": ("Once",),
    "score": ("Once",),
    "compare": (["Once", "It"],),
    "classify": ("Once", ["a", "b"]),
    "surprising": (["Once", "It"],),
    "tokens": ("Once",),
    "vocabulary": (),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_chooses_its_model_in_the_same_way(monkeypatch, name):
    asked = []

    def resolve(**source):
        asked.append(source)
        raise LookupError("enough")

    monkeypatch.setattr(loaded, "resolve", resolve)
    source = {
        "model": "demo",
        "tokenizer": None,
        "engine": "torch",
        "dtype": "float64",
        "kv_cache_dtype": "int8",
        "device": "cpu",
        "revision": "main",
    }
    function = getattr(fastdecode, name)
    for given in (source, {"revision": "main"}, {}):
        with pytest.raises(LookupError):
            function(*FUNCTIONS[name], **given)
    assert asked == [
        source,
        {"model": "openai-community/gpt2", "revision": "main"},
        {"model": "openai-community/gpt2"},
    ]


def test_dtypes_and_engines_reach_the_model(unloaded):
    text = "The old king"
    assert fastdecode.score(text, model="demo", dtype="int8").logprobs == (
        Decoder.from_pretrained("demo", dtype="int8").score(text).logprobs
    )
    found = fastdecode.next_token(text, model="demo", engine="torch", dtype="float64", device="cpu")
    assert found[0].token_id == fastdecode.next_token(text, model="demo")[0].token_id
    with pytest.raises(
        TypeError,
        match=r"^score\(\) got an unexpected keyword argument 'modle'; did you mean 'model'\?$",
    ):
        fastdecode.score(text, modle="demo")
    decoder = Decoder.from_pretrained("demo")
    for more in ({"device": "cpu"}, {"revision": "main"}, {"dtype": "int8"}, {"engine": "torch"}):
        with pytest.raises(TypeError, match=r"revision= .* go with a name .* has its own"):
            fastdecode.tokens(text, model=decoder, **more)
    model, tokenizer = make_model("gpt2"), make_tokenizer()
    with pytest.raises(TypeError, match=r"device=, revision= .* go with a name or a folder"):
        fastdecode.tokens(text, model=model, tokenizer=tokenizer, device="cpu")
