"""Manifests: what a file of lines is the answer to, kept beside it and locked while it is written.

The manifest of `texts.jsonl` is `texts.jsonl.run.json`. It is locked before anything else happens,
and complete on the disk before the file with the lines exists: of two processes that start at the
same time one wins, and a process that is killed leaves either no file of lines, or one whose
manifest says what it belongs to.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypedDict, TypeVar

from fastdecode.files.locking import is_at, lock, open_for_lock, release
from fastdecode.files.reading import parse_json
from fastdecode.files.shapes import shaped
from fastdecode.files.writing import settle, write_all
from fastdecode.jobs.model_changes import changes, uncertain
from fastdecode.models.identity.source import Identity, differences, same_model, unknown
from fastdecode.models.placement import recorded_dtype

_FORMAT = "fastdecode lines v1"
T = TypeVar("T")

# How often the manifest may vanish between its opening and its locking.
_TRIES = 10
# What a manifest has that are no settings.
_BESIDE = ("format", "environment", "identity")
# The command of manifests that do not name one, which are those of version 0.1.
_FIRST_COMMAND = "generate"


class _First(TypedDict):
    """What every manifest has."""

    format: str


class _Known(_First, total=False):
    """What a manifest has whatever the settings are; those of version 0.1 lack what is here."""

    command: str
    environment: dict[str, Any]
    identity: Identity


class _WithSeed(TypedDict):
    """What it has where a seed determines the lines."""

    seed: int


class Manifest:
    """The manifest of a file of lines, open and locked.

    Attributes:
        notes: what the user should know about the resumption, in sentences without their period.
    """

    def __init__(self, lines: Path, advice: str) -> None:
        """Lock the manifest of a file of lines; a new one is empty.

        Args:
            lines: the file of lines.
            advice: what to do about a file that belongs to something else, for error messages.

        Raises:
            ValueError: where another process has it locked, and where the file of lines exists
                without a manifest.
            OSError: where it cannot be opened or locked.
        """
        self._lines = lines
        self._path = lines.with_name(lines.name + ".run.json")
        self._advice = advice
        self._file = self._locked()
        self.notes: list[str] = []

    def __enter__(self) -> Manifest:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it, which lets other processes have it."""
        release(self._file)

    def begin(
        self,
        settings: Mapping[str, Any],
        identity: Mapping[str, Any],
        environment: Mapping[str, Any],
    ) -> None:
        """Write what the lines will be the answer to; the file of lines must not exist yet.

        Raises:
            OSError: where there is no room for it.
        """
        whole = {"format": _FORMAT, **settings}
        whole |= {"environment": dict(environment), "identity": dict(identity)}
        try:
            self._file.truncate(0)
            write_all(self._file, json.dumps(whole, indent=1).encode())
            os.fsync(self._file.fileno())
        except OSError as error:
            self.discard()
            raise OSError(
                error.errno, f"{error.strerror}; nothing was begun", os.fspath(self._path)
            ) from error
        settle(self._path.parent)

    def discard(self) -> None:
        """Remove it, where what was begun with it cannot be."""
        with contextlib.suppress(OSError):
            self._path.unlink()

    def compare(
        self,
        settings: Mapping[str, Any],
        identity: Mapping[str, Any],
        environment: Mapping[str, Any],
        *,
        what: str,
    ) -> int | None:
        """Refuse lines that were begun with another question or another model.

        Args:
            settings: what the question is now; a seed that is None is the one that it began with.
            identity: what the model is.
            environment: what else might change a bit on an engine that is not the native one.
            what: what the inputs are called: "prompts".

        Returns:
            The seed that the lines were begun with; None where `settings` has none.

        Raises:
            ValueError: where it is damaged, and where they differ; the message names what differs.
        """
        known: Mapping[str, Any] = self._known()
        command = settings["command"]
        then, whose = known.get("identity"), known.get("command", _FIRST_COMMAND)
        if whose != command:
            raise ValueError(
                f"{self._lines} was begun by the command {whose}, not by {command}; {self._advice}"
            )
        seed = self._shaped(_WithSeed, known)["seed"] if "seed" in settings else None
        for name in [*settings, *known]:
            if name in _BESIDE or name == "command":
                continue
            before, now = known.get(name), settings.get(name)
            if name == "dtype":
                before = recorded_dtype(before, known.get("engine"), (then or {}).get("definition"))
            if before == now or (name == "seed" and now is None):
                continue
            if name in ("model", "revision") and _same_name(name, before, now, then, identity):
                continue
            if name in (what, f"{what}_digest"):
                # The digest is of the inputs and of what is copied to their records.
                others = f"other {what}" if name == what else f"other {what} or other fields"
                counts = f"{_short(known.get(what))} then, {settings[what]} now"
                difference = f"{others} ({counts})"
            else:
                shown = json.dumps if name == "model" else _short
                difference = f"{name} {shown(before)}, not {shown(now)}"
            raise ValueError(
                f"{self._lines} was begun with {difference}; use the settings it was begun with, "
                f"{self._advice}"
            )
        if then is None:
            self.notes.append(
                f"{self._lines} was begun by a version of fastdecode that recorded no fingerprint "
                "of the model, so it is not known whether the model is the same"
            )
        else:
            self._compare_models(then, identity)
        if settings["engine"] != "native":
            self._compare_environments(known.get("environment", {}), environment)
        return seed

    def _locked(self) -> BinaryIO:
        """The manifest, open and locked."""
        for _ in range(_TRIES):
            if self._lines.exists() and not self._path.exists():
                raise self._foreign()
            manifest = self._opened()
            try:
                if not lock(manifest):
                    raise ValueError(
                        f"{self._lines}: another run is writing to it; wait for that one"
                    )
                if is_at(manifest, self._path):
                    return manifest
            except OSError as error:
                release(manifest)
                raise OSError(error.errno, error.strerror, os.fspath(self._path)) from error
            except BaseException:
                release(manifest)
                raise
            # Somebody has removed it in the meantime.
            release(manifest)
        raise ValueError(f"{self._path}: another process removes it; {self._advice}")

    def _opened(self) -> BinaryIO:
        folder = self._lines.parent
        if not folder.is_dir():
            raise FileNotFoundError(
                errno.ENOENT, f"there is no folder {folder}; make it first", os.fspath(self._lines)
            )
        try:
            return open_for_lock(self._path, "a+")
        except OSError as error:
            # The caller named the other file.
            raise OSError(
                error.errno,
                f"{error.strerror} (a run keeps its settings beside it, in {self._path.name})",
                os.fspath(self._lines),
            ) from error

    def _foreign(self) -> ValueError:
        return ValueError(
            f"{self._lines} exists, and {self._path.name} beside it, which would say "
            f"what run it belongs to, is missing or something else; {self._advice}"
        )

    def _known(self) -> _Known:
        """What the manifest says."""
        self._file.seek(0)
        raw = self._file.read()
        if not raw.strip():
            self.discard()
            raise self._foreign()
        try:
            data = parse_json(raw, os.fspath(self._path))
        except ValueError as error:
            raise self._damaged(error) from None
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            raise self._foreign()
        return self._shaped(_Known, data)

    def _shaped(self, kind: type[T], data: Any) -> T:
        try:
            return shaped(kind, data, os.fspath(self._path))
        except ValueError as error:
            raise self._damaged(error) from None

    def _damaged(self, error: ValueError) -> ValueError:
        return ValueError(f"{error}; mend it, {self._advice}")

    def _compare_models(self, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        said = changes(differences(then, now), "the run")
        missing = unknown(then, now)
        if missing:
            said.append(uncertain(missing, "their fingerprints are of different kinds"))
        if said:
            raise ValueError(
                f"{self._lines} was begun with another model: {'; '.join(said)}; use the model it "
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
                f"{self._lines} was begun in another environment ({'; '.join(differing)}), in "
                "which torch may have rounded differently"
            )


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
