"""Tiny models and a tiny tokenizer, built here, so that the tests need no network."""

import io
import os
import sys

import fastdecode
import hypothesis
import pytest
import torch
from fastdecode import cli
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

TEXT = [
    "Once upon a time there was a little girl who lived in a wood.",
    "The café was naïve, said the crocodile; the alligator agreed — 你好 🐊.",
    "It was the best of times, it was the worst of times.",
]
# Tiny models gain nothing from threads, and lose much where the cores are busy; nor do those of
# the processes that tests start while other workers run.
torch.set_num_threads(1)
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# A deadline of an example measures what else the machine does.
hypothesis.settings.register_profile("tests", parent=hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("tests")

WORDS = TEXT[0].split() + TEXT[2].split()


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with all 256 bytes, so characters are often split between tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )


def make_model(kind: str, dtype: torch.dtype = torch.float64, seed: int = 0):
    """A small random model with large weights, so that its choices are far from ties."""
    torch.manual_seed(seed)
    shared = {"vocab_size": 300, "bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.3}
    if kind == "gpt2":
        config = GPT2Config(n_layer=2, n_head=4, n_embd=32, n_positions=64, **shared)
        model = GPT2LMHeadModel(config)
    else:
        small = {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 64,
        }
        if kind == "llama":
            model = LlamaForCausalLM(LlamaConfig(**small, **shared))
        elif kind == "qwen":
            model = Qwen2ForCausalLM(Qwen2Config(**small, **shared))
        else:  # a window of attention, whose cache is of another kind
            model = MistralForCausalLM(MistralConfig(**small, **shared, sliding_window=6))
    return model.to(dtype).eval()


@pytest.fixture(scope="session")
def tokenizer():
    return make_tokenizer()


@pytest.fixture(scope="session")
def decoder(tokenizer):
    """A tiny GPT-2 in float64."""
    return fastdecode.Decoder(make_model("gpt2"), tokenizer)


@pytest.fixture(scope="session")
def demo64():
    """The demo model in float64."""
    from importlib.resources import files

    if not (files("fastdecode") / "demo" / "model.safetensors").is_file():
        pytest.skip("the demo model is not built")
    return fastdecode.Decoder.from_pretrained("demo", dtype="float64")


def ragged(count: int, longest: int = 12, seed: int = 0) -> list[str]:
    """Prompts of mixed length."""
    import random

    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, longest))) for _ in range(count)]


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line in this process: exit code, standard output, standard error."""

    def run(*arguments, stdin=""):
        monkeypatch.setattr(sys, "argv", ["fastdecode", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ending:
            cli.main()
        out, err = capsys.readouterr()
        return ending.value.code, out, err

    return run
