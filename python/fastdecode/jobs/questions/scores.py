"""The questions of `score`, `surprising` and `classify`: log-probabilities of texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastdecode.jobs.questions.base import Answer, InOrder
from fastdecode.jobs.records import (
    ClassLine,
    ScoreLine,
    SurpriseLine,
    of_classification,
    of_score,
    of_surprise,
)
from fastdecode.options import checks
from fastdecode.results.classification import classified, read_labels
from fastdecode.results.surprises import Surprise
from fastdecode.scoring.texts import TextScorer

if TYPE_CHECKING:
    from fastdecode.decoder import Decoder


class Likelihoods(InOrder):
    """How likely each text is, token by token."""

    command = "score"
    line: type[Any] = ScoreLine

    def __init__(
        self,
        decoder: Decoder,
        texts: Sequence[str],
        *,
        context: str = "",
        bos: bool | None = None,
        eos: bool | None = None,
        stride: int | None = None,
    ) -> None:
        """Ask for the score of each text; the arguments are those of `Decoder.score`.

        Raises:
            TypeError: for a wrong type.
            ValueError: for a bad value, or a text longer than the model's context.
        """
        self.decoder, self.inputs = decoder, texts
        self._arguments: dict[str, Any] = {
            "context": context,
            "bos": bos,
            "eos": eos,
            "stride": stride,
        }
        self._prepare(TextScorer(decoder.engine, decoder.codec))

    def _prepare(self, scorer: TextScorer) -> None:
        self.prepared = scorer.prepared(self.inputs, **self._arguments)

    def settings(self) -> dict[str, Any]:
        """What determines the answers besides model and inputs, as JSON data."""
        return self._arguments

    def answers(self, indices: Sequence[int], seed: int | None) -> Iterator[Answer]:
        """Key and record of each text, in their order."""
        for index, item in zip(indices, self.prepared.scores(indices), strict=True):
            yield (index, 0), of_score(item)

    def wrong(self, index: int, record: Mapping[str, Any]) -> str | None:
        """Why a record cannot be an answer to an input, or None."""
        tokens = list(self.prepared.tasks[index].tokens)
        if record["token_ids"] != tokens:
            return f"its tokens are not those of texts[{index}]"
        if any(len(record[name]) != len(tokens) for name in ("token_logprobs", "ranks")):
            return f"it does not have a number for each of its {len(tokens):,} tokens"
        return None


class Surprisals(Likelihoods):
    """How surprising each text is, and its least likely token."""

    command = "surprising"
    line = SurpriseLine

    def _prepare(self, scorer: TextScorer) -> None:
        self.prepared = scorer.rankable(self.inputs, **self._arguments)

    def answers(self, indices: Sequence[int], seed: int | None) -> Iterator[Answer]:
        """Key and record of each text, in their order."""
        for index, item in zip(indices, self.prepared.scores(indices), strict=True):
            yield (index, 0), of_surprise(Surprise(index, item, -item.mean))

    def wrong(self, index: int, record: Mapping[str, Any]) -> str | None:
        """Why a record cannot be an answer to an input, or None."""
        if record["index"] != index:
            return f"its index is {record['index']}, and it is in the place of {index}"
        return None


class Labels(InOrder):
    """Which label each text belongs to."""

    command = "classify"
    line = ClassLine

    def __init__(
        self,
        decoder: Decoder,
        texts: Sequence[str],
        labels: Sequence[str],
        *,
        prompts: str | Sequence[str] | None = None,
        priors: Sequence[float] | None = None,
        separator: str = " ",
        bos: bool | None = None,
        eos: bool = False,
    ) -> None:
        """Ask for the label of each text; the arguments are those of `Decoder.classify`.

        Raises:
            TypeError: for a wrong type.
            ValueError: for a bad value, or a text longer than the model's context.
        """
        self.decoder = decoder
        self._labels = read_labels(labels, prompts, priors)
        self.inputs = checks.filled("texts", texts)
        self._arguments: dict[str, Any] = {"separator": separator, "bos": bos, "eos": eos}
        scorer = TextScorer(decoder.engine, decoder.codec)
        self.prepared = scorer.labelled(self.inputs, self._labels, **self._arguments)

    def settings(self) -> dict[str, Any]:
        """What determines the answers besides model and inputs, as JSON data."""
        return {
            "labels": [label.name for label in self._labels],
            "label_prompts": [label.prompt for label in self._labels],
            "priors": [label.prior for label in self._labels],
            **self._arguments,
        }

    def answers(self, indices: Sequence[int], seed: int | None) -> Iterator[Answer]:
        """Key and record of each text, in their order."""
        count = len(self._labels)
        rows = [row for index in indices for row in range(index * count, (index + 1) * count)]
        texts = [self.inputs[index] for index in indices]
        found = classified(texts, self._labels, list(self.prepared.scores(rows)))
        for index, item in zip(indices, found, strict=True):
            yield (index, 0), of_classification(item)

    def wrong(self, index: int, record: Mapping[str, Any]) -> str | None:
        """Why a record cannot be an answer to an input, or None."""
        names = {label.name for label in self._labels}
        if record["posterior"].keys() != names or record["label"] not in names:
            return "its labels are not those of the run"
        return None
