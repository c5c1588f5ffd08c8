"""`fastdecode chat`: through a pipe, in a terminal, and how it ends."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time

import fastdecode
import pytest
from chat_templates import LINES, TURNS

PATIENCE = 120.0
WINDOWS = sys.platform == "win32"


def heed_interrupts():
    """Where SIGINT is ignored, as in a shell's background job, a child would ignore it too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "lines.jinja"
    path.write_text("{{ bos_token }}" + LINES)
    return path


@pytest.fixture
def chat(run, template):
    def chat(*arguments, stdin):
        options = ("--max-new-tokens", "6", "--chat-template", str(template))
        return run("chat", "-m", "demo", *options, *arguments, stdin=stdin)

    return chat


def replies(template, *texts, system=(), **keywords):
    """What the replies are in Python, each with the messages before it."""
    decoder = fastdecode.Decoder.from_pretrained("demo")
    messages = [{"role": "system", "content": text} for text in system]
    found = []
    for place, text in enumerate(texts):
        messages.append({"role": "user", "content": text})
        call = {"chat_template": template, "max_new_tokens": 6} | keywords
        (reply,) = decoder.chat(messages, streams=[place], **call)
        messages.append({"role": "assistant", "content": reply.text})
        found.append(reply)
    return found


def test_each_line_is_a_message(chat, template):
    code, out, err = chat(stdin="Hello\n\n  Who are you?\r\n")
    expected = replies(template, "Hello", "Who are you?")
    assert (code, err) == (0, "")
    assert out == "\n\n".join(reply.text for reply in expected) + "\n"


def test_a_system_message_and_a_seed(chat, template):
    arguments = ("--seed", "7", "--system", "Be brief.", "--top-k", "40")
    code, out, _ = chat(*arguments, "--json", stdin="Hello\nHello")
    expected = replies(
        template, "Hello", "Hello", system=["Be brief."], seed=7, top_k=40, do_sample=True
    )
    objects = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [one["text"] for one in objects] == [reply.text for reply in expected]
    assert [one["token_ids"] for one in objects] == [reply.token_ids for reply in expected]
    assert [one["stream"] for one in objects] == [0, 1]
    assert chat(*arguments, "--json", stdin="Hello\nHello")[1] == out


def test_a_fresh_seed_is_printed(chat):
    _, out, err = chat("--sample", stdin="Hello")
    seed = re.fullmatch(r"seed (\d+)\n", err)[1]
    assert chat("--seed", seed, stdin="Hello") == (0, out, "")
    assert chat(stdin="Hello")[2] == ""


def test_clear_and_exit(chat):
    _, first, _ = chat(stdin="Hello")
    assert chat(stdin="Hello\n/clear\nHello\n/exit\nHello\n")[1] == f"{first}\n{first}"
    # Other words with a slash are messages.
    assert chat(stdin="/etc is a folder\n/help\n")[1].count("\n\n") == 1


def test_the_oldest_messages_are_left_out_when_the_context_is_full(chat):
    long = "and then " * 60
    code, out, err = chat(stdin=f"{long}\n{long}\n{long}\n{long}\n")
    assert code == 0
    assert err == "note: the context is full; the oldest 2 messages are left out\n" * (
        err.count("note")
    )
    assert 1 <= err.count("note") <= 3
    code, out, err = chat(stdin="and then " * 600)
    assert (code, out) == (2, "")
    assert re.match(r"error: messages has \d+ tokens, but the model's context is 512", err)


def test_refusals(run, chat, tmp_path):
    code, out, err = run("chat", "-m", "demo", stdin="Hello")
    assert (code, out) == (2, "")
    assert err.startswith("error: the model demo has no chat template, which says how")
    assert err.endswith("give one with --chat-template FILE, or continue plain text with "
                        "fastdecode generate\n")  # fmt: skip
    missing = str(tmp_path / "missing")
    code, _, err = run("chat", "-m", "demo", "--chat-template", missing, stdin="Hello")
    assert (code, err) == (2, f"error: {missing}: No such file or directory\n")
    gemma = tmp_path / "gemma.jinja"
    gemma.write_text(TURNS)
    code, _, err = chat("--chat-template", str(gemma), "--system", "Be brief.", stdin="Hello")
    assert code == 2
    assert err.startswith(f"error: {gemma}, line 3: the chat template refuses messages: System")
    code, _, err = chat("--greedy", "--top-k", "5", stdin="Hello")
    assert (code, err.startswith("error: --greedy takes the likeliest token, so --top-k")) == (2, 1)
    code, _, err = chat("--max-new-tokens", "0", stdin="Hello")
    assert (code, err) == (2, "error: --max-new-tokens must be at least 1, not 0\n")


