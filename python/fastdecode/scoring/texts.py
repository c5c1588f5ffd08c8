"""The log-probabilities of texts, and the comparisons and rankings based on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastdecode.display.flow import Alternative
from fastdecode.display.progress import progress_bar
from fastdecode.models.codec import Codec
from fastdecode.models.engines.base import Engine
from fastdecode.options import checks, prompts
from fastdecode.options.prompts import Given, PromptLike, Prompts
from fastdecode.results.classification import (
    Classification,
    Classifications,
    Label,
    classified,
    read_labels,
)
from fastdecode.results.comparison import Comparison
from fastdecode.results.generations import Generation
from fastdecode.results.scores import Score, Scores
from fastdecode.results.surprises import Surprises
from fastdecode.scoring import windows
from fastdecode.scoring.windows import Task


@dataclass(frozen=True, slots=True)
class Prepared:
    """Texts that have been checked and split into tokens, to be scored all at once or in parts.

    Attributes:
        engine: the model.
        codec: its tokenizer.
        texts: the text of each task.
        tasks: the tokens to score.
        stride: as for `Decoder.score`; so is `alternatives`.
    """

    engine: Engine
    codec: Codec
    texts: Sequence[str]
    tasks: Sequence[Task]
    stride: int | None = None
    alternatives: int = 0

    def scores(
        self, rows: Iterable[int] | None = None, progress: bool | None = False
    ) -> Iterator[Score]:
        """The score of each task.

        Args:
            rows: the indices of the tasks; None is all of them.
            progress: as for `Decoder.score`.
        """
        wanted = list(range(len(self.tasks)) if rows is None else rows)
        tasks = [self.tasks[row] for row in wanted]
        meter = progress_bar(progress, len(tasks), "score")
        done: Callable[[], object] = meter.update if meter is not None else lambda: None
        try:
            found = windows.run(
                self.engine, tasks, stride=self.stride, alternatives=self.alternatives, done=done
            )
        finally:
            if meter is not None:
                meter.close()
        readable = self.codec.pieces.readable
        for row, task, item in zip(wanted, tasks, found, strict=True):
            yield Score.of(
                self.texts[row],
                list(task.tokens),
                item.logprobs,
                item.ranks,
                [readable(token) for token in task.tokens],
                [
                    None if some is None else [Alternative(i, readable(i), p) for i, p in some]
                    for some in item.alternatives
                ]
                if self.alternatives
                else None,
                item.entropies,
            )


@dataclass(frozen=True, slots=True)
class TextScorer:
    """Scores texts with a model. The arguments of its methods are those of `Decoder`'s.

    Attributes:
        engine: the model.
        codec: its tokenizer.
    """

    engine: Engine
    codec: Codec

    def score(
        self,
        texts: Prompts | Generation | Sequence[Generation],
        *,
        context: str | Sequence[str],
        bos: bool | None,
        eos: bool | None,
        stride: int | None,
        alternatives: int,
        progress: bool | None,
    ) -> Scores:
        """See `Decoder.score`."""
        progress = checks.choice("progress", progress)
        bos, eos = checks.choice("bos", bos), checks.choice("eos", eos)
        if isinstance(texts, Iterator):
            texts = list(texts)
        generations = _generations(texts)
        if generations:
            if context:
                raise ValueError("context is the prompt where generations are scored; leave it out")
            befores = self.codec.prompts(
                [item.prompt_token_ids or item.prompt for item in generations]
            )
            tasks = [
                Task(f"texts[{row}]", before, item.token_ids)
                for row, (before, item) in enumerate(zip(befores, generations, strict=True))
            ]
            shown = [item.text for item in generations]
            prepared = self._prepared(shown, tasks, stride, alternatives)
        else:
            prepared = self.prepared(
                texts,
                context=context,
                bos=bos,
                eos=eos,
                stride=stride,
                alternatives=alternatives,
            )
        return Scores(prepared.scores(progress=progress))

    def prepared(
        self,
        texts: Any,
        *,
        context: str | Sequence[str],
        bos: bool | None,
        eos: bool | None,
        stride: int | None,
        alternatives: int = 0,
    ) -> Prepared:
        """The texts of `score` before they are scored; every argument has been checked.

        Raises:
            TypeError: as `Decoder.score`.
            ValueError: as `Decoder.score`.
        """
        items = prompts.read(texts, self.engine.vocab_size, "texts")
        contexts = _contexts(context, len(items))
        tasks = self._tasks(contexts, items, bos=bos, eos=eos, bounded=stride is None)
        return self._prepared(self._shown(items), tasks, stride, alternatives)

    def rankable(
        self,
        texts: Sequence[PromptLike],
        *,
        context: str | Sequence[str],
        bos: bool | None,
        eos: bool | None,
        stride: int | None,
        alternatives: int = 0,
    ) -> Prepared:
        """The same for `surprising`, in which every text has a token that can be scored.

        Raises:
            TypeError: as `Decoder.surprising`.
            ValueError: as `Decoder.surprising`.
        """
        prepared = self.prepared(
            self._filled(texts),
            context=context,
            bos=bos,
            eos=eos,
            stride=stride,
            alternatives=alternatives,
        )
        for task in prepared.tasks:
            if len(task.tokens) == task.unscored:
                raise ValueError(
                    f"{task.name} has one token and nothing before it, so there is nothing to "
                    "score; use bos=True or eos=True"
                )
        return prepared

    def labelled(
        self,
        texts: Sequence[str],
        labels: Sequence[Label],
        *,
        separator: str,
        bos: bool | None,
        eos: bool,
        name: str = "texts",
    ) -> Prepared:
        """The texts of `classify` before they are scored: each after the prompt of every label.

        Raises:
            TypeError: as `Decoder.classify`.
            ValueError: as `Decoder.classify`.
        """
        checks.string("separator", separator)
        tasks = self._tasks(
            [label.prompt for _ in texts for label in labels],
            [separator + item for item in texts for _ in labels],
            bos=bos,
            eos=checks.boolean("eos", eos),
            names=[f"{name}[{row}]" for row in range(len(texts)) for _ in labels],
        )
        return self._prepared([item for item in texts for _ in labels], tasks, None, 0)

    def compare(
        self,
        texts: Sequence[PromptLike],
        *,
        context: str | Sequence[str],
        bos: bool | None,
        eos: bool | None,
        per_token: bool,
        alternatives: int,
    ) -> Comparison:
        """See `Decoder.compare`."""
        if isinstance(texts, str):
            raise TypeError(
                "texts must be a sequence of two strings or more, not one string "
                f"({checks.shown(texts)})"
            )
        items = self._filled(texts)
        if len(items) < 2:
            raise ValueError(f"texts has {len(items)} entries; give at least two to compare")
        tasks = self._tasks(_contexts(context, len(items)), items, bos=bos, eos=eos)
        by_token = checks.boolean("per_token", per_token)
        scores = self._prepared(self._shown(items), tasks, None, alternatives).scores()
        return Comparison(list(scores), per_token=by_token)

    def classify(
        self,
        texts: str | Sequence[str],
        labels: Sequence[str],
        *,
        prompts: str | Sequence[str] | Mapping[str, str] | None,
        priors: Sequence[float] | Mapping[str, float] | None,
        separator: str,
        bos: bool | None,
        eos: bool,
        progress: bool | None,
        name: str = "texts",
    ) -> Classification | Classifications:
        """See `Decoder.classify`; `name` is what the caller calls the texts."""
        progress = checks.choice("progress", progress)
        known = read_labels(labels, prompts, priors)
        items = checks.filled(name, texts)
        prepared = self.labelled(items, known, separator=separator, bos=bos, eos=eos, name=name)
        found = classified(items, known, list(prepared.scores(progress=progress)))
        return found[0] if isinstance(texts, str) else Classifications(found)

    def surprising(
        self,
        texts: Sequence[PromptLike],
        *,
        context: str | Sequence[str],
        bos: bool | None,
        eos: bool | None,
        stride: int | None,
        alternatives: int,
        progress: bool | None,
    ) -> Surprises:
        """See `Decoder.surprising`."""
        progress = checks.choice("progress", progress)
        if isinstance(texts, Iterator | KeysView):
            texts = list(texts)
        if prompts.is_one(texts):
            raise TypeError(
                "texts must be a sequence of texts, to be ranked, not a single one "
                f"({checks.shown(texts)})"
            )
        prepared = self.rankable(
            texts, context=context, bos=bos, eos=eos, stride=stride, alternatives=alternatives
        )
        return Surprises(list(prepared.scores(progress=progress)))

    def _filled(self, texts: Any) -> list[Given]:
        """Texts and token ids, of which none is empty."""
        items = prompts.read(texts, self.engine.vocab_size, "texts")
        for row, item in enumerate(items):
            if not item:
                raise ValueError(f"texts[{row}] is empty; give at least one character of text")
        return items

    def _shown(self, items: Sequence[Given]) -> list[str]:
        """The text of each."""
        return [item if isinstance(item, str) else self.codec.text(item) for item in items]

    def _tasks(
        self,
        contexts: Sequence[str],
        texts: Sequence[Given],
        *,
        bos: bool | None,
        eos: bool | None,
        names: Sequence[str] | None = None,
        bounded: bool = True,
    ) -> list[Task]:
        """A task for each text after its context, between BOS and EOS where requested.

        `bounded` is whether a text must fit into the context of the model.
        """
        names = names or [f"texts[{row}]" for row in range(len(texts))]
        for context in set(contexts):
            checks.string("context", context)
        if bounded and self.engine.context is not None:
            for name, text in zip(names, texts, strict=True):
                if isinstance(text, str):
                    self.codec.check_size(name, text, self.engine.context + 1)
        start, end = self.codec.around(checks.choice("bos", bos), checks.choice("eos", eos))
        return [
            Task(name, start + before, ids + end)
            for name, (before, ids) in zip(names, self.codec.joined(contexts, texts), strict=True)
        ]

    def _prepared(
        self,
        texts: Sequence[str],
        tasks: Sequence[Task],
        stride: int | None,
        alternatives: int,
    ) -> Prepared:
        """The tasks, whose texts are those of `texts`, checked before any work."""
        alternatives = checks.integer("alternatives", alternatives, 0, self.engine.vocab_size)
        if stride is not None:
            stride = checks.integer("stride", stride, 1)
        for task in tasks:
            checks.known(task.name, [*task.before, *task.tokens], self.engine.vocab_size)
        windows.check(tasks, self.engine.context, stride)
        return Prepared(self.engine, self.codec, texts, tasks, stride, alternatives)


def _generations(texts: Any) -> list[Generation]:
    """The generations, where `texts` is one or a sequence of them."""
    if isinstance(texts, Generation):
        return [texts]
    if isinstance(texts, Sequence) and texts and all(isinstance(t, Generation) for t in texts):
        return list(texts)
    return []


def _contexts(context: Any, count: int) -> list[str]:
    """The context of each of `count` texts.

    Raises:
        TypeError: for anything but strings.
        ValueError: where their number differs.
    """
    if isinstance(context, str):
        return [context] * count
    given = checks.prompts(context, "context")
    if len(given) != count:
        raise ValueError(
            f"context has {len(given)} entries for {count} texts; give one string for all of them, "
            "or one for each"
        )
    return given
