"""Classifications: which label a text belongs to, by Bayes' rule over a language model.

p(label | text) is proportional to p(text | label) p(label): the model gives the probability of the
text after each label's prompt, and the priors the probability of each label before it is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastdecode.display import Column, Table, Tabular
from fastdecode.options import checks
from fastdecode.results.items import Items
from fastdecode.results.scores import Score, one_line

TEMPLATE = "{label}:"


@dataclass(frozen=True, slots=True)
class Label:
    """A label before the text is read: its name, its prompt and its prior, 0..1."""

    name: str
    prompt: str
    prior: float


@dataclass(frozen=True, slots=True)
class Posterior:
    """A label after the text is read.

    Attributes:
        label: its name.
        probability: p(label | text), 0..1.
        prior: p(label), 0..1.
        logprob: ln p(text | label), in nats.
        score: the text's score after the label's prompt, token by token.
    """

    label: str
    probability: float
    prior: float
    logprob: float
    score: Score


class Classification(Tabular, Items[Posterior]):
    """The labels of one text, the most probable first; ties in the order of the call.

    Attributes:
        text: the text.
    """

    def __init__(self, text: str, labels: Sequence[Label], scores: Sequence[Score]) -> None:
        """Apply Bayes' rule to the text's score after each label's prompt."""
        self.text = text
        joint = [math.log(y.prior) + s.logprob for y, s in zip(labels, scores, strict=True)]
        top = max(joint)
        shares = [math.exp(value - top) for value in joint]
        whole = math.fsum(shares)
        items = [
            Posterior(label.name, share / whole, label.prior, score.logprob, score)
            for label, share, score in zip(labels, shares, scores, strict=True)
        ]
        super().__init__(sorted(items, key=lambda item: -item.probability))

    @property
    def label(self) -> str:
        """The most probable label."""
        return self._items[0].label

    @property
    def posterior(self) -> dict[str, float]:
        """p(label | text) of each label, the most probable first."""
        return {item.label: item.probability for item in self._items}

    def _table(self) -> Table:
        items = self._items
        return Table(
            [
                Column("label", [y.label for y in items]),
                Column("prior", [f"{y.prior:.4f}" for y in items], right=True),
                Column("log p(text | label)", [f"{y.logprob:.4f}" for y in items], right=True),
                Column("p(label | text)", [f"{y.probability:.4f}" for y in items], right=True),
                Column("", bars=[y.probability for y in items]),
            ],
            title=one_line(self.text),
        )

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        names = ("label", "probability", "prior", "logprob")
        return {name: [getattr(y, name) for y in self._items] for name in names}


class Classifications(Tabular, Items[Classification]):
    """Classifications in the order of the texts."""

    @property
    def labels(self) -> list[str]:
        """The most probable label of each text."""
        return [item.label for item in self._items]

    def _table(self) -> Table:
        items = self._items
        return Table(
            [
                Column("label", [c.label for c in items]),
                Column("p(label | text)", [f"{c[0].probability:.4f}" for c in items], right=True),
                Column("", bars=[c[0].probability for c in items]),
                Column("text", [one_line(c.text, 48) for c in items]),
            ]
        )

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        columns: dict[str, Sequence[Any]] = {
            "text": [c.text for c in self._items],
            "label": self.labels,
        }
        names = sorted(self._items[0].posterior) if self._items else []
        return columns | {f"p({name})": [c.posterior[name] for c in self._items] for name in names}


def classified(
    texts: Sequence[str], labels: Sequence[Label], scores: Sequence[Score]
) -> list[Classification]:
    """The classification of each text.

    Args:
        texts: the texts.
        labels: the labels.
        scores: the scores of the first text after each label's prompt, then those of the next one.
    """
    count = len(labels)
    return [
        Classification(text, labels, scores[row * count : (row + 1) * count])
        for row, text in enumerate(texts)
    ]


def read_labels(labels: Any, prompts: Any, priors: Any) -> list[Label]:
    """Check the labels, their prompts and priors, and put them together.

    Raises:
        TypeError: for the wrong type.
        ValueError: for labels that are empty, repeated or fewer than two, prompts and priors that
            do not match them, a prior that is not above zero.
    """
    if isinstance(labels, str):
        raise TypeError(
            f"labels must be a sequence of strings, not the one string {checks.shown(labels)}"
        )
    names = checks.prompts(labels, "labels")
    if len(names) < 2:
        raise ValueError(f"labels has {len(names)} entries; give at least two to choose from")
    for row, name in enumerate(names):
        if not name.strip():
            raise ValueError(f"labels[{row}] is empty; give each label a name")
        if name in names[:row]:
            raise ValueError(
                f"labels[{row}] repeats labels[{names.index(name)}], {name!r}; give each label once"
            )
    found = _beside(names, "prompts", _filled(names, prompts), "a prompt for each label")
    for row, prompt in enumerate(found):
        checks.string(f"prompts[{row}]", prompt)
        if not prompt:
            raise ValueError(f"prompts[{row}], of the label {names[row]!r}, is empty")
    weights = [1.0] * len(names)
    if priors is not None:
        given = _beside(names, "priors", priors, "a number for each label")
        weights = [checks.number(f"priors[{row}]", weight) for row, weight in enumerate(given)]
        for row, weight in enumerate(weights):
            if not (weight > 0 and math.isfinite(weight)):
                raise ValueError(
                    f"priors has {weight!r} for {names[row]!r}; give a number above zero"
                )
    whole = math.fsum(weights)
    return [
        Label(name, prompt, weight / whole)
        for name, prompt, weight in zip(names, found, weights, strict=True)
    ]


def _filled(names: Sequence[str], prompts: Any) -> Any:
    """A template as one prompt for each label; anything else unchanged."""
    template = TEMPLATE if prompts is None else prompts
    if not isinstance(template, str):
        return template
    if "{label}" not in template:
        raise ValueError(
            f"prompts={checks.shown(template)} has no {{label}} in it, so it is the same for "
            "every label; put {label} where the label belongs, or give one prompt a label"
        )
    return [template.replace("{label}", name) for name in names]


def _beside(names: Sequence[str], argument: str, values: Any, expected: str) -> list[Any]:
    """One value for each label, from a mapping by label or a sequence in their order."""
    if isinstance(values, Mapping):
        for name in values:
            if name not in names:
                raise ValueError(
                    f"{argument} has {checks.shown(name)}, which is not among the labels"
                )
        for name in names:
            if name not in values:
                raise ValueError(f"{argument} has nothing for the label {name!r}; add it")
        values = [values[name] for name in names]
    items = checks.entries(argument, values, f"{expected}, in a sequence or by label in a mapping")
    if len(items) != len(names):
        raise ValueError(
            f"{argument} has {len(items)} entries for {len(names)} labels; give one a label"
        )
    return items
