"""The Python code of a model folder is run at the caller's own word, and never otherwise."""

import json
import os
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import fastdecode
import pytest

CODE = """
from pathlib import Path

Path({marker!r}).touch()

from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast


class CustomConfig(GPT2Config):
    model_type = "custom"


class CustomModel(GPT2LMHeadModel):
    config_class = CustomConfig

    def forward(self, *arguments, **keywords):
        found = super().forward(*arguments, **keywords)
        # The likeliest token becomes the least likely one.
        found.logits = -found.logits
        return found


class CustomTokenizer(PreTrainedTokenizerFast):
    pass
"""
MAPS = {
    "config.json": {
        "AutoConfig": "custom.CustomConfig",
        "AutoModelForCausalLM": "custom.CustomModel",
    },
    "tokenizer_config.json": {"AutoTokenizer": [None, "custom.CustomTokenizer"]},
}


def custom(tmp_path: Path, *names: str) -> tuple[Path, Path]:
    """A copy of the demo model whose files `names` ask for its own Python code, and a marker that
    exists once that code has run."""
    folder, marker = tmp_path / "custom", tmp_path / "marker"
    shutil.copytree(files("fastdecode") / "demo", folder)
    (folder / "custom.py").write_text(CODE.format(marker=str(marker)))
    for name in names:
        settings = json.loads((folder / name).read_text("utf-8")) | {"auto_map": MAPS[name]}
        if name == "config.json":
            settings |= {"model_type": "custom", "architectures": ["CustomModel"]}
        else:
            settings["tokenizer_class"] = "CustomTokenizer"
        (folder / name).write_text(json.dumps(settings))
    return folder, marker


