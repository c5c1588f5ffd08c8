"""Fingerprints: the same for the same contents, whatever their names; others for other contents."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil

import fastdecode
import numpy as np
import pytest
import torch
from conftest import make_model
from fastdecode import Decoder, fingerprint
from fastdecode.models.identity.fingerprint import same
from fastdecode.models.identity.source import Source, differences, same_model, unknown
from folders import copy_of_demo, other_weights
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch


def digest(part):
    return part.rpartition(":")[2]


@pytest.fixture(scope="module")
def demo():
    return fingerprint("demo")


def test_parts_say_how_they_were_made(demo):
    assert demo.weights.startswith("quick/1:files:")
    assert demo.config.startswith("exact/1:files:")
    assert demo.tokenizer.startswith("exact/1:files:")
    assert fingerprint("demo", exact=True).weights.startswith("exact/1:files:")
    assert all(len(digest(part)) == 32 for part in (demo.weights, demo.config, demo.tokenizer))


def test_the_fingerprint_of_the_demo_model(demo):
    """It is in files: another value for the same model would stop every job and doubt every run."""
    assert demo == fastdecode.Fingerprint(
        weights="quick/1:files:c72578188ec92de029976e3342f32b77",
        config="exact/1:files:83f9deba971e934aa59043aec9e09a26",
        tokenizer="exact/1:files:363b7a49813917fe83e0e6356ff28ce9",
    )


@pytest.mark.parametrize("exact", [False, True])
def test_the_same_model_by_any_way_to_it(tmp_path, exact):
    folder = copy_of_demo(tmp_path / "elsewhere")
    expected = fingerprint("demo", exact=exact)
    assert fingerprint(folder, exact=exact) == fingerprint(str(folder), exact=exact) == expected
    for engine in ("native", "transformers"):
        decoder = Decoder.from_pretrained("demo", engine=engine)
        assert decoder.fingerprint(exact=exact) == expected
        assert fingerprint(decoder, exact=exact) == expected
    for dtype in ("int8", "bfloat16"):
        decoder = Decoder.from_pretrained(str(folder), dtype=dtype)
        assert decoder.fingerprint(exact=exact) == expected
    loaded = Decoder.from_pretrained("demo", engine="transformers")
    found = fingerprint(loaded.model, loaded.tokenizer, exact=exact)
    assert same(expected.weights, found.weights)
    assert found == Decoder(loaded.model, loaded.tokenizer).fingerprint(exact=exact)
    assert same(expected.config, found.config) is None


def stored(path, tensors, **notes):
    path.mkdir(exist_ok=True)
    save_torch(tensors, path / "model.safetensors", metadata=notes)
    return fingerprint(path).weights, fingerprint(path, exact=True).weights


def test_number_formats_division_and_notes_do_not_matter(tmp_path):
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.standard_normal((50, 700))).to(torch.bfloat16)
    ids = torch.arange(9000)
    expected = stored(tmp_path, {"a": values, "b": ids})
    assert stored(tmp_path, {"b": ids, "a": values}, format="pt", by="somebody") == expected
    for dtype in (torch.float32, torch.float64):
        assert stored(tmp_path, {"a": values.to(dtype), "b": ids}) == expected
    for dtype in (torch.float16, torch.float32):
        exactly = {"a": values.half().to(dtype), "b": ids}
        assert stored(tmp_path, exactly) == stored(tmp_path, {**exactly, "a": values.half()})
    (tmp_path / "model.safetensors").unlink()
    for name, tensor in (("a", values), ("b", ids)):
        save_torch({name: tensor}, tmp_path / f"{name}.safetensors")
    index = {"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert (fingerprint(tmp_path).weights, fingerprint(tmp_path, exact=True).weights) == expected


def test_names_shapes_values_and_kinds_matter(tmp_path):
    x = torch.arange(6.0).reshape(2, 3) + 0.5
    different = [
        {"a": x},
        {"b": x},
        {"a": x.T.contiguous()},
        {"a": x.reshape(6)},
        {"a": x + 1e-6},
        {"a": x.double() + 1e-12},
        {"a": -x},
        {"a": x, "b": x.clone()},
        {"a": x, "b": torch.zeros(0)},
        {"a": x.long()},
        {"a": x.int()},
        {"a": x.bool()},
        {"a": torch.zeros(2, 3)},
        {"a": -torch.zeros(2, 3)},
    ]
    for place in (0, 1):
        found = [stored(tmp_path, tensors)[place] for tensors in different]
        assert len(set(found)) == len(different)


def test_the_quick_one_reads_a_sample_and_the_exact_one_everything(tmp_path):
    values = torch.linspace(0, 1, 100_000)
    before = stored(tmp_path, {"a": values})
    values[5000] += 1
    chosen = stored(tmp_path, {"a": values})
    assert chosen[0] == before[0]
    assert chosen[1] != before[1]
    trained = stored(tmp_path, {"a": values + 1e-3 * torch.randn(100_000)})
    assert trained[0] != before[0]
    for place in (0, -1):
        ends = values.clone()
        ends[place] += 1
        assert stored(tmp_path, {"a": ends})[0] != chosen[0]


def test_a_change_is_one_of_its_part(tmp_path, demo):
    def differing():
        found = fingerprint(folder)
        return [
            part
            for part in ("weights", "config", "tokenizer")
            if same(getattr(demo, part), getattr(found, part)) is False
        ]

    folder = copy_of_demo(tmp_path / "model", 1)
    assert differing() == ["weights"]
    copy_of_demo(folder)
    config = json.loads((folder / "config.json").read_text())
    config["layer_norm_epsilon"] = 1e-3
    (folder / "config.json").write_text(json.dumps(config))
    assert differing() == ["config"]
    copy_of_demo(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"transformers_version": "99", "_name_or_path": "/somewhere"}
    (folder / "config.json").write_text(json.dumps(dict(reversed(config.items())), indent=8))
    assert differing() == []
    for name in ("tokenizer.json", "tokenizer_config.json"):
        copy_of_demo(folder)
        data = json.loads((folder / name).read_text("utf-8"))
        data["more"] = 1
        (folder / name).write_text(json.dumps(data), "utf-8")
        assert differing() == ["tokenizer"]
    copy_of_demo(folder)
    (folder / "added_tokens.json").write_text('{"<new>": 5000}')
    assert differing() == ["tokenizer"]


def test_weights_that_are_not_in_safetensors(tmp_path):
    folder = copy_of_demo(tmp_path / "model")
    arrays = load_file(folder / "model.safetensors")
    tensors = {name: torch.from_numpy(x) for name, x in arrays.items()}
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    before = fingerprint(folder)
    assert before.weights.startswith("quick/1:bytes:")
    assert same(fingerprint("demo").weights, before.weights) is None
    name = next(iter(tensors))
    tensors[name] = tensors[name] + 1
    torch.save(tensors, folder / "pytorch_model.bin")
    assert same(before.weights, fingerprint(folder).weights) is False


def test_large_files_of_other_kinds(tmp_path):
    path = tmp_path / "model.gguf"
    whole = bytearray(np.random.default_rng(0).bytes(6 << 20))
    path.write_bytes(whole)
    before = fingerprint(path), fingerprint(path, exact=True)
    assert before[0].tokenizer is None
    whole[2_000_000] ^= 1
    path.write_bytes(whole)
    assert fingerprint(path, exact=True) != before[1]
    for place in (5, -5):
        whole[place] ^= 1
        path.write_bytes(whole)
        assert fingerprint(path) not in before
    path.write_bytes(bytes(whole) + b"x")
    assert fingerprint(path) not in before


def test_objects(tokenizer):
    model = make_model("gpt2")
    before = fingerprint(model, tokenizer)
    assert before == fingerprint(make_model("gpt2"), tokenizer)
    assert before.weights.startswith("quick/1:object:")
    assert fingerprint(model).tokenizer is None
    assert fingerprint(make_model("gpt2", seed=1), tokenizer).weights != before.weights
    assert fingerprint(torch.compile(model), tokenizer).weights == before.weights
    other = fingerprint(make_model("llama"), tokenizer)
    assert other.config != before.config
    assert other.tokenizer == before.tokenizer
    tokenizer(["a", "b c d"], padding=False, truncation=True, max_length=1)
    assert fingerprint(model, tokenizer) == before
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        assert fingerprint(make_model("gpt2", dtype)).weights.startswith("quick/1:object:")
    with torch.no_grad():
        model.transformer.ln_f.bias.add_(1)
    assert fingerprint(model, tokenizer).weights != before.weights


def test_parameters_that_are_not_in_memory(tokenizer):
    with pytest.raises(ValueError, match=r"'transformer\.wte\.weight' is not in memory"):
        fingerprint(make_model("gpt2").to("meta"), tokenizer)


def test_bad_arguments(tmp_path, decoder, tokenizer):
    for damage in (b"", b"\xff" * 64, (1 << 20).to_bytes(8, "little") + b"{"):
        (tmp_path / "model.safetensors").write_bytes(damage)
        with pytest.raises(ValueError, match=r"model\.safetensors: the header is damaged"):
            fingerprint(tmp_path)
    save_file({"a": np.arange(9.0)}, tmp_path / "model.safetensors")
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:-8])
    with pytest.raises(ValueError, match=r"header is damaged: the tensor 'a' is outside the file"):
        fingerprint(tmp_path)
    with pytest.raises(ValueError, match="there is no such folder"):
        fingerprint("./nowhere")
    with pytest.raises(TypeError, match=r"tokenizer= goes with a transformers model"):
        fingerprint("demo", tokenizer)
    with pytest.raises(TypeError, match="model must be a hub name"):
        fingerprint(5)
    assert fingerprint(Decoder(decoder.engine, tokenizer)).weights is None


def test_an_index_that_lists_what_is_not_a_file(tmp_path):
    index, shard = tmp_path / "model.safetensors.index.json", tmp_path / "model-1.safetensors"
    index.write_text(json.dumps({"weight_map": {"a": shard.name}}))
    with pytest.raises(FileNotFoundError) as caught:
        fingerprint(tmp_path)
    assert caught.value.filename == str(shard)
    assert f"{index} lists it" in str(caught.value)
    shard.mkdir()
    message = rf"{re.escape(str(index))}: weight_map names \"{shard.name}\", which is a folder"
    with pytest.raises(ValueError, match=message):
        fingerprint(tmp_path)
    shard.rmdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(shard)
        with pytest.raises(ValueError, match="which is a pipe or a device"):
            fingerprint(tmp_path)
        shard.unlink()
    save_file({"a": np.arange(9.0)}, shard)
    assert fingerprint(tmp_path).weights is not None
    index.write_text(json.dumps({"weight_map": {"a": "model\0.safetensors"}}))
    with pytest.raises(ValueError, match=r'weight_map\["a"\] must be the name of a file'):
        fingerprint(tmp_path)


def test_files_that_change_after_the_model_was_loaded(tmp_path):
    folder = copy_of_demo(tmp_path / "model")
    native = Decoder.from_pretrained(str(folder), engine="native")
    known = Decoder.from_pretrained(str(folder), engine="native")
    before = known.fingerprint()
    held = Decoder.from_pretrained(str(folder), engine="transformers")
    assert native.is_current()
    run = native.generate("Once", max_new_tokens=2, seed=1)
    other_weights(folder, 1)
    assert not native.is_current()
    # Those of the folder are not those that run, and must not be recorded.
    with pytest.raises(ValueError, match="have changed since the model was loaded; load it again"):
        native.fingerprint()
    assert "have changed since" in run.identity["note"]
    run.save(tmp_path / "run.json")
    with pytest.raises(ValueError, match="have changed since"):
        run.save(tmp_path / "run.json", exact=True)
    assert known.fingerprint() == before
    assert same(before.weights, held.fingerprint().weights)


def test_parameters_that_change_after_a_run(tokenizer):
    model = make_model("gpt2", torch.float32)
    decoder = Decoder(model, tokenizer)
    first = decoder.generate("Once", max_new_tokens=2, seed=1)
    noted = Decoder(model, tokenizer).generate("Once", max_new_tokens=2, seed=1)
    assert first.identity["weights"] == fingerprint(model).weights
    with torch.no_grad():
        model.transformer.ln_f.bias.add_(1)
    assert "have changed since" in noted.identity["note"]
    second = decoder.generate("Once", max_new_tokens=2, seed=1)
    assert second.identity["weights"] == fingerprint(model).weights != first.identity["weights"]
    loaded = Decoder.from_pretrained("demo", engine="transformers")
    with torch.no_grad():
        loaded.model.transformer.ln_f.bias.add_(1)
    run = loaded.generate("Once", max_new_tokens=2, seed=1)
    assert same(run.identity["weights"], fingerprint("demo").weights) is not True


def test_nothing_is_computed_unless_somebody_asks(monkeypatch):
    from fastdecode.models.identity import source

    def asked(*_, **__):
        pytest.fail("a fingerprint was computed")

    monkeypatch.setattr(source, "of_files", asked)
    decoder = Decoder.from_pretrained("demo")
    decoder.generate("Once", max_new_tokens=2, seed=1)
    list(decoder.stream("Once", max_new_tokens=2))


def test_results_do_not_keep_the_model_in_memory(tokenizer):
    import gc
    import weakref

    model = make_model("gpt2")
    reference = weakref.ref(model)
    run = Decoder(model, tokenizer).generate("Once", max_new_tokens=2, seed=1)
    del model
    gc.collect()
    assert reference() is None
    assert run.identity["weights"] is None


def test_pickled_runs_have_their_identity():
    run = fastdecode.generate("Once", model="demo", max_new_tokens=2, seed=1)
    again = pickle.loads(pickle.dumps(run))
    assert again.identity == run.identity
    assert again.identity["weights"] == fingerprint("demo").weights


@pytest.mark.parametrize(
    ("engine", "dtype", "definition"),
    [
        ("native", "float32", "float32/1"),
        ("native", "bfloat16", "bfloat16/2"),
        ("native", "bfloat16_weights", "bfloat16/1"),
        ("native", "int8", "int8/1"),
        ("native", "int4", "int4/1"),
        ("torch", "float64", "float64/1"),
        ("transformers", "bfloat16", "bfloat16/1"),
    ],
)
def test_the_definition_of_the_number_format(engine, dtype, definition):
    decoder = Decoder.from_pretrained("demo", engine=engine, dtype=dtype)
    assert decoder.identity()["definition"] == definition
    run = decoder.generate("Once", max_new_tokens=2, seed=1)
    assert run.identity == decoder.identity()


def test_comparing_identities():
    one = {"weights": "quick/1:files:a", "config": "x:b", "tokenizer": "y:c"}
    one["definition"] = "int8/1"
    assert not differences(one, one)
    assert not unknown(one, one)
    assert same_model(one, one)
    other = one | {"weights": "quick/1:files:d", "definition": "int8/2"}
    assert list(differences(one, other)) == ["weights", "definition"]
    assert not same_model(one, other)
    strange = one | {"weights": "exact/1:files:a", "tokenizer": None}
    assert not differences(one, strange)
    assert unknown(one, strange) == ["weights", "tokenizer"]
    assert same("quick/1:files:a", "quick/1:object:a")
    assert same("quick/1:files:a", "quick/1:object:b") is None
    assert same("quick/1:files:a", "quick/2:files:a") is None
    assert Source("demo").identity(None)["weights"] == fingerprint("demo").weights


def test_a_cached_model_of_the_hub(tmp_path, monkeypatch):
    """Another revision that another process fetches is another model."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    root = tmp_path / "models--someone--model"
    (root / "refs").mkdir(parents=True)
    for commit, seed in (("a" * 40, None), ("b" * 40, 1)):
        copy_of_demo(root / "snapshots" / commit, seed)
        (root / "refs" / "main").write_text(commit)
        found = fastdecode.generate("Once", model="someone/model", max_new_tokens=8, seed=1)
        folder = str(root / "snapshots" / commit)
        assert found == Decoder.from_pretrained(folder).generate("Once", max_new_tokens=8, seed=1)
        assert found.identity["weights"] == fingerprint(folder).weights
        assert found.call["model"] == "someone/model"
    shutil.rmtree(root)
