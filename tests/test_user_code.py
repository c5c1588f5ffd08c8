"""mypy and pyright accept right calls in users' code, and refuse wrong ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import fastdecode
import pytest

CODE = Path(__file__).with_name("user_code.py")
PACKAGE = Path(fastdecode.__file__).parent.parent


def refused() -> set[int]:
    lines = CODE.read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# refused")}


def test_mypy(tmp_path):
    pytest.importorskip("mypy")
    settings = tmp_path / "mypy.ini"
    settings.write_text(
        "[mypy]\nstrict = True\nignore_missing_imports = True\nshow_column_numbers = False\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--config-file",
            settings,
            "--follow-imports",
            "silent",
            CODE,
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(PACKAGE)},
    )
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert {int(line.split(":")[1]) for line in errors} == refused(), done.stdout + done.stderr


def test_pyright(tmp_path):
    pytest.importorskip("basedpyright")
    settings = {
        "include": [str(CODE)],
        "extraPaths": [str(PACKAGE)],
        "pythonVersion": "3.11",
        "typeCheckingMode": "standard",
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "basedpyright",
            "--outputjson",
            "--pythonpath",
            sys.executable,
            "--project",
            tmp_path,
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    found = json.loads(done.stdout)["generalDiagnostics"]
    errors = [one for one in found if one["severity"] == "error"]
    places = {one["range"]["start"]["line"] + 1 for one in errors}
    assert places == refused(), done.stdout + done.stderr
