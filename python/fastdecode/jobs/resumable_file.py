"""A file of JSON lines that a job fills, and that the same job resumes after an interruption.

Each record is appended as one line, so after a crash at most the last line is incomplete; it is cut
off, and its record is made again. What determines the records is kept beside the file, in its
`Manifest`; a job with another question or another model is refused. When every record is there, the
lines are put in the order of their keys, atomically.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, get_type_hints

from fastdecode.files.locking import is_at, is_own, lock, open_for_lock, release
from fastdecode.files.reading import parse_json
from fastdecode.files.shapes import shaped
from fastdecode.files.writing import remove_leftovers, replace, settle, write_all
from fastdecode.jobs.manifest import Manifest
from fastdecode.jobs.questions.base import Key, Question
from fastdecode.jobs.records import joined, line
from fastdecode.options import checks

# Seconds between two writes to the disk: what a power failure may take away.
_SYNC = 1.0


class ResumableFile:
    """The file of a job, with the records that it has so far.

    Attributes:
        seed: the seed that the job was started with; None where its question has none.
        whole: the largest number of records that the job can have when it is complete.
        resumed: the number of records that were there when the file was opened.
        notes: what the user should know about the resumption, in sentences without their period.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        question: Question,
        settings: Mapping[str, Any],
        *,
        fields: Sequence[Mapping[str, Any]] | None,
        identity: Mapping[str, Any],
        environment: Mapping[str, Any],
        name: str = "path",
    ) -> None:
        """Open the file of this job, or start it.

        Args:
            path: the file of JSON lines.
            question: what is asked.
            settings: everything that determines the records, as JSON data. `"seed"` may be None:
                the seed that the file was started with, or a fresh one.
            fields: what the records of each input begin with, as JSON data.
            identity: what the model is; see `fastdecode.models.identity.source`.
            environment: what else might change a bit on an engine that is not the native one.
            name: what the caller calls `path`, for error messages.

        Raises:
            ValueError: where the file belongs to another job, has been changed, or another process
                is writing to it.
            OSError: where it cannot be written.
        """
        self._path = Path(path)
        self._question = question
        self._fields = fields
        self._file: BinaryIO
        self._own = tuple(get_type_hints(question.line))
        self._places: dict[Key, tuple[int, int]] = {}
        self._complete: set[int] = set()
        self._synced = time.monotonic()
        self.whole = len(question.inputs) * question.each
        advice = f"choose another {name}, or remove {self._path}"
        if self._path.exists() and not self._path.is_file():
            raise ValueError(
                f"{self._path} is not a regular file, so a run could not be resumed in it; choose "
                f"another {name}"
            )
        with contextlib.ExitStack() as opened:
            manifest = opened.enter_context(Manifest(self._path, advice))
            if self._path.exists():
                what = question.what
                self.seed = manifest.compare(settings, identity, environment, what=what)
                self._file = open_for_lock(self._path, "a+")
                opened.callback(release, self._file)
            else:
                settings = dict(settings)
                if "seed" in settings:
                    settings["seed"] = checks.seed(settings["seed"])
                self.seed = settings.get("seed")
                manifest.begin(settings, identity, environment)
                self._file = self._new(manifest, advice)
                opened.callback(release, self._file)
                settle(self._path.parent)
            self._lock()
            self.notes = manifest.notes
            remove_leftovers(self._path)
            self._read()
            self._opened = opened.pop_all()
        self.resumed = len(self)

    def __enter__(self) -> ResumableFile:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file and let other processes have it."""
        self._opened.close()

    def __len__(self) -> int:
        """The number of records so far."""
        return len(self._places)

    def __contains__(self, key: Key) -> bool:
        """Whether it has the record with this key."""
        return key in self._places

    @property
    def is_complete(self) -> bool:
        """Whether it has every record of every input."""
        return len(self._complete) == len(self._question.inputs)

    def is_answered(self, index: int) -> bool:
        """Whether it is known to have every record of an input."""
        return index in self._complete

    def answered(self, indices: Iterable[int]) -> None:
        """Note that it has every record of these inputs, even where they are fewer than usual."""
        self._complete.update(indices)

    def add(self, key: Key, record: Mapping[str, Any]) -> dict[str, Any]:
        """Append a record after the fields of its input, and return it with them.

        Raises:
            ValueError: in a process that was forked from the one that opened it.
            OSError: where it cannot be written; the records before it are in the file.
        """
        self._check_own()
        whole = joined(self._fields[key[0]], record) if self._fields else dict(record)
        raw = line(whole).encode() + b"\n"
        place = self._file.seek(0, os.SEEK_END)
        try:
            write_all(self._file, raw)
            if time.monotonic() - self._synced > _SYNC:
                self.sync()
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(place)
            raise self._failed(error) from error
        self._places[key] = place, len(raw)
        return whole

    def sync(self) -> None:
        """Let what has been written survive a power failure.

        Raises:
            ValueError: where the file has been removed, or another one put in its place, and in a
                process that was forked from the one that opened it.
            OSError: where it cannot be written.
        """
        self._check_own()
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()
        if not is_at(self._file, self._path):
            raise ValueError(
                f"{self._path} was removed or replaced while this run was writing to it; what it "
                "has written since is lost, so run the same command again"
            )

    def finish(self) -> None:
        """Put the lines in the order of their keys, where all of them are there.

        Raises:
            ValueError: as for `sync`.
            OSError: where it cannot be written; the lines are in the file.
        """
        try:
            self.sync()
            places = [self._places[key] for key in sorted(self._places)]
            if self.is_complete and places != sorted(places):
                replace(self._path, self._lines(places), in_place=False)
        except OSError as error:
            raise self._failed(error) from error

    def _check_own(self) -> None:
        if not is_own(self._file):
            raise ValueError(
                f"{self._path}: the process that this one was forked from is writing to it, and "
                "has locked it; write to another file here"
            )

    def _failed(self, error: OSError) -> OSError:
        """An error of the system with what became of the run."""
        if self.is_complete:
            kept = "all results are in it, but not yet in order; run the same command again"
        else:
            counts = f"{len(self):,} of {self.whole:,}"
            kept = f"{counts} results are kept, and the same command resumes the run"
        return OSError(error.errno, f"{error.strerror}; {kept}", os.fspath(self._path))

    def _new(self, manifest: Manifest, advice: str) -> BinaryIO:
        """The file, which did not exist before."""
        try:
            # Opening a new file exclusively does not follow a link.
            return open_for_lock(os.path.realpath(self._path), "x+")
        except OSError as error:
            manifest.discard()
            if isinstance(error, FileExistsError):
                raise ValueError(
                    f"{self._path} has just been made by another process; {advice}"
                ) from None
            raise OSError(error.errno, error.strerror, os.fspath(self._path)) from error

    def _lock(self) -> None:
        """Keep away whoever reaches the same file by another name, with another manifest."""
        if not lock(self._file) or not is_at(self._file, self._path):
            raise ValueError(f"{self._path}: another run is writing to it; wait for that one")

    def _lines(self, places: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        for place, length in places:
            self._file.seek(place)
            yield self._file.read(length)
        if os.name == "nt":
            # Windows refuses to replace an open file. The manifest stays locked.
            self._file.close()

    def _read(self) -> None:
        """Find the complete lines, and cut off an incomplete one."""
        self._file.seek(0)
        place = number = 0
        counts: dict[int, int] = {}
        with open(self._file.fileno(), "rb", closefd=False) as reader:
            for raw in reader:
                number += 1
                if not raw.endswith(b"\n"):
                    break
                key = self._key(raw, number)
                self._places[key] = place, len(raw)
                counts[key[0]] = counts.get(key[0], 0) + 1
                place += len(raw)
        self._file.truncate(place)
        each = self._question.each
        self.answered(index for index, count in counts.items() if count == each)

    def _key(self, raw: bytes, number: int) -> Key:
        """The key of a line, which must be one of this job."""
        where = f"{self._path}, line {number}"
        try:
            data = parse_json(raw, os.fspath(self._path), number)
            record: Mapping[str, Any] = shaped(self._question.line, data, where)
        except ValueError as error:
            raise ValueError(f"{error}; mend or remove the file") from None
        key = self._question.key(record, number)
        wrong = self._wrong(key, record)
        if wrong is not None:
            raise ValueError(
                f"{where}: this run did not write it: {wrong}; mend or remove the file"
            )
        return key

    def _wrong(self, key: Key, record: Mapping[str, Any]) -> str | None:
        """Why a line is none of this job, or None."""
        question = self._question
        index, sample = key
        if index >= len(question.inputs) or sample >= question.each:
            return f"the run has no {question.place(key)}"
        if self.seed is not None and record["seed"] != self.seed:
            return f"its seed is {record['seed']}, and that of the run {self.seed}"
        if record[question.field] != question.inputs[index]:
            return f"its {question.field} is not {question.what}[{index}]"
        if key in self._places:
            return f"{question.place(key)} are there already"
        fields = self._fields[index] if self._fields else {}
        # As a line of JSON, since that is what has been read.
        expected = parse_json(line(joined(fields, dict.fromkeys(self._own))).encode(), "")
        if any(
            record.get(name) != expected.get(name)
            for name in {*record, *expected}.difference(self._own)
        ):
            return f"its other fields are not those of {question.what}[{index}]"
        return question.wrong(index, record)
