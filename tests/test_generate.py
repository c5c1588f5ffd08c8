"""generate(): the same tokens whatever the batch, as transformers' greedy, and how it ends."""

import json

import fastdecode
import numpy as np
import pytest
import torch
from conftest import make_model, ragged
from fastdecode import Decoder, Greedy, Sample


def transformers_greedy(decoder, prompts, count):
    """transformers' own greedy tokens, up to the first EOS, for each prompt."""
    found = []
    for first in range(0, len(prompts), 50):
        ids = decoder.encode(prompts[first : first + 50])
        width = max(map(len, ids))
        output = decoder.model.generate(
            torch.tensor([[0] * (width - len(row)) + row for row in ids]),
            attention_mask=torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids]),
            do_sample=False,
            max_new_tokens=count,
            pad_token_id=0,
        )
        for row in output[:, width:].tolist():
            found.append(row[: row.index(0) + 1] if 0 in row else row)
    return found


def by_key(generations):
    return {(g.stream, g.sample): g.token_ids for g in generations}


def check_batch_independence(decoder, prompts):
    keywords = {"seed": 7, "n": 4, "temperature": 0.9, "top_p": 0.95, "max_new_tokens": 12}
    together = by_key(decoder.generate(prompts, **keywords))
    assert len(together) == 4 * len(prompts)
    streams = list(range(len(prompts)))
    alone = {}
    for stream, prompt in enumerate(prompts):
        alone |= by_key(decoder.generate(prompt, streams=[stream], **keywords))
    assert alone == together
    backwards = decoder.generate(prompts[::-1], streams=streams[::-1], **keywords)
    assert by_key(backwards) == together
    for size in (1, 2, 5):
        assert by_key(decoder.generate(prompts, batch_size=size, **keywords)) == together
    # Samples of one prompt and prompts of one text differ.
    assert len({tuple(ids) for ids in together.values()}) > len(prompts)


def test_batch_independence(decoder):
    check_batch_independence(decoder, ragged(7))


def test_batch_independence_transformers_engine(tokenizer):
    check_batch_independence(
        Decoder(make_model("gpt2"), tokenizer, engine="transformers"), ragged(5)
    )


def test_batch_independence_demo(demo64):
    check_batch_independence(demo64, ragged(6))


@pytest.mark.parametrize("kind", ["llama", "qwen", "mistral"])
def test_other_architectures(kind, tokenizer):
    decoder = Decoder(make_model(kind), tokenizer)
    check_batch_independence(decoder, ragged(4))
    found = decoder.generate(ragged(12), max_new_tokens=8)
    assert [g.token_ids for g in found] == transformers_greedy(decoder, ragged(12), 8)


@pytest.mark.parametrize("engine", ["torch", "transformers"])
def test_greedy_equals_transformers(engine, tokenizer):
    decoder = Decoder(make_model("gpt2"), tokenizer, engine=engine)
    prompts = ragged(200)
    found = decoder.generate(prompts, max_new_tokens=10)
    assert [g.token_ids for g in found] == transformers_greedy(decoder, prompts, 10)


def test_greedy_equals_transformers_demo(demo64):
    prompts = ragged(200, longest=20, seed=1)
    found = demo64.generate(prompts, max_new_tokens=10)
    assert [g.token_ids for g in found] == transformers_greedy(demo64, prompts, 10)


def test_both_engines_agree(tokenizer):
    model = make_model("gpt2", torch.float32)
    lean, plain = (Decoder(model, tokenizer, engine=e) for e in ("torch", "transformers"))
    assert type(lean.engine).__name__ == "GPT2Engine"
    assert type(plain.engine).__name__ == "TorchEngine"
    ids = lean.encode(ragged(9))
    rows, logits = lean.engine.start(ids, [2, 1, 1, 3, 1, 1, 1, 1, 1])
    others, expected = plain.engine.start(ids, [2, 1, 1, 3, 1, 1, 1, 1, 1])
    for step in range(6):
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
        if step == 3:
            kept = np.array([0, 3, 4, 8])
            rows.keep(kept)
            others.keep(kept)
            logits = logits[kept]
        tokens = logits.argmax(-1).numpy()
        logits, expected = rows.step(tokens), others.step(tokens)


