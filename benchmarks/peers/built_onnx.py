"""An ONNX graph by ONNX Runtime GenAI's own model builder, for what it supports."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

_PRECISIONS = {"float32": "fp32", "int8": "int8", "int4": "int4"}


def write(folder: Path, source: Path, dtype: str) -> None:
    """Build the graph of the model saved in `source`, with the builder's defaults for a CPU.

    In int8 and int4 the weights are in blocks of 32 and products are computed in int8. The head is
    computed for the last token of a prompt only, which makes its prefill faster.
    """
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
        command += ["-i", str(source), "-o", str(folder), "-p", _PRECISIONS[dtype], "-e", "cpu"]
        command += ["-c", cache, "--extra_options", "prune_lm_head=true"]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"the model builder: {done.stderr.strip().splitlines()[-1]}")
