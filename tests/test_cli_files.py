"""Files that the command line reads, JSON Lines among them, and escape sequences in options."""

from __future__ import annotations

import json
import re

import pytest

ROWS = [
    {"id": 17, "prompt": "Once upon a time", "tags": ["a", {"b": None}]},
    {"id": "x-2", "prompt": "The king\nand the queen", "weight": 0.5},
    {"prompt": "Alice was very"},
]
SHORT = ("-m", "demo", "--max-new-tokens", "3")


def lines_of(rows) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.fixture
def jsonl(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text(lines_of(ROWS), "utf-8")
    return path


def objects(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def others(row) -> dict:
    return {name: value for name, value in row.items() if name not in ("prompt", "text")}


def test_generate_copies_the_fields(run, jsonl, tmp_path):
    shared = (
        "generate",
        "--file",
        str(jsonl),
        "-m",
        "demo",
        "--max-new-tokens",
        "3",
        "--seed",
        "7",
    )
    code, out, err = run(*shared, "-n", "2", "--json")
    assert (code, err) == (0, "")
    found = objects(out)
    assert [(o["prompt"], o["sample"]) for o in found] == [
        (row["prompt"], sample) for row in ROWS for sample in (0, 1)
    ]
    for place, item in enumerate(found):
        fields = others(ROWS[place // 2])
        assert {name: item[name] for name in fields} == fields
        assert list(item)[: len(fields)] == list(fields)
    # The texts are those of the same prompts without fields.
    plain = run("generate", *(row["prompt"] for row in ROWS), *shared[3:], "-n", "2", "--json")
    assert [o["text"] for o in found] == [o["text"] for o in objects(plain[1])]
    # The same in a saved run and in a resumable file.
    code, again, _ = run(*shared, "-n", "2", "--json", "--save", str(tmp_path / "run.json"))
    assert (code, objects(again)) == (0, found)
    lines = tmp_path / "texts.jsonl"
    assert run(*shared, "-n", "2", "--out", str(lines))[0] == 0
    assert objects(lines.read_text("utf-8")) == found


def test_a_file_resumes_with_its_fields(run, jsonl, tmp_path):
    lines = tmp_path / "texts.jsonl"
    call = (
        "generate",
        "--file",
        str(jsonl),
        "-m",
        "demo",
        "--max-new-tokens",
        "3",
        "--out",
        str(lines),
    )
    assert run(*call)[0] == 0
    whole = lines.read_bytes()
    lines.write_bytes(whole.splitlines(keepends=True)[1])
    code, _, err = run(*call)
    assert (code, "1 of them from before" in err) == (0, True)
    assert lines.read_bytes() == whole
    changed = [{**row, "id": 99} for row in ROWS]
    jsonl.write_text(lines_of(changed), "utf-8")
    code, _, err = run(*call)
    assert code == 2
    assert "was begun with other prompts or other fields (3 then, 3 now)" in err


def test_plain_text_ignores_the_fields(run, jsonl):
    code, out, _ = run("generate", "--file", str(jsonl), "-m", "demo", "--max-new-tokens", "3")
    assert code == 0
    assert "The king\nand the queen" in out
    assert "x-2" not in out


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("score",), "text"),
        (("compare",), "text"),
        (("surprising",), "text"),
        (("classify", "--label", "castle", "--label", "kitchen"), "text"),
        (("tokens",), "text"),
        (("next",), "prompt"),
    ],
)
@pytest.mark.parametrize("key", ["text", "prompt"])
def test_every_command_copies_the_fields(run, tmp_path, command, text, key):
    rows = [{"id": i, key: f"{word}\nhouse"} for i, word in enumerate(("The", "A", "My"))]
    path = tmp_path / "texts.ndjson"
    path.write_text(lines_of(rows), "utf-8")
    code, out, err = run(*command, "--file", str(path), "-m", "demo", "--json")
    assert code == 0, err
    found = {o["id"]: o[text] for o in objects(out)}
    assert found == {row["id"]: row[key] for row in rows}
    # Arguments come first, and have no fields.
    code, out, err = run(*command, "Once", "--file", str(path), "-m", "demo", "--json")
    assert code == 0, err
    assert sorted(o.get("id", -1) for o in objects(out)) == [-1, 0, 1, 2]


def test_a_field_that_the_output_has_is_kept_apart(run, tmp_path):
    path = tmp_path / "texts.jsonl"
    rows = [{"id": 3, "text": "a cat", "label": "kitchen", "input": 5}, {"text": "a", "input": 5}]
    path.write_text(lines_of(rows), "utf-8")
    labels = ("--label", "castle", "--label", "kitchen")
    code, out, _ = run("classify", "--file", str(path), "-m", "demo", "--json", *labels)
    assert code == 0
    first, second = objects(out)
    assert (first["id"], first["input"]) == (3, {"label": "kitchen", "input": 5})
    assert second["input"] == 5
    # What generate has written can be scored.
    made = tmp_path / "made.jsonl"
    call = ("generate", "Once", "-m", "demo", "--max-new-tokens", "3", "--json")
    made.write_text(run(*call)[1], "utf-8")
    code, out, _ = run("score", "--file", str(made), "-m", "demo", "--json")
    (found,) = objects(out)
    assert (code, found["prompt"]) == (0, "Once")
    assert found["text"] == objects(made.read_text("utf-8"))[0]["text"]
    assert found["input"]["token_ids"] == objects(made.read_text("utf-8"))[0]["token_ids"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "a"', "column 15: it is not JSON"),
        ('{"prompt": "a"} x', "column 17: it is not JSON"),
        ("Once upon", "column 1: it is not JSON"),
        ('"Once upon"', 'it is "Once upon"; give an object with a string "prompt"'),
        ("[1]", "it is [1]; give an object"),
        ("{}", 'the object is empty, and no "prompt"'),
        ('{"id": 3}', 'the object has "id", and no "prompt"'),
        ('{"prompt": 3}', '"prompt" is 3; give an object'),
        ('{"prompt": null}', '"prompt" is null; give an object'),
        ('{"prompt": ["a"]}', '"prompt" is ["a"]; give an object'),
        ('{"prompt": "a", "x": NaN}', "x is NaN, which is not finite"),
        ('{"prompt": "a", "x": [1e999]}', "x[0] is Infinity, which is not finite"),
        ('{"prompt": "\\ud800"}', "prompt has half of a surrogate pair"),
        ('{"x": ' + "[" * 5000, "column 70: it is nested more than 64 levels deep"),
        ('{"prompt": "a", "prompt": "b"}', 'the object has "prompt" twice; keep one of them'),
        ('{"prompt": "a", "x": {"y": 1, "y": 1}}', 'the object has "y" twice'),
        ('{"prompt": "a", "x": ' + "1" * 5000 + "}", "it has an integer of more than 4300 digits"),
        (" ", "it is empty; give it a prompt, or remove it"),
    ],
)
def test_a_bad_line_is_named(run, tmp_path, line, message):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "Once"}\n' + line + '\n{"prompt": "A"}\n', "utf-8")
    code, out, err = run("generate", "--file", str(path), "-m", "demo")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {path}, line 2")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["array", "array of strings", "pretty", "pretty array"])
