"""Write the signatures and docstrings of `Sample` and `Beam` from the core's table of parameters.

    python tools/generate_signatures.py

Each truncation and each logits processor declares its parameter in the core. This script writes
what has to repeat them: the docstrings in `rust/fastdecode-py/docs`, whose first lines are what
Python knows as the signatures, and the arguments in `python/fastdecode/_core.pyi`. Run it after a
change of the table, and build the extension again; `tests/test_signatures.py` compares the two.
"""

from __future__ import annotations

import json
import subprocess
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "rust" / "fastdecode-py" / "docs"
STUB = ROOT / "python" / "fastdecode" / "_core.pyi"
# What `Sample` takes by position.
POSITIONAL = ("temperature", "top_k", "top_p")
# `Beam` has an argument of this name itself, which may be a function, too.
NOT_A_BEAM_S = ("allowed",)
# Parameters of others, which change no row by themselves.
NO_STEP = ("eos_token_id", "penalties_count_prompt")

TYPES = {
    "flag": "bool",
    "integer": "int",
    "number": "float",
    "numbers": "Sequence[float]",
    "tokens": "Sequence[int]",
    "sequences": "Sequence[Sequence[int]]",
    "biases": "Any",
    "record": "Mapping[str, Any]",
}
WORDS = {
    "flag": "bool",
    "integer": "int",
    "number": "float",
    "tokens": "sequence of int",
    "sequences": "sequence of sequences of int",
    "biases": "dict or sequence of pairs",
    "record": "dict",
}

Row = Mapping[str, Any]
Table = Sequence[Row]


def table() -> Table:
    """The core's table, from the core itself: the extension may not be built yet."""
    command = ["cargo", "run", "--quiet", "-p", "fastdecode-core", "--example", "parameters"]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return json.loads(output)


def files(rows: Table) -> dict[Path, str]:
    """What each generated file has to contain."""
    return {
        DOCS / "sample.txt": sample_doc(rows),
        DOCS / "beam.txt": beam_doc(rows),
        STUB: stub(rows, STUB.read_text(encoding="utf-8")),
    }


def sample_rows(rows: Table) -> list[Row]:
    """The parameters in the order of `Sample`'s signature."""
    named = {row["name"]: row for row in rows}
    rest = [row for row in rows if row["name"] not in POSITIONAL]
    rest.sort(key=lambda row: row["stage"] == "processor")
    return [named[name] for name in POSITIONAL] + rest


def beam_rows(rows: Table) -> list[Row]:
    """The logits processors' parameters that `Beam` has, in the order of its signature."""
    return [row for row in rows if row["stage"] == "processor" and row["name"] not in NOT_A_BEAM_S]


def sample_doc(rows: Table) -> str:
    """`Sample`'s docstring, its signature first."""
    arguments = [f"{row['name']}={row['default']!r}" for row in sample_rows(rows)]
    arguments.insert(len(POSITIONAL), "*")
    by_stage = {
        stage: ", ".join(
            row["name"] for row in rows if row["stage"] == stage and row["name"] not in NO_STEP
        )
        for stage in ("processor", "truncation")
    }
    template = (DOCS / "sample.template.txt").read_text(encoding="utf-8")
    paragraphs = template.split("\n\n")
    filled = [
        wrapped(p.replace("@order@", f"{by_stage['processor']}; then {by_stage['truncation']}"))
        if "@order@" in p
        else p
        for p in paragraphs
    ]
    return (
        "\n\n".join(filled)
        .replace("@signature@", ", ".join(arguments))
        .replace("@parameters@", "\n".join(entry(row) for row in sample_rows(rows)))
    )


def beam_doc(rows: Table) -> str:
    """`Beam`'s docstring, its signature first."""
    own = beam_rows(rows)
    names = ", ".join(row["name"] for row in own)
    template = (DOCS / "beam.template.txt").read_text(encoding="utf-8")
    return template.replace(
        "@processors@", ", ".join(f"{row['name']}={row['default']!r}" for row in own)
    ).replace("@processor_names@", names)


def entry(row: Row) -> str:
    """A parameter's entry in a docstring."""
    kind = shapes(row) if row["kind"] == "numbers" else WORDS[row["kind"]]
    default = "optional" if row["default"] is None else f"default {row['default']!r}"
    text = f"{row['help']} Range: {row['range']}."
    return f"{row['name']} : {kind}, {default}\n{textwrap.indent(wrapped(text, 92), '    ')}"


def shapes(row: Row) -> str:
    """The tuples that a parameter of several numbers may be."""
    lengths = range(row["required"], len(row["names"]) + 1)
    return " or ".join(f"({', '.join(row['names'][:length])})" for length in lengths)


def wrapped(text: str, width: int = 96) -> str:
    """A paragraph in lines."""
    return textwrap.fill(" ".join(text.split()), width, break_long_words=False)


def stub(rows: Table, text: str) -> str:
    """The stub with the arguments of both classes written anew."""
    keywords = sample_rows(rows)[len(POSITIONAL) :]
    sample = [*annotated(sample_rows(rows)[: len(POSITIONAL)]), "*,", *annotated(keywords)]
    text = between(text, "Sample's arguments", sample)
    return between(text, "Beam's logits processors", annotated(beam_rows(rows)))


def annotated(rows: Iterable[Row]) -> list[str]:
    """Parameters as arguments with types."""
    lines = []
    for row in rows:
        optional = " | None" if row["default"] is None and row["kind"] != "biases" else ""
        lines.append(f"{row['name']}: {TYPES[row['kind']]}{optional} = {row['default']!r},")
    return lines


def between(text: str, what: str, lines: Iterable[str]) -> str:
    """Replaces the lines between the two comments that name `what`."""
    begin, end = (
        f"        # {what}, by tools/generate_signatures.py:\n",
        f"        # end of {what}\n",
    )
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return before + begin + "".join(f"        {line}\n" for line in lines) + end + after


def main() -> None:
    """Write the files that differ."""
    for path, text in files(table()).items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
