"""Records: generated texts as JSON lines."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, TypedDict

from fastdecode.results.step import Step


class Line(TypedDict):
    """What every line has, beside fields of the input."""

    prompt: str | list[int]
    text: str
    token_ids: list[int]
    finish_reason: str | None
    seed: int
    stream: int
    sample: int


class LineWithLogprobs(Line):
    """What a line has where log-probabilities are recorded."""

    logprobs: list[float]


class LineWithAlternatives(LineWithLogprobs):
    """What a line has where the likeliest tokens are recorded as well."""

    alternatives: list[list[tuple[int, float]]]


def line(record: dict[str, Any]) -> str:
    """A record as one line of JSON, in ASCII, so that no reader finds a line end inside it.

    A number that JSON does not have (the perplexity of nothing) is null.
    """
    return json.dumps({name: _number(value) for name, value in record.items()}, allow_nan=False)


def joined(fields: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """A record after the fields of the input that it belongs to.

    Fields of the input whose names the record has are kept under the name "input".
    """
    both = {name: value for name, value in fields.items() if name in record}
    if both and "input" in fields:
        both["input"] = fields["input"]
    own = {name: value for name, value in fields.items() if name not in both}
    return own | ({"input": both} if both else {}) | dict(record)


class Record:
    """One text as it grows, and then as one JSON object."""

    def __init__(self, prompt: str | list[int], first: Step, logprobs: int | None) -> None:
        """Begin with the first step; `logprobs` as for `fastdecode.generate`."""
        self._logprobs = logprobs
        self._fields: dict[str, Any] = {"prompt": prompt, "text": "", "token_ids": []}
        self._fields |= {"finish_reason": None, "seed": first.seed}
        self._fields |= {"stream": first.stream, "sample": first.sample}
        if logprobs is not None:
            self._fields["logprobs"] = []
        if logprobs:
            self._fields["alternatives"] = []

    def step(self, step: Step) -> None:
        """Add a token."""
        self._fields["text"] += step.text
        self._fields["token_ids"].append(int(step.token_id))
        if self._logprobs is not None:
            self._fields["logprobs"].append(step.logprob)
        if self._logprobs:
            self._fields["alternatives"].append(step.alternatives)

    def ended(self, finish_reason: str | None) -> dict[str, Any]:
        """The whole object."""
        return self._fields | {"finish_reason": finish_reason}


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
