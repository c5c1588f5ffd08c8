"""score, compare, classify and surprising: the numbers, the order, the alignment, bad input."""

import math
import re

import fastdecode
import numpy as np
import pytest
import torch
from conftest import WORDS, make_model, make_tokenizer, ragged
from fastdecode import Decoder
from fastdecode.results.comparison import Comparison
from fastdecode.results.scores import Score
from hypothesis import given, settings
from hypothesis import strategies as st
from test_score import plain

SLOW_START = {"deadline": None}
TOKENIZER = make_tokenizer()


@pytest.fixture(scope="module")
def single():
    """A tiny GPT-2 in float32: the native engine's."""
    return Decoder(make_model("gpt2", torch.float32), TOKENIZER)


def logits_of(decoder, ids):
    with torch.no_grad():
        return decoder.model(torch.tensor([ids])).logits[0].double()


def test_ranks_are_places_in_the_order(decoder):
    for score in decoder.score(ragged(10), alternatives=4):
        rows = logits_of(decoder, [0, *score.token_ids])
        for row, token, rank, some in zip(
            rows, score.token_ids, score.ranks, score.alternatives, strict=False
        ):
            order = torch.sort(row, descending=True, stable=True).indices.tolist()
            assert order.index(token) + 1 == rank
            assert [a.token_id for a in some] == order[:4]
            expected = torch.log_softmax(row, -1)[order[:4]].tolist()
            assert [a.logprob for a in some] == pytest.approx(expected, abs=1e-5)


def test_ranks_of_ties_go_by_token_id(decoder):
    from fastdecode.scoring.windows import _ranks

    rows = np.array([[1, 3, 3, 3, 0]] * 5, dtype=np.float32)
    assert _ranks(rows, [0, 1, 2, 3, 4]) == [4, 1, 2, 3, 5]


def test_means_and_the_perplexity_of_all(decoder):
    scores = decoder.score(ragged(5))
    values = [v for s in scores for v in s.token_logprobs]
    assert scores.perplexity == pytest.approx(math.exp(-sum(values) / len(values)))
    assert scores[0].mean == pytest.approx(np.mean(scores[0].token_logprobs))
    assert [s.perplexity for s in scores] == pytest.approx([math.exp(-s.mean) for s in scores])


@pytest.mark.parametrize("fixture", ["decoder", "single"])
@pytest.mark.parametrize(
    "keywords", [{}, {"temperature": 0.8, "n": 2}, {"top_p": 0.9, "stop": "e"}]
)
def test_generate_then_score_is_the_same_numbers(fixture, keywords, request):
    decoder = request.getfixturevalue(fixture)
    generations = decoder.generate(
        ragged(6), seed=5, max_new_tokens=12, logprobs=2, progress=False, **keywords
    )
    scores = decoder.score(generations, alternatives=2)
    for generation, score in zip(generations, scores, strict=True):
        assert score.token_ids == generation.token_ids
        assert score.text == generation.text
        some = [[(a.token_id, a.logprob) for a in place] for place in score.alternatives]
        if fixture == "single":
            assert type(decoder.engine).__name__ == "LoadedEngine"
            assert score.token_logprobs == generation.logprobs
            assert some == generation.alternatives
        else:
            assert score.token_logprobs == pytest.approx(generation.logprobs, abs=1e-5)
    assert decoder.score(generations[0])[0] == decoder.score(generations)[0]


def test_generations_have_their_own_context(decoder):
    generations = decoder.generate("Once", max_new_tokens=3)
    with pytest.raises(ValueError, match="context is the prompt where generations are scored"):
        decoder.score(generations, context="Twice")


@settings(max_examples=30, **SLOW_START)
@given(st.integers(1, 64), st.integers(2, 300), st.integers(0, 80), st.integers(0, 1))
def test_windows_score_each_token_once_with_the_context_promised(stride, length, before, bos):
    from fastdecode.scoring.windows import Task, _windows

    task = Task("texts[0]", [0] * (before + bos), [1] * length)
    whole = before + bos + length
    seen = []
    for window in _windows(0, task, 64, stride):
        assert 0 <= window.start < window.end <= whole - 1
        assert window.end - window.start <= 64
        seen += range(window.first, window.end + 1)
        for target in range(window.first, window.end + 1):
            # What stands before it in the window: all there is, or enough.
            assert target - window.start >= min(target, 64 - stride + 1)
    assert seen == list(range(task.first, whole))


