"""Generations: what `generate` returns; it can be saved and run again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from fastdecode.display import Column, Table, Tabular, flow
from fastdecode.display.flow import Alternative, Shown
from fastdecode.display.html import escape, fragment
from fastdecode.results.items import Items, restore, summary
from fastdecode.results.step import Step

if TYPE_CHECKING:
    import os

    from fastdecode.results.beam_tree import BeamTree

_FORMAT = "fastdecode generations v1"


@dataclass(frozen=True, slots=True, repr=False)
class Generation:
    """One generated continuation of one prompt.

    Attributes:
        text: the continuation, without the prompt, cut before a stop string; without special tokens
            unless the run was made with `skip_special_tokens=False`.
        token_ids: the generated tokens, including the end-of-sequence token and the tokens of a
            stop string.
        prompt: the prompt as given; the text of its tokens where it was given as token ids.
        logprobs: for each generated token, its log-probability in nats under the model itself
            (before temperature and truncation); None unless requested.
        alternatives: for each generated token, the likeliest tokens as (id, log-probability),
            likeliest first; None unless `logprobs` is at least 1.
        score: a beam's final score; None for greedy and sampling.
        inclusion: in a stochastic beam search, the probability that the sample contains this
            sequence, given its threshold; otherwise None.
        finish_reason: "eos", "stop" (a stop string or a token of `stop_token_ids`), "length"
            (`max_new_tokens`), "context" (the model's context is full), or "interrupted" (Ctrl-C).
        seed: the seed of the run.
        stream: the random stream of the prompt.
        sample: which sample of the prompt, from 0.
        steps: a `Step` for each generated token, with its trace; None without `trace=True`.
        prompt_index: the index of the prompt in the call. Comparisons with `==` ignore this and
            the next one.
        prompt_token_ids: the tokens of the prompt; None where the generation was read from a file
            that does not record them.
    """

    text: str
    token_ids: list[int]
    prompt: str
    logprobs: list[float] | None
    score: float | None
    finish_reason: str
    seed: int
    stream: int
    sample: int
    alternatives: list[list[tuple[int, float]]] | None = None
    inclusion: float | None = None
    steps: list[Step] | None = None
    prompt_index: int = field(default=0, compare=False)
    prompt_token_ids: list[int] | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        """Its texts and counts, without the tokens and steps."""
        shown = {
            "prompt": self.prompt,
            "text": self.text,
            "tokens": len(self.token_ids),
            "finish_reason": self.finish_reason,
            "prompt_index": self.prompt_index,
            "sample": self.sample,
            "seed": self.seed,
        }
        if self.score is not None:
            shown["score"] = self.score
        if self.steps is not None:
            shown["steps"] = len(self.steps)
        return summary(self, **shown)

    def __setstate__(self, state: Sequence[Any]) -> None:
        """Restore a pickle, also one of a version that recorded less."""
        restore(self, state)

    def explain(self) -> str:
        """Every step in one sentence, on a line each.

        Raises:
            ValueError: where the run was made without `trace=True`.
        """
        return "\n".join(step.explain() for step in self._traced("explain"))

    def plot(self, ax: Any = None) -> Any:
        """Surprisal of each token and entropy before it, in nats, by matplotlib.

        Args:
            ax: the matplotlib axes to draw on; None makes a figure.

        Returns:
            The axes.

        Raises:
            ImportError: where matplotlib is not installed.
            ValueError: where the run was made without `trace=True`.
        """
        from fastdecode.display import plots

        traces = [step.trace for step in self._traced("plot") if step.trace is not None]
        return plots.surprisal(
            [trace.shown for trace in traces],
            [-trace.logprob for trace in traces],
            [trace.entropy for trace in traces],
            ax,
        )

    def _traced(self, what: str) -> list[Step]:
        if self.steps is None:
            raise ValueError(f"there is nothing to {what}: generate with trace=True")
        return self.steps

    def _flow(self) -> Iterator[Shown]:
        yield Shown(self.prompt)
        if self.steps is None:
            yield Shown(self.text, 0.0)
            return
        for step in self.steps:
            trace = step.trace
            if trace is not None:
                others = [Alternative(c.token_id, c.shown, c.logprob) for c in trace.candidates]
                lines = [f"rank {trace.rank:,}", *trace.explain().split("; ")[1:]]
                yield Shown(trace.shown, trace.logprob, lines, others)

    def _repr_html_(self) -> str:
        return self.to_html()

    def _html_body(self) -> str:
        if self.steps is None:
            given, made = escape(self.prompt), escape(self.text)
            return f'<div class="flow"><span class="tok given">{given}</span>{made}</div>'
        return flow.paragraph(self._flow())

    def to_html(self) -> str:
        """What a notebook shows: self-contained HTML without scripts."""
        key = "" if self.steps is None else flow.key()
        return fragment(self._html_body() + key)

    def __rich__(self) -> Any:
        """The text for `rich.print`, coloured by surprisal where there is a trace."""
        return flow.rich(self._flow())


@dataclass(frozen=True, slots=True)
class Stats:
    """The time that a run took, and how it divides.

    Attributes:
        tokens: generated tokens.
        seconds: wall time of the decode, without loading the model.
        tokens_per_second: their ratio.
        forward: share of the time in the model's forward pass, 0..1.
        core: share in the decoding core (choice of tokens, log-probabilities), 0..1.
        python: the remaining share, 0..1.
    """

    tokens: int
    seconds: float
    tokens_per_second: float
    forward: float
    core: float
    python: float

    @classmethod
    def of(cls, tokens: int, seconds: float, forward: float, core: float) -> Stats:
        """From a count and from measured times.

        Args:
            tokens: the number of generated tokens.
            seconds: wall time of the decode.
            forward: seconds in the model's forward pass.
            core: seconds in the decoding core.
        """
        whole = max(seconds, 1e-12)
        rest = max(0.0, whole - forward - core)
        return cls(tokens, seconds, tokens / whole, forward / whole, core / whole, rest / whole)


class Generations(Tabular, Items[Generation]):
    """Generations in the order of the prompts, then of the samples.

    A slice has the attributes of the whole run, and of `trees` those of its prompts.

    Attributes:
        stats: the time that the run took.
        call: the arguments of the run as plain data, from which `fastdecode.replay` repeats it.
        environment: versions, engine, threads and instruction set of the run; empty where it was
            read from a file that does not record them.
        trees: the `BeamTree` of each prompt, from a beam search with `trace=True`; not saved.
    """

    def __init__(
        self,
        items: Iterable[Generation],
        stats: Stats,
        call: dict[str, Any],
        environment: dict[str, Any] | None = None,
    ) -> None:
        """Hold `items` of one run."""
        super().__init__(items)
        self.stats = stats
        self.call = call
        self.environment = environment or {}
        self.trees: list[BeamTree] = []

    def __eq__(self, other: object) -> bool:
        """Whether the generations are the same; the statistics are not compared."""
        if not isinstance(other, Generations):
            return NotImplemented
        return self._items == other._items

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """A short table of the generations."""
        lines = [f"Generations({len(self)}, {self._tokens()} tokens)"]
        for item in self._items[:10]:
            whole = item.prompt + item.text
            short = whole if len(whole) <= 80 else whole[:77] + "..."
            lines.append(f"  [{item.stream}.{item.sample}] {short!r} ({item.finish_reason})")
        if len(self) > 10:
            lines.append(f"  ... {len(self) - 10} more")
        return "\n".join(lines)

    def _part(self, items: tuple[Generation, ...]) -> Self:
        part = super()._part(items)
        if self.trees:
            wanted = {item.prompt_index for item in items}
            indices = sorted({item.prompt_index for item in self._items})
            # An interrupted search has no tree of the prompts that it had not finished.
            if len(indices) == len(self.trees):
                pairs = zip(indices, self.trees, strict=True)
                part.trees = [tree for index, tree in pairs if index in wanted]
        return part

    def _tokens(self) -> int:
        return sum(len(item.token_ids) for item in self._items)

    def by_prompt(self) -> dict[int, Self]:
        """The generations of each prompt, by its index in the call, in the order of the prompts.

        A prompt without generations (the run was interrupted, or this is a slice) is absent.
        """
        groups: dict[int, list[Generation]] = {}
        for item in self._items:
            groups.setdefault(item.prompt_index, []).append(item)
        return {index: self._part(tuple(group)) for index, group in groups.items()}

    @property
    def texts(self) -> list[str]:
        """The continuations, one a generation."""
        return [item.text for item in self._items]

    @property
    def tree(self) -> BeamTree:
        """The tree of a beam search with one prompt.

        Raises:
            ValueError: where there is none, or several.
        """
        if len(self.trees) == 1:
            return self.trees[0]
        if self.trees:
            raise ValueError(f"there are {len(self.trees)} trees, one a prompt: use trees[i]")
        raise ValueError("there is no tree: run a beam search with trace=True")

    @property
    def seed(self) -> int:
        """The seed of the run; a fresh one where none was given."""
        return int(self.call["seed"])

    def _table(self) -> Table:
        items = self._items
        return Table(
            [
                Column("text", [f"{g.stream}.{g.sample}" for g in items], code=True),
                Column("", [g.prompt + g.text for g in items]),
                Column("finish", [g.finish_reason for g in items]),
            ],
            [f"{self._tokens()} tokens, seed {self.seed}"],
        )

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        names = (name for name in Generation.__slots__ if name != "steps")
        return {name: [getattr(g, name) for g in self._items] for name in names}

    def _repr_html_(self) -> str:
        if any(item.steps is not None for item in self._items):
            body = "".join(item._html_body() for item in self._items)
            return fragment(body + flow.key())
        return self._table().html()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the call, its environment and its generations to `path` as JSON (UTF-8).

        `fastdecode.replay` runs the file again, `fastdecode.verify` compares the two runs.
        """
        data = {
            "format": _FORMAT,
            "call": self.call,
            "environment": self.environment,
            "stats": asdict(self.stats),
            "generations": [asdict(item) for item in self._items],
        }
        Path(path).write_text(json.dumps(data, ensure_ascii=False, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Generations:
        """Read a file that `save` wrote; nothing is run.

        Args:
            path: the file.

        Raises:
            ValueError: where the file is something else.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not JSON: {error}") from error
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            raise ValueError(f"{path} was not written by Generations.save of this version")
        _number_prompts(data["generations"], data["call"])
        items = []
        for fields in data["generations"]:
            some = fields.get("alternatives")
            if some is not None:
                fields["alternatives"] = [[(i, p) for i, p in step] for step in some]
            steps = fields.get("steps")
            if steps is not None:
                fields["steps"] = [Step.restore(step) for step in steps]
            items.append(Generation(**fields))
        return cls(items, Stats(**data["stats"]), data["call"], data.get("environment"))


def _number_prompts(saved: Sequence[dict[str, Any]], call: Mapping[str, Any]) -> None:
    """Add the index of its prompt to each saved generation of a file that has none.

    They are in the order of the prompts; where a prompt occurs twice, its samples start over.
    """
    keys = list(zip(call.get("prompts", ()), call.get("streams", ()), strict=False))
    place = 0
    samples: set[int] = set()
    for fields in saved:
        if "prompt_index" in fields:
            return
        key = fields["prompt"], fields["stream"]
        while place < len(keys) and (key != keys[place] or fields["sample"] in samples):
            place, samples = place + 1, set()
        if place == len(keys):
            return
        samples.add(fields["sample"])
        fields["prompt_index"] = place
