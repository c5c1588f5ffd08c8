"""Hostile values of every option of every command.

python tests/hostile_commands.py            # all of them
python tests/hostile_commands.py generate   # those of some commands
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import click
from fastdecode import cli
from fastdecode.cli.main import app
from findings import report

# What a shell passes by mistake; bytes that are no UTF-8 arrive as surrogates.
VALUES = {
    "nothing": "",
    "blank": " ",
    "NaN": "nan",
    "infinity": "1e999",
    "negative": "-1",
    "digits": "9" * 400,
    "not UTF-8": os.fsdecode(b"caf\xe9"),
    "folder": "/",
    "missing": "/nowhere/at/all",
    "full": "/dev/full",
    "word": "king",
    "list": "1,,x",
    "lines": "a\nb\x1b[31m",
    "JSON": '{"a": [1',
}
FEW = ("nothing", "NaN", "negative", "digits", "not UTF-8", "folder")
# Arguments with which a command has little to do.
RUNS = {
    "generate": ["Once", "--max-new-tokens=1"],
    "chat": ["--max-new-tokens=1", "--chat-template=template"],
    "beam": ["Once", "--max-new-tokens=1", "--num-beams=2"],
    "next": ["Once"],
    "score": ["Once"],
    "compare": ["Once", "Twice"],
    "classify": ["Once", "--label=a", "--label=b"],
    "surprising": ["Once", "Twice"],
    "tokens": ["Once"],
    "replay": [],
    "selfcheck": [],
    "bench": ["--batch=1", "--max-new-tokens=1", "--repeats=1"],
}


def run(arguments: Sequence[str], typed: str = "") -> tuple[int, str, str]:
    """The exit code, the output and the errors of a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    before = sys.argv, sys.stdin
    sys.argv, sys.stdin = ["fastdecode", *arguments], io.StringIO(typed)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                cli.main()
            except SystemExit as ending:
                code = ending.code
    finally:
        sys.argv, sys.stdin = before
    assert isinstance(code, int)
    return code, out.getvalue(), err.getvalue()


@cache
def saved_run() -> str:
    """The path of a run."""
    path = str(Path(tempfile.mkdtemp(prefix="fastdecode-commands-")) / "run.json")
    run(["generate", "Once", "--model=demo", "--max-new-tokens=1", f"--save={path}"])
    return path


def options(command: str) -> Iterator[click.Option]:
    """The options of a command that take a value."""
    for parameter in app.commands[command].params:
        if isinstance(parameter, click.Option) and not parameter.is_flag:
            yield parameter


def attack(command: str, option: click.Option, value: str, path: str) -> str | None:
    """What is wrong with the answer of a command to an option's value, or None.

    Args:
        command: its name.
        option: the option.
        value: its value.
        path: a saved run.
    """
    long = max(option.opts, key=len)
    given = [path] if command == "replay" else RUNS[command]
    # An option that is repeated is given once here.
    rest = [one for one in given if not one.startswith(f"{long}=")]
    model = [] if long in ("--model",) or command == "selfcheck" else ["--model=demo"]
    if command == "replay":
        model = []
    exact = [f"{long}={value}"] if long.startswith("--") else [f"{long}{value}"]
    if exact == [long]:
        exact = [long, value]
    try:
        code, _, err = run([command, *rest, *model, *exact], "Hello\n")
    except BaseException as error:  # A bug reaches this process as it is.
        return f"{type(error).__name__}: {error}"
    if "Traceback" in err:
        return "a traceback"
    if code == 0:
        return None
    lines = [line for line in err.splitlines() if not line.startswith("warning: ")]
    if code != 2:
        return f"exit code {code}: {err[:200]!r}"
    if len(lines) != 1 or not lines[0].startswith("error: "):
        return f"not one line: {err[:300]!r}"
    if not lines[0].isprintable() or len(lines[0]) > 600:
        return f"long, or not for a terminal: {err[:300]!r}"
    names = {one.lstrip("-").replace("-", "[-_]") for one in (*option.opts, option.name or long)}
    # What is repeated makes a list, which Python's arguments have the plural for.
    plural = "s?" if option.multiple else ""
    if not re.search(rf"(?<!\w)(--?)?({'|'.join(names)}){plural}(?!\w)", lines[0]):
        # A file is named by its path.
        if "No such file" in lines[0]:
            return None
        if value.strip() and (value in lines[0] or repr(value)[1:-1] in lines[0]):
            return None
        return f"{long} is not named: {lines[0][:300]!r}"
    return None


def findings(commands: Sequence[str], values: Sequence[str]) -> Iterator[str]:
    """What breaks the rule, in words."""
    for command in commands:
        for option in options(command):
            # One that names a file may write it.
            with tempfile.TemporaryDirectory(prefix="fastdecode-commands-") as folder:
                os.chdir(folder)
                Path("template").write_text("{{ messages[0]['content'] }}")
                saved = saved_run() if command == "replay" else ""
                for name in values:
                    if name == "full" and not {"--save", "--out"} & {*option.opts}:
                        # What is read from it has no end; tests/test_streams.py reads that.
                        continue
                    wrong = attack(command, option, VALUES[name], saved)
                    if wrong is not None:
                        yield f"{command} {max(option.opts, key=len)} ({name}): {wrong}"
                os.chdir(Path(tempfile.gettempdir()))


if __name__ == "__main__":
    report(findings(sys.argv[1:] or list(RUNS), list(VALUES)))