@pytest.mark.parametrize("stride", [1, 20, 64])
def test_long_texts_in_windows(decoder, stride):
    text = " ".join(WORDS * 4)
    ids = TOKENIZER(text)["input_ids"]
    assert len(ids) > 130
    score = decoder.score(text, stride=stride, eos=False)[0]
    whole = [0, *ids]
    expected = []
    for target in range(1, len(whole)):
        # The window that holds it: windows end at 64, 64 + stride, ... and at the end.
        end = min(len(whole) - 1, 64 + max(0, math.ceil((target - 64) / stride)) * stride)
        window = whole[max(0, end - 64) : target]
        row = logits_of(decoder, window)[-1]
        expected.append(torch.log_softmax(row, -1)[whole[target]].item())
    assert score.token_logprobs == pytest.approx(expected, abs=1e-5)
    short = decoder.score("Once upon a time", stride=stride)
    assert short.logprobs == decoder.score("Once upon a time").logprobs


def test_stride_that_is_no_stride(decoder):
    with pytest.raises(ValueError, match="stride must be at most the model's context, 64, not 65"):
        decoder.score("Once", stride=65)
    with pytest.raises(ValueError, match="stride must be at least 1, not 0"):
        decoder.score("Once", stride=0)
    with pytest.raises(ValueError, match=r"texts\[1\] has .* give stride=32 to score it in"):
        decoder.score(["Once", "xyz" * 40])


def test_a_bar(decoder, capsys):
    decoder.score([*ragged(3), ""], progress=True, bos=False, eos=False)
    assert "score: 100%" in capsys.readouterr().err


TEXTS = ["Once upon a time there was.", "Once upon a wood there was.", "Once upon time."]


def test_comparison(decoder):
    found = fastdecode.compare(TEXTS, model=decoder)
    scores = decoder.score(TEXTS)
    order = sorted(range(3), key=lambda i: -scores[i].logprob)
    assert [c.index for c in found] == order
    assert found.best.text == TEXTS[order[0]]
    for compared in found:
        assert compared.score.logprob == scores[compared.index].logprob
        expected = scores[compared.index].logprob - scores[order[0]].logprob
        assert compared.difference == pytest.approx(expected)
        assert math.fsum(s.difference for s in compared.segments) == pytest.approx(expected)
        # Together the segments are both texts, in order, without a gap.
        for side, size in (("best", len(found.best.token_ids)), ("own", len(compared.score.shown))):
            spans = [getattr(s, side) for s in compared.segments]
            assert spans[0][0] == 0
            assert spans[-1][1] == size
            assert [a[1] for a in spans[:-1]] == [b[0] for b in spans[1:]]
    assert sum(c.probability for c in found) == pytest.approx(1)
    assert found[0].decides is None
    worst = found[1].decides
    assert worst == min(found[1].segments, key=lambda s: s.difference)
    assert found[1].deciding in found.explain()
    assert "is likelier by" in repr(found)


def test_comparison_by_token(decoder):
    texts = ["Once", "Once upon a time there was"]
    scores = decoder.score(texts)
    found = decoder.compare(texts, per_token=True)
    assert found.best.mean == max(s.mean for s in scores)
    assert found[1].difference == pytest.approx(-abs(scores[0].mean - scores[1].mean))


def test_comparison_of_equals(decoder):
    found = decoder.compare(["Once upon", "Once upon"])
    assert [c.index for c in found] == [0, 1]
    assert found[1].decides is None
    assert "are equal" in found.explain()
    assert found.to_html()


def made(text, ids, logprobs):
    """A score with these numbers."""
    return Score.of(text, ids, logprobs, [1] * len(ids), [f"<{i}>" for i in ids])


ONE = made("one", [1, 2, 3], [-1.0, -1.0, -1.0])
SENTENCES = [
    # A token in the place of another.
    (
        made("two", [1, 4, 3], [-1.0, -3.0, -1.0]),
        2.0,
        'decided at "<2>" against "<4>" (2.00 nats).',
    ),
    # Tokens that the likelier text lacks, within it and after it.
    (
        made("two", [1, 5, 2, 3], [-1.0, -2.5, -1.0, -1.0]),
        2.5,
        "at \"<5>\", which 'one' does without",
    ),
    (made("two", [1, 2, 3, 6, 7], [-1.0, -1.0, -1.0, -2.0, -2.0]), 4.0, 'at "<6><7>", which'),
]


@pytest.mark.parametrize(("other", "loss", "end"), SENTENCES)
def test_a_comparison_says_at_which_tokens_it_is_decided(other, loss, end):
    found = Comparison([other, ONE])
    assert found.best is ONE
    assert found.explain().startswith(f"'one' is likelier by {loss:.2f} nats; most is decided at ")
    assert end in found.explain()
    assert "nothing" not in repr(found)


def test_comparisons_in_which_no_token_decides():
    same = made("two", [1, 2, 3], [-1.0, -1.0, -1.0])
    assert Comparison([ONE, same]).explain() == "'one' and 'two' are equal."
    level = made("two", [1, 4], [-1.0, -2.0])
    assert Comparison([ONE, level]).explain() == "'one' and 'two' are equally likely."
    level = made("two", [4, 5], [-1.0, -1.0])
    found = Comparison([ONE, level], per_token=True)
    assert found.explain() == "'one' and 'two' are equally likely a token."
    # A shorter text can be likelier in sum and less likely a token.
    short = made("two", [1, 9], [-1.0, -1.4])
    assert Comparison([ONE, short], per_token=True).explain() == (
        "'one' is likelier by 0.20 nats a token, though not in sum: it has 3 tokens, 'two' 2."
    )


@settings(max_examples=40, **SLOW_START)
@given(st.lists(st.text(alphabet="ab c", min_size=1, max_size=9), min_size=2, max_size=4))
def test_cells_hold_every_token_once(decoder, texts):
    from fastdecode.results.comparison import _cells

    found = decoder.compare(texts)
    for compared in found:
        cells = list(_cells(compared.segments))
        tokens = [i for _, _, (a, b) in cells for i in range(a, b)]
        assert tokens == list(range(len(compared.score.token_ids)))
        columns = [i for a, b, _ in cells for i in range(a, b)]
        assert columns == list(range(len(found.best.token_ids)))
    assert found.to_html().count('<tr><td class="n">-') == len(texts)


def test_the_deciding_tokens_are_framed(decoder):
    page = decoder.compare(TEXTS).to_html()
    assert page.count("tok decides") >= 3
    assert page.count('class="panel"') >= 3


PROMPTS = {"tale": "Once upon a time", "news": "It was the best"}


def test_classification_is_bayes_rule(decoder):
    found = fastdecode.classify(
        "there was a girl", ["tale", "news"], prompts=PROMPTS, priors=[3, 1], model=decoder
    )
    logprobs = {
        label: decoder.score(" there was a girl", context=PROMPTS[label], eos=False)[0].logprob
        for label in PROMPTS
    }
    joint = {"tale": 0.75 * math.exp(logprobs["tale"]), "news": 0.25 * math.exp(logprobs["news"])}
    for posterior in found:
        assert posterior.logprob == logprobs[posterior.label]
        expected = joint[posterior.label] / sum(joint.values())
        assert posterior.probability == pytest.approx(expected)
    assert sum(found.posterior.values()) == pytest.approx(1)
    assert found.label == max(joint, key=joint.get)
    assert [p.probability for p in found] == sorted(found.posterior.values(), reverse=True)
    same = decoder.classify(
        "there was a girl",
        ["tale", "news"],
        prompts=list(PROMPTS.values()),
        priors={"news": 0.1, "tale": 0.3},
    )
    assert same.posterior == pytest.approx(found.posterior)


def test_classification_with_a_template(decoder):
    found = decoder.classify("a girl", ["tale", "news"], prompts="This is {label}.", bos=False)
    score = decoder.score(" a girl", context="This is tale.", bos=False, eos=False)[0]
    assert found.posterior.keys() == {"tale", "news"}
    assert next(p for p in found if p.label == "tale").logprob == score.logprob
    plain_template = decoder.classify("a girl", ["tale", "news"])
    score = decoder.score(" a girl", context="news:", eos=False)[0]
    assert next(p for p in plain_template if p.label == "news").logprob == score.logprob


def test_classification_of_long_unlikely_texts_does_not_underflow(decoder):
    found = decoder.classify("xq " * 15, ["tale", "news"])
    assert math.exp(found[0].logprob) < 1e-60
    assert sum(found.posterior.values()) == pytest.approx(1)


def test_classifications_of_many(decoder):
    texts = ragged(4)
    found = decoder.classify(texts, ["tale", "news"])
    assert len(found) == 4
    for text, one in zip(texts, found, strict=True):
        assert one.text == text
        assert one.posterior == pytest.approx(decoder.classify(text, ["tale", "news"]).posterior)
    assert found.labels == [one.label for one in found]
    assert list(found.to_pandas().columns) == ["text", "label", "p(news)", "p(tale)"]
    assert len(decoder.classify([], ["tale", "news"])) == 0


LABELS = [
    ("tale", {}, TypeError, "labels must be a sequence of strings, not the one string 'tale'"),
    (["tale"], {}, ValueError, "labels has 1 entries; give at least two"),
    (["tale", " "], {}, ValueError, r"labels\[1\] is empty; give each label a name"),
    (["a", "b", "a"], {}, ValueError, r"labels\[2\] repeats labels\[0\], 'a'; give each label"),
    (["a", 3], {}, TypeError, r"labels\[1\] must be a string, not int"),
    (["a", "b"], {"priors": [1, 0]}, ValueError, "priors has 0.0 for 'b'; give a number above"),
    (["a", "b"], {"priors": [1]}, ValueError, "priors has 1 entries for 2 labels"),
    (["a", "b"], {"priors": ["1", 2]}, TypeError, r"priors\[0\] must be a number, not '1'"),
    (["a", "b"], {"priors": 3}, TypeError, "priors must be a number for each label.*not int"),
    (["a", "b"], {"priors": {"a": 1}}, ValueError, "priors has nothing for the label 'b'; add it"),
    (["a", "b"], {"priors": {"a": 1, "b": 1, "c": 1}}, ValueError, "priors has 'c', which is not"),
    (["a", "b"], {"prompts": "The film:"}, ValueError, r"prompts='The film:' has no \{label\}"),
    (["a", "b"], {"prompts": ["x", ""]}, ValueError, r"prompts\[1\], of the label 'b', is empty"),
    (["a", "b"], {"prompts": ["x"]}, ValueError, "prompts has 1 entries for 2 labels"),
]


@pytest.mark.parametrize(("labels", "keywords", "error", "message"), LABELS)
def test_bad_labels(decoder, labels, keywords, error, message):
    with pytest.raises(error, match=message):
        decoder.classify("Once", labels, **keywords)


def test_bad_texts(decoder):
    with pytest.raises(ValueError, match=r"^texts\[1\] is empty; give at least one character"):
        decoder.compare(["Once", ""])
    with pytest.raises(ValueError, match=r"^texts\[2\] is empty"):
        decoder.surprising(["Once", "upon", ""])
    with pytest.raises(ValueError, match=r"^texts is empty"):
        decoder.classify("", ["a", "b"])
    with pytest.raises(ValueError, match=r"^texts\[0\] is empty"):
        decoder.classify([""], ["a", "b"])
    with pytest.raises(TypeError, match="texts must be a sequence of two strings or more, not one"):
        decoder.compare("Once")
    with pytest.raises(ValueError, match="texts has 1 entries; give at least two to compare"):
        decoder.compare(["Once"])
    with pytest.raises(ValueError, match=r"texts\[1\] has \d+ tokens.*context is 64"):
        decoder.classify(["Once", "xyz" * 40], ["a", "b"])
    with pytest.raises(ValueError, match=r"texts\[1\] has \d+ tokens.*context is 64"):
        decoder.compare(["Once", "xyz" * 40])
    with pytest.raises(ValueError, match=r"texts\[0\] has one token and nothing before it"):
        decoder.surprising(["O"], bos=False, eos=False)
    with pytest.raises(
        TypeError, match=r"texts\[0\] must be a string or a list of token ids, not f"
    ):
        decoder.score([3.0])
    with pytest.raises(
        TypeError, match=r"texts must be a string, token ids, or a sequence .*, not int"
    ):
        decoder.score(3)
    with pytest.raises(
        TypeError, match="context must be a string or a sequence of strings, not int"
    ):
        decoder.score("Once", context=3)
    with pytest.raises(TypeError, match=r"context\[1\] must be a string, not int"):
        decoder.score(["Once", "It"], context=["a", 3])
    with pytest.raises(
        ValueError, match="context has 1 entries for 2 texts; give one string for all"
    ):
        decoder.score(["Once", "It"], context=["a"])


def test_surprising(decoder):
    texts = ragged(8)
    found = fastdecode.surprising(texts, model=decoder)
    means = [s.mean for s in decoder.score(texts)]
    assert [s.index for s in found] == sorted(range(8), key=lambda i: means[i])
    assert [s.surprisal for s in found] == sorted((-m for m in means), reverse=True)
    for item in found:
        place = int(np.argmin(item.score.token_logprobs))
        assert item.token == item.score.shown[place]
        assert item.score.text == texts[item.index]
    assert list(found.to_pandas()["index"]) == [s.index for s in found]
    assert len(decoder.surprising([])) == 0


def test_html_is_escaped_and_stands_alone(decoder):
    nasty = '<script>alert("1")</script> & <b>'
    views = [
        decoder.score(nasty, alternatives=3)[0],
        decoder.score([nasty, "Once"]),
        decoder.compare([nasty, "Once"]),
        decoder.classify(nasty, ["<i>", "b"]),
        decoder.classify([nasty], ["<i>", "b"]),
        decoder.surprising([nasty, "Once"], alternatives=3),
        decoder.tokens(nasty),
    ]
    for view in views:
        page = view.to_html()
        assert not re.search(r"<script|src=|href=|url\(|@import|https?:|<i>[^<]", page)
        assert "&lt;" in page
        tags = set(re.findall(r"<([\w!/]+)", page)) - {"div", "/div", "style", "/style"}
        assert {tag.lstrip("/") for tag in tags} <= {
            *("table", "thead", "tbody", "tr", "th", "td", "span", "i", "p", "b", "br")
        }


def test_frames_and_terminals(decoder):
    from test_next_token import in_terminal

    score = decoder.score("Once upon \x1b[31m a time")[0]
    assert list(score.to_pandas()["logprob"]) == score.token_logprobs
    assert list(score.to_polars()["rank"]) == score.ranks
    assert "\x1b[31m" not in in_terminal(score)
    for view in (decoder.score(TEXTS), decoder.compare(TEXTS), decoder.surprising(TEXTS)):
        assert len(view.to_pandas()) == 3
        assert max(map(len, in_terminal(view, 80).splitlines())) <= 80


def test_plain_and_score_agree_on_the_course_form(decoder):
    """The course's sequence_log_prob: BOS in front, EOS behind, the sum of the gathered."""
    for text in TEXTS:
        ids = [*TOKENIZER(text)["input_ids"], 0]
        assert decoder.score(text)[0].logprob == pytest.approx(sum(plain(decoder, [0], ids)))


def test_plot_of_a_score(decoder):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    score = decoder.score("Once upon a time", bos=False)[0]
    ax = score.plot()
    expected = [-v for v in score.token_logprobs if v is not None]
    assert [bar.get_height() for bar in ax.patches] == pytest.approx(expected)
