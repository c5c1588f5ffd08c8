"""What the probe of a model costs, in processor time: `python benchmarks/probe.py`."""

from __future__ import annotations

import argparse
from time import process_time

import torch
from fastdecode.models.engines.transformers.engine import TorchEngine
from transformers import GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM


def gpt2() -> GPT2LMHeadModel:
    """GPT-2 124M with random weights."""
    return GPT2LMHeadModel(GPT2Config())


def qwen2() -> Qwen2ForCausalLM:
    """Qwen2 0.5B with random weights."""
    config = Qwen2Config(
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    return Qwen2ForCausalLM(config)


def main() -> None:
    """Print the processor time of the probe, and of a pass over one token."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for build in (gpt2, qwen2):
        model = build().eval()
        for dtype in (torch.float32, torch.bfloat16):
            model = model.to(dtype)
            probe, step = [], []
            for _ in range(arguments.repeats):
                start = process_time()
                TorchEngine(model)
                probe.append(process_time() - start)
                start = process_time()
                with torch.inference_mode():
                    model(torch.tensor([[0]]))
                step.append(process_time() - start)
            print(f"{build.__name__}, {dtype}: {min(probe):.2f} s, a step {min(step):.3f} s")


if __name__ == "__main__":
    main()
