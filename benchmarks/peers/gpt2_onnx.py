"""GPT-2 as an ONNX graph for ONNX Runtime GenAI, whose model builder does not support GPT-2.

The graph uses the operators that the builder uses for other models: group-query attention with a
cache that is updated in place, skip layer norms that include the biases, and for int8 and int4
`MatMulNBits` in blocks of 32, computed in int8 (`accuracy_level=4`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

_CONTRIB = "com.microsoft"
_EPSILON = 1e-5


class _Graph:
    """The nodes and weights of a graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def weight(self, name: str, array: Any) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, op: str, inputs: list[str], outputs: list[str], domain: str = "", **more: Any):
        node = helper.make_node(op, inputs, outputs, name=outputs[0], domain=domain, **more)
        self.nodes.append(node)
        return outputs[0]


def write(folder: Path, source: Path, dtype: str) -> None:
    """Write `model.onnx`, its weights in a separate file, and `genai_config.json`."""
    config = json.loads((source / "config.json").read_text())
    folder.mkdir(parents=True, exist_ok=True)
    model = _model(config, load_file(source / "model.safetensors"))
    if dtype != "float32":
        import logging

        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        logging.getLogger("onnxruntime.quantization").setLevel(logging.WARNING)
        logging.getLogger(MatMulNBitsQuantizer.__module__).setLevel(logging.WARNING)

        quantizer = MatMulNBitsQuantizer(
            model,
            bits=4 if dtype == "int4" else 8,
            block_size=32,
            is_symmetric=True,
            accuracy_level=4,
        )
        quantizer.process()
        model = quantizer.model.model
    onnx.save_model(
        model, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data"
    )
    (folder / "genai_config.json").write_text(json.dumps(_settings(config), indent=1))


def _model(config: dict[str, Any], tensors: dict[str, Any]) -> Any:
    heads, size, layers = config["n_head"], config["n_embd"], config["n_layer"]
    tensors = {name.removeprefix("transformer."): array for name, array in tensors.items()}
    graph = _Graph()
    of = {name: graph.weight(name, array) for name, array in tensors.items() if "wte" not in name}
    table = graph.weight("wte", tensors["wte.weight"])
    head = graph.weight("head", tensors["wte.weight"].T)

    graph.weight("one", np.array([1], np.int64))
    graph.add("ReduceSum", ["attention_mask", "one"], ["lengths"], keepdims=0)
    graph.add("Sub", ["lengths", "one"], ["lengths_but_one"])
    graph.add("Cast", ["lengths_but_one"], ["seqlens_k"], to=TensorProto.INT32)
    graph.add("Shape", ["attention_mask"], ["whole"], start=1, end=2)
    graph.weight("nothing", np.array([], np.int64))
    graph.add("Reshape", ["whole", "nothing"], ["total"])
    graph.add("Cast", ["total"], ["total_sequence_length"], to=TensorProto.INT32)

    graph.add("Gather", [table, "input_ids"], ["words"])
    graph.add("Gather", [of["wpe.weight"], "position_ids"], ["places"])
    residual = graph.add("Add", ["words", "places"], ["residual"])
    inputs, outputs = [], []
    for name in ("input_ids", "attention_mask", "position_ids"):
        width = "total_sequence_length" if name == "attention_mask" else "sequence_length"
        inputs.append(helper.make_tensor_value_info(name, TensorProto.INT64, ["batch_size", width]))
    norm = [of["h.0.ln_1.weight"], of["h.0.ln_1.bias"]]
    x = graph.add("LayerNormalization", [residual, *norm], ["normed"], epsilon=_EPSILON)
    for layer in range(layers):
        at = f"h.{layer}."
        graph.add("MatMul", [x, of[f"{at}attn.c_attn.weight"]], [f"{at}qkv_product"])
        qkv = graph.add("Add", [f"{at}qkv_product", of[f"{at}attn.c_attn.bias"]], [f"{at}qkv"])
        caches = {}
        for when, length in (("past_key_values", "past_sequence_length"), ("present", "total")):
            for part in ("key", "value"):
                caches[when, part] = f"{when}.{layer}.{part}"
                shape = ["batch_size", heads, length + "_of_cache", size // heads]
                info = helper.make_tensor_value_info(caches[when, part], TensorProto.FLOAT, shape)
                (inputs if when == "past_key_values" else outputs).append(info)
        attended = graph.add(
            "GroupQueryAttention",
            [qkv, "", "", *_pair(caches, "past_key_values"), "seqlens_k", "total_sequence_length"],
            [f"{at}attended", *_pair(caches, "present")],
            _CONTRIB,
            num_heads=heads,
            kv_num_heads=heads,
        )
        out = graph.add("MatMul", [attended, of[f"{at}attn.c_proj.weight"]], [f"{at}out"])
        x, residual = _add_and_norm(
            graph, out, residual, of, f"{at}ln_2", f"{at}attn.c_proj.bias", f"{at}middle"
        )
        wide = graph.add("MatMul", [x, of[f"{at}mlp.c_fc.weight"]], [f"{at}wide"])
        wide = graph.add("FastGelu", [wide, of[f"{at}mlp.c_fc.bias"]], [f"{at}gelu"], _CONTRIB)
        down = graph.add("MatMul", [wide, of[f"{at}mlp.c_proj.weight"]], [f"{at}down"])
        after = f"h.{layer + 1}.ln_1" if layer + 1 < layers else "ln_f"
        x, residual = _add_and_norm(
            graph, down, residual, of, after, f"{at}mlp.c_proj.bias", f"{at}end"
        )
    graph.add("MatMul", [x, head], ["logits"])
    shape = ["batch_size", "sequence_length", config["vocab_size"]]
    outputs.insert(0, helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape))
    return helper.make_model(
        helper.make_graph(graph.nodes, "gpt2", inputs, outputs, graph.weights),
        opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid(_CONTRIB, 1)],
        ir_version=10,
    )


