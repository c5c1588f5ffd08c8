"""What a question is: a command, its inputs and settings, and how they are answered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastdecode import core

if TYPE_CHECKING:
    from fastdecode.decoder import Decoder
    from fastdecode.scoring.texts import Prepared

# The largest part, in inputs; and in tokens, where a part is scored before its first line is known.
_PART = 256
_PART_TOKENS = 16_384

# The place of an answer: the index of its input, and which answer to it this is.
Key = tuple[int, int]
# An answer with its place.
Answer = tuple[Key, dict[str, Any]]


class Question(ABC):
    """What a job asks of each of its inputs, and how it is answered.

    Whoever makes one gets every error of an argument at once, before anything is written.

    Attributes:
        command: the command that asks it.
        what: what the inputs are called: "prompts".
        field: the field of a line that has the input: "prompt".
        line: the type of its lines.
        decoder: the model.
        inputs: the inputs, as the lines have them.
        each: how many answers an input has at most.
    """

    command: str
    what: str
    field: str
    line: type[Any]
    decoder: Decoder
    inputs: Sequence[Any]
    each: int = 1

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What determines the answers besides model and inputs, as JSON data.

        A question whose answers depend on a seed has the seed under "seed", or None there.
        """

    @abstractmethod
    def parts(self) -> Iterable[range]:
        """The indices of the inputs in parts that are answered one after another.

        Where the last bit of a forward pass may depend on the batch, an incomplete part is answered
        again as a whole, in the same batches as without an interruption.
        """

    @abstractmethod
    def answers(self, indices: Sequence[int], seed: int | None) -> Iterator[Answer]:
        """The answers to some inputs, in any order."""

    @abstractmethod
    def key(self, record: Mapping[str, Any], number: int) -> Key:
        """The place of the answer in line `number`, from 1."""

    @abstractmethod
    def place(self, key: Key) -> str:
        """The place of an answer in words."""

    def wrong(self, index: int, record: Mapping[str, Any]) -> str | None:
        """Why a record cannot be an answer to an input, besides its input and seed, or None."""
        return None


class Drawn(Question):
    """A question with `each` answers to a prompt, which depend on a seed.

    Attributes:
        seed: the seed, or None for a fresh one.
    """

    what = "prompts"
    field = "prompt"
    seed: int | None

    def settings(self) -> dict[str, Any]:
        """What determines the answers besides model and inputs, as JSON data."""
        return {"rng": core.RNG_VERSION, "seed": self.seed}

    def parts(self) -> Iterable[range]:
        """The indices of the inputs in parts that are answered one after another."""
        count = len(self.inputs)
        size = count if self.decoder.engine.name == "native" else _PART
        return [range(start, min(start + size, count)) for start in range(0, count, size or 1)]

    def key(self, record: Mapping[str, Any], number: int) -> Key:
        """The place of the answer in line `number`, from 1."""
        return record["stream"], record["sample"]

    def place(self, key: Key) -> str:
        """The place of an answer in words."""
        return f"stream {key[0]} and sample {key[1]}"


class InOrder(Question):
    """A question with one answer to each text, whose lines are written in the order of the texts.

    Attributes:
        prepared: the texts, ready to be scored.
    """

    what = "texts"
    field = "text"
    inputs: Sequence[str]
    prepared: Prepared

    def parts(self) -> Iterator[range]:
        """The indices of the inputs in parts that are answered one after another."""
        count, tasks = len(self.inputs), self.prepared.tasks
        several = len(tasks) // count if count else 1
        start = tokens = 0
        for row in range(count):
            mine = tasks[row * several : (row + 1) * several]
            tokens += sum(len(task.before) + len(task.tokens) for task in mine)
            if tokens >= _PART_TOKENS or row + 1 - start == _PART:
                yield range(start, row + 1)
                start, tokens = row + 1, 0
        if start < count:
            yield range(start, count)

    def key(self, record: Mapping[str, Any], number: int) -> Key:
        """The place of the answer in line `number`, from 1."""
        return number - 1, 0

    def place(self, key: Key) -> str:
        """The place of an answer in words."""
        return f"line {key[0] + 1}"
