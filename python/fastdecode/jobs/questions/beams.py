"""The question of `beam`: the best sequences of a beam search from each prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fastdecode.decoding.arguments import CheckedCall, check_call
from fastdecode.decoding.generation import finished
from fastdecode.jobs.questions.base import Answer, Drawn
from fastdecode.jobs.records import BeamLine, DrawnBeamLine, of_generation
from fastdecode.options import checks
from fastdecode.options.strategies import Beam, describe

if TYPE_CHECKING:
    from fastdecode.decoder import Decoder


class Beams(Drawn):
    """The best sequences from each prompt. There may be fewer of them than were requested."""

    command = "beam"

    def __init__(
        self,
        decoder: Decoder,
        prompts: Sequence[str],
        *,
        strategy: Beam,
        max_new_tokens: int = 20,
        seed: int | None = None,
        stop: Sequence[str] | None = None,
    ) -> None:
        """Ask for as many sequences of each prompt as `strategy` returns.

        Args:
            decoder: the model.
            prompts: the prompts.
            strategy: the beam search.
            max_new_tokens: as for `fastdecode.generate`; so is `stop`.
            seed: the seed of the draws; None is the one that the job was started with, or a fresh
                one.
            stop: stop strings.

        Raises:
            TypeError: for a wrong type.
            ValueError: for a bad value, or a prompt without room in the context.
        """
        self.decoder, self.inputs = decoder, prompts
        self.seed = None if seed is None else checks.seed(seed)
        self._strategy = strategy
        self._arguments = {"max_new_tokens": max_new_tokens, "stop": stop}
        self.each = strategy.num_return_sequences
        self.line = DrawnBeamLine if strategy.stochastic else BeamLine
        self._call(range(len(prompts)), seed)

    def settings(self) -> dict[str, Any]:
        """What determines the answers besides model and inputs, as JSON data."""
        described = describe(self._strategy)
        name = described.pop("name")
        return {"strategy": name, **described, **self._arguments, **super().settings()}

    def answers(self, indices: Sequence[int], seed: int | None) -> Iterator[Answer]:
        """Key and record of each sequence when the search from its prompt has ended."""
        for item in finished(self.decoder.engine, self._call(indices, seed)):
            yield (item.stream, item.sample), of_generation(item)

    def _call(self, indices: Sequence[int], seed: int | None) -> CheckedCall:
        """The call for some of the prompts, checked."""
        more = {"strategy": self._strategy, "seed": seed, "logprobs": 0, "streams": list(indices)}
        some = [self.inputs[index] for index in indices]
        arguments = {**self._arguments, **more}
        return check_call(self.decoder.engine, self.decoder.codec, some, arguments)
