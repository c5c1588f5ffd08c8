"""Throughputs: how many tokens per second a model decodes, and how the time divides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from fastdecode.display import Column, Table, Tabular
from fastdecode.options import checks
from fastdecode.results.items import Items

if TYPE_CHECKING:
    from fastdecode.decoder import Decoder
    from fastdecode.options.strategies import OneByOne

_PROMPT = "Once upon a time"


@dataclass(frozen=True, slots=True)
class Throughput:
    """Decoding at one batch size.

    Attributes:
        batch: the number of texts in the batch.
        tokens_per_second: of all texts together, prefill included; the median of the runs.
        slowest: of the slowest run.
        fastest: of the fastest run.
        forward: share of the time in the model's forward pass, 0..1.
        core: share in the decoding core.
        python: the rest.
    """

    batch: int
    tokens_per_second: float
    slowest: float
    fastest: float
    forward: float
    core: float
    python: float


class Throughputs(Tabular, Items[Throughput]):
    """Throughputs by batch size.

    Attributes:
        setting: what was measured, in a sentence.
        environment: the machine and versions; see `Generations.environment`.
    """

    def __init__(
        self, items: Sequence[Throughput], setting: str, environment: dict[str, Any]
    ) -> None:
        """Hold the measurements."""
        super().__init__(items)
        self.setting = setting
        self.environment = environment

    def _table(self) -> Table:
        items = self._items
        most = max((item.tokens_per_second for item in items), default=1.0)
        has = self.environment
        return Table(
            [
                Column("batch", [str(item.batch) for item in items], right=True),
                Column("tokens/s", [f"{t.tokens_per_second:,.1f}" for t in items], right=True),
                Column("", bars=[item.tokens_per_second / most for item in items]),
                Column("forward", [f"{item.forward:.1%}" for item in items], right=True),
                Column("core", [f"{item.core:.1%}" for item in items], right=True),
                Column("Python", [f"{item.python:.1%}" for item in items], right=True),
            ],
            [
                ", ".join(
                    f"{name} {has[name]}"
                    for name in ("engine", "dtype", "kv_cache_dtype", "threads", "level", "torch")
                    if name in has
                )
            ],
            title=self.setting,
        )

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        names = Throughput.__slots__
        return {name: [getattr(item, name) for item in self._items] for name in names}


def measure(
    decoder: Decoder,
    batches: Sequence[int] = (1, 8, 32),
    *,
    strategy: OneByOne,
    max_new_tokens: int = 64,
    repeats: int = 3,
    prompt: str = _PROMPT,
) -> Throughputs:
    """Decode the same prompt in batches of each size, once to warm up and `repeats` times.

    Args:
        decoder: the model.
        batches: sizes of batches.
        strategy: how tokens are chosen.
        max_new_tokens: new tokens of each text; no text ends before.
        repeats: runs of each size.
        prompt: the prompt of every text.

    Raises:
        ValueError: for a bad size, or where the context has no room for that many tokens.
    """
    from fastdecode.models.environment import environment
    from fastdecode.options.strategies import spoken

    sizes = [checks.integer("batch", size, 1) for size in batches]
    repeats = checks.integer("repeats", repeats, 1)
    context = decoder.engine.context
    length = len(decoder.encode(prompt))
    if context is not None and length + max_new_tokens > context:
        raise ValueError(
            f"the prompt and {max_new_tokens} new tokens are more than the model's context of "
            f"{context}; give at most {context - length}"
        )
    items = []
    for size in sizes:
        runs = list(_runs(decoder, size, strategy, max_new_tokens, repeats, prompt))
        speeds = [run.tokens_per_second for run in runs]
        shares = ([getattr(run, name) for run in runs] for name in ("forward", "core", "python"))
        items.append(
            Throughput(size, median(speeds), min(speeds), max(speeds), *map(median, shares))
        )
    setting = f"{decoder.name}, {length} + {max_new_tokens} tokens, {spoken(strategy)}, "
    setting += f"median of {repeats}"
    return Throughputs(items, setting, environment(decoder.engine))


def _runs(
    decoder: Decoder,
    size: int,
    strategy: OneByOne,
    max_new_tokens: int,
    repeats: int,
    prompt: str,
) -> Iterator[Any]:
    for run in range(repeats + 1):
        found = decoder.generate(
            [prompt] * size,
            strategy=strategy,
            max_new_tokens=max_new_tokens,
            eos_token_id=[],
            seed=run,
            batch_size=size,
            progress=False,
        )
        if run:
            yield found.stats
