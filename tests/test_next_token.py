"""next_token(): the table, what a strategy keeps, the raffle, and draws with replacement."""

import re

import fastdecode
import numpy as np
import pytest
from fastdecode import Greedy, Sample
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

PROMPT = "Once upon"


def in_terminal(view, width=80):
    console = Console(width=width, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(view)
    return capture.get()


def test_the_whole_distribution(decoder):
    found = decoder.next_token(PROMPT, k=300)
    assert found.strategy is None
    assert found.kept == found.vocabulary == 300
    assert found.kept_mass == pytest.approx(1)
    assert found.entropy == found.entropy_after
    p = np.array([c.probability for c in found])
    assert found.entropy == pytest.approx(-(p * np.log(p)).sum(), abs=1e-6)
    assert [c.cumulative for c in found] == pytest.approx(np.minimum(np.cumsum(p), 1))
    assert [c.after for c in found] == [c.probability for c in found]
    assert all(c.kept for c in found)
    assert "cut" not in repr(found)


@pytest.mark.parametrize(
    "keywords",
    [
        {"top_k": 7},
        {"top_p": 0.5, "temperature": 0.7},
        {"min_p": 0.1},
        {"repetition_penalty": 3.0, "top_k": 40},
        {"strategy": Sample(top_p=0.3)},
    ],
)
def test_what_a_strategy_keeps(decoder, keywords):
    found = decoder.next_token(PROMPT, k=300, **keywords)
    plain = decoder.next_token(PROMPT, k=300)
    assert [c.probability for c in found] == [c.probability for c in plain]
    after = np.array([c.after for c in found])
    assert after.sum() == pytest.approx(1)
    assert found.kept == (after > 0).sum() == sum(c.kept for c in found)
    assert found.kept_mass == pytest.approx(sum(c.probability for c in found if c.kept))
    alive = after[after > 0]
    assert found.entropy_after == pytest.approx(-(alive * np.log(alive)).sum(), abs=1e-9)
    if "top_k" in keywords:
        assert found.kept == keywords["top_k"]
    # It is the law that generate draws from.
    first = [
        decoder.generate(PROMPT, seed=seed, max_new_tokens=1, **keywords)[0].token_ids[0]
        for seed in range(5)
    ]
    assert [found.draw(seed=seed).winner.id for seed in range(5)] == first


def test_greedy_has_one_ticket_holder(decoder):
    found = decoder.next_token(PROMPT, strategy=Greedy())
    assert found.kept == 1
    assert [c.kept for c in found] == [True] + [False] * 9
    assert found.draw(seed=1).winner.id == found[0].token_id
    assert "greedy: 1 of 300 tokens kept" in repr(found)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.sampled_from([{}, {"top_k": 3}, {"top_p": 0.9}, {"temperature": 2.5}]),
)
def test_the_ticket_lies_with_the_winner(decoder, seed, stream, sample, keywords):
    raffle = decoder.next_token(PROMPT, **keywords).draw(seed, stream=stream, sample=sample)
    holder = next(s for s in raffle if s.first <= raffle.ticket < s.end)
    assert holder.token == raffle.winner
    assert [s.first for s in raffle][1:] == [s.end for s in raffle][:-1]
    assert [s.token.id for s in raffle] == sorted(s.token.id for s in raffle)
    assert raffle[0].first == 0
    assert raffle[-1].end == raffle.total
    assert sum(s.probability for s in raffle) == pytest.approx(1)
    assert raffle.winner.shown in raffle.explain()
    assert f"{raffle.ticket:,}" in raffle.explain()
    text = repr(raffle)
    assert text.count("<- drawn") == 1
    assert f"seed {seed}, stream {stream}, sample {sample}, position {raffle.position}" in text


def test_xtc_needs_a_seed(decoder):
    with pytest.raises(ValueError, match="xtc tosses a coin for each token; give seed="):
        decoder.next_token(PROMPT, xtc=(0.01, 0.5))
    found = decoder.next_token(PROMPT, xtc=(0.01, 0.5), seed=4)
    generated = decoder.generate(PROMPT, xtc=(0.01, 0.5), seed=4, max_new_tokens=1)[0]
    assert found.draw().winner.id == generated.token_ids[0]


