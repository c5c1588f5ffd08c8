"""The Python code of a model folder is never run, whatever stands on standard input."""

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
    assert "which fastdecode does not run" in message


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
    fastdecode.generate("Once", model="demo", max_new_tokens=2, seed=1).save(path)
    saved = json.loads(path.read_text("utf-8"))
    saved["call"] |= {"model": str(folder), "engine": "transformers"}
    path.write_text(json.dumps(saved))
    refused(answered_with_yes(folder, "-m", "fastdecode", "replay", str(path)), folder, marker)
