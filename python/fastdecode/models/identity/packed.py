"""What a packed file records of the model that it was made of."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from fastdecode._core import PackedFile
from fastdecode.files.reading import parse_json
from fastdecode.files.shapes import shaped
from fastdecode.models.identity.fingerprint import Fingerprint


@dataclass(frozen=True, slots=True)
class PackedSource:
    """The model that a packed file was made of.

    Attributes:
        name: its name on the hub, or the name of its folder or file without what is before it.
        revision: its revision on the hub, or None.
        fastdecode: the version that packed it.
        quick: its fingerprint.
        exact: its exact fingerprint.
    """

    name: str
    revision: str | None
    fastdecode: str
    quick: Fingerprint
    exact: Fingerprint

    def text(self) -> str:
        """As the file has it."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, file: PackedFile) -> PackedSource:
        """That of a file.

        Raises:
            ValueError: where it does not name one.
        """
        where = f"{file.path}, source"
        return shaped(cls, parse_json(file.source.encode(), where), where)

    def fingerprint(self, *, exact: bool) -> Fingerprint:
        """The fingerprint of the model."""
        return self.exact if exact else self.quick
