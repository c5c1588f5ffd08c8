"""The notebook runs from its first cell to its last; the students' one has its blanks."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "docs" / "notebooks" / "prediction_to_generation.py"
DEMO = ROOT / "python" / "fastdecode" / "demo" / "model.safetensors"
jupytext = pytest.importorskip("jupytext")


def load_tool():
    path = ROOT / "tools" / "student_notebook.py"
    spec = importlib.util.spec_from_file_location("student_notebook", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not DEMO.exists(), reason="the demo model is not built")
def test_the_notebook_runs(monkeypatch):
    pytest.importorskip("matplotlib").use("agg")
    monkeypatch.delenv("FASTDECODE_MODEL", raising=False)
    names: dict[str, object] = {}
    for cell in jupytext.read(NOTEBOOK, fmt="py:percent").cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, str(NOTEBOOK), "exec"), names)


def test_the_students_notebook_has_blanks_and_no_answers(tmp_path):
    tool = load_tool()
    tool.write(NOTEBOOK, tmp_path / "students.ipynb")
    teacher = jupytext.read(NOTEBOOK, fmt="py:percent")
    students = jupytext.read(tmp_path / "students.ipynb")
    source = "\n".join(cell.source for cell in students.cells)
    assert "# answer" not in source
    answers = sum(cell.source.count("# answer") for cell in teacher.cells)
    assert answers >= 7
    assert source.count("# your turn") == answers
    assert len(students.cells) == len(teacher.cells)
    for cell in students.cells:
        if cell.cell_type == "code":
            compile(cell.source, "cell", "exec")
            assert not cell.outputs


@pytest.mark.parametrize(
    ("line", "blanked"),
    [
        ("p = np.exp(x)  # answer", "p = ...  # your turn"),
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


def test_no_page_needs_a_network():
    """Formulas would fetch MathJax."""
    pages = [*(ROOT / "docs").rglob("*.md"), NOTEBOOK]
    for page in pages:
        if "_build" not in page.parts:
            text = page.read_text(encoding="utf-8")
            assert "$$" not in text, page
            assert "{math}" not in text, page
