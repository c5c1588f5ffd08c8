"""Records: results as JSON lines."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from fastdecode.results.classification import Classification
    from fastdecode.results.generations import Generation
    from fastdecode.results.scores import Score
    from fastdecode.results.step import Step
    from fastdecode.results.surprises import Surprise


class Line(TypedDict):
    """What the line of a generated text has, beside fields of the input."""

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


class BeamLine(LineWithLogprobs):
    """What the line of a sequence of a beam search has."""

    score: float | None


class DrawnBeamLine(BeamLine):
    """The same of a stochastic beam search."""

    inclusion: float | None


class ScoreLine(TypedDict):
    """What the line of a scored text has."""

    text: str
    logprob: float | None
    mean: float | None
    perplexity: float | None
    token_ids: list[int]
    token_logprobs: list[float | None]
    ranks: list[int | None]


class SurpriseLine(TypedDict):
    """What the line of a text has that is ranked by its surprisal."""

    index: int
    surprisal: float | None
    token: str
    text: str


class ClassLine(TypedDict):
    """What the line of a classified text has."""

    text: str
    label: str
    posterior: dict[str, float]


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


def of_generation(item: Generation) -> dict[str, Any]:
    """A generation as one JSON object, without the fields that it does not have."""
    names = ("prompt", "text", "token_ids", "finish_reason", "seed", "stream", "sample")
    fields = {name: getattr(item, name) for name in names}
    more = ("logprobs", "alternatives", "score", "inclusion")
    return fields | {n: getattr(item, n) for n in more if getattr(item, n) is not None}


def of_score(item: Score) -> dict[str, Any]:
    """The score of a text as one JSON object."""
    names = ("text", "logprob", "mean", "perplexity", "token_ids", "token_logprobs", "ranks")
    return {name: getattr(item, name) for name in names}


def of_surprise(item: Surprise, **more: Any) -> dict[str, Any]:
    """The surprisal of a text as one JSON object, with `more` after its index."""
    own = {"surprisal": item.surprisal, "token": item.token, "text": item.score.text}
    return {"index": item.index, **more, **own}


def of_classification(item: Classification) -> dict[str, Any]:
    """The label of a text as one JSON object."""
    return {"text": item.text, "label": item.label, "posterior": item.posterior}


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