def _pair(caches: dict[tuple[str, str], str], when: str) -> list[str]:
    return [caches[when, "key"], caches[when, "value"]]


def _add_and_norm(
    graph: _Graph, x: str, residual: str, of: dict[str, str], norm: str, bias: str, name: str
) -> tuple[str, str]:
    """Add `x`, the residual and a bias; return the layer norm of the sum, and the sum."""
    graph.add(
        "SkipLayerNormalization",
        [x, residual, of[f"{norm}.weight"], of[f"{norm}.bias"], of[bias]],
        [f"{name}.normed", "", "", f"{name}.sum"],
        _CONTRIB,
        epsilon=_EPSILON,
    )
    return f"{name}.normed", f"{name}.sum"


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": {
            # The runtime's name for a decoder with separate key and value caches per layer; its
            # "gpt2" is an older layout with both in one tensor.
            "type": "phi",
            "vocab_size": config["vocab_size"],
            "context_length": config["n_positions"],
            "bos_token_id": config["vocab_size"] - 1,
            "eos_token_id": config["vocab_size"] - 1,
            "pad_token_id": config["vocab_size"] - 1,
            "decoder": {
                "filename": "model.onnx",
                "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
                "head_size": config["n_embd"] // config["n_head"],
                "hidden_size": config["n_embd"],
                "num_attention_heads": config["n_head"],
                "num_key_value_heads": config["n_head"],
                "num_hidden_layers": config["n_layer"],
                "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    "position_ids": "position_ids",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
            },
        },
        "search": {
            "max_length": config["n_positions"],
            "past_present_share_buffer": True,
            "temperature": 1.0,
            "top_k": 50,
            "top_p": 1.0,
            "repetition_penalty": 1.0,
            "length_penalty": 1.0,
            "num_beams": 1,
            "num_return_sequences": 1,
            "early_stopping": False,
        },
    }
