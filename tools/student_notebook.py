"""Make the notebooks that readers download from the annotated one.

    python tools/student_notebook.py docs/notebooks/prediction_to_generation.py students.ipynb
    python tools/student_notebook.py --complete docs/notebooks/prediction_to_generation.py all.ipynb

The students' notebook has blanks in place of answers; the complete one has no marks. The annotated
notebook marks cells with tags:

    exercise    in lines that end in `# answer: WANTED`, all but the left-hand side becomes `...`,
                and WANTED, which completes the sentence "it should be ...", stays as a comment
    hint        a Markdown cell after an exercise: folded in the students' version, together with
                the solution; not in the complete one
    check       asserts whose messages say what is expected; the students' version says "Right."
                where they hold, the complete one has no messages
    answer      the content of the cell is replaced by "# Your turn."
    teacher     the cell is left out for students
    page        the cell is only on the page of the documentation
"""

from __future__ import annotations

import argparse
import ast
import re
from pathlib import Path
from typing import Any

import jupytext
from nbformat.v4 import new_code_cell, new_markdown_cell

SETUP = Path(__file__).resolve().parent / "student_setup.py"
TAGS = frozenset({"exercise", "hint", "check", "answer", "teacher", "page"})
_ANSWER = re.compile(
    r"^(?P<indent>\s*)(?P<left>[\w\[\], .]+ = |return )?.*# answer(?P<wanted>: .+)?$"
)
_MARK = re.compile(r"\s*# answer(: .+)?$")

_HOW_TO = """\
**How to work with this notebook.** In some cells, a line is left blank: `...  # your turn`, and a
few words on what belongs there. Replace the three dots by code, and run the cell. A hint and the
solution fold out below it, and a later cell checks your answer. Run the cells in order, beginning
with the next one."""

_FOLDED = """\
<details><summary>{title}</summary>

{body}

</details>"""


def blank(line: str) -> str:
    """Replace the answer in a line with a blank; return other lines unchanged."""
    found = _ANSWER.match(line)
    if found is None:
        return line
    return f"{found['indent']}{found['left'] or ''}...  # your turn{found['wanted'] or ''}"


def students(notebook: Any) -> Any:
    """Turn an annotated notebook into the students' version, in place, and return it.

    Raises:
        ValueError: if a cell has `# answer` lines without the tag "exercise", or the reverse.
    """
    kept = []
    solution = ""
    for cell in notebook.cells:
        tags = _tags(cell)
        lines = cell.source.splitlines()
        answers = [line for line in lines if _ANSWER.match(line)]
        if ("exercise" in tags) != bool(answers):
            raise ValueError(f"the tag 'exercise' and '# answer' go together:\n{cell.source}")
        if tags & {"teacher", "page"}:
            continue
        if "exercise" in tags:
            cell.source = "\n".join(map(blank, lines))
            solution = "\n".join(_MARK.sub("", line).strip() for line in answers)
        if "hint" in tags:
            code = f"```python\n{solution}\n```"
            folds = {"Hint": cell.source, "Solution": code}
            cell.source = "\n".join(_FOLDED.format(title=t, body=b) for t, b in folds.items())
        if "check" in tags:
            cell.source = _praised(cell.source)
        if "answer" in tags:
            cell.source = "# Your turn.\n"
        kept.append(cell)
    if solution:
        first = next(i for i, cell in enumerate(kept) if cell.cell_type == "code")
        hidden = {"jupyter": {"source_hidden": True}, "tags": ["hide-input"]}
        setup = new_code_cell(SETUP.read_text(encoding="utf-8").rstrip(), metadata=hidden)
        kept[first:first] = [new_markdown_cell(_HOW_TO), setup]
    notebook.cells = kept
    return notebook


def complete(notebook: Any, *, page: bool = False) -> Any:
    """Take the marks out of an annotated notebook, in place, and return it.

    Args:
        notebook: the notebook.
        page: whether it is for the page of the documentation.
    """
    away = {"hint"} if page else {"hint", "page"}
    notebook.cells = [cell for cell in notebook.cells if not _tags(cell) & away]
    for cell in notebook.cells:
        if "check" in _tags(cell):
            cell.source = _without_messages(cell.source)
        if cell.cell_type == "code":
            cell.source = "\n".join(_MARK.sub("", line) for line in cell.source.splitlines())
        cell.metadata["tags"] = [tag for tag in cell.metadata.get("tags", ()) if tag not in TAGS]
    return notebook


def page(text: str) -> Any:
    """Read an annotated notebook for the documentation; Sphinx calls this."""
    return complete(jupytext.reads(text, fmt="py:percent"), page=True)


def write(source: Path, target: Path) -> None:
    """Read the annotated notebook (py:percent) and write the students' (.ipynb or .py)."""
    _write(students(jupytext.read(source, fmt="py:percent")), target)


def write_complete(source: Path, target: Path) -> None:
    """Read the annotated notebook (py:percent) and write the complete one (.ipynb or .py)."""
    _write(complete(jupytext.read(source, fmt="py:percent")), target)


def _write(notebook: Any, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    jupytext.write(notebook, target)


def _tags(cell: Any) -> frozenset[str]:
    return TAGS & set(cell.metadata.get("tags", ()))


def _praised(source: str) -> str:
    """The cell with a word of confirmation after its last assert."""
    ends = [node.end_lineno for node in ast.parse(source).body if isinstance(node, ast.Assert)]
    if not ends:
        raise ValueError(f"a cell with the tag 'check' needs an assert:\n{source}")
    lines = source.splitlines()
    lines.insert(max(filter(None, ends)), 'print("Right.")')
    return "\n".join(lines)


def _without_messages(source: str) -> str:
    """The cell with its asserts alone, without what they say to students."""
    lines = source.splitlines()
    for node in reversed(ast.parse(source).body):
        if isinstance(node, ast.Assert) and node.end_lineno is not None:
            test = ast.get_source_segment(source, node.test)
            lines[node.lineno - 1 : node.end_lineno] = f"assert {test}".splitlines()
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--complete", action="store_true", help="the complete notebook, no blanks")
    arguments = parser.parse_args()
    make = write_complete if arguments.complete else write
    make(arguments.source, arguments.target)


if __name__ == "__main__":
    main()
