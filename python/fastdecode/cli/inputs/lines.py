"""Lines: the texts of a file, one a line, as plain text or as JSON Lines."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastdecode.models import strict_json

# What --file-format may be.
FORMATS = ("text", "jsonl")
_JSON_LINES = (".jsonl", ".ndjson", ".jsonlines")
_AS_TEXT = "--file-format text takes each line as it is"
_RECORDS = "orient='records', lines=True"
# How files of other formats become JSON Lines, by the end of their name.
_CONVERSIONS = {
    ".json": "with jq -c '.[]' (if each line is an object already, use --file-format jsonl)",
    ".csv": f"with pandas.read_csv(...).to_json(..., {_RECORDS})",
    ".tsv": f"with pandas.read_csv(..., sep='\\t').to_json(..., {_RECORDS})",
    ".parquet": f"with pandas.read_parquet(...).to_json(..., {_RECORDS})",
    ".xlsx": f"with pandas.read_excel(...).to_json(..., {_RECORDS})",
    ".xls": f"with pandas.read_excel(...).to_json(..., {_RECORDS})",
    ".gz": "with gunzip first",
    ".zip": "with unzip first",
}
# The field that has the text, by what the texts are; the first of them that an object has.
_FIELDS = {"prompt": ("prompt", "text"), "text": ("text", "prompt"), "label": ("label", "text")}
# Columns of tables of texts.
_COLUMNS = frozenset(
    (
        *("id", "index", "idx", "key", "prompt", "text", "sentence", "content", "question"),
        *("answer", "input", "output", "instruction", "completion", "response", "title", "body"),
        *("review", "context", "label", "class", "category", "target", "score"),
    )
)
# The name of a column: up to three words.
_NAME = r"\"?[A-Za-z_][\w-]*(?: [\w-]+){0,2}\"?"
# The first column, which numbers the rows, may have no name. Prose has a space after a comma.
_HEADER = re.compile(rf"(?:{_NAME})?([,;\t|]){_NAME}(?:\1{_NAME})*")


@dataclass(frozen=True, slots=True)
class Line:
    """A text of a file.

    Attributes:
        text: the text.
        fields: the other fields of its JSON object.
    """

    text: str
    fields: dict[str, Any] = field(default_factory=dict)


def file_format(source: str, chosen: str | None) -> str | None:
    """The format of a file: the chosen one, or what its name says; None where it says nothing.

    Raises:
        ValueError: for a name that says that it is neither text nor JSON Lines.
    """
    if chosen is not None:
        return chosen
    ending = Path(source).suffix.lower()
    if ending in _JSON_LINES:
        return "jsonl"
    if ending in _CONVERSIONS:
        raise ValueError(
            f"{source}: a {ending} file is not read; convert it to JSON Lines (.jsonl), one object "
            f"a line, as {_CONVERSIONS[ending]}, or to text with one a line; {_AS_TEXT}"
        )
    return None


def read_lines(whole: str, source: str, what: str, kind: str | None) -> list[Line]:
    """The texts in the text of a file, one a line.

    Args:
        whole: the text of the file.
        source: its name, for error messages.
        what: what a text is called: "prompt".
        kind: "text", "jsonl", or None for text that must not look like another format.

    Raises:
        ValueError: where there is none, for an empty line, for a line that is no JSON object with a
            text, and for text that looks like JSON or a table.
    """
    lines = whole.split("\n")
    # Empty lines at the end change no line number.
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise ValueError(f"{source} has no {what} in it")
    if kind is None:
        _refuse_other_formats(lines, source)
    elif kind == "jsonl":
        _refuse_json(lines, source)
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise ValueError(
                f"{source}, line {number}: it is empty; give it a {what}, or remove it"
            )
        place = f"{source}, line {number}"
        found.append(_object(line, place, what) if kind == "jsonl" else Line(line))
    return found


def _object(line: str, place: str, what: str) -> Line:
    """The text in a JSON object, and its other fields."""
    names = _FIELDS[what]
    wanted = f'an object with a string "{names[0]}", such as {{"{names[0]}": "Once upon a time"}}'
    value = strict_json.parse(line, place, unique=True)
    if not isinstance(value, dict):
        raise ValueError(f"{place}: it is {strict_json.shown(value)}; give {wanted}")
    name = next((name for name in names if name in value), None)
    if name is None:
        has = f"has {', '.join(map(strict_json.shown, value))}" if value else "is empty"
        raise ValueError(f'{place}: the object {has}, and no "{names[0]}"; give {wanted}')
    text = value.pop(name)
    if not isinstance(text, str):
        raise ValueError(f'{place}: "{name}" is {strict_json.shown(text)}; give {wanted}')
    return Line(text, value)


def _refuse_other_formats(lines: list[str], source: str) -> None:
    """Refuse text whose lines are not texts, but pieces of JSON or of a table."""
    first = lines[0].strip()
    if _is_json(first, dict):
        raise ValueError(
            f"{source} looks like JSON Lines; name it .jsonl, or use --file-format jsonl; "
            f"{_AS_TEXT}"
        )
    if first in ("{", "[", "[{") or _is_json("\n".join(lines), list, dict):
        raise ValueError(
            f"{source} looks like JSON; convert it to JSON Lines (.jsonl), one object a line, as "
            f"{_CONVERSIONS['.json']}; {_AS_TEXT}"
        )
    separator = _separator(first)
    if separator is not None and len(lines) > 1:
        rows = sum(separator in line for line in lines[1:])
        if 2 * rows > len(lines) - 1:
            raise ValueError(
                f"{source} looks like a table with the columns {first}; convert it to JSON Lines "
                f"(.jsonl), one object a line, as {_CONVERSIONS['.csv']}; {_AS_TEXT}"
            )


def _refuse_json(lines: list[str], source: str) -> None:
    """Refuse JSON whose objects are not one a line."""
    first = lines[0].strip()
    if _is_json(first, dict):
        return
    whole = "\n".join(lines).strip()
    if first in ("{", "[", "[{") or (first[:1] in "{[" and _is_json(whole, list, dict)):
        raise ValueError(
            f"{source} is JSON, but not JSON Lines, which has one object a line; convert it with "
            "jq -c '.[]' if it is an array, or with jq -c . if it is objects over several lines"
        )


def _separator(line: str) -> str | None:
    """What separates the names in the header of a table of texts; None for another line."""
    header = _HEADER.fullmatch(line)
    if header is None:
        return None
    separator = header[1]
    names = {name.strip('"').lower().rstrip("0123456789_") for name in line.split(separator)}
    return separator if names & _COLUMNS else None


def _is_json(text: str, *kinds: type) -> bool:
    """Whether a text is JSON of one of these kinds, and not an empty one or one of numbers."""
    if not text.startswith(("{", "[")):
        return False
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if isinstance(value, list) and not all(isinstance(item, dict | str) for item in value):
        return False
    return bool(value) and isinstance(value, kinds)
