"""Strategies: how a token is chosen from a row of logits."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdecode._core import Beam, Sample
from fastdecode.options.table import PARAMETERS

__all__ = ["Beam", "Greedy", "OneByOne", "Sample", "Strategy", "describe", "restore"]


@dataclass(frozen=True, slots=True)
class Greedy:
    """The likeliest token every time; on a tie, the lower token id."""


# The strategies that choose the token of each row independently of the other rows.
OneByOne = Greedy | Sample
Strategy = OneByOne | Beam


def describe(strategy: Strategy) -> dict[str, Any]:
    """A strategy as plain data for JSON; `restore` is its inverse."""
    if isinstance(strategy, Greedy):
        return {"name": "greedy"}
    if isinstance(strategy, Beam):
        fields = strategy.settings()
        if strategy.sample is not None:
            fields["sample"] = strategy.sample.settings()
        if strategy.allowed is not None:
            fields["allowed"] = repr(strategy.allowed)
        return {"name": "beam", **fields}
    named = {"temperature": strategy.temperature, "top_k": strategy.top_k, "top_p": strategy.top_p}
    return {"name": "sample", **named, **strategy.settings()}


def spoken(strategy: OneByOne) -> str:
    """A strategy in a few words: "top_p = 0.9", "greedy", "the whole distribution"."""
    settings, plain = describe(strategy), describe(Sample())
    if settings.pop("name") == "greedy" or settings["temperature"] == 0:
        settings.pop("temperature", None)
        settings["greedy"] = None
    settings.pop("eos_token_id", None)
    parts = [
        name
        if value is None
        else f"{name} = {value:g}"
        if isinstance(value, float)
        else f"{name} = {value}"
        for name, value in settings.items()
        if name not in plain or value != plain[name]
    ]
    return ", ".join(parts) or "the whole distribution"


def as_sample(strategy: OneByOne | None) -> Sample:
    """A strategy as the parameters of a draw: greedy is temperature 0, None the plain softmax."""
    if strategy is None:
        return Sample()
    return Sample(temperature=0.0) if isinstance(strategy, Greedy) else strategy


def restore(data: dict[str, Any]) -> Strategy:
    """The strategy that `describe` described.

    Raises:
        ValueError: for a strategy or a setting that this version does not know.
    """
    fields = dict(data)
    name = fields.pop("name", None)
    if name == "greedy":
        return Greedy()
    if name == "sample":
        return Sample(**_settings(Sample, fields))
    if name == "beam":
        if isinstance(fields.get("allowed"), str):
            raise ValueError(
                f"the run was constrained by the function allowed={fields['allowed']}, which a "
                "file cannot hold; run it again with that function"
            )
        if "sample" in fields:
            fields["sample"] = Sample(**_settings(Sample, fields["sample"]))
        return Beam(**_settings(Beam, fields))
    raise ValueError(f"unknown strategy {name!r}; this version knows 'greedy', 'sample' and 'beam'")


def _settings(kind: type, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a strategy, as they were before they went through JSON."""
    known = inspect.signature(kind).parameters
    for name in fields:
        if name not in known:
            raise ValueError(
                f"unknown setting {name!r} of a saved run; replay it with the version of "
                "fastdecode that wrote it"
            )
    settings = dict(fields)
    for parameter in PARAMETERS.values():
        if parameter.kind == "biases" and settings.get(parameter.name) is not None:
            # JSON has no tuples, which the token ids of a bias are.
            pairs = settings[parameter.name]
            settings[parameter.name] = [(tuple(ids), bias) for ids, bias in pairs]
    return settings


def as_u32(values: Sequence[int]) -> NDArray[np.uint32]:
    """Streams, samples or positions, as the core takes them."""
    return np.asarray(values, dtype=np.uint32)
