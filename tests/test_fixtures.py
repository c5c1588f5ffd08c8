"""What earlier releases wrote replays, resumes and reads the same; `fixtures/make.py` made it."""

import json
import math
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import fastdecode
import pytest
from fixtures import make

FOLDER = Path(__file__).with_name("fixtures")
# Sentences that have been put in other words since the fixtures were made: (then, now). Nothing
# else of what a command prints may differ.
REWORDED: list[tuple[str, str]] = [
    (
        'is unknown; give a torch dtype, or "float32", "float64", "bfloat16"',
        "is unknown; give one of these (there are "
        '"float32", "float64", "bfloat16", "float16", "bfloat16_weights", "int8", "int4", "gguf", '
        '"auto")',
    ),
    ("is no slice; give", "is not a slice; give"),
    ("a.jsonl: 1 texts, seed 1", "a.jsonl: 1 text, seed 1"),
    (
        "give a folder with a model, a hub name",
        "give a folder with a model, a .gguf file, a hub name",
    ),
    ('"environment": {', '"model": {}, "note": null, "environment": {'),
    ("LEVELS: the same bits", "LEVELS; 5 dtypes: the same bits"),
]
# Lines that commands have printed only since then.
NEW_LINES = re.compile(r'\n(?:ok  |\{"name": ")instruction for bfloat16.*')
# Formats that have another name now.
RENAMED = {"bfloat16": "bfloat16_weights"}
# What later releases record in the settings of a resumable run, beside what the first one did.
ADDED = {"command", "environment", "identity"}
# What of a run's environment cannot move a bit of the native engine.
HARMLESS = {"fastdecode", "python", "threads"}
# How far log-probabilities may move, in nats, where torch multiplies in 16 bits: each processor
# rounds such products in its own way, and a run of 0.1.0 does not name the processor.
ROUNDING = {"bfloat16": 0.1, "float16": 0.02}


def found(pattern: str) -> list:
    """Files of all releases, as parameters of a test."""
    paths = sorted(FOLDER.glob(pattern))
    assert paths, f"there is no tests/fixtures/{pattern}"
    names = ["-".join(path.relative_to(FOLDER).with_suffix("").parts) for path in paths]
    return [pytest.param(path, id=name) for path, name in zip(paths, names, strict=True)]


@pytest.mark.parametrize("path", found("*/runs/*.json"))
def test_saved_runs_replay(path):
    replay = fastdecode.verify(path)
    if replay.found.environment["engine"] == "native":
        assert replay.same, replay.explain()
        if set(replay.environment) <= HARMLESS:
            assert not replay.largest, replay.explain()
    elif replay.found.environment["dtype"] in ROUNDING:
        assert (replay.largest or 0) <= ROUNDING[replay.found.environment["dtype"]], (
            replay.explain()
        )
    else:
        assert replay.same, replay.explain()
    assert len(replay.found) >= len(replay.saved)
    for name, value in replay.saved.call.items():
        if name == "dtype" and replay.found.environment["engine"] == "native":
            value = RENAMED.get(value, value)
        assert json.loads(json.dumps(replay.found.call[name])) == value, name


@pytest.mark.parametrize("path", found("*/runs/*.json"))
def test_saved_runs_are_saved_again_as_they_were(path, tmp_path):
    fastdecode.Generations.load(path).save(tmp_path / "again.json")
    then = json.loads(path.read_text("utf-8"))
    now = json.loads((tmp_path / "again.json").read_text("utf-8"))
    assert then.keys() <= now.keys()
    assert all(now[name] == then[name] for name in then.keys() - {"generations"})
    for old, new in zip(then["generations"], now["generations"], strict=True):
        assert old.keys() <= new.keys()
        assert {name: new[name] for name in old} == old


@pytest.mark.parametrize("folder", found("*/resume/*"))
def test_half_done_files_resume(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    half, complete = Path("half.jsonl"), Path("complete.jsonl").read_bytes()
    before = half.read_bytes().count(b"\n")
    code, out, err = make.command(json.loads(Path("command.json").read_text("utf-8")))
    assert (code, out) == (0, ""), err
    assert f" {before} of " in err
    assert half.read_bytes() == complete


@pytest.mark.parametrize("path", found("*/transcripts/*.json"))
def test_commands_print_the_same(path, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    then = json.loads(path.read_text("utf-8"))
    session = [([RENAMED.get(word, word) for word in record["argv"]], record["stdin"])
               for record in then]  # fmt: skip
    now = make.transcript(session, tmp_path, make.normal)
    for old, new in zip(then, now, strict=True):
        line = "fastdecode " + " ".join(old["argv"])
        assert new["code"] == old["code"], f"{line}: {new['stderr']}"
        if old["argv"][-1] == "--help":
            assert offered(old["stdout"]) <= offered(new["stdout"]), line
            continue
        assert same(old["stderr"], new["stderr"]), line
        if old["stdout"][:1] and old["stdout"][0].startswith("<svg "):
            assert drawn(old["stdout"]) == drawn(new["stdout"]), line
            continue
        assert same(old["stdout"], new["stdout"]), line
        assert old.get("files", {}).keys() == new.get("files", {}).keys(), line
        for name, lines in old.get("files", {}).items():
            assert settled(name, lines) == settled(name, new["files"][name]), f"{line}: {name}"


def offered(lines: list[str]) -> set[str]:
    """Options and commands that a help page lists; its sentences may change."""
    listed = "\n".join(lines).partition("Options:")[2].splitlines()
    columns = [line.strip().split("  ")[0] for line in listed if re.match(r"  \S", line)]
    return {name for column in columns for name in re.findall(r"--?[a-z][\w-]*|^[a-z]+$", column)}


def drawn(lines: list[str]) -> list[tuple[str | None, list[str | None]]]:
    """The boxes of a drawing, each with its kind and its texts; where they lie may change."""
    groups = ElementTree.fromstring("\n".join(lines)).iter("{http://www.w3.org/2000/svg}g")
    return [(group.get("class"), [part.text for part in group if part.text]) for group in groups]


def settled(name: str, lines: list[str]) -> list:
    """A file's records; of the settings of a run, those that are on and not of a later release."""
    if not name.endswith(".run.json"):
        return lines
    settings = json.loads("\n".join(lines))
    return [
        {name: value for name, value in settings.items() if value is not None and name not in ADDED}
    ]


def same(then: list[str], now: list[str]) -> bool:
    """Whether lines are the same, but for the last digits of numbers that have all of theirs.

    These are logarithms, which the mathematical library of another system rounds differently.
    """
    old, new = "\n".join(then), "\n".join(now)
    for before, since in REWORDED:
        old = old.replace(before, since)
    new = NEW_LINES.sub("", new)
    for before, since in RENAMED.items():
        new = new.replace(f'"{since}"}}', f'"{before}"}}')
    number = re.compile(r"-?\d+\.\d{9,}(?:e[+-]?\d+)?")
    assert number.sub("#", new) == number.sub("#", old)
    return all(
        math.isclose(float(a), float(b), rel_tol=1e-9)
        for a, b in zip(number.findall(old), number.findall(new), strict=True)
    )
