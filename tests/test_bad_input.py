"""Bad input is refused before any work, by messages that name the argument and the fix."""

import shutil
from importlib.resources import files

import fastdecode
import numpy as np
import pytest
import torch
from conftest import make_model, make_tokenizer
from fastdecode import Decoder, Greedy, Sample, core
from fastdecode._core import NativeModel

ARGUMENTS = [
    (3, {}, TypeError, r"prompts must be a string, token ids, or a sequence .*, not int"),
    (b"Once", {}, TypeError, r"prompts must be a string, token ids, or a sequence .*, not bytes"),
    (["Once", 7], {}, TypeError, r"prompts\[1\] must be a string or a list of token ids, not int"),
    ("Once", {"n": 0}, ValueError, r"n must be .*not 0"),
    ("Once", {"n": 1.5}, TypeError, r"n must be an integer, not 1\.5"),
    ("Once", {"n": True}, TypeError, r"n must be an integer, not True"),
    ("Once", {"max_new_tokens": 0}, ValueError, r"max_new_tokens must be at least 1, not 0"),
    ("Once", {"seed": -1}, ValueError, r"seed must be in 0\.\.2\*\*64-1, not -1"),
    ("Once", {"seed": 2**64}, ValueError, r"seed must be in 0\.\.2\*\*64-1"),
    ("Once", {"seed": "7"}, TypeError, r"seed must be an integer, not '7'"),
    ("Once", {"streams": [1, 2]}, ValueError, r"streams has 2 entries for 1 prompts"),
    ("Once", {"streams": [2**32]}, ValueError, r"streams\[0\] must be in 0\.\.4294967295"),
    ("Once", {"streams": 3}, TypeError, r"streams must be a sequence of integers, not int \(3\)"),
    ("Once", {"stop": ["a", ""]}, ValueError, r"stop\[1\] is empty"),
    ("Once", {"stop": 3}, TypeError, r"stop must be a string or a sequence of strings"),
    ("Once", {"batch_size": 0}, ValueError, r"batch_size must be at least 1, not 0"),
    ("Once", {"logprobs": -1}, ValueError, r"logprobs must be in 0\.\.300, not -1"),
    ("Once", {"logits_processor": []}, ValueError, r"logits_processor=\[\] is not available"),
    ("Once", {"top_p": 90}, ValueError, r"top_p"),
    ("Once", {"top_k": -1}, ValueError, r"top_k"),
    ("Once", {"top_k": 2.5}, TypeError, r"top_k"),
    ("Once", {"temperature": -0.5}, ValueError, r"temperature"),
    ("Once", {"temprature": 1}, TypeError, r"unknown keyword 'temprature'.*'temperature'"),
    ("Once", {"topk": 1}, TypeError, r"unknown keyword 'topk'.*'top_k'"),
    ("Once", {"penalty_alpha": 1}, ValueError, r"penalty_alpha=1 is not available in this version"),
    ("Once", {"strategy": "greedy"}, TypeError, r"strategy must be Greedy.*not str"),
    ("Once", {"strategy": Greedy(), "top_k": 5}, ValueError, r"strategy and top_k both say"),
    ("Once", {"n": 2, "num_return_sequences": 2}, ValueError, r"n and num_return_sequences"),
    ("Once", {"max_length": 1}, ValueError, r"prompts\[0\] has \d tokens, which leaves no room"),
    ("Once", {"eos_token_id": 300}, ValueError, r"eos_token_id must be in 0\.\.299, not 300"),
    ("Once", {"do_sample": 1}, TypeError, r"do_sample must be True or False, not 1"),
]


@pytest.mark.parametrize(("prompt", "keywords", "error", "message"), ARGUMENTS)
def test_arguments(decoder, monkeypatch, prompt, keywords, error, message):
    def work(*_):
        raise RuntimeError("work began before the arguments were checked")

    monkeypatch.setattr(type(decoder.engine), "start", work)
    monkeypatch.setattr(type(decoder.engine), "prefill", work)
    with pytest.raises(error, match=message):
        decoder.generate(prompt, **keywords)


