"""Candidates: the likeliest next tokens behind a text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import overload


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible next token: `rank` from 1, its id and text, and its chance under the model.

    `probability` is in 0..1 and `logprob` in nats, both over the whole vocabulary.
    """

    rank: int
    token_id: int
    text: str
    probability: float
    logprob: float


class Candidates(Sequence[Candidate]):
    """The likeliest next tokens, likeliest first; ties go to the lower token id."""

    def __init__(self, prompt: str, items: Iterable[Candidate]) -> None:
        """Hold the candidates behind `prompt`."""
        self.prompt = prompt
        self._items = tuple(items)

    def __len__(self) -> int:
        """How many candidates there are."""
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Candidate]: ...
    def __getitem__(self, index: int | slice) -> Candidate | Sequence[Candidate]:
        """One candidate, or a slice of them."""
        return self._items[index]

    def __repr__(self) -> str:
        """A table: rank, token id, probability, token text."""
        lines = [f"{'rank':>4}  {'id':>7}  {'probability':>11}  token"]
        lines += [
            f"{c.rank:4d}  {c.token_id:7d}  {c.probability:11.6f}  {c.text!r}" for c in self._items
        ]
        return "\n".join(lines)
