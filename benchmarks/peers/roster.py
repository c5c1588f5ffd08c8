"""The peers: each one's name, the module that runs it, and its variant."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """One entry of the tables."""

    name: str
    module: str
    variant: str
    group: str  # "float32", "16-bit", "8-bit" or "4-bit"; ratios are within a group
    ours: bool = False


PEERS = {
    peer.name: peer
    for peer in (
        Peer("transformers", "transformers_peer", "eager", "float32"),
        Peer("transformers, compiled", "transformers_peer", "compiled", "float32"),
        Peer("CTranslate2 float32", "ctranslate2_peer", "float32", "float32"),
        Peer("llama.cpp f32", "llamacpp_peer", "f32", "float32"),
        Peer("OpenVINO GenAI float32", "openvino_peer", "float32", "float32"),
        Peer("OpenVINO GenAI float32, SDPA", "openvino_peer", "float32/SDPA", "float32"),
        Peer("ONNX Runtime GenAI float32", "onnxruntime_peer", "float32", "float32"),
        Peer("fastdecode torch float32", "fastdecode_peer", "torch/float32", "float32", True),
        Peer("fastdecode native float32", "fastdecode_peer", "native/float32", "float32", True),
        Peer("llama.cpp f16", "llamacpp_peer", "f16", "16-bit"),
        Peer("OpenVINO GenAI bfloat16", "openvino_peer", "bfloat16", "16-bit"),
        Peer("fastdecode native bfloat16", "fastdecode_peer", "native/bfloat16", "16-bit", True),
        Peer("CTranslate2 int8", "ctranslate2_peer", "int8", "8-bit"),
        Peer("llama.cpp q8_0", "llamacpp_peer", "q8_0", "8-bit"),
        Peer("llama.cpp q4_0", "llamacpp_peer", "q4_0", "4-bit"),
        Peer("OpenVINO GenAI int8", "openvino_peer", "int8", "8-bit"),
        Peer("OpenVINO GenAI int8, SDPA", "openvino_peer", "int8/SDPA", "8-bit"),
        Peer("ONNX Runtime GenAI int8", "onnxruntime_peer", "int8", "8-bit"),
        Peer("ONNX Runtime GenAI int4", "onnxruntime_peer", "int4", "4-bit"),
        Peer("fastdecode native int8", "fastdecode_peer", "native/int8", "8-bit", True),
        Peer("fastdecode native int4", "fastdecode_peer", "native/int4", "4-bit", True),
    )
}
REFERENCE = "transformers"
