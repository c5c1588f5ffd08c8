"""A file of JSON lines that a run fills, and that the same run resumes after an interruption.

Each record is appended as one line in one write, so after a crash at most the last line is
incomplete; it is cut off, and its text is generated again. What determines the records is kept
beside the file, in the manifest `FILE.run.json`; a run with other settings or another model is
refused. When every record is there, the lines are put in the order of their keys, atomically.

The manifest is locked as long as the run lasts, and complete before the file exists: of two
processes that start at the same time one wins, and a file never has lines of two runs.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypedDict

from fastdecode.files.locking import lock
from fastdecode.files.reading import parse_json
from fastdecode.files.shapes import shaped
from fastdecode.files.writing import replace, settle
from fastdecode.jobs.model_changes import changes, uncertain
from fastdecode.jobs.records import Line, LineWithAlternatives, LineWithLogprobs, line
from fastdecode.models.identity.source import Identity, differences, same_model, unknown
from fastdecode.options import checks
from fastdecode.options.prompts import Given

_FORMAT = "fastdecode lines v1"
# How often the manifest may vanish between its opening and its locking.
_TRIES = 10

# The place of a text in its run: stream and sample.
Key = tuple[int, int]


class _Manifest(TypedDict):
    """What a manifest has whatever the settings are."""

    format: str
    seed: int
    prompts: int


class _WholeManifest(_Manifest, total=False):
    """A manifest; those of version 0.1 lack what is named here."""

    environment: dict[str, Any]
    identity: Identity


class ResumableFile:
    """The file of a run, with the records that it has so far.

    Attributes:
        seed: the seed that the run was started with.
        whole: the number of records when the run is complete.
        resumed: the number of records that were there when the file was opened.
        notes: what the user should know about the resumption, in sentences.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        settings: Mapping[str, Any],
        *,
        identity: Mapping[str, Any],
        environment: Mapping[str, Any],
        prompts: Sequence[Given],
        n: int,
        name: str = "path",
    ) -> None:
        """Open the file of this run, or start it.

        Args:
            path: the file of JSON lines.
            settings: everything that determines the records, as JSON data. `"seed"` may be None:
                the seed that the file was started with, or a fresh one.
            identity: what the model is; see `fastdecode.models.identity.source`.
            environment: what else might change a bit on an engine that is not the native one.
            prompts: the prompts; their streams are their indices.
            n: samples of each prompt.
            name: what the caller calls `path`, for error messages.

        Raises:
            ValueError: where the file belongs to another run, has been changed, or another process
                is writing to it.
        """
        self._path = Path(path)
        self._manifest_path = self._path.with_name(self._path.name + ".run.json")
        self._advice = f"choose another {name}, or remove {self._path}"
        self._prompts = prompts
        self._n = n
        logprobs = settings.get("logprobs")
        self._kind: type[Line] = LineWithAlternatives if logprobs else LineWithLogprobs
        if logprobs is None:
            self._kind = Line
        self._places: dict[Key, tuple[int, int]] = {}
        self.whole = len(prompts) * n
        self.notes: list[str] = []
        self._opened = contextlib.ExitStack()
        with contextlib.ExitStack() as opened:
            manifest = opened.enter_context(self._locked_manifest())
            if self._path.exists():
                self.seed = self._seed_of_same_run(manifest, settings, identity, environment)
            else:
                self.seed = checks.seed(settings["seed"])
                whole = {"format": _FORMAT, **settings, "seed": self.seed}
                whole |= {"environment": dict(environment), "identity": dict(identity)}
                manifest.truncate(0)
                manifest.write(json.dumps(whole, indent=1).encode())
                os.fsync(manifest.fileno())
            self._file = opened.enter_context(self._path.open("a+b", buffering=0))
            settle(self._path.parent)
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

    def add(self, key: Key, record: dict[str, Any]) -> None:
        """Append a record."""
        raw = line(record).encode() + b"\n"
        place = self._file.seek(0, os.SEEK_END)
        if self._file.write(raw) != len(raw):
            raise OSError(f"{self._path}: no room for another line")
        self._places[key] = place, len(raw)

    def finish(self) -> None:
        """Put the lines in the order of their keys, where all of them are there."""
        os.fsync(self._file.fileno())
        places = [self._places[key] for key in sorted(self._places)]
        if len(places) == self.whole and places != sorted(places):
            replace(self._path, self._lines(places))

    def _lines(self, places: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        for place, length in places:
            self._file.seek(place)
            yield self._file.read(length)
        # Windows refuses to replace an open file. The manifest stays locked.
        self._file.close()

    def _locked_manifest(self) -> BinaryIO:
        """The manifest, locked; a new one is empty."""
        for _ in range(_TRIES):
            if self._path.exists() and not self._manifest_path.exists():
                raise self._foreign()
            manifest = self._manifest_path.open("a+b", buffering=0)
            try:
                if not lock(manifest.fileno()):
                    raise ValueError(
                        f"{self._path}: another run is writing to it; wait for that one"
                    )
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(manifest.fileno()), self._manifest_path.stat()):
                        return manifest
            except BaseException:
                manifest.close()
                raise
            # Somebody has removed it in the meantime.
            manifest.close()
        raise ValueError(f"{self._manifest_path}: another process removes it; {self._advice}")

    def _foreign(self) -> ValueError:
        return ValueError(
            f"{self._path} exists, and {self._manifest_path.name} beside it, which would say "
            f"what run it belongs to, is missing or something else; {self._advice}"
        )

    def _seed_of_same_run(
        self,
        manifest: BinaryIO,
        settings: Mapping[str, Any],
        identity: Mapping[str, Any],
        environment: Mapping[str, Any],
    ) -> int:
        """The seed of the run that the file belongs to, which must be this one.

        Raises:
            ValueError: where it is another; the message names what differs.
        """
        known = self._known(manifest)
        then = known.get("identity")
        for name in [*settings, *known]:
            if name in ("format", "environment", "identity"):
                continue
            before, now = known.get(name), settings.get(name)
            if before == now or (name == "seed" and now is None):
                continue
            if name in ("model", "revision") and _same_name(name, before, now, then, identity):
                continue
            if name in ("prompts", "prompts_digest"):
                # The digest is of the prompts and of what is copied to their records.
                which = "other prompts" if name == "prompts" else "other prompts or other fields"
                what = f"{which} ({known['prompts']} then, {settings['prompts']} now)"
            else:
                shown = json.dumps if name == "model" else _short
                what = f"{name} {shown(before)}, not {shown(now)}"
            raise ValueError(
                f"{self._path} was begun with {what}; use the settings it was begun with, "
                f"{self._advice}"
            )
        if then is None:
            self.notes.append(
                f"{self._path} was begun by a version of fastdecode that recorded no fingerprint "
                "of the model, so it is not known whether the model is the same"
            )
        else:
            self._compare_models(then, identity)
        if settings["engine"] != "native":
            self._compare_environments(known.get("environment", {}), environment)
        return known["seed"]

    def _known(self, manifest: BinaryIO) -> _WholeManifest:
        """What the manifest says."""
        manifest.seek(0)
        raw = manifest.read()
        where = os.fspath(self._manifest_path)
        if not raw.strip():
            with contextlib.suppress(OSError):
                self._manifest_path.unlink()
            raise self._foreign()
        try:
            data = parse_json(raw, where)
            ours = isinstance(data, dict) and data.get("format") == _FORMAT
            known = shaped(_WholeManifest, data, where) if ours else None
        except ValueError as error:
            raise ValueError(f"{error}; mend it, {self._advice}") from None
        if known is None:
            raise self._foreign()
        return known

    def _compare_models(self, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        said = changes(differences(then, now), "the run")
        missing = unknown(then, now)
        if missing:
            said.append(uncertain(missing, "their fingerprints are of different kinds"))
        if said:
            raise ValueError(
                f"{self._path} was begun with another model: {'; '.join(said)}; use the model it "
                f"was begun with, {self._advice}"
            )

    def _compare_environments(self, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        names = ("torch", "transformers", "device", "machine", "level", "threads")
        differing = [
            f"{name} {then[name]} then, {now[name]} now"
            for name in names
            if name in then and name in now and then[name] != now[name]
        ]
        if differing:
            self.notes.append(
                f"{self._path} was begun in another environment ({'; '.join(differing)}), in which "
                "torch may have rounded differently"
            )

    def _read(self) -> None:
        """Find the complete lines, and cut off an incomplete one."""
        self._file.seek(0)
        place = number = 0
        with open(self._file.fileno(), "rb", closefd=False) as reader:
            for raw in reader:
                number += 1
                if not raw.endswith(b"\n"):
                    break
                self._places[self._key(raw, number)] = place, len(raw)
                place += len(raw)
        self._file.truncate(place)

    def _key(self, raw: bytes, number: int) -> Key:
        """The key of a line, which must be one of this run."""
        where = f"{self._path}, line {number}"
        try:
            record = shaped(self._kind, parse_json(raw, os.fspath(self._path), number), where)
        except ValueError as error:
            raise ValueError(f"{error}; mend or remove the file") from None
        key = record["stream"], record["sample"]
        wrong = None
        if key[0] >= len(self._prompts) or key[1] >= self._n:
            wrong = f"the run has no stream {key[0]} and sample {key[1]}"
        elif record["seed"] != self.seed:
            wrong = f"its seed is {record['seed']}, and that of the run {self.seed}"
        elif record["prompt"] != self._prompts[key[0]]:
            wrong = f"its prompt is not prompts[{key[0]}]"
        elif key in self._places:
            wrong = f"stream {key[0]} and sample {key[1]} are there already"
        if wrong is not None:
            raise ValueError(
                f"{where}: this run did not write it: {wrong}; mend or remove the file"
            )
        return key


def _same_name(
    name: str, then: Any, now: Any, known: Mapping[str, Any] | None, identity: Mapping[str, Any]
) -> bool:
    """Whether a model of another name or revision is the same model."""
    if known is not None:
        return same_model(known, identity)
    # Version 0.1 recorded a folder as it was given.
    return name == "model" and isinstance(then, str) and os.path.abspath(then) == now


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