def test_sample_is_generates_samples(decoder):
    found = decoder.next_token(PROMPT, top_k=20)
    tally = found.sample(50, seed=3)
    samples = decoder.generate(PROMPT, top_k=20, seed=3, n=50, max_new_tokens=1)
    assert tally.token_ids == [g.token_ids[0] for g in samples]
    assert sum(tally.counts.values()) == 50
    assert [found.draw(3, sample=i).winner.id for i in range(5)] == tally.token_ids[:5]
    frame = tally.to_pandas()
    assert frame["drawn"].sum() == 50
    expected = {c.token_id: 50 * c.after for c in decoder.next_token(PROMPT, 300, top_k=20)}
    for token, value in zip(frame["token_id"], frame["expected"], strict=True):
        assert value == pytest.approx(expected[token])
    assert "50 draws" in repr(tally)
    assert tally.seed == 3


def test_a_fresh_seed_is_reported(decoder):
    found = decoder.next_token(PROMPT)
    raffle = found.draw()
    assert found.draw(raffle.seed).winner == raffle.winner
    tally = found.sample(5)
    assert found.sample(5, tally.seed).token_ids == tally.token_ids


@pytest.mark.parametrize("width", [60, 80, 140])
def test_terminal_tables_fit(decoder, width):
    found = decoder.next_token(PROMPT, top_k=4)
    text = in_terminal(found, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text or width < 80
    assert "█" in text
    assert in_terminal(found.draw(seed=0), width)
    assert in_terminal(found.sample(20, seed=0), width)


def test_frames(decoder):
    found = decoder.next_token(PROMPT, top_k=4)
    frame = found.to_pandas()
    assert list(frame["token_id"]) == [c.token_id for c in found]
    assert list(frame["after"]) == [c.after for c in found]
    polars = pytest.importorskip("polars")
    assert found.to_polars().equals(polars.DataFrame(frame.to_dict("list")))
    raffle = found.draw(seed=1).to_pandas()
    assert raffle["won"].sum() == 1
    assert raffle["end"].iloc[-1] == found.draw(seed=1).total


def test_html_is_escaped_and_stands_alone(decoder):
    found = decoder.next_token(PROMPT, k=300, top_k=40)
    for view in (found, found.draw(seed=1), found.sample(20, seed=1)):
        page = view._repr_html_()
        assert page == view.to_html()
        assert not re.search(r"<script|src=|href=|url\(|@import|https?:", page)
        tags = set(re.findall(r"<(\w+)", page))
        assert tags <= {"div", "style", "table", "thead", "tbody", "tr", "th", "td"} | {
            *("span", "i", "p", "b")
        }
    assert "&lt;" in found.to_html()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"top_q": 0.5}, TypeError, "unknown keyword 'top_q'; did you mean 'top_k'|'top_p'"),
        ({"max_length": 3}, TypeError, r"next_token\(\) draws one token and has no max_length"),
        ({"max_new_tokens": 3}, TypeError, r"draws one token and has no max_new_tokens"),
        ({"stop_token_ids": [3]}, TypeError, r"draws one token and has no stop_token_ids"),
        ({"top_p": 90}, ValueError, "top_p"),
        ({"seed": -1}, ValueError, "seed must be in"),
        ({"strategy": Greedy(), "top_k": 3}, ValueError, "strategy and top_k both say"),
    ],
)
def test_bad_arguments(decoder, arguments, error, message):
    with pytest.raises(error, match=message):
        decoder.next_token(PROMPT, **arguments)


def test_bad_draws(decoder):
    found = decoder.next_token(PROMPT)
    with pytest.raises(ValueError, match=r"count must be in 1\.\.4294967295, not 0"):
        found.sample(0)
    with pytest.raises(ValueError, match=r"stream must be in 0\.\.4294967295"):
        found.draw(1, stream=-1)
    with pytest.raises(TypeError, match="prompt must be one string or the token ids of one prompt"):
        decoder.next_token(["Once"])


def test_module_function(decoder):
    found = fastdecode.next_token(PROMPT, 3, model=decoder, top_k=2)
    assert len(found) == 3
    assert found.kept == 2


def test_a_beam_search_has_no_next_token(decoder):
    with pytest.raises(ValueError, match=r"next_token\(\) shows how one token is chosen, and a b"):
        decoder.next_token(PROMPT, num_beams=2)


def test_a_prompt_without_room(decoder):
    with pytest.raises(ValueError, match=r"^prompt has \d+ tokens, but the model's context is 64"):
        decoder.next_token("xyz" * 40)