def test_prompt_longer_than_the_context(decoder):
    with pytest.raises(ValueError, match=r"prompts\[1\] has \d+ tokens.*context is 64.*to 63"):
        decoder.generate(["Once", "xyz" * 40])
    with pytest.raises(ValueError, match=r"texts\[0\] has \d+ tokens.*context is 64"):
        decoder.score("xyz" * 40)


def test_empty_prompt_without_bos(decoder):
    tokenizer = make_tokenizer()
    tokenizer.bos_token = None
    decoder = Decoder(decoder.model, tokenizer)
    with pytest.raises(ValueError, match=r"prompts\[1\] is empty and the tokenizer has no BOS"):
        decoder.generate(["Once", ""])
    with pytest.raises(ValueError, match=r"the tokenizer has no BOS token; use bos=False"):
        decoder.score("Once")


def test_models(tokenizer, decoder):
    with pytest.raises(TypeError, match=r"a model object needs tokenizer="):
        fastdecode.generate("Once", model=decoder.model)
    with pytest.raises(TypeError, match=r"model must be a hub name, .* not int"):
        fastdecode.generate("Once", model=3)
    with pytest.raises(TypeError, match=r"tokenizer= goes with a transformers model object"):
        fastdecode.generate("Once", model=decoder, tokenizer=tokenizer)
    with pytest.raises(TypeError, match=r"tokenizer must be a transformers tokenizer, not str"):
        Decoder(decoder.model, "gpt2")
    with pytest.raises(TypeError, match=r"model must be a transformers causal language model"):
        Decoder(torch.nn.Linear(2, 2), tokenizer)
    with pytest.raises(ValueError, match=r"engine='fast' is unknown; choose one of auto"):
        Decoder(decoder.model, tokenizer, engine="fast")


def test_no_such_folder():
    with pytest.raises(ValueError, match=r"'./nowhere/model': there is no such folder"):
        Decoder.from_pretrained("./nowhere/model")


@pytest.mark.parametrize("offline", [True, False])
def test_unknown_model_while_offline(monkeypatch, offline):
    import huggingface_hub

    def unreachable(*_, **__):
        raise OSError("no network") if offline else ConnectionError("name not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    message = (
        r"^model='someone/nothing-here': the hub could not be reached and the model is not in the "
        r'local cache; use model="demo", which needs no network, or the path of a local folder$'
    )
    with pytest.raises(ValueError, match=message):
        fastdecode.generate("Once", model="someone/nothing-here")


@pytest.fixture
def saved(tmp_path, tokenizer):
    folder = tmp_path / "model"
    make_model("gpt2", torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_saved_model_loads(saved, tokenizer):
    expected = Decoder(make_model("gpt2", torch.float32), tokenizer).generate("Once", seed=1)
    assert fastdecode.generate("Once", model=saved, seed=1) == expected
    decoder = Decoder.from_pretrained(str(saved), dtype="float64")
    assert decoder.model.dtype == torch.float64
    with pytest.raises(ValueError, match=r"dtype='int31' is unknown"):
        Decoder.from_pretrained(str(saved), dtype="int31")


def test_truncated_weights(saved):
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"cannot be loaded: .* are its files complete\?"):
        Decoder.from_pretrained(str(saved))


def test_missing_weights(saved):
    (saved / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"cannot be loaded"):
        Decoder.from_pretrained(str(saved))


def test_missing_tensors(saved):
    from safetensors.torch import load_file, save_file

    tensors = load_file(saved / "model.safetensors")
    name = next(key for key in tensors if "mlp.c_fc.weight" in key)
    del tensors[name]
    save_file(tensors, saved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"incomplete: 1 tensors are missing.*mlp\.c_fc\.weight"):
        Decoder.from_pretrained(str(saved))


def test_damaged_tensors(saved):
    from safetensors.torch import load_file, save_file

    tensors = load_file(saved / "model.safetensors")
    next(iter(tensors.values())).view(-1)[3] = float("nan")
    save_file(tensors, saved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"damaged: .* has values that are not finite"):
        Decoder.from_pretrained(str(saved))


def test_missing_tokenizer(saved, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(saved / name, bare / name)
    with pytest.raises(ValueError, match=r"cannot be loaded"):
        Decoder.from_pretrained(str(bare))


def test_tokens_that_the_model_does_not_have(tokenizer):
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_layer=1, n_head=2, n_embd=8, vocab_size=40, n_positions=32, bos_token_id=0, eos_token_id=0
    )
    decoder = Decoder(GPT2LMHeadModel(config), tokenizer)
    with pytest.raises(ValueError, match=r"the model knows 0\.\.39; the tokenizer is of another"):
        decoder.generate("Once upon a time")


