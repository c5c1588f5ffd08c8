"""Models that transformers can load and that are not causal language models."""

from __future__ import annotations

from typing import Any

from fastdecode.models.engines.transformers.forward import unwrapped

# Models whose forward pass is not a function of the tokens before, and why.
_NAMED = {
    "XLNetLMHeadModel": "it predicts a token from a permutation of the others, by masks that "
    "differ for each token",
    "ReformerModelWithLMHead": "it hashes its keys with random rotations, so that its logits "
    "differ from pass to pass",
}


def refuse_by_name(model: Any) -> None:
    """Refuse what the class and the configuration say is not a causal language model.

    Raises:
        ValueError: with the reason.
    """
    name = name_of(model)
    if getattr(model.config, "is_encoder_decoder", False):
        raise ValueError(
            f"{name} is an encoder-decoder model: it continues a source text that its encoder has "
            "read, and fastdecode has prompts only; use a decoder-only model"
        )
    if name in _NAMED:
        raise ValueError(f"{name} is not supported: {_NAMED[name]}; use another model")


def not_causal(model: Any) -> ValueError:
    """The error for a model whose earlier logits depend on later tokens."""
    advice = "use a model that was trained to predict the next token"
    if getattr(model.config, "is_decoder", None) is False:
        advice = f"load it with is_decoder=True if it was trained so, or {advice}"
    return ValueError(
        f"{name_of(model)} is not a causal language model: a later token changes earlier logits; "
        f"{advice}"
    )


def adds_inputs(model: Any) -> ValueError:
    """The error for a model whose own way to generate differs from its forward pass."""
    return ValueError(
        f"{name_of(model)} is not supported: its prepare_inputs_for_generation leads to other "
        "logits than its forward pass over the tokens alone"
    )


def cannot_run(model: Any, error: Exception) -> ValueError:
    """The error for a model that does not turn tokens into a row of logits each."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return ValueError(
        f"{name_of(model)} cannot be run as a causal language model: a plain pass over a few "
        f"tokens fails with {reason[:300]}"
    )


def name_of(model: Any) -> str:
    """The class of the model inside any wrappers."""
    return type(unwrapped(model)).__name__
