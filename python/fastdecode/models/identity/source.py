"""Identity: what a saved run or a resumable file records of the model that it was made with.

A model is identified by its contents, not by its name: the name finds it again, the fingerprint
says whether it is still the same.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

from fastdecode._core import PackedFile
from fastdecode.models.checkpoints import files_of, is_packed
from fastdecode.models.identity.files import ModelFiles, Stamp, full_name, stamp_of
from fastdecode.models.identity.fingerprint import Fingerprint, of_files, of_objects, same
from fastdecode.models.identity.packed import PackedSource

# The parts of an identity that are compared, and what they are called.
PARTS = {
    "weights": "weights",
    "config": "configuration",
    "tokenizer": "tokenizer",
    "definition": "definition of the number format",
    "eos_token_id": "end-of-sequence tokens",
}


class Identity(TypedDict, total=False):
    """What a file records of a model.

    Attributes:
        weights: a part of its `Fingerprint`; so are `config` and `tokenizer`.
        definition: the number of the definition of the engine's number format, "int8/1".
        eos_token_id: the tokens that end a text, in a resumable run.
        note: why the fingerprint is not known.
    """

    weights: str | None
    config: str | None
    tokenizer: str | None
    definition: str | None
    eos_token_id: list[int]
    note: str


class Source:
    """Where a model comes from, and what it was when it was opened or when a run was made.

    It holds no model in memory: objects are referred to weakly.

    Attributes:
        name: a folder or file as an absolute path, a name of the hub, "demo", or None for objects.
        revision: the revision of a name of the hub, or None.
    """

    def __init__(self, name: str | None = None, revision: str | None = None) -> None:
        """Note where a model will be loaded from and the state of its files; None for objects."""
        self.name = None if name is None else full_name(name)
        self.revision = revision
        self._stamp: Stamp | None = None if name is None else stamp_of(name, revision)
        self._model: Any = _nothing
        self._tokenizer: Any = _nothing
        self._versions: Any = None
        self._known: dict[bool, Fingerprint] = {}

    def loaded(self, model: Any, tokenizer: Any) -> Source:
        """The same with the objects that it has been opened as; `model` may be None."""
        self._model, self._tokenizer = _reference(model), _reference(tokenizer)
        self._versions = _versions(model)
        if self._stamp is None and self.name is not None:
            # The hub's files were not on this machine before.
            self._stamp = stamp_of(self.name, self.revision)
        return self

    def is_current(self) -> bool:
        """Whether the files that it was loaded from are as they were; they are not read."""
        return self.name is None or stamp_of(self.name, self.revision) == self._stamp

    def now(self) -> Source:
        """The source as it is at this moment, which a run keeps: later changes are noticed."""
        model = self._model()
        versions = _versions(model)
        if versions == self._versions:
            return self
        changed = Source()
        changed._model, changed._tokenizer = self._model, self._tokenizer
        changed._versions = versions
        return changed

    def fingerprint(self, *, exact: bool = False) -> Fingerprint:
        """The fingerprint of what was opened.

        Raises:
            ValueError: where files or parameters have changed since, so that it cannot be computed.
        """
        if exact not in self._known:
            self._known[exact] = self._fingerprint(exact)
        return self._known[exact]

    def _fingerprint(self, exact: bool) -> Fingerprint:
        model, tokenizer = self._model(), self._tokenizer()
        if self.name is not None and _versions(model) in (None, self._versions):
            if self.is_current() and is_packed(self.name):
                return PackedSource.of(PackedFile(self.name)).fingerprint(exact=exact)
            if self.is_current():
                with files_of(self.name, self.revision) as folder:
                    path = Path(self.name) if folder is None else folder
                    found = of_files(ModelFiles.of(path), exact=exact)
                if found.weights is not None or model is None:
                    return found
            elif model is None:
                raise ValueError(
                    f"the files of {self.name!r} have changed since the model was loaded; "
                    "load it again"
                )
        if model is None:
            return Fingerprint(None, None, of_objects(None, tokenizer).tokenizer)
        if _versions(model) != self._versions:
            raise ValueError("the model's parameters have changed since it was used")
        return of_objects(model, tokenizer, exact=exact)

    def identity(self, definition: str | None, *, exact: bool = False) -> dict[str, Any]:
        """What was opened as plain data: the parts of its fingerprint, and a definition.

        Args:
            definition: the number of the definition of its engine's number format, "int8/1"; None
                for an engine that has none.
            exact: as for `fingerprint`.

        Raises:
            ValueError: as for `fingerprint`.
            OSError: where a file cannot be read.
        """
        return {**asdict(self.fingerprint(exact=exact)), "definition": definition}


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The parts of two identities that differ, as (then, now), by their names in `PARTS`.

    What one of them does not record, and what cannot be compared, is left out.
    """
    return {
        part: (then[part], now[part])
        for part in PARTS
        if then.get(part) is not None and now.get(part) is not None and _differ(part, then, now)
    }


def same_model(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two identities are known to be of the same weights, configuration and tokenizer."""
    return all(
        same(then.get(part), now.get(part))
        or (part != "weights" and then.get(part) == now.get(part))
        for part in ("weights", "config", "tokenizer")
    )


def unknown(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The parts that two identities do not allow to compare, by their names in `PARTS`."""
    return [
        part
        for part in ("weights", "config", "tokenizer")
        if then.get(part) != now.get(part) and same(then.get(part), now.get(part)) is None
    ]


def _differ(part: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    if part in ("definition", "eos_token_id"):
        return bool(then[part] != now[part])
    return same(then[part], now[part]) is False


def _nothing() -> None:
    """A reference to nothing."""


def _reference(thing: Any) -> Any:
    """A weak reference, or a strong one to what has no weak ones."""
    if thing is None:
        return _nothing
    try:
        return weakref.ref(thing)
    except TypeError:
        return lambda: thing


def _versions(model: Any) -> Any:
    """A value that changes when a parameter of `model` is replaced or written to; None without."""
    if model is None or not callable(getattr(model, "parameters", None)):
        return None
    from fastdecode.models.engines.plain_gpt2 import parameter_versions

    return parameter_versions(model)
