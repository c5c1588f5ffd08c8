"""The families of the native engine against transformers, on small random models of each.

`FASTDECODE_FAMILIES=50 pytest -s tests/test_families.py` tries fifty models of each family, and
prints how many texts part where two logits lie closer together than float32 can tell, and what
becomes of odd configurations.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from family_models import CONTEXT, FAMILIES, VOCABULARY, random_model
from family_tokenizers import write_tokenizer
from fastdecode import Decoder
from fastdecode.models.engines import open_engine
from fastdecode.models.engines.native import LoadedEngine, NativeEngine
from odd_configurations import odd_configuration, write_model
from sweep import word_tokenizer
from transformers import AutoModelForCausalLM

MODELS = int(os.environ.get("FASTDECODE_FAMILIES", "5"))
CASES = [(family, seed) for family in FAMILIES for seed in range(MODELS)]
ODD = [(family, seed) for family in FAMILIES for seed in range(2 * MODELS)]
NEW = 12


def reference(model, ids):
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0].double().numpy()


@pytest.fixture(scope="module")
def counts():
    """How often what happened; printed at the end."""
    found = Counter()
    yield found
    print()
    for name in sorted(found):
        print(f"{name}: {found[name]}")


def texts(seed, most=CONTEXT, count=4):
    """Texts of one token, of `most`, and of lengths between."""
    draw = np.random.default_rng(seed)
    lengths = [1, most, *draw.integers(2, most, count - 2)]
    return [draw.integers(2, VOCABULARY - 1, length).tolist() for length in lengths]


@pytest.mark.parametrize(("family", "seed"), CASES)
def test_logits_are_as_exact_as_those_of_transformers(family, seed):
    model = random_model(family, seed)
    engine = open_engine(model)
    assert type(engine) is LoadedEngine
    double = copy.deepcopy(model).double()
    sequences = texts(seed)
    for ids, logits in zip(sequences, engine.all_logits(sequences), strict=True):
        exact = reference(double, ids)
        allowed = max(np.abs(reference(model, ids) - exact).max(), 1e-4 * np.abs(exact).max())
        assert np.abs(logits - exact).max() <= allowed


@pytest.mark.parametrize(("family", "seed"), CASES)
def test_greedy_texts_and_beams_are_those_of_transformers(family, seed, counts):
    """In a ragged batch, from prompts that may be longer than a window.

    Where texts differ, the two tokens' logits lie closer together than float32 can tell.
    """
    model = random_model(family, seed)
    double = copy.deepcopy(model).double()
    ours = Decoder(model, word_tokenizer(VOCABULARY), engine="native")
    exact = Decoder(double, word_tokenizer(VOCABULARY), engine="transformers")
    prompts = texts(seed, most=CONTEXT - NEW)
    greedy = [d.generate(prompts, max_new_tokens=NEW, eos_token_id=None) for d in (ours, exact)]
    for prompt, found, expected in zip(prompts, *greedy, strict=True):
        pairs = zip(found.token_ids, expected.token_ids, strict=True)
        apart = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
        counts[f"{family}: greedy texts"] += 1
        if apart is not None:
            counts[f"{family}: greedy texts that part at a tie"] += 1
            logits = reference(double, prompt + list(expected.token_ids)[:apart])[-1]
            margin = logits[expected.token_ids[apart]] - logits[found.token_ids[apart]]
            assert margin <= 2e-4 * np.abs(logits).max()
    options = {"num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 6, "eos_token_id": None}
    beams = [d.generate(prompts, **options) for d in (ours, exact)]
    for found, expected in zip(*beams, strict=True):
        counts[f"{family}: beams"] += 1
        assert found.token_ids == expected.token_ids


@pytest.mark.parametrize(("family", "seed"), ODD)
def test_odd_configurations_are_computed_or_refused(family, seed, counts, tmp_path):
    """As files have them; never computed as something else than transformers computes."""
    raw, odd = odd_configuration(family, seed)
    if write_model(tmp_path, raw, seed) is not None:
        counts[f"{family}: odd configurations that transformers refuses"] += 1
        return
    (ids,) = texts(seed, count=2)[1:]
    try:
        engine = NativeEngine.from_folder(tmp_path)
    except ValueError as error:
        counts[f"{family}: odd configurations that are refused"] += 1
        reason = str(error)
    else:
        reason = ""
    if reason:
        assert str(tmp_path) in reason
        return
    (logits,) = engine.all_logits([ids])
    model = AutoModelForCausalLM.from_pretrained(tmp_path).float().eval()
    exact = reference(copy.deepcopy(model).double(), ids)
    allowed = max(np.abs(reference(model, ids) - exact).max(), 1e-4 * np.abs(exact).max())
    assert np.abs(logits - exact).max() <= allowed, odd
    counts[f"{family}: odd configurations that are computed"] += 1


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "gpt_neox"])
@pytest.mark.parametrize("same", [True, False])
def test_a_head_beside_tied_embeddings(family, same, tmp_path):
    """It counts where it is another matrix, as in transformers."""
    model = random_model(family, 3, tie_word_embeddings=False)
    if same:
        head, tokens = model.get_output_embeddings(), model.get_input_embeddings()
        head.weight.data.copy_(tokens.weight.data)
    model.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    text = config.read_text()
    assert '"tie_word_embeddings": false' in text
    config.write_text(text.replace('"tie_word_embeddings": false', '"tie_word_embeddings": true'))
    ids = texts(3)[1]
    (logits,) = NativeEngine.from_folder(tmp_path).all_logits([ids])
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).double().eval()
    exact = reference(loaded, ids)
    assert np.abs(logits - exact).max() <= 1e-4 * np.abs(exact).max()


def test_a_folder_with_an_adapter_is_refused(tmp_path):
    random_model("llama", 0).save_pretrained(tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(ValueError, match=r"adapter_config\.json: the native engine does not apply"):
        NativeEngine.from_folder(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_files_in_several_parts_give_the_bits_of_the_model_in_memory(family, tmp_path):
    """Stored in float32 and in bfloat16, without transformers' forward pass."""
    ids = texts(7)[1]
    for dtype in (torch.float32, torch.bfloat16):
        model = random_model(family, 7).to(dtype)
        folder = tmp_path / str(dtype)
        model.save_pretrained(folder, max_shard_size="1KB")
        word_tokenizer(VOCABULARY).save_pretrained(folder)
        assert len(list(folder.glob("*.safetensors"))) > 1
        (expected,) = open_engine(model, "native", "float32").all_logits([ids])
        decoder = Decoder.from_pretrained(str(folder), engine="native")
        assert type(decoder.engine) is NativeEngine
        (found,) = decoder.engine.all_logits([ids])
        assert np.array_equal(found, expected)
        assert decoder.generate([ids[:9]], max_new_tokens=4)[0].token_ids


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        (
            "llama",
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}},
            "rope_type=dynamic",
        ),
        ("llama", {"hidden_act": "tanh"}, "hidden_act=tanh"),
        ("gemma3_text", {"final_logit_softcapping": 30.0}, "final_logit_softcapping=30"),
        ("opt", {"do_layer_norm_before": False}, "do_layer_norm_before=false"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention=true"),
        ("llama", {"sliding_window": 5}, "sliding_window=5"),
        ("qwen2", {"attention_chunk_size": 8}, "attention_chunk_size=8"),
    ],
)
def test_what_it_does_not_compute_is_refused_by_name(family, settings, message, tmp_path):
    """With engine="native"; with engine="auto" transformers runs it."""
    model = random_model(family, 0, **settings)
    with pytest.raises(ValueError, match=message):
        open_engine(model, "native")
    assert not isinstance(open_engine(model), NativeEngine)
    model.save_pretrained(tmp_path)
    word_tokenizer(VOCABULARY).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        Decoder.from_pretrained(str(tmp_path), engine="native")
    assert Decoder.from_pretrained(str(tmp_path)).model is not None


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("gpt2", "gpt2"),
        ("gpt_neox", "gpt_neox"),
        ("llama", "llama"),
        ("llama", "llama3"),
        ("llama", "smollm"),
        ("mistral", "mistral"),
        ("qwen2", "qwen2"),
        ("qwen3", "qwen2"),
        ("smollm3", "llama3"),
        ("gemma3_text", "gemma"),
    ],
)
def test_a_command_needs_neither_torch_nor_transformers(family, kind, tmp_path):
    write_tokenizer(tmp_path, kind, 0)
    random_model(family, 0, vocab_size=720).save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").unlink(missing_ok=True)
    arguments = ["generate", "the best", "--model", str(tmp_path), "--max-new-tokens", "4"]
    script = (
        f"import runpy, sys; sys.argv = ['fastdecode', *{arguments!r}]\n"
        "try: runpy.run_module('fastdecode', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(*[name for name in ('torch', 'transformers') if name in sys.modules], 'none')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "none"
