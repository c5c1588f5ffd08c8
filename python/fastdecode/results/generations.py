"""Generations: what `generate` returns; it can be saved and run again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from dataclasses import replace as changed
from typing import TYPE_CHECKING, Any, Protocol, Self, TypedDict

from fastdecode.display import Column, Table, Tabular, flow
from fastdecode.display.flow import Alternative, Shown
from fastdecode.display.html import escape, fragment
from fastdecode.files.reading import read_json
from fastdecode.files.shapes import shaped
from fastdecode.files.writing import replace
from fastdecode.models.identity.source import Identity
from fastdecode.options import checks
from fastdecode.results.items import Items, restore, summary
from fastdecode.results.step import Step

if TYPE_CHECKING:
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


class Identify(Protocol):
    """Computes what a run records of its model, when somebody asks for it."""

    def __call__(self, *, exact: bool = False) -> dict[str, Any]:
        """The identity; see `fastdecode.models.identity.source.Source.identity`."""
        ...


class Generations(Tabular, Items[Generation]):
    """Generations in the order of the prompts, then of the samples.

    A slice has the attributes of the whole run, and of `trees` those of its prompts.

    Attributes:
        stats: the time that the run took.
        call: the arguments of the run as plain data, from which `fastdecode.replay` repeats it.
        environment: versions, engine, threads and instruction set of the run; empty where it was
            read from a file that does not record them.
        identity: fingerprints of the model's weights, configuration and tokenizer, and the number
            of the definition of its number format; computed when it is first read. Empty where it
            was read from a file that does not record it; a "note" says why, where it cannot be
            known.
        trees: the `BeamTree` of each prompt, from a beam search with `trace=True`; not saved.
    """

    def __init__(
        self,
        items: Iterable[Generation],
        stats: Stats,
        call: dict[str, Any],
        environment: dict[str, Any] | None = None,
        identity: Identify | dict[str, Any] | None = None,
    ) -> None:
        """Hold `items` of one run."""
        super().__init__(items)
        self.stats = stats
        self.call = call
        self.environment = environment or {}
        self._identity = identity
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
    def identity(self) -> dict[str, Any]:
        """What the model is, by its contents."""
        # Pickles of version 0.1 have none.
        identity = getattr(self, "_identity", None)
        if identity is None or isinstance(identity, dict):
            return identity or {}
        try:
            return dict(identity())
        except (ValueError, OSError) as error:
            return {"note": str(error)}

    def __copy__(self) -> Self:
        """A copy that shares everything, and computes the identity when it is needed."""
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __getstate__(self) -> dict[str, Any]:
        """For pickles, which hold the identity and not the means to compute it."""
        return self.__dict__ | {"_identity": self.identity}

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

    def save(self, path: str | os.PathLike[str], *, exact: bool = False) -> None:
        """Write the call, its environment and its generations to `path` as JSON (UTF-8).

        `fastdecode.replay` runs the file again, `fastdecode.verify` compares the two runs. An
        earlier file is replaced as a whole, so that it is kept where the new one cannot be written.

        Args:
            path: the file.
            exact: record the exact fingerprint of the weights, for which all of them are read, and
                not the quick one, which reads a sample; see `fastdecode.fingerprint`.

        Raises:
            OSError: where the file cannot be written.
            ValueError: for `exact`, where the fingerprint cannot be computed: the run was read from
                a file, or the model has changed or is gone.
        """
        where = checks.path("path", path)
        identity = self.identity
        if checks.boolean("exact", exact):
            compute = self._identity
            if compute is None or isinstance(compute, dict):
                raise ValueError("exact=True needs the model, and this run was read from a file")
            identity = compute(exact=True)
        data = {
            "format": _FORMAT,
            "call": self.call,
            "environment": self.environment,
            **({"identity": identity} if identity else {}),
            "stats": asdict(self.stats),
            "generations": [asdict(item) for item in self._items],
        }
        replace(where, [json.dumps(data, ensure_ascii=False, indent=1).encode()])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Generations:
        """Read a file that `save` wrote; nothing is run.

        Args:
            path: the file.

        Raises:
            ValueError: where the file is something else; the message names the place in it.
        """
        where = checks.path("path", path)
        data = read_json(where)
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            raise ValueError(f"{where} was not written by Generations.save of this version")
        saved = shaped(_SavedRun, data, where)
        call = saved["call"]
        items = _numbered(saved["generations"], data["generations"], call)
        if len(call["streams"]) != len(call["prompts"]):
            raise ValueError(f"{where}, call.streams: must have one stream for each of the prompts")
        for index, item in enumerate(items):
            for name in ("logprobs", "alternatives", "steps"):
                values = getattr(item, name)
                if values is not None and len(values) != len(item.token_ids):
                    raise ValueError(
                        f"{where}, generations[{index}].{name}: must have one entry for each "
                        "of the token_ids"
                    )
            if item.seed != call["seed"]:
                raise ValueError(
                    f"{where}, generations[{index}].seed: must be the seed of the call"
                )
        identity = dict(saved.get("identity", {}))
        return cls(items, saved["stats"], dict(call), saved.get("environment"), identity)


class _SavedCall(TypedDict):
    """The arguments of a call that every file has."""

    model: str | None
    revision: str | None
    dtype: str | None
    prompts: list[str | list[int]]
    strategy: dict[str, Any]
    seed: int
    streams: list[int]
    rng: str


class SavedCall(_SavedCall, total=False):
    """The arguments of a call in a file; those that later versions add are kept as they are."""

    engine: str
    kv_cache_dtype: str
    max_new_tokens: int | None
    max_length: int | None
    n: int
    stop: list[str]
    logprobs: int | None
    trace: bool
    batch_size: int
    eos_token_id: list[int]


class _WholeRun(TypedDict):
    """What every file of a run has."""

    format: str
    call: SavedCall
    stats: Stats
    generations: list[Generation]


class _SavedRun(_WholeRun, total=False):
    """A file of a run."""

    environment: dict[str, Any] | None
    identity: Identity


def _numbered(
    items: Sequence[Generation], fields: Sequence[Mapping[str, Any]], call: _SavedCall
) -> list[Generation]:
    """Generations with the index of their prompt, also those of a file that does not record it.

    They are in the order of the prompts; where a prompt occurs twice, its samples start over.
    """
    keys = list(zip(call["prompts"], call["streams"], strict=False))
    place = 0
    samples: set[int] = set()
    numbered = []
    for item, own in zip(items, fields, strict=True):
        if "prompt_index" in own:
            numbered.append(item)
            continue
        key = item.prompt, item.stream
        while place < len(keys) and (key != keys[place] or item.sample in samples):
            place, samples = place + 1, set()
        samples.add(item.sample)
        numbered.append(changed(item, prompt_index=place))
    return numbered
