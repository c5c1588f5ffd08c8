"""trace=True: the steps tell what was drawn, from what, and why; nothing else changes."""

import math
import re

import fastdecode
import numpy as np
import pytest
from conftest import ragged
from fastdecode import Decoder, Generations, core

KEYWORDS = [
    {},
    {"temperature": 0.8},
    {"top_p": 0.7, "n": 2},
    {"top_k": 3, "repetition_penalty": 1.5},
    {"repetition_penalty": 1.5},
    {"xtc": (0.05, 0.5)},
    {"mirostat": (3.0, 0.1)},
    {"top_p": 0.9, "stop": ["e"]},
]


@pytest.mark.parametrize("keywords", KEYWORDS)
def test_a_trace_changes_nothing(decoder, keywords):
    plain = decoder.generate(ragged(4), seed=3, logprobs=0, **keywords)
    traced = decoder.generate(ragged(4), seed=3, trace=True, **keywords)
    for one, other in zip(plain, traced, strict=True):
        assert one.token_ids == other.token_ids
        assert one.text == other.text
        assert one.logprobs == other.logprobs
        assert one.finish_reason == other.finish_reason
        assert one.steps is None
        assert [s.token_id for s in other.steps] == other.token_ids
        assert [s.logprob for s in other.steps] == other.logprobs
        assert "".join(s.text for s in other.steps) == other.text
        assert [s.finish_reason for s in other.steps[:-1]] == [None] * (len(other.steps) - 1)
        assert other.steps[-1].finish_reason == other.finish_reason


@pytest.mark.parametrize("keywords", KEYWORDS)
def test_the_numbers_are_next_tokens(decoder, keywords):
    """Each step is what next_token says behind the text so far."""
    generation = decoder.generate(ragged(1), seed=3, trace=True, eos_token_id=[], **keywords)[0]
    ids = decoder.encode([generation.prompt])[0]
    sampling = set(keywords) - {"n", "stop", "repetition_penalty"}
    for step in generation.steps:
        trace = step.trace
        _, logits = decoder.engine.start([ids], [1])
        row = core.log_softmax(logits)[0]
        assert trace.logprob == pytest.approx(row[step.token_id], abs=1e-6)
        assert trace.rank == 1 + (row > row[step.token_id]).sum()
        assert trace.vocabulary == 300
        assert trace.entropy == pytest.approx(-(np.exp(row) * row).sum(), abs=1e-5)
        likeliest = np.argsort(-row, kind="stable")[:10].tolist()
        named = [c.token_id for c in trace.candidates]
        assert named[:10] == likeliest
        assert step.token_id in named
        if sampling:
            assert 0 <= trace.ticket < trace.total
            assert 0 < trace.after <= 1
        else:
            assert trace.ticket is None
            assert trace.after == 1
        if set(keywords) == {"temperature"}:
            law = core.distribution(logits, core.Sample(**keywords))[0]
            assert trace.after == pytest.approx(law[step.token_id])
            for chance in trace.candidates:
                assert chance.after == pytest.approx(law[chance.token_id])
        ids = [*ids, step.token_id]


def test_sentences(decoder):
    greedy = decoder.generate("Once", trace=True, max_new_tokens=3)[0]
    for step, line in zip(greedy.steps, greedy.explain().splitlines(), strict=True):
        assert line == step.explain()
        assert line.endswith(f"p = {math.exp(step.logprob):.2g}; the likeliest of 300")
    drawn = decoder.generate("Once", trace=True, max_new_tokens=9, top_p=0.6, seed=1)[0]
    for step in drawn.steps:
        t = step.trace
        rank = "" if t.rank == 1 else f", rank {t.rank}"
        digits = f".{1000 * t.ticket // t.total:03d}"
        assert step.explain().endswith(
            f", p = {math.exp(t.logprob):.2g}{rank}; top_p = 0.6 kept {t.kept} of 300; "
            f"ticket {digits}"
        )
    warm = decoder.generate("Once", trace=True, max_new_tokens=1, temperature=2.0, seed=1)[0]
    assert re.search(
        r"; temperature = 2, all 300 tokens kept, where its p = \S+; ticket \.\d{3}$",
        warm.explain(),
    )
    plain = decoder.generate("Once", trace=True, max_new_tokens=1, do_sample=True, seed=1)[0]
    assert re.search(
        r"p = \S+; the whole distribution, all 300 tokens kept; ticket \.\d{3}$",
        plain.explain().replace(f", rank {plain.steps[0].trace.rank}", ""),
    )
    edited = decoder.generate(
        "Once", trace=True, max_new_tokens=1, logit_bias={7: 100.0}, do_sample=False
    )[0]
    assert edited.token_ids == [7]
    assert "; the likeliest once edited (logit_bias" in edited.explain()