def test_logits_that_are_not_numbers(tokenizer):
    model = make_model("gpt2")
    with torch.no_grad():
        model.transformer.ln_f.bias[0] = float("nan")
    with pytest.raises(ValueError, match=r"(?i)nan"):
        Decoder(model, tokenizer).generate("Once")


def test_sample_itself():
    for keywords in ({"top_p": 90}, {"top_k": 0}, {"temperature": -1}):
        with pytest.raises(ValueError, match=next(iter(keywords))):
            Sample(**keywords)


@pytest.mark.parametrize("k", [0, 301])
def test_next_token_k(decoder, k):
    with pytest.raises(ValueError, match=r"k must be in 1\.\.300"):
        decoder.next_token("Once", k=k)


LOGITS = np.zeros((2, 5), np.float32)
PENALTY = Sample(repetition_penalty=2.0)
MIROSTAT = Sample(mirostat=(3.0, 0.1))


def search(*, beam=None, prompts=((1, 2), (3,)), limits=(4, 4), eos_token_ids=(0,), **keywords):
    beam = core.Beam(2) if beam is None else beam
    return core.BeamState(beam, prompts, limits, eos_token_ids=eos_token_ids, **keywords)


def listing(*, bound=0.1, limit=3, eos_token_ids=(0,)):
    return core.Listing(bound, limit, eos_token_ids)


def state(prompts=((1,), (2,)), limits=3, **keywords):
    return core.DecodeState(prompts, **{"seed": 1, "limits": limits, **keywords})


def native():
    return NativeModel.from_folder(files("fastdecode") / "demo")


def rows():
    batch = native().rows()
    batch.join([[1, 2], [3]], [1, 2])
    return batch


def weights(**tensors):
    config = (files("fastdecode") / "demo" / "config.json").read_text("utf-8")
    return NativeModel.from_arrays(config, tensors)


