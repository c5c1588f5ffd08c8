"""Run the quick start of README.md and replace its outputs with what it prints.

    python tools/update_readme.py

Lines that begin with >>> or ... are kept; everything between them is replaced.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import tempfile
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
_BLOCK = re.compile(r"(?<=<!-- quick start: begin -->\n```pycon\n).*?(?=```\n)", re.DOTALL)


def block(readme: str) -> str:
    """The quick start in the text of the README."""
    found = _BLOCK.search(readme)
    if found is None:
        raise ValueError("the README has no quick start between its markers")
    return found[0]


def run(quick_start: str) -> str:
    """Run the inputs in a temporary folder; return them with their current outputs."""
    lines: list[str] = []
    names: dict[str, object] = {"__name__": "__main__"}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for example in doctest.DocTestParser().get_examples(quick_start):
            source = example.source.splitlines()
            lines += [f"{'...' if i else '>>>'} {line}" for i, line in enumerate(source)]
            if len(source) > 1:
                lines.append("...")
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(example.source, "README.md", "single"), names)
            output = printed.getvalue()
            lines += output.splitlines()
            if output:
                lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def main() -> None:
    """Update the file in place."""
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    text = README.read_text(encoding="utf-8")
    fresh = run(block(text))
    README.write_text(_BLOCK.sub(lambda _: fresh, text, count=1), encoding="utf-8")


if __name__ == "__main__":
    main()
