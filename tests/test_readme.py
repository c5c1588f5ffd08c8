"""README.md's quick start prints what README.md says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "python" / "fastdecode" / "demo" / "model.safetensors"
NUMBER = re.compile(r"-?\d+\.\d+")


def load_tool():
    path = ROOT / "tools" / "update_readme.py"
    spec = importlib.util.spec_from_file_location("update_readme", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not DEMO.exists(), reason="the demo model is not built")
def test_quick_start():
    tool = load_tool()
    written = tool.block((ROOT / "README.md").read_text(encoding="utf-8"))
    fresh = tool.run(written)
    # Words and tokens to the letter; the last digits of a logarithm are the forward pass's own.
    advice = "if this is as it should be: python tools/update_readme.py"
    assert NUMBER.sub("#", fresh) == NUMBER.sub("#", written), advice
    numbers = [float(number) for number in NUMBER.findall(fresh)]
    assert numbers == pytest.approx([float(n) for n in NUMBER.findall(written)], rel=1e-3, abs=0.01)
