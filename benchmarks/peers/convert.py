"""Create a model, and convert it for each peer with its own converter.

    python -m benchmarks.peers.convert FOLDER [--model MODEL] [--export-python PYTHON]

Steps whose result exists are skipped. If a step fails, the reason is written to `FOLDER/*.failed`
and shown in the table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.peers.models import MODELS, Model


def ctranslate2(folder: Path, source: Path, compute_type: str) -> None:
    """Convert like `ct2-transformers-converter`."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(source)).convert(str(folder), quantization=compute_type, force=True)


def gguf(path: Path, source: Path) -> None:
    """Write the GGUF file that llama.cpp's converter would write, in float32."""
    from benchmarks.peers.gguf_file import write

    write(path, source)


def quantised_gguf(path: Path, source: Path, kind: str) -> None:
    """Quantise like `llama-quantize`, which uses more bits for the head of a q4_0 file."""
    import ctypes

    import llama_cpp

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = {
        "f16": llama_cpp.LLAMA_FTYPE_MOSTLY_F16,
        "q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
        "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
    }[kind]
    if llama_cpp.llama_model_quantize(
        str(source).encode(), str(path).encode(), ctypes.byref(parameters)
    ):
        raise RuntimeError(f"llama_model_quantize to {kind} failed")


def openvino(folder: Path, source: Path, dtype: str, python: str) -> None:
    """Export with optimum-intel, in its own environment."""
    script = (
        "import sys; from optimum.intel import OVModelForCausalLM as M; "
        "M.from_pretrained(sys.argv[1], export=True, compile=False, "
        "load_in_8bit=sys.argv[3] == 'int8').save_pretrained(sys.argv[2])"
    )
    command = [python, "-c", script, str(source), str(folder), dtype]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"optimum-intel: {done.stderr.strip().splitlines()[-1]}")


def onnx(folder: Path, source: Path, dtype: str) -> None:
    """Write the ONNX graph: with GenAI's own model builder where it knows the architecture."""
    kind = json.loads((source / "config.json").read_text(encoding="utf-8"))["model_type"]
    if kind == "gpt2":
        from benchmarks.peers.gpt2_onnx import write
    else:
        from benchmarks.peers.built_onnx import write
    write(folder, source, dtype)


def everything(folder: Path, model: Model, export_python: str) -> None:
    """Run all conversions of a model into `folder` whose result does not exist yet."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "model"
    _step(source, model.save)
    for dtype in ("float32", "int8"):
        _step(folder / f"ctranslate2-{dtype}", lambda to, d=dtype: ctranslate2(to, source, d))
        _step(
            folder / f"openvino-{dtype}", lambda to, d=dtype: openvino(to, source, d, export_python)
        )
    _step(folder / "model-f32.gguf", lambda to: gguf(to, source))
    for kind in ("f16", "q8_0", "q4_0"):
        _step(
            folder / f"model-{kind}.gguf",
            lambda to, k=kind: quantised_gguf(to, folder / "model-f32.gguf", k),
        )
    for dtype in ("float32", "int8", "int4"):
        _step(folder / f"onnx-{dtype}", lambda to, d=dtype: onnx(to, source, d))


def _step(target: Path, make: Callable[[Path], None]) -> None:
    if target.exists():
        return
    print(f"making {target.name}", file=sys.stderr, flush=True)
    # Use a temporary name until it is complete, so that an interrupted run leaves no valid result.
    partial = target.with_name(f"partial-{target.name}")
    note = target.with_name(f"{target.name}.failed")
    try:
        make(partial)
        partial.rename(target)
        note.unlink(missing_ok=True)
    except Exception as error:
        note.write_text(f"{type(error).__name__}: {error}")
        print(f"  {note.read_text()}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", choices=MODELS, default="gpt2")
    parser.add_argument("--export-python", default=sys.executable, help="which has optimum-intel")
    arguments = parser.parse_args()
    everything(arguments.folder, MODELS[arguments.model], arguments.export_python)


if __name__ == "__main__":
    main()
