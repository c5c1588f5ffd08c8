"""Resumable runs of `generate`: texts are written to a file as they end.

On the native engine a text does not depend on the other texts of its batch, so only the missing
texts are generated. On other engines the last bit of a forward pass may depend on the batch:
prompts are generated in slices of a fixed size, and an incomplete slice is generated again as a
whole, in the same batches as in an uninterrupted run.

A run is not resumed with another model: the fingerprints of weights, configuration and tokenizer
and the definition of the number format are recorded beside the file and compared.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fastdecode import core
from fastdecode.jobs.records import Record, joined
from fastdecode.jobs.resumable_file import Key, ResumableFile
from fastdecode.models.environment import environment
from fastdecode.options import checks
from fastdecode.options.prompts import Given
from fastdecode.options.strategies import Strategy, describe

if TYPE_CHECKING:
    from fastdecode.decoder import Decoder
    from fastdecode.results.step import Step

# Prompts that are generated again together where an engine's last bits depend on the batch.
_SLICE = 256
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


class ResumableRun:
    """A run of `generate` into a file.

    Attributes:
        seed: the seed of the run.
        whole: the number of texts when the run is complete.
        resumed: the number of texts that were there when the file was opened.
        notes: what the user should know about the resumption, in sentences without their period.
    """

    def __init__(
        self,
        file: ResumableFile,
        decoder: Decoder,
        prompts: Sequence[Given],
        fields: Sequence[Mapping[str, Any]] | None,
        arguments: Mapping[str, Any],
    ) -> None:
        """Hold the settings of the run; see `open_run`."""
        self._file = file
        self._decoder = decoder
        self._prompts = prompts
        self._fields = fields
        self._arguments = arguments
        self.seed = file.seed
        self.whole = file.whole
        self.resumed = file.resumed
        self.notes = file.notes

    @property
    def done(self) -> int:
        """The number of texts in the file."""
        return len(self._file)

    def generate(self) -> Iterator[dict[str, Any]]:
        """Generate the missing texts, and yield each one's record when it is in the file."""
        for key, found in self._texts():
            if key not in self._file:
                record = found if self._fields is None else joined(self._fields[key[0]], found)
                self._file.add(key, record)
                yield record

    def _texts(self) -> Iterator[tuple[Key, dict[str, Any]]]:
        """The missing texts, as they end, and perhaps some that are not missing."""
        prompts, n = self._prompts, self._arguments["n"]

        def missing(index: int) -> bool:
            return any((index, sample) not in self._file for sample in range(n))

        slices = [list(filter(missing, range(len(prompts))))]
        if self._decoder.engine.name != "native":
            starts = range(0, len(prompts), _SLICE)
            spans = (range(start, min(start + _SLICE, len(prompts))) for start in starts)
            slices = [list(span) for span in spans if any(map(missing, span))]
        for indices in filter(None, slices):
            some = [prompts[index] for index in indices]
            steps = self._decoder.stream(some, seed=self.seed, streams=indices, **self._arguments)
            yield from _ended(steps, some, self._arguments.get("logprobs"))


@contextmanager
def open_run(
    path: str | os.PathLike[str],
    decoder: Decoder,
    prompts: Sequence[Given],
    *,
    strategy: Strategy,
    fields: Sequence[Mapping[str, Any]] | None = None,
    n: int = 1,
    seed: int | None = None,
    name: str = "path",
    **arguments: Any,
) -> Iterator[ResumableRun]:
    """Open the run whose texts are in `path`, or start it.

    When the run is complete, leaving the context puts the file in the order of the prompts.

    Args:
        path: the file of JSON lines.
        decoder: the model.
        prompts: all prompts of the run.
        strategy: how a token is chosen.
        fields: fields of each prompt, as JSON data, that its records begin with.
        n: samples of each prompt.
        seed: the seed; None is the one that the run was started with, or a fresh one.
        name: what the caller calls `path`, for error messages.
        **arguments: other arguments of a run, as `Decoder.stream` takes them, such as `stop`.

    Raises:
        ValueError: for a bad prompt or argument, before the file is touched; where the file belongs
            to another run or was begun with another model, the message names what differs.
    """
    n = checks.integer("n", n, 1, checks.U32)
    call = {**arguments, "n": n, "seed": seed}
    settings = _settings(decoder, prompts, fields, strategy, call)
    given = {key: value for key, value in arguments.items() if value is not None}
    given |= {"n": n, "strategy": strategy}
    # `stream` checks every prompt and argument when it is called, before it generates anything.
    decoder.stream(prompts, seed=seed, **given)
    # The end tokens are those of the model's files, and determine where a text ends.
    identity = {**decoder.identity(), "eos_token_id": list(decoder.engine.eos_ids)}
    with ResumableFile(
        path,
        settings,
        identity=identity,
        environment=environment(decoder.engine),
        prompts=prompts,
        n=n,
        name=name,
    ) as file:
        try:
            yield ResumableRun(file, decoder, prompts, fields, given)
        finally:
            file.finish()


def _settings(
    decoder: Decoder,
    prompts: Sequence[Given],
    fields: Sequence[Mapping[str, Any]] | None,
    strategy: Strategy,
    call: Mapping[str, Any],
) -> dict[str, Any]:
    """What determines the texts of a run and their records, as JSON data."""
    described = describe(strategy)
    # Prompts without fields have the digest that they always had.
    content: Any = list(prompts) if not any(fields or ()) else [list(prompts), list(fields or ())]
    settings = {
        "model": decoder.name,
        "revision": decoder.revision,
        "engine": decoder.engine.name,
        "dtype": decoder.engine.dtype,
        "prompts": len(prompts),
        "prompts_digest": hashlib.sha256(json.dumps(content).encode()).hexdigest(),
        "strategy": described.pop("name"),
        **described,
        **{name: call.get(name) for name in _ARGUMENTS},
        # In batches of another size torch may round differently.
        "batch_size": call.get("batch_size") if decoder.engine.name != "native" else None,
        "rng": core.RNG_VERSION,
        "seed": None if call["seed"] is None else checks.seed(call["seed"]),
    }
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain


def _ended(
    steps: Iterator[Step], prompts: Sequence[Given], logprobs: int | None
) -> Iterator[tuple[Key, dict[str, Any]]]:
    """Key and record of each text when it ends."""
    growing: dict[Key, Record] = {}
    for step in steps:
        key = step.stream, step.sample
        if key not in growing:
            growing[key] = Record(prompts[step.prompt_index], step, logprobs)
        growing[key].step(step)
        if step.finish_reason is not None:
            yield key, growing.pop(key).ended(step.finish_reason)
