"""Bad input is refused before any work, by messages that name the argument and the fix."""

import shutil

import fastdecode
import pytest
import torch
from conftest import make_model, make_tokenizer
from fastdecode import Decoder, Greedy, Sample

ARGUMENTS = [
    (3, {}, TypeError, r"prompts must be a string or a sequence of strings, not int"),
    (b"Once", {}, TypeError, r"prompts must be a string or a sequence of strings, not bytes"),
    (["Once", 7], {}, TypeError, r"prompts\[1\] must be a string, not int"),
    ("Once", {"n": 0}, ValueError, r"n must be .*not 0"),
    ("Once", {"n": 1.5}, TypeError, r"n must be an integer, not 1\.5"),
    ("Once", {"n": True}, TypeError, r"n must be an integer, not True"),
    ("Once", {"max_new_tokens": 0}, ValueError, r"max_new_tokens must be at least 1, not 0"),
    ("Once", {"seed": -1}, ValueError, r"seed must be in 0\.\.2\*\*64-1, not -1"),
    ("Once", {"seed": 2**64}, ValueError, r"seed must be in 0\.\.2\*\*64-1"),
    ("Once", {"seed": "7"}, TypeError, r"seed must be an integer, not '7'"),
    ("Once", {"streams": [1, 2]}, ValueError, r"streams has 2 entries for 1 prompts"),
    ("Once", {"streams": [2**32]}, ValueError, r"streams\[0\] must be in 0\.\.4294967295"),
    ("Once", {"streams": 3}, TypeError, r"streams must be a sequence of integers, not 3"),
    ("Once", {"stop": ["a", ""]}, ValueError, r"stop\[1\] is empty"),
    ("Once", {"stop": 3}, TypeError, r"stop must be a string or a sequence of strings"),
    ("Once", {"batch_size": 0}, ValueError, r"batch_size must be at least 1, not 0"),
    ("Once", {"logprobs": -1}, ValueError, r"logprobs must be in 0\.\.300, not -1"),
    ("Once", {"logits_processor": []}, ValueError, r"logits_processor is not available"),
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
    with pytest.raises(ValueError, match=r"texts\[0\] comes to \d+ tokens.*context is 64"):
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