# A call of the Rust core, the argument that its message has to begin with, the exception, and the
# rest of the message.
CORE = [
    (lambda: core.top_k(LOGITS, "a"), "k", TypeError, "must be an integer, got 'a' of type str"),
    (lambda: core.top_k(LOGITS, 2.0), "k", TypeError, "must be an integer, got 2.0 of type float"),
    (lambda: core.top_k(LOGITS, 2**70), "k", ValueError, "=1180591620717411303424 is outside -2**"),
    (lambda: core.top_k(LOGITS, None), "k", TypeError, "must be an integer, got None"),
    (
        lambda: core.sample(LOGITS, 3, seed=1),
        "params",
        TypeError,
        "must be a Sample, or a sequence",
    ),
    (
        lambda: core.sample(LOGITS, [PENALTY], seed=1),
        "params",
        ValueError,
        "has 1 entries for 2 row",
    ),
    (lambda: core.sample(LOGITS, seed=None), "seed", TypeError, "must be an integer, got None"),
    (lambda: core.sample(LOGITS, seed=2**70), "seed", ValueError, "is outside 0..2**64-1"),
    (lambda: core.sample(LOGITS, seed=1, ledger=1), "ledger", TypeError, "must be True or False"),
    (
        lambda: core.sample(LOGITS, seed=1, ledger=None),
        "ledger",
        TypeError,
        "must be True or False",
    ),
    (
        lambda: core.sample(LOGITS, seed=1, alternatives=-1),
        "alternatives",
        ValueError,
        "=-1 is outside 0..2**32-1",
    ),
    (
        lambda: core.sample(LOGITS, seed=1, alternatives="2"),
        "alternatives",
        TypeError,
        "must be an integer, got '2' of type str",
    ),
    (
        lambda: core.sample(LOGITS, seed=1, streams="ab"),
        "streams",
        TypeError,
        "must be an integer or a sequence of integers, got 'ab' of type str",
    ),
    (
        lambda: core.sample(LOGITS, seed=1, samples=1.5),
        "samples",
        TypeError,
        "must be an integer or a sequence of integers, got 1.5 of type float",
    ),
    (
        lambda: core.sample(LOGITS, seed=1, positions=[0, 2**70]),
        "positions[1]",
        ValueError,
        "is outside 0..2**32-1",
    ),
    (
        lambda: core.sample(LOGITS, PENALTY, seed=1),
        "these parameters",
        ValueError,
        "give histories=, the token ids of each row's prompt and text",
    ),
    (
        lambda: core.sample(LOGITS, [Sample(), PENALTY], seed=1),
        "these parameters",
        ValueError,
        "give histories=",
    ),
    (
        lambda: core.distribution(LOGITS, Sample(xtc=(0.5, 0.1))),
        "xtc",
        ValueError,
        "give seed= (and streams, samples, positions) to say which",
    ),
    (
        lambda: core.sample(LOGITS, PENALTY, seed=1, histories=3),
        "histories",
        TypeError,
        "must be a sequence of token ids for each row, got 3",
    ),
    (
        lambda: core.sample(LOGITS, PENALTY, seed=1, histories=[[1], None]),
        "histories[1]",
        TypeError,
        "must be a sequence of integers, got None",
    ),
    (
        lambda: core.sample(LOGITS, PENALTY, seed=1, histories=[[1], [2, -1]]),
        "histories[1][1]",
        ValueError,
        "=-1 is outside 0..2**32-1",
    ),
    (
        lambda: core.sample(LOGITS, PENALTY, seed=1, histories=[[1], [2, 7]]),
        "histories[1]",
        ValueError,
        "has token id 7 at position 1, which is outside the vocabulary, 0..4; leave padding out",
    ),
    (
        lambda: core.sample(LOGITS, PENALTY, seed=1, histories=[[1]]),
        "histories",
        ValueError,
        "has 1 entries for 2 rows of logits; give one a row",
    ),
    (
        lambda: core.sample(LOGITS, PENALTY, seed=1, histories=[[1], [2]], prompt_lengths=[1, 3]),
        "histories[1]",
        ValueError,
        "has 1 tokens, fewer than the 3 of its prompt",
    ),
    (
        lambda: core.sample(LOGITS, MIROSTAT, seed=1, mus=["a", 1]),
        "mus[0]",
        TypeError,
        "must be a number, got 'a' of type str",
    ),
    (
        lambda: core.sample(LOGITS, MIROSTAT, seed=1, mus=[1, 10**400]),
        "mus[1]",
        ValueError,
        "is outside the range of float64",
    ),
    (
        lambda: core.sample(LOGITS, MIROSTAT, seed=1, mus=3.0),
        "mus",
        TypeError,
        "must be a sequence of numbers, got 3.0",
    ),
    (
        lambda: core.multinomial(LOGITS, -1, seed=1),
        "num_samples",
        ValueError,
        "=-1 is outside 0..2**32-1",
    ),
    (
        lambda: core.multinomial(LOGITS, 6, replacement=False, seed=1),
        "num_samples",
        ValueError,
        "=6 without replacement, but only 5 tokens can be drawn",
    ),
    (
        lambda: core.multinomial(LOGITS, 2, replacement="no", seed=1),
        "replacement",
        TypeError,
        "must be True or False, got 'no' of type str",
    ),
    (lambda: core.uniform(1.5), "seed", TypeError, "must be an integer, got 1.5"),
    (lambda: core.uniform(1, stream=-1), "stream", ValueError, "=-1 is outside 0..2**32-1"),
    (lambda: core.token_logprobs(LOGITS, 3), "tokens", TypeError, "must be a sequence of integers"),
    (lambda: core.token_logprobs(LOGITS, [0, 9]), "tokens[1]", ValueError, "=9 is outside the voc"),
    (
        lambda: core.token_logprobs(LOGITS, [0, -1]),
        "tokens[1]",
        ValueError,
        "=-1 is outside the vo",
    ),
    (lambda: core.token_logprobs(LOGITS, [0, 2**70]), "tokens[1]", ValueError, "is outside -2**63"),
    (lambda: core.token_logprobs(LOGITS, [0.0, 1]), "tokens[0]", TypeError, "must be an integer"),
    (lambda: core.philox4x32([1, 2, 3], [1, 2]), "counter", ValueError, "has 3 entries; give 4"),
    (
        lambda: core.philox4x32([1, 2, 3, -1], [1, 2]),
        "counter[3]",
        ValueError,
        "=-1 is outside 0..",
    ),
    (lambda: core.philox4x32([1, 2, 3, 4], 5), "key", TypeError, "must be a sequence of integers"),
    (lambda: core.Beam("a"), "num_beams", TypeError, "must be an integer, got 'a'"),
    (lambda: core.Beam(None), "num_beams", TypeError, "must be an integer, got None"),
    (lambda: core.Beam(2**70), "num_beams", ValueError, "is outside -2**63..2**63-1"),
    (lambda: core.Beam(2, "a"), "length_penalty", TypeError, "must be a number, got 'a'"),
    (lambda: core.Beam(2, num_beam_groups=1.5), "num_beam_groups", TypeError, "must be an integer"),
    (
        lambda: core.Beam(2, diversity_penalty=()),
        "diversity_penalty",
        TypeError,
        "must be a number",
    ),
    (lambda: core.Beam(2, stochastic=1), "stochastic", TypeError, "must be True or False, got 1"),
    (lambda: core.Beam(2, sample=3), "sample", TypeError, "must be a Sample, got 3 of type int"),
    (lambda: core.Beam(2, sample=PENALTY), "sample", ValueError, "give them to Beam itself"),
    (lambda: core.Beam(2, eos_token_id=3), "eos_token_id", TypeError, "must be a sequence of tok"),
    (lambda: core.Beam(2, eos_token_id=[-1]), "eos_token_id", ValueError, "=[-1] has a token id"),
    (
        lambda: core.Beam(2).with_eos([2**32]),
        "eos_token_id[0]",
        ValueError,
        "is outside 0..2**32-1",
    ),
    (lambda: core.Beam(2).check_vocabulary("a"), "size", TypeError, "must be an integer"),
    (lambda: search(beam=3), "beam", TypeError, "must be a Beam, got 3 of type int"),
    (lambda: search(prompts=[1, 2]), "prompts[0]", TypeError, "must be a sequence of integers"),
    (lambda: search(prompts=[[1], [-2]]), "prompts[1][0]", ValueError, "=-2 is outside 0..2**32-1"),
    (lambda: search(limits=3), "limits", TypeError, "must be a sequence of integers, got 3"),
    (
        lambda: search(limits=[3]),
        "limits",
        ValueError,
        "has 1 entries for 2 prompts; give one a pr",
    ),
    (lambda: search(limits=[3, -3]), "limits[1]", ValueError, "=-3 is outside 0..2**64-1"),
    (lambda: search(limits=[3, 0]), "limits[1]", ValueError, "is 0; every prompt needs room"),
    (lambda: search(eos_token_ids=[-1]), "eos_token_ids[0]", ValueError, "=-1 is outside 0..2**32"),
    (lambda: search(streams=[1]), "streams", ValueError, "has 1 entries for 2 prompts"),
    (lambda: search(trace=1), "trace", TypeError, "must be True or False, got 1"),
    (lambda: search().outcomes(2), "prompt", IndexError, "=2 is outside 0..1"),
    (lambda: search().outcomes(-1), "prompt", IndexError, "=-1 is outside 0..1"),
    (lambda: search().settled(2**70), "prompt", IndexError, "is outside 0..1"),
    (lambda: search().expansions("a"), "prompt", TypeError, "must be an integer, got 'a'"),
    (lambda: search().step(LOGITS, 3), "allowed", TypeError, "must be a sequence of sequences of"),
    (
        lambda: search().step(LOGITS, [None, [-1]]),
        "allowed[1][0]",
        ValueError,
        "=-1 is outside 0..",
    ),
    (lambda: search().step(LOGITS, [None, [9]]), "allowed", ValueError, "has token id 9, which is"),
    (lambda: search().step(LOGITS, [None]), "allowed", ValueError, "has 1 entries for 2 rows"),
    (lambda: search().step(LOGITS, stop=3), "stop", TypeError, "must be a function, got 3"),
    (lambda: search().step(LOGITS[:1]), "logits", ValueError, "have 1 rows for 2 live beams"),
    (lambda: search(eos_token_ids=[9]).step(LOGITS), "eos_token_ids", ValueError, "has token id 9"),
    (
        lambda: search(beam=core.Beam(2, presence_penalty=1.0), prompts=[[1], [2, 8]]).step(LOGITS),
        "prompts[1]",
        ValueError,
        "has token id 8 at position 1, which is outside the vocabulary, 0..4",
    ),
    (lambda: listing(bound="a"), "min_probability", TypeError, "must be a number, got 'a'"),
    (lambda: listing(bound=2), "min_probability", ValueError, "=2 must be above 0 and at most 1"),
    (lambda: listing(limit=0), "max_new_tokens", ValueError, "=0 must be at least 1"),
    (lambda: listing(limit=-3), "max_new_tokens", ValueError, "=-3 is outside 0..2**64-1"),
    (lambda: listing(limit=2.5), "max_new_tokens", TypeError, "must be an integer, got 2.5"),
    (
        lambda: listing(eos_token_ids=1),
        "eos_token_ids",
        TypeError,
        "must be a sequence of integers",
    ),
    (lambda: core.Sample(top_k="a"), "top_k", TypeError, "must be an integer, got 'a' of type str"),
    (lambda: core.Sample(top_k=2**70), "top_k", ValueError, "is outside -2**63..2**63-1"),
    (lambda: core.Sample(temperature=None), "temperature", TypeError, "must be a number, got None"),
    (lambda: core.Sample(xtc=3), "xtc", TypeError, "must be (probability, threshold), got 3"),
    (lambda: core.Sample(allowed=[-1]), "allowed", ValueError, "has a token id outside 0..2**32-1"),
    (lambda: core.Sample(bad_words=[[2**32]]), "bad_words", ValueError, "has a token id outside"),
    (lambda: core.Sample(logit_bias={-1: 2.0}), "logit_bias", ValueError, "has a token id outside"),
    (
        lambda: core.Sample(logit_bias={(1, -1): 2.0}),
        "logit_bias",
        ValueError,
        "has a token id out",
    ),
    (lambda: core.Sample(logit_bias={"a": 2.0}), "logit_bias", TypeError, "must be a dict"),
    (lambda: core.Sample(dry=3), "dry", TypeError, "must be a dict"),
    (
        lambda: core.Sample().with_eos([-1]),
        "eos_token_id[0]",
        ValueError,
        "=-1 is outside 0..2**32",
    ),
    (lambda: core.Sample().check_vocabulary(-1), "size", ValueError, "=-1 is outside 0..2**64-1"),
    (
        lambda: state(prompts=3),
        "prompts",
        TypeError,
        "must be a sequence of token ids for each row",
    ),
    (lambda: state(prompts=[[1], [-2]]), "prompts[1][0]", ValueError, "=-2 is outside 0..2**32-1"),
    (lambda: state(params=3), "params", TypeError, "must be a Sample, got 3 of type int"),
    (lambda: state(limits=[1, -1]), "limits[1]", ValueError, "=-1 is outside 0..2**32-1"),
    (lambda: state(limits=[1, 0]), "limits[1]", ValueError, "is 0; every prompt needs room"),
    (lambda: state(limits=[1]), "limits", ValueError, "has 1 entries for 2 sequences"),
    (lambda: state(streams=1.5), "streams", TypeError, "must be an integer or a sequence of"),
    (lambda: state(mus=["a", 1]), "mus[0]", TypeError, "must be a number, got 'a'"),
    (lambda: state(eos_token_ids=3), "eos_token_ids", TypeError, "must be a sequence of integers"),
    (lambda: state(limit_reasons=3), "limit_reasons", TypeError, "must be a sequence of strings"),
    (lambda: state(prompt_lengths=[1, 2]), "prompts[1]", ValueError, "fewer than the 2 of its pr"),
    (
        lambda: state(prompts=[[1], [3, 8]], params=PENALTY).step(LOGITS),
        "prompts[1]",
        ValueError,
        "has token id 8 at position 1, which is outside the vocabulary, 0..4",
    ),
    (lambda: state().step(LOGITS, ledger=1), "ledger", TypeError, "must be True or False, got 1"),
    (lambda: state().step(LOGITS, raw_logprobs=None), "raw_logprobs", TypeError, "must be True or"),
    (lambda: state().draw(LOGITS, proposed=3), "proposed", TypeError, "must be a sequence of seq"),
    (lambda: state().process(LOGITS, [[1], [-1]]), "proposed[1][0]", ValueError, "=-1 is outside"),
    (lambda: state().commit(3), "drawn", TypeError, "must be a DecodeStep, got 3"),
    (lambda: state().commit(state().draw(LOGITS), 3), "counts", TypeError, "must be a sequence of"),
    (lambda: state().keep([2]), "rows[0]", IndexError, "=2 is outside 0..1"),
    (lambda: state().keep([0, -1]), "rows[1]", IndexError, "=-1 is outside 0..1"),
    (lambda: state().keep("a"), "rows", TypeError, "must be a sequence of integers, got 'a'"),
    (lambda: state().fork(2, 0), "row", IndexError, "=2 is outside 0..1"),
    (lambda: state().fork(0, -1), "sample", ValueError, "=-1 is outside 0..2**32-1"),
    (lambda: state().join(3), "other", TypeError, "must be a DecodeState, got 3"),
    (
        lambda: (lambda one: one.join(one))(state()),
        "other",
        ValueError,
        "must be another DecodeState",
    ),
    (lambda: NativeModel.from_folder(3), "path", TypeError, "must be a string or a path, got 3"),
    (lambda: NativeModel.from_folder("a", 3), "dtype", TypeError, "must be a string, got 3"),
    (lambda: NativeModel.from_folder("a", "f"), "dtype", ValueError, '="f"; give "float32"'),
    (lambda: NativeModel.from_arrays(3, {}), "config", TypeError, "must be a string, got 3"),
    (lambda: weights(a=[1.0]), 'tensors["a"]', TypeError, "must be float32, float16, or uint16"),
    (lambda: weights(a=np.zeros(3)), 'tensors["a"]', TypeError, "got float64"),
    (
        lambda: weights(a=np.zeros((3, 4), np.float32).T),
        'tensors["a"]',
        ValueError,
        "is not C-contiguous; give numpy.ascontiguousarray of it",
    ),
    (lambda: native().all_logits(3), "tokens", TypeError, "must be a sequence of integers, got 3"),
    (lambda: native().all_logits([-1]), "tokens", ValueError, "has -1, which is outside the vocab"),
    (lambda: native().all_logits([]), "tokens", ValueError, "is empty; a sequence begins with"),
    (
        lambda: rows().join([[1], [-1]], [1, 1]),
        "prompts[1]",
        ValueError,
        "has -1, which is outside",
    ),
    (lambda: rows().join([[1], []], [1, 1]), "prompts[1]", ValueError, "is empty; a sequence"),
    (lambda: rows().join([[1]], [0]), "repeats[0]", ValueError, "=0; a prompt becomes at least"),
    (lambda: rows().join([[1]], [-1]), "repeats[0]", ValueError, "=-1 is outside 0..2**64-1"),
    (lambda: rows().join([[1]], 1), "repeats", TypeError, "must be a sequence of integers, got 1"),
    (lambda: rows().step("a"), "tokens", TypeError, "must be a sequence of integers, got 'a'"),
    (lambda: rows().step(np.array([1, 2])), "tokens", ValueError, "has 2 entries for 3 rows"),
    (
        lambda: rows().step(np.array([1, 2, -3])),
        "tokens[2]",
        ValueError,
        "has -3, which is outside",
    ),
    (lambda: rows().keep(np.array([0.5])), "rows[0]", TypeError, "must be an integer, got"),
    (lambda: rows().keep(np.array([0, 3])), "rows[1]", IndexError, "=3 is outside 0..2"),
]


