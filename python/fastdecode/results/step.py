"""Steps: what `stream` yields, one for each token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastdecode.files.shapes import shaped
from fastdecode.results.items import summary
from fastdecode.results.trace import Trace

# Fields that `repr` shows in short.
_LONG = ("alternatives", "trace")


@dataclass(frozen=True, slots=True, repr=False)
class Step:
    """One token of one generation.

    Attributes:
        text: the text that this token completes. It may be empty (a character is incomplete, a
            run of byte tokens has not ended, a stop string may have begun) and it never splits a
            character; the texts of the steps of one generation, joined, are `Generation.text`.
        token_id: the token.
        position: the number of tokens before it in its sequence, prompt included.
        stream: the random stream of its prompt.
        sample: which sample of the prompt, from 0.
        prompt_index: the index of the prompt in the call.
        logprob: its log-probability in nats under the model (before temperature and truncation).
        finish_reason: None; on a generation's last step, why it ended, as in `Generation`.
        seed: the seed of the run.
        alternatives: the likeliest tokens as (id, log-probability), where `logprobs`
            requested them.
        trace: what led to the token, with `trace=True`.
    """

    text: str
    token_id: int
    position: int
    stream: int
    sample: int
    prompt_index: int
    logprob: float
    finish_reason: str | None
    seed: int
    alternatives: list[tuple[int, float]] | None = None
    trace: Trace | None = None

    def __repr__(self) -> str:
        """Its fields; of the alternatives their number, and the trace as a sentence."""
        shown = {name: getattr(self, name) for name in self.__slots__ if name not in _LONG}
        if self.alternatives is not None:
            shown["alternatives"] = len(self.alternatives)
        if self.trace is not None:
            shown["trace"] = self.trace.explain()
        return summary(self, **shown)

    def explain(self) -> str:
        """The step in one sentence.

        Raises:
            ValueError: where the run was made without `trace=True`.
        """
        if self.trace is None:
            raise ValueError("there is nothing to explain: run with trace=True")
        return self.trace.explain()

    @classmethod
    def restore(cls, data: Mapping[str, Any]) -> Step:
        """From plain data.

        Args:
            data: the fields of a step, as `Generations.save` writes them.

        Raises:
            ValueError: for anything else.
        """
        return shaped(cls, data, "a saved step")
