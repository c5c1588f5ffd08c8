"""Make the students' notebook from the teacher's by replacing the answers with blanks.

    python tools/student_notebook.py docs/notebooks/prediction_to_generation.py students.ipynb

The teacher's notebook marks cells with tags:

    exercise    in lines that end in `# answer`, all but the left-hand side becomes `...`
    answer      the content of the cell is replaced by "# Your turn."
    teacher     the cell is left out
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import jupytext

_ANSWER = re.compile(r"^(?P<indent>\s*)(?P<left>[\w\[\], .]+ = |return )?.*# answer$")
TAGS = frozenset({"exercise", "answer", "teacher"})


def blank(line: str) -> str:
    """Replace the answer in a line with a blank; return other lines unchanged."""
    found = _ANSWER.match(line)
    if found is None:
        return line
    return f"{found['indent']}{found['left'] or ''}...  # your turn"


def students(notebook: Any) -> Any:
    """Turn a teacher's notebook into the students' version, in place, and return it.

    Raises:
        ValueError: if a cell has `# answer` lines without the tag "exercise", or the reverse.
    """
    kept = []
    for cell in notebook.cells:
        tags = TAGS & set(cell.metadata.get("tags", ()))
        lines = cell.source.splitlines()
        if ("exercise" in tags) != any(_ANSWER.match(line) for line in lines):
            raise ValueError(f"the tag 'exercise' and '# answer' go together:\n{cell.source}")
        if "teacher" in tags:
            continue
        if "exercise" in tags:
            cell.source = "\n".join(map(blank, lines))
        if "answer" in tags:
            cell.source = "# Your turn.\n"
        kept.append(cell)
    notebook.cells = kept
    return notebook


def write(source: Path, target: Path) -> None:
    """Read the teacher's notebook (py:percent) and write the students' (.ipynb or .py)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    jupytext.write(students(jupytext.read(source, fmt="py:percent")), target)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    write(arguments.source, arguments.target)


if __name__ == "__main__":
    main()