@pytest.mark.parametrize(("call", "argument", "error", "rest"), CORE)
def test_the_core_names_its_arguments(call, argument, error, rest):
    """In the message itself: many programs print that alone, without the exception's notes."""
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    message = str(caught.value)
    assert message.startswith(argument)
    assert message[len(argument)] in " =["
    assert rest in message
    assert not hasattr(caught.value, "__notes__")


def test_missing_files_are_named(tmp_path):
    for name in ("config.json", "model.safetensors"):
        with pytest.raises(FileNotFoundError) as caught:
            NativeModel.from_folder(tmp_path)
        assert caught.value.filename == str(tmp_path / name)
        assert not hasattr(caught.value, "__notes__")
        with pytest.raises(FileNotFoundError, match=name):
            Decoder.from_pretrained(str(tmp_path), engine="native")
        shutil.copy(files("fastdecode") / "demo" / "config.json", tmp_path / "config.json")


def test_refused_memory_is_a_memory_error():
    with pytest.raises(MemoryError):
        rows().join([[1]], [2**44])


def test_interrupts_while_an_argument_is_read_are_kept():
    class Hostile:
        def __index__(self):
            raise KeyboardInterrupt

        __float__ = __index__

    for call in (lambda x: core.top_k(LOGITS, x), lambda x: core.Beam(2, x), core.uniform):
        with pytest.raises(KeyboardInterrupt):
            call(Hostile())


