"""The command line's surroundings: escapes, missing and full streams, interrupts, odd files."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time

import fastdecode
import pytest
from fastdecode.display.terminal import printable
from folders import copy_of_demo
from gguf_files import write_model

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX streams, signals and files")

HOSTILE = "\x1b[31m\x1b]0;title\x07\x9b2J\x7f\u202e\u2066\u200f\r\udcff\ud800\u2028"
# What a terminal obeys, or what has no encoding.
OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
COMMANDS = {
    "help": ["--help"],
    "generate": ["generate", "Once", "-m", "demo", "--max-new-tokens", "3"],
    "next": ["next", "Once", "-m", "demo"],
    "tokens": ["tokens", "alligator", "-m", "demo"],
    "score": ["score", "Once", "-m", "demo", "--json"],
    "stdin": ["generate", "-", "-m", "demo", "--max-new-tokens", "2"],
}
# The other commands; RUN is a saved run, CHATTY a model with a chat template.
MORE = {
    "beam": ["beam", "Once", "-m", "demo", "--max-new-tokens", "2"],
    "compare": ["compare", "Once", "Twice", "-m", "demo"],
    "classify": ["classify", "Once", "-l", "castle", "-l", "kitchen", "-m", "demo"],
    "surprising": ["surprising", "Once", "Twice", "-m", "demo"],
    "chat": ["chat", "-m", "CHATTY", "--max-new-tokens", "2"],
    "replay": ["replay", "RUN"],
    "bench": ["bench", "-m", "demo", "-b", "1", "--max-new-tokens", "2", "--repeats", "1"],
    "selfcheck": ["selfcheck"],
    "torch": ["generate", "Once", "-m", "demo", "--engine", "transformers"],
}


def test_everything_a_terminal_obeys_is_replaced():
    every = "".join(map(chr, range(0x11000)))
    assert not OBEYED.search(printable(every))
    assert printable("a\tb\nc é 你 🐊") == "a\tb\nc é 你 🐊"
    assert printable(HOSTILE).encode()


def shell(command: list[str], redirections: str) -> tuple[int, str, str]:
    line = f'echo Once | exec "$0" -m fastdecode "$@" {redirections}'
    done = subprocess.run(
        ["bash", "-c", line, sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    return done.returncode, done.stdout, done.stderr


CLOSED = [
    " ".join(some) for n in (1, 2, 3) for some in itertools.combinations(("<&-", ">&-", "2>&-"), n)
]
FULL = [">/dev/full", "2>/dev/full", ">/dev/full 2>/dev/full", "<&- >/dev/full 2>&-"]


@pytest.mark.parametrize("redirections", [*CLOSED, *FULL])
def test_missing_and_full_streams(redirections):
    lost = ">&-" in redirections.replace("2>&-", "") or ">/dev/full" in redirections.replace(
        "2>/dev/full", ""
    )
    for name in ("generate", "stdin"):
        code, out, err = shell(COMMANDS[name], redirections)
        assert "Traceback" not in err
        if name == "stdin" and "<&-" in redirections:
            assert code == 2
            told = "error: standard input: Bad file descriptor\n"
        else:
            assert code == lost
            reason = "No space left on device" if "/dev/full" in redirections else "Bad file desc"
            told = f"error: standard output: {reason}" if lost else ""
            assert bool(out) == (not lost)
        assert err == "" if "2>" in redirections else err.startswith(told)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """The arguments of each command, with a saved run and a model with a chat template in place."""
    folder = tmp_path_factory.mktemp("commands")
    known = {
        "RUN": str(folder / "run.json"),
        "CHATTY": str(write_model(folder / "chatty.gguf")),
    }
    fastdecode.generate("Once", model="demo", max_new_tokens=2).save(known["RUN"])
    return {
        name: [known.get(word, word) for word in words] for name, words in (COMMANDS | MORE).items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS | MORE)
@pytest.mark.parametrize("redirections", [*CLOSED, *FULL])
def test_every_command_without_streams(arguments, name, redirections):
    code, _, err = shell(arguments[name], redirections)
    assert code in (0, 1, 2)
    assert "Traceback" not in err


# Foreign texts at every place from which they could reach a terminal.
@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "--file", "HOSTILE.txt", "-m", "demo"],
        ["generate", "Once", "-m", "HOSTILE"],
        ["generate", "Once", "-m", "demo", "--device", "HOSTILE"],
        ["generate", "Once", "-m", "demo", "--dtype", "HOSTILE"],
        ["generate", "Once", "-m", "demo", "--engine", "HOSTILE"],
        ["generate", "Once", "-m", "demo", "--HOSTILE"],
        ["generate", "Once", "-m", "demo", "--top-k", "HOSTILE"],
        ["generate", "Once", "-m", "demo", "--allowed", "HOSTILE"],
        ["generate", "Once", "-m", "demo", "--stop", "HOSTILE\\q"],
        ["generate", "Once", "-m", "demo", "--save", "no/HOSTILE"],
        ["generate", "Once", "-m", "demo", "--out", "no/HOSTILE"],
        ["generate", "HOSTILE", "-m", "demo", "--save", "run.json", "--json"],
        ["next", "HOSTILE", "-m", "demo"],
        ["tokens", "HOSTILE", "-m", "demo"],
        ["tokens", "-m", "demo", "--containing", "HOSTILE"],
        ["score", "HOSTILE", "-m", "demo"],
        ["score", "HOSTILE", "-m", "demo", "--tokens"],
        ["compare", "HOSTILE", "Once", "-m", "demo"],
        ["surprising", "HOSTILE", "Once", "-m", "demo"],
        ["classify", "Once", "-l", "HOSTILE", "-l", "a", "-m", "demo"],
        ["beam", "HOSTILE", "-m", "demo", "--tree", "--max-new-tokens", "2"],
        ["replay", "HOSTILE.json"],
        ["HOSTILE"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("surrogates", [False, True])
def test_foreign_text_reaches_no_terminal(run, tmp_path, monkeypatch, arguments, surrogates):
    monkeypatch.chdir(tmp_path)
    hostile = HOSTILE if surrogates else re.sub("[\ud800-\udfff]", "", HOSTILE)
    code, out, err = run(*(word.replace("HOSTILE", hostile) for word in arguments))
    assert code in (0, 1, 2)
    assert out or err
    assert not OBEYED.search(out + err), (out, err)


def test_a_saved_run_reaches_no_terminal(run, tmp_path):
    path = tmp_path / "run.json"
    fastdecode.generate("Once", model="demo", max_new_tokens=2).save(path)
    saved = json.loads(path.read_text("utf-8"))
    hostile = re.sub("[\ud800-\udfff]", "", HOSTILE)
    changes = [
        lambda data: data["environment"].update({hostile: hostile, "machine": hostile}),
        lambda data: data["call"].update({"model": hostile}),
        lambda data: data["call"].update({"rng": hostile}),
        lambda data: data["call"].update({"dtype": hostile}),
        lambda data: data["call"]["strategy"].update({"name": hostile}),
        lambda data: data.update({hostile: 1}),
        lambda data: data["generations"][0].update({"text": hostile, "finish_reason": hostile}),
        lambda data: data.update({"identity": {"note": hostile}}),
    ]
    for change in changes:
        data = json.loads(json.dumps(saved))
        change(data)
        path.write_text(json.dumps(data))
        code, out, err = run("replay", "--all", str(path))
        assert code in (0, 1, 2)
        assert not OBEYED.search(out + err), (out, err)


INTERRUPTS = os.environ.get("FASTDECODE_INTERRUPTS")


@pytest.mark.xdist_group("timed")
@pytest.mark.parametrize("name", COMMANDS | MORE if INTERRUPTS else ["help", "generate"])
def test_interrupts_while_it_starts_and_runs(arguments, name):
    """Before the package has control, the interpreter's own start may end with a traceback."""
    step, most = (float(INTERRUPTS or 0.03), 60.0 if INTERRUPTS else 1.2)
    delay, codes = 0.0, set()
    while delay < most:
        process = subprocess.Popen(
            [sys.executable, "-m", "fastdecode", *arguments[name]],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        time.sleep(delay)
        done = process.poll() is not None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate("hello\n", timeout=120)
        codes.add(process.returncode)
        if process.returncode in (0, 130):
            assert "Traceback" not in err, err
        else:
            # The interpreter's own start, up to the first line that the package imports.
            frames = re.findall(r'File "[^"]*/fastdecode/(\S+)"', err)
            assert not frames or "from fastdecode import _interrupts" in err, err
        if done:
            break
        # A command that takes longer is interrupted as often as a shorter one.
        delay += max(step, delay / 40)
    assert codes & {0, 130}


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("engine", ["native", "transformers"])
def test_what_is_no_file_of_a_model(tmp_path, name, engine):
    folder = copy_of_demo(tmp_path / "model")
    path = folder / name
    whole = path.read_bytes()

    def refused(message: str) -> None:
        with pytest.raises(ValueError, match=re.escape(name) + ".*" + message):
            fastdecode.Decoder.from_pretrained(folder, engine=engine)

    path.unlink()
    path.mkdir()
    refused("it is a folder, and not a file")
    path.rmdir()
    os.mkfifo(path)
    refused("it is a pipe or a device")
    path.unlink()
    path.symlink_to("/dev/zero")
    refused("it is a pipe or a device")
    path.unlink()
    path.write_bytes(b"")
    refused("")
    path.unlink()
    (tmp_path / "elsewhere").write_bytes(whole)
    path.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(folder)
    for some in (folder, tmp_path / "link"):
        decoder = fastdecode.Decoder.from_pretrained(some, engine=engine)
        assert decoder.generate("Once", max_new_tokens=2).texts


def test_names_of_models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy_of_demo(tmp_path / "demo", seed=1)
    names = [fastdecode.fingerprint(name).weights for name in ("demo", "./demo")]
    assert names[0] != names[1]
    own = fastdecode.Decoder.from_pretrained("demo")
    assert own.fingerprint().weights == names[0]
    assert fastdecode.Decoder.from_pretrained("./demo").fingerprint().weights == names[1]
    (tmp_path / "README").write_text("text")
    with pytest.raises(ValueError, match="model='README': it is a file; give the folder"):
        fastdecode.Decoder.from_pretrained("README")


def test_endless_and_odd_files_of_prompts(run, tmp_path):
    (tmp_path / "empty.txt").write_bytes(b"")
    for path, message in ((tmp_path, "Is a directory"), (tmp_path / "empty.txt", "has no prompt")):
        code, _, err = run("generate", "--file", str(path), "-m", "demo")
        assert code == 2
        assert message in err


def test_a_long_prompt_is_refused_before_it_is_encoded():
    decoder, long = fastdecode.Decoder.from_pretrained("demo"), "a b" * 3_500_000
    calls = {
        "generate": lambda: decoder.generate(long),
        "stream": lambda: decoder.stream(long),
        "beams": lambda: decoder.generate(long, num_beams=2),
        "next_token": lambda: decoder.next_token(long),
        "score": lambda: decoder.score(long),
        "classify": lambda: decoder.classify(long, ["a", "b"]),
        "compare": lambda: decoder.compare([long, "a"]),
        "surprising": lambda: decoder.surprising([long, "a"]),
        "enumerate": lambda: decoder.enumerate_continuations(
            long, max_new_tokens=1, min_probability=0.5
        ),
    }
    for name, call in calls.items():
        start = time.process_time()
        with pytest.raises(ValueError, match="context"):
            call()
        assert time.process_time() - start < 3, name