@pytest.mark.parametrize("engine", ["torch", "transformers"])
def test_each_prompt_is_prefilled_once(engine, tokenizer, monkeypatch):
    decoder = Decoder(make_model("gpt2"), tokenizer, engine=engine)
    prefill, seen = decoder.engine.prefill, []

    def watched(prompts):
        seen.extend(map(tuple, prompts))
        return prefill(prompts)

    monkeypatch.setattr(decoder.engine, "prefill", watched)
    prompts = ["Once", "It was", "wood"]
    assert len(decoder.generate(prompts, n=5, do_sample=True)) == 15
    assert sorted(seen) == sorted(map(tuple, decoder.encode(prompts)))


def test_prefill_in_chunks(decoder, monkeypatch):
    """A bound on the prefill's memory changes nothing."""
    prompts = ragged(9)
    whole = decoder.generate(prompts, seed=1, do_sample=True, n=2)
    import fastdecode.models.engines.transformers.engine as module

    monkeypatch.setattr(module, "PREFILL_TOKENS", 20)
    assert decoder.generate(prompts, seed=1, do_sample=True, n=2) == whole


def test_weights_that_change_are_seen(tokenizer):
    model = make_model("gpt2")
    decoder = Decoder(model, tokenizer)
    before = decoder.generate(ragged(3), seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    after = decoder.generate(ragged(3), seed=0)
    assert before != after
    assert after == Decoder(model, tokenizer).generate(ragged(3), seed=0)


def test_continuing_a_run_gives_the_same_draws(decoder):
    """A token's randomness hangs on its position, so a run can go on from its own tokens."""
    whole = decoder.generate("Once upon", seed=3, do_sample=True, max_new_tokens=6, eos_token_id=[])
    ids = decoder.encode(["Once upon"])[0]
    _, logits = decoder.engine.start([ids + whole[0].token_ids[:3]], [1])
    draws = fastdecode.core.sample(
        logits, Sample(), seed=3, streams=[0], samples=[0], positions=[len(ids) + 3]
    )
    assert draws.tokens[0] == whole[0].token_ids[3]


def test_keywords_and_strategies_agree(decoder):
    def run(**keywords):
        return decoder.generate(ragged(3), seed=5, **keywords)

    assert run() == run(strategy=Greedy()) == run(do_sample=False) == run(num_beams=1)
    assert run() == run(temperature=0.0)
    assert run(do_sample=True) == run(strategy=Sample()) == run(do_sample=True, top_k=0)
    assert run(temperature=0.7, top_k=9) == run(strategy=Sample(temperature=0.7, top_k=9))
    assert run(do_sample=True) != run(do_sample=True, top_k=5)
    assert run(do_sample=True, num_return_sequences=2) == run(do_sample=True, n=2)
    assert run(n=2) == run(num_return_sequences=2) == run(do_sample=True, n=2)
    with pytest.warns(UserWarning, match="do_sample=False decodes greedily, without temperature"):
        assert run(do_sample=False, temperature=0.3) == run()


def test_how_it_ends(decoder):
    prompt = "Once upon"
    length = len(decoder.encode([prompt])[0])
    first = decoder.generate(prompt, max_new_tokens=5, eos_token_id=[])[0]
    assert (first.finish_reason, len(first.token_ids)) == ("length", 5)
    full = decoder.generate(prompt, max_new_tokens=500, eos_token_id=[])[0]
    assert (full.finish_reason, len(full.token_ids)) == ("context", 64 - length)
    ended = decoder.generate(prompt, eos_token_id=first.token_ids[2])[0]
    assert ended.finish_reason == "eos"
    assert ended.token_ids == first.token_ids[: first.token_ids.index(first.token_ids[2]) + 1]
    assert len(decoder.generate(prompt, max_length=length + 3, eos_token_id=[])[0].token_ids) == 3


def test_empty_prompts(decoder):
    assert list(decoder.generate([])) == []
    empty, full = decoder.generate(["", "Once upon a time"], max_new_tokens=4)
    assert empty.prompt == ""
    assert decoder.engine.start([[0]], [1])[1].argmax().item() == empty.token_ids[0]
    alone = decoder.generate("Once upon a time", max_new_tokens=4)[0]
    assert full.token_ids == alone.token_ids


def test_logprobs(decoder):
    prompts = ragged(3)
    for found in decoder.generate(prompts, logprobs=3, max_new_tokens=4, seed=1, do_sample=True):
        ids = decoder.encode([found.prompt])[0]
        with torch.no_grad():
            logits = decoder.model(torch.tensor([ids + found.token_ids])).logits[0]
        rows = torch.log_softmax(logits[len(ids) - 1 : -1], -1)
        expected = rows.gather(1, torch.tensor(found.token_ids)[:, None])[:, 0]
        np.testing.assert_allclose(found.logprobs, expected, atol=1e-5)
        for best, row in zip(found.alternatives, rows, strict=True):
            values, ids3 = row.topk(3)
            assert [i for i, _ in best] == ids3.tolist()
            np.testing.assert_allclose([v for _, v in best], values, atol=1e-5)
    assert decoder.generate(prompts)[0].logprobs is None
    assert decoder.generate(prompts, logprobs=0)[0].alternatives is None


def test_fresh_seed_is_reported(decoder):
    first = decoder.generate("Once", do_sample=True)
    assert 0 <= first.seed < 2**64
    assert first[0].seed == first.seed
    assert decoder.generate("Once", do_sample=True, seed=first.seed) == first
    assert decoder.generate("Once", do_sample=True).seed != first.seed


def test_save_load_replay(decoder, tmp_path):
    path = tmp_path / "run.json"
    first = decoder.generate(ragged(3), n=2, temperature=0.8, top_k=40, logprobs=2, stop="zz")
    first.save(path)
    assert fastdecode.Generations.load(path) == first
    assert fastdecode.replay(path, model=decoder) == first
    with pytest.raises(ValueError, match=r"made with a model object; give it as model="):
        fastdecode.replay(path)
    data = json.loads(path.read_text(encoding="utf-8"))
    data["call"]["rng"] = "v0"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ValueError, match=r"was drawn with rng='v0', and this version has 'v\d'"):
        fastdecode.replay(path, model=decoder)
    path.write_text(json.dumps({"format": "other"}))
    with pytest.raises(ValueError, match=r"was not written by Generations\.save"):
        fastdecode.replay(path)