def strided(rows):
    """Arrays of the same numbers that no Rust slice, or one with care alone, can be made of."""
    wide = np.zeros((len(rows), 2, rows.shape[1]), rows.dtype)
    wide[:, 0] = rows
    record = np.zeros(rows.shape, [("pad", "u1"), ("x", rows.dtype)])
    record["x"] = rows
    frozen = rows.copy()
    frozen.flags.writeable = False
    offset = np.frombuffer(b"-" + rows.tobytes(), np.uint8)[1:].view(rows.dtype)
    return {
        "Fortran": np.asfortranarray(rows),
        "negative row stride": rows[::-1].copy()[::-1],
        "negative column stride": rows[:, ::-1].copy()[:, ::-1],
        "both negative": rows[::-1, ::-1].copy()[::-1, ::-1],
        "rows apart": wide[:, 0],
        "columns apart": np.repeat(rows, 3, axis=1)[:, ::3],
        "unaligned fields": record["x"],
        "unaligned rows": offset.reshape(rows.shape),
        "read-only": frozen,
        "read-only and unaligned": np.frombuffer(record.tobytes(), record.dtype).reshape(
            rows.shape
        )["x"],
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_layout_of_logits_changes_nothing(dtype):
    rows = np.random.default_rng(6).normal(size=(5, 129)).astype(dtype)
    expected = core.log_softmax(rows)
    for name, array in strided(rows).items():
        np.testing.assert_array_equal(core.log_softmax(array), expected, err_msg=name)
        for row, values in zip(array, expected, strict=True):
            np.testing.assert_array_equal(core.log_softmax(row), values, err_msg=name)
    repeated = np.broadcast_to(rows[0], (4, 129))
    np.testing.assert_array_equal(core.log_softmax(repeated), expected[[0, 0, 0, 0]])
    same = np.broadcast_to(rows[:, :1], (5, 129))
    np.testing.assert_allclose(core.log_softmax(same), -np.log(129), atol=1e-6)
    windows = np.lib.stride_tricks.sliding_window_view(rows[0], 20)
    np.testing.assert_array_equal(core.argmax(windows), windows.argmax(axis=1))
    for shape in [(0, 7), (1, 1), (3, 1)]:
        empty = np.zeros(shape, dtype)[::-1, ::-1]
        assert core.log_softmax(empty).shape == shape


def test_the_layout_of_other_arrays_changes_nothing():
    logits = np.random.default_rng(7).normal(size=(3, 50)).astype(np.float32)
    keys = np.array([[5, 6, 7]], np.uint32)
    histories = np.array([[1, 2, 3]], np.uint32)
    mus = np.array([[4.0, 5.0, 6.0]])
    tokens = np.array([[1, 2, 3]])

    def drawn(keys, history, mus):
        draws = core.sample(
            logits, MIROSTAT, seed=1, streams=keys, histories=[history] * 3, mus=mus
        )
        return draws.tokens.tolist(), draws.mus.tolist()

    expected = drawn(keys[0], histories[0], mus[0])
    columns = [strided(array) for array in (keys, histories, mus, tokens)]
    for name in columns[0]:
        key, history, mu, token = (arrays[name][0] for arrays in columns)
        assert drawn(key, history, mu) == expected, name
        np.testing.assert_array_equal(
            core.token_logprobs(logits, token), core.token_logprobs(logits, tokens[0])
        )
        batch = rows()
        np.testing.assert_array_equal(batch.step(token), rows().step(tokens[0]), err_msg=name)
        batch.keep(token - 1)