def test_json_that_is_not_json_lines(run, tmp_path, name):
    path = tmp_path / "prompts.jsonl"
    path.write_text(LOOKS[name], "utf-8")
    code, out, err = run("generate", "--file", str(path), "-m", "demo")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {path} is JSON, but not JSON Lines, which has one object a line")
    assert "jq -c" in err


def test_errors_of_the_package_name_the_line(run, tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text(lines_of([{"prompt": "Once"}, {"prompt": "word " * 3000}]), "utf-8")
    code, _, err = run("generate", "--file", str(path), "-m", "demo")
    assert code == 2
    assert f"{path}, line 2 has" in err


CSV = "id,text\n1,Once upon\n2,The king\n"
LOOKS = {
    "jsonl": '{"prompt": "a"}\n{"prompt": "b"}\n',
    "one object": '{"prompt": "a"}\n',
    "broken jsonl": '{"prompt": "a"}\n{"prompt": \n',
    "array": '[{"prompt": "a"}, {"prompt": "b"}]\n',
    "array of strings": '["a", "b"]\n',
    "pretty": '{\n  "prompt": "a"\n}\n',
    "pretty array": '[\n  {"prompt": "a"}\n]\n',
    "csv": CSV,
    "semicolons": CSV.replace(",", ";"),
    "tabs": CSV.replace(",", "\t"),
    "quoted": '"id","text"\n"1","Once, upon"\n',
    "index of pandas": ",prompt\n0,Once upon\n1,The king\n",
    "names of several words": "user prompt,label\nOnce upon,tale\n",
    "quoted names of several words": '"user prompt","label-id","text"\n"Once","1","a"\n',
    "numbered names": "sentence1\tsentence2\nOnce\tHe\n",
    "commas in texts": "prompt,label\nOnce, upon a time,tale\nAlice, and,tale\n",
}


@pytest.mark.parametrize("name", LOOKS)
@pytest.mark.parametrize("source", ["prompts.txt", "prompts", "-"])
def test_other_formats_are_refused_with_the_fix(run, tmp_path, name, source):
    file = source if source == "-" else str(tmp_path / source)
    if source != "-":
        (tmp_path / source).write_text(LOOKS[name], "utf-8")
    for command in ("generate", "score"):
        code, out, err = run(command, "--file", file, "-m", "demo", stdin=LOOKS[name])
        assert (code, out) == (2, "")
        shown = "standard input" if source == "-" else re.escape(file)
        assert re.match(rf"error: {shown} looks like (JSON|a table)", err), err
        assert ".jsonl" in err
        assert "--file-format text takes each line as it is" in err
    code, out, _ = run(
        "tokens", "--file", file, "--file-format", "text", "-m", "demo", "--json", stdin=LOOKS[name]
    )
    assert code == 0
    assert [o["text"] for o in objects(out)] == LOOKS[name].splitlines()


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".json", ".parquet", ".xlsx", ".CSV", ".gz"])
def test_files_of_other_names_are_refused(run, tmp_path, ending):
    path = tmp_path / f"texts{ending}"
    path.write_bytes(b"text\nOnce upon\n" if ending in (".csv", ".CSV") else b"\xff\x00")
    code, out, err = run("score", "--file", str(path), "-m", "demo")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {path}: a {ending.lower()} file is not read; convert it")
    assert "JSON Lines (.jsonl)" in err


