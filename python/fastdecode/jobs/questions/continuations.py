"""The question of `generate`: how each prompt continues."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fastdecode.jobs.questions.base import Answer, Drawn, Key
from fastdecode.jobs.records import Line, LineWithAlternatives, LineWithLogprobs, Record
from fastdecode.options import checks
from fastdecode.options.prompts import Given
from fastdecode.options.strategies import Strategy, describe

if TYPE_CHECKING:
    from fastdecode.decoder import Decoder

# Arguments that determine the texts, besides the strategy; None is not given.
_ARGUMENTS = (
    "n",
    "max_new_tokens",
    "stop",
    "logprobs",
    "stop_token_ids",
    "add_special_tokens",
    "skip_special_tokens",
)


class Continuations(Drawn):
    """How each prompt continues, token by token."""

    command = "generate"
    inputs: Sequence[Given]

    def __init__(
        self,
        decoder: Decoder,
        prompts: Sequence[Given],
        *,
        strategy: Strategy,
        n: int = 1,
        seed: int | None = None,
        **arguments: Any,
    ) -> None:
        """Ask for `n` samples of each prompt.

        Args:
            decoder: the model.
            prompts: texts and token ids.
            strategy: how a token is chosen.
            n: samples of each prompt.
            seed: the seed; None is the one that the job was started with, or a fresh one.
            **arguments: other arguments of a run, as `Decoder.stream` takes them, such as `stop`.

        Raises:
            TypeError: for a wrong type.
            ValueError: for a bad value, or a prompt without room in the context.
        """
        self.decoder, self.inputs = decoder, prompts
        self.each = checks.integer("n", n, 1, checks.U32)
        self.seed = None if seed is None else checks.seed(seed)
        self._strategy = strategy
        given = {name: value for name, value in arguments.items() if value is not None}
        self._arguments = given | {"n": self.each, "strategy": strategy}
        # `stream` checks every prompt and argument when it is called, before it generates anything.
        decoder.stream(prompts, seed=seed, **self._arguments)
        self._logprobs = given.get("logprobs")
        self.line = Line
        if self._logprobs is not None:
            self.line = LineWithAlternatives if self._logprobs else LineWithLogprobs

    def settings(self) -> dict[str, Any]:
        """What determines the answers besides model and inputs, as JSON data."""
        described, call = describe(self._strategy), self._arguments
        return {
            "strategy": described.pop("name"),
            **described,
            **{name: call.get(name) for name in _ARGUMENTS},
            # In batches of another size torch may round differently.
            "batch_size": self._batch_size(),
            **super().settings(),
        }

    def _batch_size(self) -> int | None:
        native = self.decoder.engine.name == "native"
        return None if native else self._arguments.get("batch_size")

    def answers(self, indices: Sequence[int], seed: int | None) -> Iterator[Answer]:
        """Key and record of each text when it ends."""
        some = [self.inputs[index] for index in indices]
        steps = self.decoder.stream(some, seed=seed, streams=list(indices), **self._arguments)
        growing: dict[Key, Record] = {}
        for step in steps:
            key = step.stream, step.sample
            if key not in growing:
                growing[key] = Record(some[step.prompt_index], step, self._logprobs)
            growing[key].step(step)
            if step.finish_reason is not None:
                yield key, growing.pop(key).ended(step.finish_reason)
