"""The commands beside `generate`, runs that are verified, and runs that are cut and go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import fastdecode
import pytest


def objects(out):
    return [json.loads(line) for line in out.splitlines()]


def test_next_is_next_token(run):
    code, out, _ = run("next", "Alice was very", "--model", "demo", "-k", "3", "--json")
    expected = fastdecode.next_token("Alice was very", k=3, model="demo")
    assert code == 0
    assert [c.token_id for c in expected] == [
        found["token_id"] for found in objects(out)[0]["candidates"]
    ]


def test_scores_are_score(run):
    texts = ["The cat sat down.", "Down the sat cat."]
    code, out, _ = run("score", *texts, "--model", "demo", "--json")
    assert code == 0
    expected = fastdecode.score(texts, model="demo")
    assert [found["logprob"] for found in objects(out)] == [s.logprob for s in expected]


def test_compare_and_surprising_put_texts_in_order(run):
    texts = ["The king was very asdf.", "The king was very glad."]
    assert [o["text"] for o in objects(run("compare", *texts, "-m", "demo", "--json")[1])] == [
        texts[1],
        texts[0],
    ]
    found = objects(run("surprising", *texts, "-m", "demo", "--json")[1])
    assert [o["text"] for o in found] == texts
    assert [o["place"] for o in found] == ["text 1", "text 2"]


def test_classify_adds_up(run):
    code, out, _ = run(
        *("classify", "the king and the queen", "-m", "demo", "--json"),
        *("--label", "castle", "--label", "kitchen"),
    )
    assert code == 0
    (found,) = objects(out)
    assert found["posterior"].keys() == {"castle", "kitchen"}
    assert sum(found["posterior"].values()) == pytest.approx(1)


def test_tokens(run):
    code, out, _ = run("tokens", "alligator", "-m", "demo")
    assert code == 0
    assert "61 6c 6c" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "--file", "-"], "standard input, line 2: it is empty"),
        (["classify", "a", "--labels", "x,y"], "--label"),
        (["classify", "a", "--label", "x"], "label"),
        (["classify", "a", "--label", "x", "--label", "x"], "x"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(run, arguments, message):
    code, out, err = run(*arguments, "--model", "demo", stdin="one\n\ntwo\n")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


def test_a_text_beyond_the_context_is_named_by_its_line(run, tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("Once\n" + "word " * 3000 + "\n", "utf-8")
    code, _, err = run("generate", "--file", str(path), "--model", "demo")
    assert code == 2
    assert f"{path}, line 2" in err


def test_selfcheck_and_bench(run):
    code, out, _ = run("selfcheck")
    assert code == 0, out
    assert "All is as promised." in out
    code, out, _ = run("bench", "--model", "demo", "--json")
    assert code == 0
    assert all(found["tokens_per_second"] > 0 for found in objects(out))


@pytest.fixture
def saved(tmp_path):
    """A run of two prompts, three samples each, and where it is saved."""
    path = tmp_path / "run.json"
    found = fastdecode.generate(
        ["Once upon a time", "The king"], model="demo", seed=7, n=3, top_p=0.9, logprobs=0
    )
    found.save(path)
    return path, found


def test_a_saved_run_is_verified(saved, run):
    path, found = saved
    report = fastdecode.verify(path)
    assert report.same
    assert report.first is None
    tokens = sum(len(item.token_ids) for item in found)
    code, out, err = run("replay", str(path))
    assert (code, err) == (0, "")
    assert out.startswith(f"The same: 6 texts, {tokens} tokens.\n")
    assert "the same to the last bit" in out


@pytest.mark.parametrize("level", ["portable", "neon", "avx2"])
def test_on_other_threads_and_instructions_it_is_the_same(saved, level):
    path, _ = saved
    environment = os.environ | {"FASTDECODE_THREADS": "1", "FASTDECODE_LEVEL": level}
    done = subprocess.run(
        [sys.executable, "-m", "fastdecode", "replay", str(path)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if "this machine has" in done.stderr:
        pytest.skip(f"this machine has no {level}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("The same: 6 texts")
    assert f"level: {level} now" in done.stdout or level == fastdecode_level()


def fastdecode_level():
    engine = fastdecode.Decoder.from_pretrained("demo").engine
    return engine.packed().level


def test_another_token_is_named(saved, run):
    path, _ = saved
    whole = json.loads(path.read_text("utf-8"))
    place = next(i for i, item in enumerate(whole["generations"]) if item["sample"] == 1)
    right = whole["generations"][place]["token_ids"][4]
    whole["generations"][place]["token_ids"][4] = right + 1
    path.write_text(json.dumps(whole), "utf-8")
    first = fastdecode.verify(path).first
    assert first is not None
    code, out, _ = run("replay", str(path))
    assert code == 1
    assert "sample 1" in out
    assert "step" in out


def lines_of(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def killed_and_restarted(tmp_path, prompts, cut_at, *options):
    """Run it whole; run it again, killed at `cut_at` lines, and go on."""
    source, whole, cut = (tmp_path / name for name in ("prompts.txt", "whole.jsonl", "cut.jsonl"))
    source.write_text("".join(f"{prompt}\n" for prompt in prompts), "utf-8")
    command = [sys.executable, "-m", "fastdecode", "generate", "--file", str(source), "--model"]
    command += ["demo", "--seed", "7", "--top-p", "0.9", "--max-new-tokens", "4", *options, "--out"]
    subprocess.run([*command, str(whole)], check=True, capture_output=True)
    process = subprocess.Popen([*command, str(cut)], stderr=subprocess.DEVNULL)
    limit = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < limit:
        if cut.exists() and cut.read_bytes().count(b"\n") >= cut_at:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    process.wait(timeout=60)
    before = cut.read_bytes().count(b"\n")
    # A line that was half written when the machine stopped.
    with cut.open("ab") as file:
        file.write(b'{"prompt": "hal')
    subprocess.run([*command, str(cut)], check=True, capture_output=True)
    assert cut.read_bytes() == whole.read_bytes()
    assert [found["prompt"] for found in lines_of(cut)] == prompts
    return before


@pytest.mark.xdist_group("timed")
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_run_that_was_killed_goes_on(tmp_path):
    prompts = [f"The {i}. king said" for i in range(400)]
    assert killed_and_restarted(tmp_path, prompts, 60) >= 60


@pytest.mark.xdist_group("timed")
@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_five_thousand_lines_killed_in_the_middle(tmp_path):
    prompts = [f"The {i}. king said" for i in range(5000)]
    assert 2500 <= killed_and_restarted(tmp_path, prompts, 2500) < 5000


def test_another_run_is_refused(tmp_path, run):
    out = tmp_path / "out.jsonl"
    assert run("generate", "Once", "-m", "demo", "--seed", "7", "--out", str(out))[0] == 0
    again = run("generate", "Once", "-m", "demo", "--seed", "8", "--out", str(out))
    assert again[0] == 2
    assert "seed 7, not 8" in again[2]


def test_device_and_revision_reach_the_model(run, monkeypatch):
    code, out, err = run("score", "The cat", "-m", "demo", "--device", "xyz")
    assert (code, out) == (2, "")
    assert err.startswith("error: device='xyz' is unknown")
    code, out, _ = run("score", "The cat", "-m", "demo", "--device", "cpu", "--json")
    assert code == 0
    assert out == run("score", "The cat", "-m", "demo", "--json")[1]
    asked = []

    def resolve(*_, **source):
        asked.append(source)
        raise ValueError("enough")

    monkeypatch.setattr("fastdecode.loaded.resolve", resolve)
    formats = ("--dtype", "float16", "--kv-cache-dtype", "int8")
    run("tokens", "The cat", "--device", "cuda:1", "--revision", "v2", *formats)
    (source,) = asked
    assert source["kv_cache_dtype"] == "int8"
    assert (source["device"], source["revision"], source["dtype"]) == ("cuda:1", "v2", "float16")