def answered_with_yes(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with "y" on standard input, and caches of its own."""
    home = {"HF_HOME": str(folder.parent / "home"), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        input="y\n" * 20,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | home,
        check=False,
    )


LOAD = (
    "import sys, fastdecode; "
    "fastdecode.generate('Once', model=sys.argv[1], engine=sys.argv[2], max_new_tokens=1)"
)


def refused(done: subprocess.CompletedProcess[str], folder: Path, marker: Path) -> None:
    assert not marker.exists(), "the code of the model was run"
    assert "[y/N]" not in done.stdout + done.stderr
    assert done.returncode != 0
    message = " ".join(done.stderr.split())
    assert f"model={str(folder)!r} cannot be loaded" in message
    assert "which fastdecode does not run by itself" in message
    assert "give trust_remote_code=True" in message


@pytest.mark.parametrize("engine", ["auto", "transformers"])
def test_code_of_a_model(tmp_path, engine):
    folder, marker = custom(tmp_path, "config.json")
    refused(answered_with_yes(folder, "-c", LOAD, str(folder), engine), folder, marker)


def test_code_of_a_tokenizer(tmp_path):
    folder, marker = custom(tmp_path, "tokenizer_config.json")
    done = answered_with_yes(folder, "-c", LOAD, str(folder), "transformers")
    assert not marker.exists(), "the code of the tokenizer was run"
    assert "[y/N]" not in done.stdout + done.stderr
    # The tokenizer's files are enough without the code.
    assert done.returncode == 0, done.stderr


def test_code_of_a_model_that_a_saved_run_names(tmp_path):
    folder, marker = custom(tmp_path, "config.json", "tokenizer_config.json")
    path = tmp_path / "run.json"
    fastdecode.generate("Once", model="demo", max_new_tokens=2).save(path)
    saved = json.loads(path.read_text("utf-8"))
    saved["call"] |= {"model": str(folder), "engine": "transformers"}
    path.write_text(json.dumps(saved))
    refused(answered_with_yes(folder, "-m", "fastdecode", "replay", str(path)), folder, marker)


GENERATE = "generate", "Once", "--greedy", "--max-new-tokens", "2"


def test_code_is_run_at_the_word_of_the_caller(tmp_path):
    """The folder's own class negates all logits, so its greedy token is the least likely one."""
    folder, marker = custom(tmp_path, "config.json", "tokenizer_config.json")
    script = (
        "import sys, fastdecode\n"
        "name, = sys.argv[1:]\n"
        "trust = {'trust_remote_code': True}\n"
        "found = fastdecode.generate('Once', model=name, max_new_tokens=1, **trust)\n"
        "decoder = fastdecode.Decoder.from_pretrained(name, **trust)\n"
        "assert type(decoder.model).__name__ == 'CustomModel', decoder.model\n"
        "assert decoder.generate('Once', max_new_tokens=1).texts == found.texts\n"
        "plain = fastdecode.Decoder.from_pretrained('demo')\n"
        "import numpy as np\n"
        "logits = plain.logits('Once')\n"
        "assert found[0].token_ids == [int(np.argmin(logits[-1]))], found\n"
        "import json\n"
        "assert 'trust' not in json.dumps(found.call, default=str)\n"
    )
    done = answered_with_yes(folder, "-c", script, str(folder))
    assert done.returncode == 0, done.stderr
    assert marker.exists()


def test_code_is_run_on_the_command_line(tmp_path):
    folder, marker = custom(tmp_path, "config.json")
    model = "--model", str(folder)
    refused(answered_with_yes(folder, "-m", "fastdecode", *GENERATE, *model), folder, marker)
    done = answered_with_yes(folder, "-m", "fastdecode", *GENERATE, *model, "--trust-remote-code")
    assert done.returncode == 0, done.stderr
    assert marker.exists()


def test_a_file_never_chooses_whose_code_is_run(tmp_path, run):
    folder, marker = custom(tmp_path, "config.json")
    path = tmp_path / "run.json"
    fastdecode.generate("Once", model="demo", max_new_tokens=2).save(path)
    saved = json.loads(path.read_text("utf-8"))
    saved["call"] |= {"model": str(folder), "engine": "transformers"}
    for more in ({}, {"trust_remote_code": True}):
        path.write_text(json.dumps({**saved, "call": saved["call"] | more}))
        for function in (fastdecode.replay, fastdecode.verify):
            with pytest.raises(ValueError, match=r"trust_remote_code=True needs model=\.\.\."):
                function(path, trust_remote_code=True)
            message = "trust_remote_code" if more else "does not run by itself"
            with pytest.raises(ValueError, match=message):
                function(path)
        code, _, err = run("replay", "--trust-remote-code", str(path))
        assert (code, "needs model=" in err) == (2, True)
    assert not marker.exists()
    path.write_text(json.dumps(saved))
    command = "-m", "fastdecode", "replay", str(path), "--trust-remote-code", "--model"
    done = answered_with_yes(folder, *command, str(folder))
    assert (done.returncode, marker.exists()) == (1, True), done.stderr


@pytest.mark.parametrize("function", [fastdecode.replay, fastdecode.verify])
def test_a_replay_says_what_it_loads(tmp_path, function, capfd):
    path, folder = tmp_path / "run.json", tmp_path / "a\x1b[31mmodel"
    shutil.copytree(files("fastdecode") / "demo", folder)
    found = fastdecode.generate("Once", model=folder, max_new_tokens=2)
    found.save(path)
    capfd.readouterr()
    function(path)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"note: {path} names the model in the folder {tmp_path}/a␛[31mmodel")
    function(path, model="demo")
    assert capfd.readouterr().err == ""
    saved = json.loads(path.read_text("utf-8"))
    saved["call"] |= {"model": "someone/nothing", "revision": "v2"}
    path.write_text(json.dumps(saved))
    with pytest.raises(ValueError, match="someone/nothing"):
        function(path)
    (line,) = capfd.readouterr().err.splitlines()
    assert "names the model someone/nothing of the hub, revision v2, which is loaded now" in line
    for model, kind in (("some/model.gguf", "file"), ("./some/model", "folder")):
        saved["call"] |= {"model": model, "revision": None}
        path.write_text(json.dumps(saved))
        with pytest.raises((ValueError, OSError), match=model):
            function(path)
        (line,) = capfd.readouterr().err.splitlines()
        assert f"names the model in the {kind} {model}, which is loaded now" in line
    fastdecode.generate("Once", model="demo", max_new_tokens=2).save(path)
    function(path)
    assert capfd.readouterr().err == ""
