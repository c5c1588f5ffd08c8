"""Candidates: the likeliest next tokens behind a text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fastdecode.sequences import Items


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


class Candidates(Items[Candidate]):
    """The likeliest next tokens, likeliest first; ties go to the lower token id."""

    def __init__(self, prompt: str, items: Iterable[Candidate]) -> None:
        """Hold the candidates behind `prompt`."""
        self.prompt = prompt
        super().__init__(items)

    def __repr__(self) -> str:
        """A table: rank, token id, probability, token text."""
        lines = [f"{'rank':>4}  {'id':>7}  {'probability':>11}  token"]
        lines += [
            f"{c.rank:4d}  {c.token_id:7d}  {c.probability:11.6f}  {c.text!r}" for c in self._items
        ]
        return "\n".join(lines)
