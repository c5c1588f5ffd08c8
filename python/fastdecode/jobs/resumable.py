"""Resumable jobs: the same question to many inputs, answered into a file of JSON lines.

What is asked is a `Question`, one class for each command; all else is the same for all of them.

On the native engine an answer does not depend on the other inputs of its batch, so only the missing
answers are computed. On other engines the last bit of a forward pass may depend on the batch:
inputs are answered in parts of a fixed size, and an incomplete part is answered again as a whole,
in the same batches as in an uninterrupted job.

A job is not resumed with another model: the fingerprints of weights, configuration and tokenizer
and the definition of the number format are recorded beside the file and compared.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fastdecode.jobs.questions.base import Question
from fastdecode.jobs.resumable_file import ResumableFile
from fastdecode.models.engines.base import cache_setting
from fastdecode.models.environment import environment


class Job:
    """A question that is answered into a file.

    Attributes:
        seed: the seed of the job; None where its question has none.
        whole: the largest number of answers that there can be.
        resumed: the number of answers that were there when the file was opened.
        notes: what the user should know about the resumption, in sentences without their period.
    """

    def __init__(self, question: Question, file: ResumableFile) -> None:
        """Answer `question` into `file`; see `open_job`."""
        self._question = question
        self._file = file
        self.seed = file.seed
        self.whole = file.whole
        self.resumed = file.resumed
        self.notes = file.notes

    @property
    def done(self) -> int:
        """The number of answers in the file."""
        return len(self._file)

    @property
    def is_complete(self) -> bool:
        """Whether every input is answered, be it with fewer answers than `whole` counts."""
        return self._file.is_complete

    def run(self) -> Iterator[dict[str, Any]]:
        """Find the missing answers, and yield each one's record when it is in the file.

        Raises:
            OSError: where the file cannot be written; the answers before are kept.
        """
        question, file = self._question, self._file
        alone = question.decoder.engine.name == "native"
        for part in question.parts():
            missing = [index for index in part if not file.is_answered(index)]
            if not missing:
                continue
            for key, record in question.answers(missing if alone else part, self.seed):
                if key not in file:
                    yield file.add(key, record)
            file.answered(missing)


@contextmanager
def open_job(
    path: str | os.PathLike[str],
    question: Question,
    *,
    fields: Sequence[Mapping[str, Any]] | None = None,
    name: str = "path",
) -> Iterator[Job]:
    """Open the job whose answers are in `path`, or start it.

    When every input is answered, leaving the context puts the file in the order of the inputs.

    Args:
        path: the file of JSON lines.
        question: what is asked of which inputs; its arguments have been checked.
        fields: fields of each input, as JSON data, that its records begin with.
        name: what the caller calls `path`, for error messages.

    Raises:
        ValueError: where the file belongs to another job or was begun with another model, the
            message names what differs; where another process is writing to it, and where it or its
            manifest is damaged.
        OSError: where it cannot be written.
    """
    fields = fields if any(fields or ()) else None
    decoder = question.decoder
    # The end tokens are those of the model's files, and determine where a text ends.
    identity = {**decoder.identity(), "eos_token_id": list(decoder.engine.eos_ids)}
    with ResumableFile(
        path,
        question,
        _settings(question, fields),
        fields=fields,
        identity=identity,
        environment=environment(decoder.engine),
        name=name,
    ) as file:
        try:
            yield Job(question, file)
        except BaseException:
            with contextlib.suppress(OSError, ValueError):
                file.sync()
            raise
        file.finish()


def _settings(question: Question, fields: Sequence[Mapping[str, Any]] | None) -> Mapping[str, Any]:
    """What determines the answers and their records, as JSON data."""
    decoder, what, inputs = question.decoder, question.what, list(question.inputs)
    # Inputs without fields have the digest that they always had.
    content: Any = inputs if fields is None else [inputs, list(fields)]
    settings = {
        "command": question.command,
        "model": decoder.name,
        "revision": decoder.revision,
        "engine": decoder.engine.name,
        "dtype": decoder.engine.dtype,
        **cache_setting(decoder.engine),
        what: len(inputs),
        f"{what}_digest": hashlib.sha256(json.dumps(content).encode()).hexdigest(),
        **question.settings(),
    }
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain
