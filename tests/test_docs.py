"""The notebook runs from its first cell to its last; the students' one explains its blanks."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "docs" / "notebooks" / "prediction_to_generation.py"
DEMO = ROOT / "python" / "fastdecode" / "demo" / "model.safetensors"
jupytext = pytest.importorskip("jupytext")
needs_demo = pytest.mark.skipif(not DEMO.exists(), reason="the demo model is not built")


def load_tool(name="student_notebook"):
    path = ROOT / "tools" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def annotated():
    return jupytext.read(NOTEBOOK, fmt="py:percent")


@pytest.fixture(scope="module")
def students():
    tool = load_tool()
    return tool.students(jupytext.read(NOTEBOOK, fmt="py:percent")).cells


def tagged(cells, tag):
    return [cell for cell in cells if tag in cell.metadata.get("tags", ())]


def run(notebook):
    """The names that the cells of a notebook make."""
    pytest.importorskip("matplotlib").use("agg")
    names: dict[str, object] = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, str(NOTEBOOK), "exec"), names)
    return names


@needs_demo
def test_the_notebook_runs_on_any_model(monkeypatch, annotated):
    monkeypatch.setenv("FASTDECODE_MODEL", str(DEMO.parent))
    assert run(annotated)["START"] == "See you"


@needs_demo
def test_the_notebook_shows_its_points(monkeypatch, annotated):
    """What the prose says of the demo model's results holds for them."""
    monkeypatch.delenv("FASTDECODE_MODEL", raising=False)
    names = run(annotated)
    # Beam search finds a likelier sequence than greedy decoding, which begins otherwise.
    tree = names["beams"].tree
    assert tree.parted == 0
    assert "nothing" not in names["duel"].explain()
    assert names["duel"].best.text.endswith(names["beams"][0].text)
    # Each text is in its class; with other priors, the last one changes sides.
    classes = list(names["LABELS"])
    assert names["sorted_texts"].labels == [classes[0], classes[1], classes[1]]
    assert (
        min(names["sorted_texts"][0][0].probability, names["sorted_texts"][1][0].probability) > 0.9
    )
    assert names["on_the_shelf"].label == classes[0]
    # The whale is a coin toss, since no class finds it likely.
    assert names["whale"][0].probability == pytest.approx(0.5, abs=0.1)
    likely = max(item.score.mean for item in names["sorted_texts"][0])
    assert max(item.score.mean for item in names["whale"]) < likely - 1
    # The odd line is the most surprising one, and no end token is blamed.
    assert names["odd"][0].index == 2
    assert not any("end" in item.token for item in names["odd"])


def test_the_students_notebook_has_blanks_and_no_answers(annotated, students):
    source = "\n".join(cell.source for cell in students if cell.cell_type == "code")
    assert "# answer" not in source
    answers = sum(cell.source.count("# answer") for cell in annotated.cells)
    assert answers >= 10
    assert source.count("...  # your turn: ") == answers
    for cell in students:
        if cell.cell_type == "code":
            compile(cell.source, "cell", "exec")
            assert not cell.get("outputs")


