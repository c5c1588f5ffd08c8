"""The reader: a model and its tokenizer, and everything that can be seen without generating."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fastdecode.display.progress import progress_bar
from fastdecode.models.engines.base import Engine
from fastdecode.options import checks, keywords
from fastdecode.options.strategies import Beam, Greedy, Strategy
from fastdecode.results.generations import Generation

if TYPE_CHECKING:
    from fastdecode.decoding.scoring import Task
    from fastdecode.models.pieces import Pieces
    from fastdecode.results.candidates import Candidates
    from fastdecode.results.classification import Classification, Classifications
    from fastdecode.results.comparison import Comparison
    from fastdecode.results.scores import Score, Scores
    from fastdecode.results.surprises import Surprises
    from fastdecode.results.tokens import Tokens, Vocabulary


class Reader:
    """Tokens, next tokens and scores of a model; `Decoder` adds what generates.

    Attributes:
        engine: turns tokens into logits.
        tokenizer: a transformers tokenizer, or one like it.
    """

    engine: Engine
    tokenizer: Any

    @cached_property
    def pieces(self) -> Pieces:
        """The tokens one by one, as bytes and readable."""
        from fastdecode.models.pieces import Pieces

        return Pieces(self.tokenizer)

    @property
    def vocabulary(self) -> Vocabulary:
        """All tokens of the tokenizer; a slice of them shows ids, pieces and bytes."""
        from fastdecode.results.tokens import Vocabulary

        return Vocabulary(self.pieces)

    def tokens(self, text: str) -> Tokens:
        """What `text` is cut into; see `fastdecode.tokens`."""
        from fastdecode.results.tokens import Token, Tokens

        ids = self._plain_tokens([checks.string("text", text)])[0]
        return Tokens((Token.of(self.pieces, i) for i in ids), text)

    def next_token(
        self,
        prompt: str,
        k: int = 10,
        *,
        strategy: Strategy | None = None,
        seed: int | None = None,
        **more: Any,
    ) -> Candidates:
        """The `k` likeliest next tokens; see `fastdecode.next_token`."""
        from fastdecode.results.candidates import Candidates
        from fastdecode.results.law import Law

        checks.string("prompt", prompt)
        k = checks.integer("k", k, 1, self.engine.vocab_size)
        if seed is not None:
            seed = checks.seed(seed)
        for name in more:
            if name in keywords.OF_A_RUN:
                raise TypeError(f"next_token() draws one token and has no {name}; leave it out")
        chosen: Strategy | None = None
        if strategy is not None or more:
            chosen = self._fitted(keywords.read(more, strategy).strategy, self.engine.eos_ids)
        if isinstance(chosen, Beam):
            raise ValueError(
                "next_token() shows how one token is chosen, and a beam search chooses whole "
                "texts; see generate(..., trace=True).tree"
            )
        ids = self._tokens([prompt])
        checks.fits(ids, self.engine.context, self.engine.vocab_size, ["prompt"])
        _, logits = self.engine.start(ids, [1])
        return Candidates.behind(
            prompt,
            Law.of(logits[0], chosen, ids[0]),
            k,
            strategy=chosen,
            pieces=self.pieces,
            seed=seed,
        )

    def score(
        self,
        texts: str | Sequence[str] | Generation | Sequence[Generation],
        *,
        context: str = "",
        bos: bool = True,
        eos: bool = True,
        stride: int | None = None,
        alternatives: int = 0,
        progress: bool | None = None,
    ) -> Scores:
        """The log-probability of each text; see `fastdecode.score`."""
        from fastdecode.decoding.scoring import Task
        from fastdecode.results.scores import Scores

        if isinstance(texts, Generation):
            texts = [texts]
        items: list[Any] = [texts] if isinstance(texts, str) else list(_iterable("texts", texts))
        if items and all(isinstance(item, Generation) for item in items):
            if context:
                raise ValueError("context is the prompt where generations are scored; leave it out")
            befores = self._tokens([item.prompt for item in items])
            tasks = [
                Task(f"texts[{row}]", before, item.token_ids)
                for row, (before, item) in enumerate(zip(befores, items, strict=True))
            ]
            items = [item.text for item in items]
        else:
            items = checks.prompts(items, "texts")
            tasks = self._tasks([context] * len(items), items, bos=bos, eos=eos)
        return Scores(self._score(items, tasks, stride, alternatives, progress))

    def compare(
        self,
        texts: Sequence[str],
        *,
        context: str = "",
        bos: bool = True,
        eos: bool = True,
        per_token: bool = False,
        alternatives: int = 3,
    ) -> Comparison:
        """Which of some texts is likelier, and at which token; see `fastdecode.compare`."""
        from fastdecode.results.comparison import Comparison

        if isinstance(texts, str):
            raise TypeError("texts must be a sequence of two strings or more, not one string")
        items = checks.filled("texts", texts)
        if len(items) < 2:
            raise ValueError(f"texts has {len(items)} entries; give at least two to compare")
        tasks = self._tasks([context] * len(items), items, bos=bos, eos=eos)
        scores = self._score(items, tasks, None, alternatives, False)
        return Comparison(list(scores), per_token=per_token)

    def classify(
        self,
        texts: str | Sequence[str],
        labels: Sequence[str],
        *,
        prompts: str | Sequence[str] | Mapping[str, str] | None = None,
        priors: Sequence[float] | Mapping[str, float] | None = None,
        separator: str = " ",
        bos: bool = True,
        eos: bool = False,
        progress: bool | None = None,
    ) -> Classification | Classifications:
        """Which label a text belongs to, by Bayes' rule; see `fastdecode.classify`."""
        from fastdecode.results.classification import Classification, Classifications, read_labels

        known = read_labels(labels, prompts, priors)
        checks.string("separator", separator)
        items = checks.filled("texts" if not isinstance(texts, str) else "text", texts)
        tasks = self._tasks(
            [label.prompt for _ in items for label in known],
            [separator + item for item in items for _ in known],
            bos=bos,
            eos=eos,
            names=[f"texts[{row}]" for row in range(len(items)) for _ in known],
        )
        shown = [item for item in items for _ in known]
        scores = list(self._score(shown, tasks, None, 0, progress))
        count = len(known)
        found = [
            Classification(item, known, scores[row * count : (row + 1) * count])
            for row, item in enumerate(items)
        ]
        return found[0] if isinstance(texts, str) else Classifications(found)

    def surprising(
        self,
        texts: Sequence[str],
        *,
        context: str = "",
        bos: bool = True,
        eos: bool = True,
        stride: int | None = None,
        alternatives: int = 0,
        progress: bool | None = None,
    ) -> Surprises:
        """The texts by their surprisal a token; see `fastdecode.surprising`."""
        from fastdecode.results.surprises import Surprises

        items = checks.filled("texts", texts)
        tasks = self._tasks([context] * len(items), items, bos=bos, eos=eos)
        for task in tasks:
            if len(task.tokens) == task.unscored:
                raise ValueError(
                    f"{task.name} has one token and nothing before it, so there is nothing to "
                    "score; use bos=True or eos=True"
                )
        return Surprises(list(self._score(items, tasks, stride, alternatives, progress)))

    def _tasks(
        self,
        contexts: Sequence[str],
        texts: Sequence[str],
        *,
        bos: bool,
        eos: bool,
        names: Sequence[str] | None = None,
    ) -> list[Task]:
        """What to score: each text behind its context, between BOS and EOS if asked for."""
        from fastdecode.decoding.scoring import Task

        for context in set(contexts):
            checks.string("context", context)
        start = [self._special("bos")] if bos else []
        end = [self._special("eos")] if eos else []
        distinct = sorted(set(contexts) - {""})
        before = dict(zip(distinct, self._plain_tokens(distinct), strict=True))
        return [
            Task(
                f"texts[{row}]" if names is None else names[row],
                start + before.get(context, []),
                ids + end,
            )
            for row, (context, ids) in enumerate(
                zip(contexts, self._plain_tokens(list(texts)), strict=True)
            )
        ]

    def _score(
        self,
        texts: Sequence[str],
        tasks: Sequence[Task],
        stride: int | None,
        alternatives: int,
        progress: bool | None,
    ) -> Iterator[Score]:
        """Score `tasks`, which are `texts`; every argument is checked before any work."""
        from fastdecode.decoding import scoring
        from fastdecode.display.flow import Alternative
        from fastdecode.results.scores import Score

        alternatives = checks.integer("alternatives", alternatives, 0, self.engine.vocab_size)
        if stride is not None:
            stride = checks.integer("stride", stride, 1)
        for task in tasks:
            checks.known(task.name, [*task.before, *task.tokens], self.engine.vocab_size)
        scoring.check(tasks, self.engine.context, stride)
        meter = progress_bar(progress, len(tasks), "score")
        try:
            found = scoring.run(
                self.engine,
                tasks,
                stride=stride,
                alternatives=alternatives,
                done=meter.update if meter is not None else lambda: None,
            )
        finally:
            if meter is not None:
                meter.close()
        readable = self.pieces.readable
        for text, task, item in zip(texts, tasks, found, strict=True):
            yield Score.of(
                text,
                list(task.tokens),
                item.logprobs,
                item.ranks,
                [readable(token) for token in task.tokens],
                [
                    None if some is None else [Alternative(i, readable(i), p) for i, p in some]
                    for some in item.alternatives
                ]
                if alternatives
                else None,
            )

    def _fitted(self, strategy: Strategy, eos: Sequence[int]) -> Strategy:
        """The strategy with the model's end tokens, its token ids checked."""
        if isinstance(strategy, Greedy):
            return strategy
        if not strategy.settings().get("eos_token_id"):
            strategy = strategy.with_eos(list(eos))
        strategy.check_vocabulary(self.engine.vocab_size)
        return strategy

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        """Prompts as tokens, with what the tokenizer adds by itself; an empty one begins at BOS."""
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer(texts, verbose=False)["input_ids"]
        if all(ids):
            return ids
        bos = getattr(self.tokenizer, "bos_token_id", None)
        if bos is None:
            row = next(row for row, tokens in enumerate(ids) if not tokens)
            raise ValueError(
                f"prompts[{row}] is empty and the tokenizer has no BOS token to begin from; "
                "give at least one token of text"
            )
        return [tokens or [bos] for tokens in ids]

    def _plain_tokens(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        return ids

    def _special(self, name: str) -> int:
        token = getattr(self.tokenizer, f"{name}_token_id", None)
        if token is None:
            raise ValueError(f"the tokenizer has no {name.upper()} token; use {name}=False")
        return int(token)


def _iterable(name: str, value: Any) -> Iterable[Any]:
    if isinstance(value, bytes | bytearray) or not isinstance(value, Iterable):
        raise TypeError(
            f"{name} must be a string or a sequence of strings, not {type(value).__name__}"
        )
    return value
