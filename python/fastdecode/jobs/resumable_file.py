"""A file of JSON lines that a run fills, and that the same run resumes after an interruption.

Each record is appended as one line in one write, so after a crash at most the last line is
incomplete; it is cut off, and its text is generated again. The settings of the run are kept beside
the file, in `FILE.run.json`; a run with other settings is refused. When every record is there, the
lines are put in the order of their keys, atomically.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from fastdecode.jobs.records import line
from fastdecode.options import checks

_FORMAT = "fastdecode lines v1"

# The place of a text in its run: stream and sample.
Key = tuple[int, int]


class ResumableFile:
    """The file of a run, with the records that it has so far.

    Attributes:
        seed: the seed that the run was started with.
        whole: the number of records when the run is complete.
        resumed: the number of records that were there when the file was opened.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        settings: Mapping[str, Any],
        *,
        prompts: int,
        n: int,
        name: str = "path",
    ) -> None:
        """Open the file of this run, or start it.

        Args:
            path: the file of JSON lines.
            settings: everything that determines the records, as JSON data. `"seed"` may be None:
                the seed that the file was started with, or a fresh one.
            prompts: the number of prompts; their streams are 0..prompts - 1.
            n: samples of each prompt.
            name: what the caller calls `path`, for error messages.

        Raises:
            ValueError: where the file belongs to another run, has been changed, or another process
                is writing to it.
        """
        self._path = Path(path)
        self._settings_path = self._path.with_name(self._path.name + ".run.json")
        self._name = name
        self._n = n
        self._places: dict[Key, tuple[int, int]] = {}
        self.whole = prompts * n
        settings = {"format": _FORMAT, **settings}
        if self._path.exists():
            self.seed = self._seed_of_same_run(settings)
        else:
            self.seed = checks.seed(settings["seed"])
            settings["seed"] = self.seed
            _replace(self._settings_path, [json.dumps(settings, indent=1).encode()])
        self._file = self._path.open("a+b", buffering=0)
        try:
            _lock(self._file.fileno(), self._path)
            self._read()
        except BaseException:
            self._file.close()
            raise
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
        """Close the file."""
        self._file.close()

    def __len__(self) -> int:
        """The number of records so far."""
        return len(self._places)

    def __contains__(self, key: Key) -> bool:
        """Whether it has the record with this key."""
        return key in self._places

    def add(self, key: Key, record: dict[str, Any]) -> None:
        """Append a record."""
        raw = line(record).encode() + b"\n"
        place = self._file.seek(0, os.SEEK_END)
        if self._file.write(raw) != len(raw):
            raise OSError(f"{self._path}: no room for another line")
        self._places[key] = place, len(raw)

    def finish(self) -> None:
        """Put the lines in the order of their keys, where all of them are there."""
        places = [self._places[key] for key in sorted(self._places)]
        if len(places) == self.whole and places != sorted(places):
            _replace(self._path, map(self._line, places))

    def _line(self, place: tuple[int, int]) -> bytes:
        self._file.seek(place[0])
        return self._file.read(place[1])

    def _seed_of_same_run(self, settings: Mapping[str, Any]) -> int:
        """The seed of the run that the file belongs to, which must have these settings."""
        advice = f"choose another {self._name}, or remove {self._path}"
        try:
            known = json.loads(self._settings_path.read_text("utf-8"))
        except (OSError, ValueError):
            known = None
        if not isinstance(known, dict) or known.get("format") != _FORMAT:
            raise ValueError(
                f"{self._path} exists, and {self._settings_path.name} beside it, which would say "
                f"what run it belongs to, is missing or something else; {advice}"
            )
        for name in [*settings, *known]:
            then, now = known.get(name), settings.get(name)
            if then == now or (name == "seed" and now is None):
                continue
            if name in ("prompts", "prompts_digest"):
                what = f"other prompts ({known.get('prompts')} then, {settings['prompts']} now)"
            else:
                what = f"{name} {_short(then)}, not {_short(now)}"
            raise ValueError(
                f"{self._path} was begun with {what}; use the settings it was begun with, {advice}"
            )
        return int(known["seed"])

    def _read(self) -> None:
        """Find the complete lines, and cut off an incomplete one."""
        self._file.seek(0)
        place = number = 0
        with open(self._file.fileno(), "rb", closefd=False) as reader:
            for raw in reader:
                number += 1
                if not raw.endswith(b"\n"):
                    break
                key = self._key(raw, number)
                if key in self._places or key[0] * self._n + key[1] >= self.whole:
                    raise ValueError(f"{self._path}, line {number}: it is not of this run")
                self._places[key] = place, len(raw)
                place += len(raw)
        self._file.truncate(place)

    def _key(self, raw: bytes, number: int) -> Key:
        try:
            record = json.loads(raw)
            key = int(record["stream"]), int(record["sample"])
        except (ValueError, KeyError, TypeError):
            key = (-1, -1)
        if key[0] < 0 or not 0 <= key[1] < self._n:
            raise ValueError(
                f"{self._path}, line {number}: it is not a line that this run wrote; mend or "
                "remove the file"
            )
        return key


def _replace(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file atomically."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _lock(descriptor: int, path: Path) -> None:
    """Keep other processes from writing to the file, where the system has such locks."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(f"{path}: another run is writing to it; wait for that one") from None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