def command(template, *arguments):
    own = ("-m", "demo", "--chat-template", str(template), *arguments)
    return [sys.executable, "-m", "fastdecode", "chat", *own]


def test_standard_input_that_is_not_text(template):
    done = subprocess.run(
        command(template, "--max-new-tokens", "2"), input=b"Hello\n\xff\n", capture_output=True
    )
    assert done.returncode == 2
    assert done.stderr == b"error: standard input, line 2: it is not UTF-8 text (byte 0xff)\n"


@pytest.mark.skipif(WINDOWS, reason="Windows has no SIGINT for one process")
def test_an_interrupt_ends_a_pipe(template):
    process = subprocess.Popen(
        command(template, "--max-new-tokens", "400"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed_interrupts,
    )
    process.stdin.write(b"Hello\n")
    process.stdin.flush()
    assert process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (130, b"")
    assert out.endswith(b"\n")


class Terminal:
    """A process whose standard streams are a terminal."""

    def __init__(self, arguments):
        self._ours, theirs = os.openpty()
        environment = os.environ | {"TERM": "dumb", "PYTHON_BASIC_REPL": "1"}
        streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        self.process = subprocess.Popen(
            arguments, env=environment, preexec_fn=heed_interrupts, **streams
        )
        os.close(theirs)

    def interrupted(self, until):
        """What is printed after Ctrl-C, up to a pattern.

        Python's `input` takes note of the signal a while later, if it comes just before it waits.
        """
        self.process.send_signal(signal.SIGINT)
        return self.read(until, again=lambda: self.process.send_signal(signal.SIGINT))

    def read(self, until, again=None):
        """What is printed up to a pattern, and with it; `again` is called until something is."""
        found, end = b"", time.monotonic() + PATIENCE
        while not re.search(until, found, re.DOTALL):
            ready, _, _ = select.select([self._ours], [], [], 2)
            if not ready:
                assert time.monotonic() < end, f"no {until!r} in {found!r}"
                if again is not None and not found:
                    again()
                continue
            try:
                found += os.read(self._ours, 1024)
            except OSError:
                # The other side is closed.
                break
        return found.decode(errors="replace").replace("\r\n", "\n")

    def write(self, text):
        os.write(self._ours, text.encode())

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal(template):
    opened = []

    def terminal(*arguments):
        opened.append(Terminal(command(template, *arguments)))
        return opened[-1]

    yield terminal
    for one in opened:
        one.close()


@pytest.mark.skipif(WINDOWS, reason="Windows has no pseudo-terminals")
def test_in_a_terminal(terminal, template):
    shell = terminal("--max-new-tokens", "6")
    assert "Ctrl-C stops a reply" in shell.read(b"> $")
    shell.write("/help\n")
    assert "/clear   forget" in shell.read(b"> $")
    shell.write("/spam\n")
    assert "unknown command /spam; /help lists" in shell.read(b"> $")
    expected = replies(template, "Hello", "Who are you?")
    shell.write("Hello\n")
    shown = shell.read(b"\n> $")
    assert expected[0].text in shown
    assert "note: the reply was cut at --max-new-tokens" in shown
    shell.write("Who are you?\n")
    assert expected[1].text in shell.read(b"\n> $")
    shell.write("\n")
    shell.read(b"> $")
    assert "Ctrl-D or /exit ends." in shell.interrupted(b"exit ends.\r\n.*> $")
    shell.write("and then " * 390 + "\n")
    assert "error: messages has" in shell.read(b"\n> $")
    shell.write("\x04")
    assert shell.process.wait(PATIENCE) == 0


@pytest.mark.skipif(WINDOWS, reason="Windows has no pseudo-terminals")
def test_an_interrupted_reply_stays_in_the_conversation(terminal):
    shell = terminal("--max-new-tokens", "450", "--min-new-tokens", "450")
    shell.read(b"> $")
    shell.write("Hello\n")
    shell.read(b"Hello\r\n.*[a-z]{3}")
    shell.process.send_signal(signal.SIGINT)
    shell.read(b"\n> $")
    shell.write("/exit\n")
    assert shell.process.wait(PATIENCE) == 0


@pytest.mark.skipif(WINDOWS, reason="Windows has no pseudo-terminals")
def test_escapes_are_shown_harmlessly(terminal):
    (escape,) = fastdecode.Decoder.from_pretrained("demo").encode("\x1b")
    shell = terminal("--allowed", str(escape), "--max-new-tokens", "3")
    shell.read(b"> $")
    shell.write("Hello\n")
    shown = shell.read(b"\n> $")
    assert "␛␛␛" in shown
    assert "\x1b" not in shown.replace("\x1b[?2004", "")
