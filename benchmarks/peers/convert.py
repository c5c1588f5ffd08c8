"""Create the GPT-2 with random weights, and convert it for each peer with its own converter.

    python -m benchmarks.peers.convert FOLDER [--export-python PYTHON]

Steps whose result exists are skipped. If a step fails, the reason is written to `FOLDER/*.failed`
and shown in the table.

The model has the sizes of GPT-2 (124M), no end-of-sequence token, and random weights. The matrices
of its layers are larger than in GPT-2's initialisation, so that greedy text does not get stuck on
one token, and so is the gain of the last layer norm, so that top-p 0.9 keeps about a thousand
tokens instead of 40,000.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.peers.workloads import VOCABULARY

END = "<|endoftext|>"
_BLOCKS = 4.0  # factor applied to GPT-2's initialisation
_GAIN = 6.0


def model(folder: Path) -> None:
    """Save the model in transformers' format, with an artificial tokenizer: `t17` is token 17."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    gpt2 = GPT2LMHeadModel(GPT2Config(bos_token_id=None, eos_token_id=None)).eval()
    with torch.no_grad():
        for name, parameter in gpt2.named_parameters():
            if ".h." in name and parameter.ndim == 2:
                parameter.mul_(_BLOCKS)
        gpt2.transformer.ln_f.weight.fill_(_GAIN)
    gpt2.save_pretrained(folder)
    pieces = [*(f"t{i}" for i in range(VOCABULARY - 1)), END]
    tokenizer = Tokenizer(models.WordLevel({p: i for i, p in enumerate(pieces)}, unk_token=END))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    for kind in ("bos_token", "eos_token", "unk_token"):
        settings[kind] = END
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def ctranslate2(folder: Path, source: Path, compute_type: str) -> None:
    """Convert like `ct2-transformers-converter`."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(source)).convert(str(folder), quantization=compute_type, force=True)


def gguf(path: Path, source: Path) -> None:
    """Write the GGUF file that llama.cpp's converter would write, in float32."""
    import gguf as library
    from safetensors.numpy import load_file

    config = json.loads((source / "config.json").read_text())
    writer = library.GGUFWriter(path, "gpt2")
    writer.add_block_count(config["n_layer"])
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_file_type(library.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*(f"t{i}" for i in range(VOCABULARY - 1)), END])
    writer.add_token_types([library.TokenType.NORMAL] * (VOCABULARY - 1) + [3])
    writer.add_token_merges(["t 0"])
    writer.add_eos_token_id(VOCABULARY - 1)
    names = library.get_tensor_name_map(library.MODEL_ARCH.GPT2, config["n_layer"])
    for name, array in load_file(source / "model.safetensors").items():
        if name.endswith((".attn.bias", ".attn.masked_bias")) or name == "lm_head.weight":
            continue
        if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            array = array.T.copy()  # transformers stores these transposed
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


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
    """Write the ONNX graph; see `gpt2_onnx.py`."""
    from benchmarks.peers.gpt2_onnx import write

    write(folder, source, dtype)


def everything(folder: Path, export_python: str) -> None:
    """Run all conversions whose result does not exist yet."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "model"
    _step(source, model)
    for dtype in ("float32", "int8"):
        _step(folder / f"ctranslate2-{dtype}", lambda to, d=dtype: ctranslate2(to, source, d))
        _step(
            folder / f"openvino-{dtype}", lambda to, d=dtype: openvino(to, source, d, export_python)
        )
    _step(folder / "gpt2-f32.gguf", lambda to: gguf(to, source))
    for kind in ("f16", "q8_0", "q4_0"):
        _step(
            folder / f"gpt2-{kind}.gguf",
            lambda to, k=kind: quantised_gguf(to, folder / "gpt2-f32.gguf", k),
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
    parser.add_argument("--export-python", default=sys.executable, help="which has optimum-intel")
    arguments = parser.parse_args()
    everything(arguments.folder, arguments.export_python)


if __name__ == "__main__":
    main()