def test_generations_are_a_sequence(decoder):
    found = decoder.generate(["Once", "It was"], n=2, seed=1, do_sample=True)
    assert [(g.stream, g.sample) for g in found] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert found.texts == [g.text for g in found]
    assert len(found[1:3]) == 2
    assert "Generations(4" in repr(found)
    stats = found.stats
    assert stats.tokens == sum(len(g.token_ids) for g in found)
    assert stats.forward + stats.core + stats.python == pytest.approx(1.0, abs=1e-6)


def test_pandas(decoder):
    pytest.importorskip("pandas")
    frame = decoder.generate(["Once", "It"]).to_pandas()
    assert list(frame["prompt"]) == ["Once", "It"]


def test_model_argument(decoder, tokenizer):
    expected = decoder.generate("Once")
    assert fastdecode.generate("Once", model=decoder, seed=expected.seed) == expected
    model = decoder.model
    found = fastdecode.generate("Once", model=model, tokenizer=tokenizer, seed=expected.seed)
    assert found == expected


def test_interrupt_keeps_what_there_is(tokenizer, monkeypatch):
    decoder = Decoder(make_model("gpt2"), tokenizer)
    prompts = ragged(6)
    whole = decoder.generate(prompts, seed=1, max_new_tokens=6, batch_size=2, eos_token_id=[])
    step = type(decoder.engine).step
    calls = 0

    def hooked(self, rows, ids):
        nonlocal calls
        calls += 1
        if calls == 8:  # the third step of the second batch
            raise KeyboardInterrupt
        return step(self, rows, ids)

    monkeypatch.setattr(type(decoder.engine), "step", hooked)
    with pytest.raises(fastdecode.Interrupted) as caught:
        decoder.generate(prompts, seed=1, max_new_tokens=6, batch_size=2, eos_token_id=[])
    assert calls == 8
    found = caught.value.generations
    reasons = [g.finish_reason for g in found]
    assert sorted(reasons) == ["interrupted", "interrupted", "length", "length"]
    expected = {g.stream: g for g in whole}
    for generation in found:
        length = 6 if generation.finish_reason == "length" else 3
        assert generation.token_ids == expected[generation.stream].token_ids[:length]
    assert isinstance(caught.value, KeyboardInterrupt)


def test_many_prompts_in_bounded_memory(decoder):
    """The most rows that are open at a time do not grow with the number of prompts."""
    most = 0
    start = type(decoder.engine).start

    def watched(prompts, repeats):
        nonlocal most
        most = max(most, sum(repeats))
        return start(decoder.engine, prompts, repeats)

    prompts = ragged(2000, longest=3)
    decoder.engine.start = watched
    try:
        found = decoder.generate(prompts, max_new_tokens=3, progress=True)
    finally:
        del decoder.engine.start
    assert most == 32
    assert [g.prompt for g in found] == prompts
    assert found[1234].token_ids == decoder.generate(prompts[1234], max_new_tokens=3)[0].token_ids
