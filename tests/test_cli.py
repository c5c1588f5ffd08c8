"""The command line: what is printed where, in which order, and how it ends."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys

import fastdecode
import pytest
from fastdecode import cli
from fastdecode.cli.sinks import printed

FRESH_SEED = 123


class Fake:
    """Stands in for `fastdecode.stream`: notes the call, plays steps."""

    def __init__(self):
        self.call = None
        self.steps = None

    def __call__(self, prompts, **keywords):
        self.call = {"prompts": prompts, **keywords}
        if self.steps is not None:
            return iter(self.steps)
        return iter(interleaved(len(prompts), keywords["n"]))


def step(text, prompt, sample, token_id=0, finish_reason=None):
    """A step of the fake: its prompts' streams are ten apart, to tell them from indices."""
    return fastdecode.Step(
        text=text,
        token_id=token_id,
        position=0,
        stream=10 * prompt,
        sample=sample,
        prompt_index=prompt,
        logprob=0.0,
        finish_reason=finish_reason,
        seed=FRESH_SEED,
    )


def interleaved(prompts, n):
    """Two steps a text, one step of each text at a time, as a batch is decoded; last text first."""
    keys = [(stream, sample) for stream in range(prompts) for sample in range(n)][::-1]
    return [step(f" {s}.{i}", s, i, token_id=1) for s, i in keys] + [
        step("!", s, i, token_id=2, finish_reason="length") for s, i in keys
    ]


@pytest.fixture
def unopened(monkeypatch):
    """Models are passed on by name instead of being loaded."""
    module = importlib.import_module("fastdecode.cli.generate")
    monkeypatch.setattr(module, "opened", lambda model, *_: model)


@pytest.fixture
def fake(monkeypatch, unopened):
    double = Fake()
    monkeypatch.setattr(fastdecode, "stream", double, raising=False)
    return double


def test_one_prompt(fake, run):
    assert run("generate", "Once", "--model", "demo") == (0, "Once 0.0!\n", "")
    assert fake.call == {
        "prompts": ["Once"],
        "model": "demo",
        "max_new_tokens": 20,
        "n": 1,
        "seed": None,
        "do_sample": False,
    }


def test_texts_come_in_order_whatever_the_order_of_the_steps(fake, run):
    code, out, _ = run("generate", "A", "B", "-n", "2", "--seed", "7")
    assert code == 0
    assert out == "A 0.0!\n\nA 0.1!\n\nB 1.0!\n\nB 1.1!\n"


def test_the_front_text_is_printed_as_it_grows(fake, run, capsys):
    def steps():
        yield step(" one", 0, 0)
        assert capsys.readouterr().out == "A one"
        yield step(" hidden", 0, 1)
        assert capsys.readouterr().out == ""
        yield step(" end", 0, 0, finish_reason="eos")
        assert capsys.readouterr().out == " end\n\nA hidden"
        yield step(" end", 0, 1, finish_reason="eos")

    fake.steps = steps()
    assert run("generate", "A", "-n", "2", "--seed", "7")[:2] == (0, " end\n")


def test_thousands_of_texts_that_wait(fake, run):
    prompts = "\n".join(f"p{i}" for i in range(5000))
    code, out, _ = run("generate", "--file", "-", "--json", stdin=prompts)
    assert code == 0
    assert [json.loads(line)["prompt"] for line in out.splitlines()] == prompts.split("\n")


def test_json_is_one_object_a_text(fake, run):
    code, out, err = run("generate", "é", "B", "--json", "--seed", "7")
    assert (code, err) == (0, "")
    assert [json.loads(line) for line in out.splitlines()] == [
        {
            "prompt": prompt,
            "text": f" {index}.0!",
            "token_ids": [1, 2],
            "finish_reason": "length",
            "seed": FRESH_SEED,
            "stream": 10 * index,
            "sample": 0,
        }
        for index, prompt in enumerate(["é", "B"])
    ]


@pytest.mark.parametrize(
    ("options", "do_sample"),
    [
        ([], False),
        (["-n", "1"], False),
        (["-n", "2"], True),
        (["--seed", "0"], True),
        (["--temperature", "0.7"], True),
        (["--top-k", "5"], True),
        (["--top-p", "0.9"], True),
        (["--sample"], True),
        (["--greedy"], False),
        (["--greedy", "--seed", "7"], False),
    ],
)
def test_when_it_samples(fake, run, options, do_sample):
    assert run("generate", "A", *options)[0] == 0
    assert fake.call["do_sample"] is do_sample