def test_without_a_trace_there_is_nothing_to_explain(decoder):
    generation = decoder.generate("Once", max_new_tokens=1)[0]
    for ask in (generation.explain, generation.plot):
        with pytest.raises(ValueError, match=r"there is nothing to \w+: generate with trace=True"):
            ask()
    step = next(decoder.stream("Once"))
    with pytest.raises(ValueError, match="there is nothing to explain: run with trace=True"):
        step.explain()


def test_a_traced_stream(decoder):
    steps = list(fastdecode.stream("Once", model=decoder, trace=True, seed=2, top_k=5))
    generation = decoder.generate("Once", trace=True, seed=2, top_k=5)[0]
    assert steps == generation.steps
    assert steps[0].explain() == generation.explain().splitlines()[0]


def test_a_trace_is_saved_and_replayed(decoder, tmp_path):
    run = decoder.generate(["Once", "It"], trace=True, seed=2, top_p=0.9, logprobs=2)
    run.save(tmp_path / "run.json")
    assert Generations.load(tmp_path / "run.json") == run
    assert fastdecode.replay(tmp_path / "run.json", model=decoder) == run


def test_the_step_as_a_table(decoder):
    step = decoder.generate("Once", trace=True, seed=2, top_k=3, max_new_tokens=1)[0].steps[0]
    text = repr(step.trace)
    assert text.count("<- drawn") == 1
    assert text.count("  cut") == 7
    assert step.explain() in text
    assert len(step.trace.to_pandas()) == 10


def test_html_is_coloured_escaped_and_stands_alone(decoder, tokenizer):
    """Also where a model writes HTML: every token of the vocabulary is forced once."""
    pages = [decoder.generate("<script>", trace=True, seed=1, top_p=0.9).to_html()]
    text = "<script>alert(1)</script>&\"'"
    for token in tokenizer(text)["input_ids"]:
        run = decoder.generate("<b>", trace=True, max_new_tokens=1, allowed=[token])
        pages += [run.to_html(), run[0].to_html(), run[0].steps[0].trace.to_html()]
    for page in pages:
        assert not re.search(r"<script|src=|href=|url\(|@import|https?:", page)
    assert "&lt;script&gt;" in pages[0]
    assert 'class="panel"' in pages[0]
    plain = decoder.generate("<b>", max_new_tokens=2)
    assert "&lt;b&gt;" in plain.to_html()
    assert "&lt;b&gt;" in plain[0].to_html()


def test_in_a_terminal(decoder):
    from test_next_token import in_terminal

    run = decoder.generate("Once", trace=True, seed=1, top_p=0.9, max_new_tokens=5)
    assert in_terminal(run[0]).startswith("Once")
    assert "Once" in in_terminal(run)
    assert in_terminal(run[0].steps[0].trace)
    assert in_terminal(decoder.generate("Once", max_new_tokens=2)[0]).startswith("Once")


def test_plot(decoder):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot

    generation = decoder.generate("Once $", trace=True, seed=1, temperature=1.5)[0]
    ax = generation.plot()
    heights = [bar.get_height() for bar in ax.patches]
    assert heights == pytest.approx([-v for v in generation.logprobs], abs=1e-6)
    line = ax.lines[0].get_ydata()
    assert list(line) == [step.trace.entropy for step in generation.steps]
    assert ax.get_ylabel() == "nats"
    ax.figure.canvas.draw()
    figure, own = pyplot.subplots()
    assert generation.plot(own) is own
    pyplot.close("all")
    del figure


def test_native_engine(tokenizer):
    import torch
    from conftest import make_model

    decoder = Decoder(make_model("gpt2", torch.float32), tokenizer)
    plain = decoder.generate(ragged(3), seed=3, top_p=0.9, logprobs=0)
    traced = decoder.generate(ragged(3), seed=3, top_p=0.9, trace=True)
    assert [g.token_ids for g in plain] == [g.token_ids for g in traced]
