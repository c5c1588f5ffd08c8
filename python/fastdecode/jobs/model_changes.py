"""What has changed of a model since a run was saved or begun, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastdecode.models.identity.source import PARTS

# Of the parts, those that are one thing.
_SINGULAR = (["configuration"], ["tokenizer"])


def changes(parts: Mapping[str, tuple[Any, Any]], run: str) -> list[str]:
    """What differs, in sentences without their period.

    Args:
        parts: what `fastdecode.models.identity.source.differences` found.
        run: what the model is compared with: "the saved run".
    """
    named = [PARTS[part] for part in parts if part != "definition"]
    said = []
    if named:
        verb, those = ("differs", "that") if named in _SINGULAR else ("differ", "those")
        said.append(f"the {listed(named)} {verb} from {those} of {run}")
    if "definition" in parts:
        then, now = parts["definition"]
        said.append(f"the {PARTS['definition']} differs: {now} now, {then} then")
    return said


def uncertain(parts: Sequence[str], reason: str) -> str:
    """What cannot be compared, and why, in a sentence without its period.

    Args:
        parts: what `fastdecode.models.identity.source.unknown` found; none of them stands for the
            model.
        reason: why.
    """
    named = [PARTS[part] for part in parts] or ["model"]
    verb = "is" if named in (*_SINGULAR, ["model"]) else "are"
    return f"whether the {listed(named)} {verb} the same is not known: {reason}"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
