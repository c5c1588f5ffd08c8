"""Unknown keyword arguments: what each call says of them, and the names that may be meant."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable

from fastdecode._core import Beam, Sample
from fastdecode.options import foreign_names

# How alike two names are, from 0 to 1, if one is a misspelling of the other.
_ALIKE = 0.8


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that a name is a misspelling of, if there is one.

    Args:
        name: what was given.
        known: what may be given.
    """
    spelt = name.lower().replace("-", "_")
    near = difflib.get_close_matches(spelt, sorted(known), n=1, cutoff=_ALIKE)
    return near[0] if near else None


def of_call(function: str, name: str, known: Iterable[str]) -> str:
    """The message of a `TypeError`, as Python words it, with the name that may be meant.

    Args:
        function: the name of what was called.
        name: the keyword that it does not take.
        known: the keywords that it takes.
    """
    near = nearest(name, known)
    hint = f"; did you mean {near!r}?" if near else ""
    return f"{function}() got an unexpected keyword argument {name!r}{hint}"


def of_strategy(kind: str, name: str) -> str:
    """The same for `Sample` and `Beam`, which the core asks for it.

    Args:
        kind: the name of the class.
        name: the keyword that it does not take.
    """
    parameters = {one.__name__: inspect.signature(one).parameters for one in (Sample, Beam)}
    given = f"{kind}() got an unexpected keyword argument {name!r}"
    if kind == "Beam" and name in parameters["Sample"]:
        return f"{given}; give it to the draw: Beam(..., sample=Sample({name}=...))"
    if kind == "Sample" and name in parameters["Beam"]:
        return f"{given}; it is a parameter of Beam"
    elsewhere = foreign_names.refusal(name)
    return f"{given}: {elsewhere}" if elsewhere else of_call(kind, name, parameters[kind])