def test_options_reach_the_api(fake, run):
    options = (
        "--temperature 0.7 --top-k 5 --top-p 0.9 --max-new-tokens 3 --seed 18446744073709551615"
    )
    run("generate", "A", *options.split(), "--stop", ".", "--stop", "\n", "-n", "2", "-m", "there")
    assert fake.call == {
        "prompts": ["A"],
        "model": "there",
        "max_new_tokens": 3,
        "n": 2,
        "seed": 2**64 - 1,
        "stop": [".", "\n"],
        "do_sample": True,
        "temperature": 0.7,
        "top_k": 5,
        "top_p": 0.9,
    }


def test_a_fresh_seed_is_reported(fake, run):
    _, _, err = run("generate", "A", "--sample")
    assert err == f"seed {FRESH_SEED}\n"
    _, out, err = run("generate", "A", "--sample", "--json")
    assert err == ""
    assert json.loads(out)["seed"] == FRESH_SEED


def test_prompts_from_a_file_and_from_standard_input(fake, run, tmp_path):
    (tmp_path / "prompts.txt").write_text("one\n two \n\n", encoding="utf-8")
    run("generate", "zero", "--file", str(tmp_path / "prompts.txt"))
    assert fake.call["prompts"] == ["zero", "one", " two "]
    run("generate", "--file", "-", stdin="a\nb\n")
    assert fake.call["prompts"] == ["a", "b"]
    run("generate", "-", "B", stdin="two\nlines\n")
    assert fake.call["prompts"] == ["two\nlines", "B"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate"], "no prompt; give one, or --file FILE, or - to read standard input"),
        (["generate", "-", "--file", "-"], "standard input (-) can be read only once"),
        (["generate", "--file", "-"], "standard input has no prompt in it"),
        (["generate", "--file", "/nowhere"], "/nowhere: No such file or directory"),
        (
            ["generate", "A", "--greedy", "--top-k", "5"],
            "--greedy takes the likeliest token, so --top-k would do nothing",
        ),
        (["generate", "A", "--top-k", "five"], "--top-k"),
        (["generate", "A", "--no-such"], "--no-such"),
        (["no-such"], "no-such"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(fake, run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"error: .*\n", err)
    assert message in err


def test_a_file_that_is_not_text(fake, run, tmp_path):
    (tmp_path / "prompts").write_bytes(b"caf\xe9")
    path = tmp_path / "prompts"
    message = f"error: {path}, line 1: it is not UTF-8 text (byte 0xe9); save it as UTF-8\n"
    assert run("generate", "--file", str(path)) == (2, "", message)
    path.write_bytes(b"tea\n\xff")
    assert message.replace("line 1", "line 2").replace("e9", "ff") in run(
        "generate", "--file", str(path)
    )


def test_an_empty_line_is_named(fake, run, tmp_path):
    (tmp_path / "prompts").write_bytes(b"one\n \ntwo\n")
    code, out, err = run("generate", "--file", str(tmp_path / "prompts"))
    assert (code, out) == (2, "")
    assert "line 2: it is empty" in err


@pytest.mark.parametrize("kind", [ValueError, TypeError, OSError])
def test_the_apis_own_message_is_passed_on(monkeypatch, unopened, run, kind):
    def refuse(prompts, **keywords):
        raise kind("top_p must be in (0, 1], not 90;\n  90% is 0.9")

    monkeypatch.setattr(fastdecode, "stream", refuse, raising=False)
    code, out, err = run("generate", "A", "--top-p", "0.9")
    assert (code, out) == (2, "")
    assert err == "error: top_p must be in (0, 1], not 90; 90% is 0.9\n"


def test_refused_memory_is_one_line(monkeypatch, unopened, run):
    def refuse(prompts, **keywords):
        raise MemoryError

    monkeypatch.setattr(fastdecode, "stream", refuse, raising=False)
    assert run("generate", "A") == (2, "", "error: there is not enough memory\n")


def test_an_error_of_ours_keeps_its_traceback(monkeypatch, unopened, capsys):
    def fail(prompts, **keywords):
        raise RuntimeError("a bug")

    monkeypatch.setattr(fastdecode, "stream", fail, raising=False)
    monkeypatch.setattr(sys, "argv", ["fastdecode", "generate", "A"])
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main()


def test_ctrl_c_gives_what_there_is(fake, run):
    def steps():
        yield step(" whole", 0, 1, 5, "eos")
        yield step(" part", 0, 0, 6)
        yield step(" bit", 0, 2, 7)
        raise KeyboardInterrupt

    fake.steps = steps()
    code, out, _ = run("generate", "A", "-n", "4", "--seed", "7")
    assert (code, out) == (130, "A part\n\nA whole\n\nA bit\n")
    fake.steps = steps()
    code, out, _ = run("generate", "A", "-n", "4", "--seed", "7", "--json")
    assert code == 130
    assert [json.loads(line)["finish_reason"] for line in out.splitlines()] == [
        "interrupted",
        "eos",
        "interrupted",
    ]


def test_a_terminal_gets_headings_and_no_control_characters(fake, run, monkeypatch):
    monkeypatch.setattr(printed, "sink", printed.Terminal)
    fake.steps = [
        step(" [bold]red\x1b[31m :smile:", 0, 0, 1, "eos"),
        step(" b\n\tc", 0, 1, 1, "eos"),
    ]
    code, out, _ = run("generate", "A", "-n", "2", "--seed", "7")
    assert code == 0
    assert out == "sample 1 of 2\nA [bold]red\u241b[31m :smile:\n\nsample 2 of 2\nA b\n\tc\n"


def test_version_and_help(run):
    code, out, _ = run("--version")
    assert (code, out) == (0, f"fastdecode {fastdecode.__version__}\n")
    for arguments, part in (
        ([], "generate"),
        (["--help"], "generate"),
        (["generate", "--help"], "--max-new-tokens"),
    ):
        code, out, err = run(*arguments)
        assert (code, err) == (0, "")
        assert part in out


def command(*arguments, **options):
    """The real thing, in a process of its own, offline."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "fastdecode", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment,
        **options,
    )


def test_the_demo_model_three_times_from_one_seed():
    arguments = ["generate", "Once upon a time", "--model", "demo", "--seed", "7", "-n", "3"]
    first, second = command(*arguments), command(*arguments, "--json")
    out, err = first.communicate(timeout=120)
    assert first.returncode == 0, err
    assert err == ""
    records = [json.loads(line) for line in second.communicate(timeout=120)[0].splitlines()]
    assert out == "\n\n".join(r["prompt"] + r["text"] for r in records) + "\n"
    assert len({r["text"] for r in records}) == 3

    keywords = {"model": "demo", "seed": 7, "n": 3, "do_sample": True}
    again = fastdecode.generate("Once upon a time", **keywords)
    assert [g.token_ids for g in again] == [r["token_ids"] for r in records]
    assert [g.text for g in again] == [r["text"] for r in records]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--model", "demo", "--top-p", "90"], "top_p"),
        (["--model", "demo", "-n", "0"], "n"),
        (["--model", "no-such-owner/no-such-model"], "demo"),
    ],
)
def test_bad_input_from_end_to_end(options, part):
    process = command("generate", "Once", *options)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (2, "")
    assert re.fullmatch(r"error: .*\n", err)
    assert part in err


@pytest.mark.xdist_group("timed")
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_from_end_to_end():
    process = command(
        "generate",
        "Once",
        "--model",
        "demo",
        "--seed",
        "7",
        "-n",
        "64",
        "--max-new-tokens",
        "100000",
        # Where SIGINT is ignored, as in a shell's background job, a child would ignore it too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while process.stdout.read(1) not in ("", "e"):
        pass
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("it was over before the signal came")
    assert process.returncode == 130, err
    assert err == ""


@pytest.mark.xdist_group("timed")
@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
def test_a_closed_pipe_is_quiet():
    process = command("generate", "Once", "--model", "demo", "--max-new-tokens", "60")
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=120), err) == (1, "")


@pytest.mark.parametrize(
    ("option", "hint"),
    [("--best-of", ""), ("--eos-token-id", ""), ("--temprature", "; did you mean --temperature?")],
)
def test_an_unknown_option_suggests_only_what_is_alike(run, option, hint):
    code, _, err = run("generate", "Once", option, "3", "-m", "demo")
    assert (code, err) == (2, f"error: No such option: {option}{hint}\n")