@pytest.mark.parametrize(
    "text",
    [
        "Once upon a time\nThe king\n",
        "{name} went to\n{place} is\n",
        "[INST] Hello [/INST]\n[INST] Bye [/INST]\n",
        "[1] A reference\n[2] Another\n",
        "[1]\n[2]\n",
        '"Hello," she said.\n"Bye."\n',
        "Hello, world\nGood day, sir\n",
        "text\nprompt\n",
        "Yes, no\nid, ego\n",
        "one,two,three\nfour,five,six\n",
        "Dear reader,you\nare,here\n",
        ",and\n,or\n",
        "12,text\n13,text\n",
        "id,text\n",
        "3\n",
        "null\n",
    ],
)
def test_text_that_is_text_is_read(run, text):
    code, out, err = run("tokens", "--file", "-", "-m", "demo", "--json", stdin=text)
    assert code == 0, err
    assert [o["text"] for o in objects(out)] == text.splitlines()


def test_the_format_can_be_given(run, tmp_path, jsonl):
    path = tmp_path / "prompts.txt"
    path.write_bytes(b"\xef\xbb\xbf" + jsonl.read_bytes().replace(b"\n", b"\r\n"))
    call = ("--file-format", "jsonl", *SHORT, "--json", "--seed", "7")
    code, out, err = run("generate", "--file", str(path), *call)
    assert code == 0, err
    assert [o["prompt"] for o in objects(out)] == [row["prompt"] for row in ROWS]
    again = run("generate", "--file", "-", *call, stdin=jsonl.read_text("utf-8"))
    assert again[1] == out
    code, _, err = run("generate", "Once", *call)
    assert code == 2
    assert "--file-format jsonl is the format of --file FILE; give both" in err


def test_labels_in_json_lines(run, tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_text('{"label": "castle"}\n{"label": " kitchen"}\n', "utf-8")
    code, out, _ = run("classify", "a cat", "--labels", str(path), "-m", "demo", "--json")
    assert code == 0
    assert set(objects(out)[0]["posterior"]) == {"castle", "kitchen"}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (r"\n", "\n"),
        (r"\n\n", "\n\n"),
        (r"a\tb\r", "a\tb\r"),
        (r"\\n", r"\n"),
        (r"\\", "\\"),
        (r"\x41\u00e9\U0001F600", "Aé😀"),
        ("\n", "\n"),
        ("é.", "é."),
    ],
)
def test_escape_sequences_of_stop(run, typed, meant):
    import fastdecode

    call = {"model": "demo", "max_new_tokens": 40, "seed": 3, "temperature": 0.9}
    expected = fastdecode.generate("Once", stop=[meant], **call)[0]
    shared = ("Once", "-m", "demo", "--max-new-tokens", "40", "--seed", "3", "--temperature", "0.9")
    code, out, err = run("generate", *shared, "--stop", typed, "--json")
    assert code == 0, err
    (found,) = objects(out)
    assert (found["text"], found["finish_reason"]) == (expected.text, expected.finish_reason)


@pytest.mark.parametrize("typed", [r"\d", "\\", "a\\", r"\x4", r"\u12", r"\ud800", r"\U00110000"])
def test_other_backslashes_are_refused(run, typed):
    for command in (
        ("generate", "Once", "--stop", typed),
        ("beam", "Once", "--stop", typed),
        ("classify", "Once", "--label", "a", "--label", "b", "--separator", typed),
    ):
        code, out, err = run(*command, "-m", "demo")
        assert (code, out) == (2, "")
        assert re.search(r"which is not an? (escape sequence|character)", err)


def test_escape_sequences_of_other_options(run):
    call = ("classify", "a cat", "--label", "castle", "--label", "kitchen", "-m", "demo", "--json")
    assert run(*call, "--separator", r"\n") == run(*call, "--separator", "\n")
    assert run(*call, "--separator", r"\n")[1] != run(*call)[1]
    beam = ("beam", "Once", *SHORT, "--json", "--seed", "7")
    assert run(*beam, "--stop", r"\x20the") == run(*beam, "--stop", " the")