def test_each_exercise_has_a_hint_a_solution_and_a_check(annotated, students):
    kinds = [
        tag
        for cell in annotated.cells
        for tag in cell.metadata.get("tags", ())
        if tag in ("exercise", "hint", "check")
    ]
    assert kinds == ["exercise", "hint", "check"] * (len(kinds) // 3)
    hints = tagged(students, "hint")
    assert len(hints) == len(kinds) // 3
    for exercise, hint in zip(tagged(annotated.cells, "exercise"), hints, strict=True):
        assert hint.source.count("<details>") == hint.source.count("</details>") == 2
        solution = re.search(r"```python\n(.*?)\n```", hint.source, re.DOTALL)[1]
        assert "answer" not in solution
        for line in solution.splitlines():
            assert line.strip() in exercise.source
        compile(re.sub(r"^return ", "", solution, flags=re.MULTILINE), "solution", "exec")
    for check in tagged(students, "check"):
        assert 'print("Right.")' in check.source


def test_the_complete_notebook_has_no_marks(tmp_path, annotated):
    tool = load_tool()
    tool.write_complete(NOTEBOOK, tmp_path / "all.ipynb")
    cells = jupytext.read(tmp_path / "all.ipynb").cells
    source = "\n".join(cell.source for cell in cells)
    for mark in ("# answer", "# your turn", "<details>", "path:"):
        assert mark not in source
    page = tool.page(NOTEBOOK.read_text(encoding="utf-8"))
    assert "path:" in "\n".join(cell.source for cell in page.cells)
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    assert len(code) == sum(cell.cell_type == "code" for cell in annotated.cells)


@pytest.mark.parametrize(
    ("line", "blanked"),
    [
        ("p = np.exp(x)  # answer", "p = ...  # your turn"),
        ("p = np.exp(x)  # answer: the odds", "p = ...  # your turn: the odds"),
        ("    return a + b  # answer", "    return ...  # your turn"),
        ("text.append(token)  # answer", "...  # your turn"),
        ("token = 3", "token = 3"),
    ],
)
def test_blanks(line, blanked):
    assert load_tool().blank(line) == blanked


def test_tags(tmp_path):
    tool = load_tool()
    source = tmp_path / "n.py"
    source.write_text(
        '# %% tags=["teacher"]\nsecret = 1\n\n# %% tags=["answer"]\nsecret = 2\n\n# %%\nshown = 3\n'
    )
    tool.write(source, tmp_path / "n.ipynb")
    cells = [cell.source.strip() for cell in jupytext.read(tmp_path / "n.ipynb").cells]
    assert cells == ["# Your turn.", "shown = 3"]
    source.write_text("# %%\nx = 1  # answer\n")
    with pytest.raises(ValueError, match="the tag 'exercise' and '# answer' go together"):
        tool.write(source, tmp_path / "n.ipynb")
    source.write_text('# %% tags=["check"]\nx = 1\n')
    with pytest.raises(ValueError, match="a cell with the tag 'check' needs an assert"):
        tool.write(source, tmp_path / "n.ipynb")


class Kernel:
    """IPython after the setup cell of the students' notebook; keeps what it shows of errors."""

    def __init__(self):
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config

        self.shell = InteractiveShell(config=Config(HistoryManager={"enabled": False}))
        self.shell._showtraceback = self.show
        self.shell.user_ns["get_ipython"] = lambda: self.shell
        setup = load_tool().SETUP.read_text(encoding="utf-8")
        assert self.run(setup.replace("from IPython import get_ipython", "")) == ""

    def show(self, kind, error, lines):
        self.shown = "\n".join(lines)

    def run(self, source):
        self.shown = ""
        assert self.shell.run_cell(source).success is (self.shown == "")
        return self.shown


@pytest.fixture(scope="module")
def kernel():
    pytest.importorskip("IPython")
    return Kernel()


def test_an_open_blank_says_what_is_missing(kernel):
    assert kernel.run("x = 3") == ""
    shown = kernel.run("print(x)\nx = ...  # your turn: the sum of all\nx += 1")
    assert shown == (
        "Line 2 is still blank: `x` should be the sum of all.\n"
        "Replace the three dots. A hint and the solution are below this cell."
    )
    # The cell did not run at all.
    assert kernel.shell.user_ns["x"] == 3
    shown = kernel.run("def f():\n    y = ...  # your turn: one\n    return ...  # your turn: two")
    assert shown.splitlines()[:2] == [
        "Line 2 is still blank: `y` should be one.",
        "Line 3 is still blank: the value returned should be two.",
    ]


def test_an_error_in_a_filled_blank_is_short_and_says_what_was_expected(kernel):
    kernel.run("import json\ndef read(text):\n    return json.loads(text)")
    shown = kernel.run("text = 5  # your turn: a string\nread(text)")
    assert shown.splitlines()[:2] == [
        "Line 2: read(text)",
        "In read, line 3: return json.loads(text)",
    ]
    assert "TypeError: the JSON object must be str" in shown
    assert "`text` should be a string." in shown
    assert len(shown.splitlines()) == 5
    kernel.shell.run_cell("%tb")
    assert "__init__.py" in kernel.shown
    # An error elsewhere does not speak of that blank.
    assert "`text`" not in kernel.run("1 / 0")
    assert kernel.run("x = (") != ""


@pytest.mark.parametrize(
    "line",
    ["x = ...", "x = ...  # mine", "x = ... # your turn", "x = ...# your turn: the sum", "..."],
)
def test_a_blank_whose_comment_was_changed_is_still_open(kernel, line):
    assert kernel.run(f"y = 1\n{line}").startswith("Line 2 is still blank")


def test_dots_elsewhere_are_no_blanks(kernel):
    for source in ("a = [[1]]\nimport numpy\nnumpy.ones(3)[..., 0]", "b = '...'", "# x = ...", ""):
        assert kernel.run(source) == ""


def test_a_cell_that_needs_a_blank_says_so(kernel):
    kernel.run("cut = 1\nlater = ...  # your turn: two")
    for name in ("cut", "later"):
        assert kernel.run(f"print({name})") == (
            f"`{name}` is missing: first fill in the blank of the cell that makes it."
        )
    assert "NameError: name 'lather' is not defined" in kernel.run("lather")
    assert kernel.run("cut = 1\nlater = 2  # your turn: two") == kernel.run("later") == ""


def test_a_failed_check_says_what_was_expected_and_nothing_else(kernel):
    assert kernel.run('assert 1 == 2, "`x` should be one."') == "Not yet: `x` should be one."
    assert "AssertionError" in kernel.run("assert 1 == 2")


def solutions(hint):
    """The lines of the solution, folded into the cell after an exercise."""
    return re.search(r"```python\n(.*?)\n```", hint.source, re.DOTALL)[1].splitlines()


def filled(exercise, answers):
    """The students' exercise with answers in place of the dots, and the comments left."""
    lines = exercise.source.splitlines()
    places = [i for i, line in enumerate(lines) if "...  # your turn" in line]
    for place, answer in zip(places, answers, strict=True):
        indent = re.match(" *", lines[place])[0]
        comment = lines[place].partition("  # your turn")
        lines[place] = indent + answer.strip() + "".join(comment[1:])
    return "\n".join(lines)


# What a student may write in place of the line with the same beginning, and what is said to it.
WRONG = [
    ("probabilities = np.exp(row)", "so that they add up to 1"),
    ("probabilities = [1, 2]", "`probabilities` should be the softmax of `shifted`."),
    ("best = np.argsort(probabilities)[:10]", "the largest first"),
    ("best = 3", "`best` should be the ids of the ten likeliest tokens."),
    ("token = int(np.argmin(next_row(text)))", "the id of the largest logit in `next_row(text)`"),
    ("token = next_row(text)", "`token` should be the id of the likeliest token after `text`."),
    ("cumulative = probabilities", "`cumulative` should be the running sum of `probabilities`."),
    ("cumulative = np.cumsum(row * 0 + 1)", "grow from the first token's probability up to 1"),
    ("winner = int(np.argmax(probabilities))", "`winner` should be"),
    ("draw = core.sample(next_row(text), seed=3, positions=[0])", "with seed 10"),
    ("draw = next_row(text)", "`draw` should be a seeded draw."),
    ("return rows[-1, whole[-1]]", "the sum, over all tokens but BOS"),
    ("return rows", "the value returned should be the chain rule's sum."),
    ("added = logprobs[token]", "`added` should be the sum of all log-probabilities so far"),
    ("kept = longer[:width]", "`kept` should hold the pairs of `longer` with the largest sums"),
    ("posterior = np.array(likelihoods)", "each divided by the sum of both"),
]


@needs_demo
def test_blanks_left_open_filled_wrongly_and_solved(students, capsys):
    """Each exercise as a student meets it: the notebook says what is missing, and what is wrong."""
    pytest.importorskip("IPython")
    pytest.importorskip("matplotlib").use("agg")
    kernel = Kernel()
    left = list(WRONG)
    exercise, answers = None, []
    for cell, after in zip(students, [*students[1:], None], strict=True):
        tags = cell.metadata.get("tags", ())
        if "exercise" in tags:
            exercise, answers = cell, solutions(after)
            said = kernel.run(cell.source).splitlines()
            assert len(said) == 1 + len(answers)
            for line in said[:-1]:
                assert re.fullmatch(r"Line \d+ is still blank: .* should be .*\.", line)
            assert kernel.run(filled(cell, answers)) == ""
        elif "check" in tags:
            for place, answer in enumerate(answers):
                start = re.match(r"\s*(\w+ = |return )", answer)[1]
                for wrong, message in [pair for pair in left if pair[0].startswith(start)]:
                    left.remove((wrong, message))
                    tried = [*answers[:place], wrong, *answers[place + 1 :]]
                    said = kernel.run(filled(exercise, tried)) or kernel.run(cell.source)
                    assert message in " ".join(said.split()), wrong
                    assert len(said.splitlines()) <= 8, said
            assert kernel.run(filled(exercise, answers)) == ""
            capsys.readouterr()
            assert kernel.run(cell.source) == ""
            assert "Right." in capsys.readouterr().out
        elif cell.cell_type == "code" and "hide-input" not in tags:
            assert kernel.run(cell.source) == ""
    assert not left


def test_formulas_need_no_network(annotated):
    """They are written as MathML; MathJax would be fetched."""
    pytest.importorskip("docutils")
    from docutils.utils.math.latex2mathml import tex2mathml

    text = "\n".join(cell.source for cell in annotated.cells if cell.cell_type == "markdown")
    formulas = re.findall(r"\$\$(.+?)\$\$", text) + re.findall(r"(?<!\$)\$([^$]+)\$(?!\$)", text)
    assert len(formulas) > 10
    for formula in formulas:
        assert tex2mathml(formula).startswith("<math")
    conf = (ROOT / "docs" / "conf.py").read_text(encoding="utf-8")
    assert 'html_math_renderer = "mathml"' in conf
