"""The hostile calls."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import hostile
from fastdecode.options.keyword_types import RunArguments, StrategyKeywords

from surface.made import Work
from surface.target import Target

# Callables whose arguments `Decoder.generate` has as well.
HANDS_ON = {
    *("generate", "stream", "next_token", "Decoder.stream", "Decoder.next_token", "Decoder.chat"),
    "Decoder.stream_chat",
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """A call whose answer breaks the rule."""

    target: str
    parameter: str
    value: str
    what: str
    said: str

    def __str__(self) -> str:
        return f"{self.target}({self.parameter}={self.value}): {self.what}\n    {self.said}"


def attack(one: Target, parameter: str, name: str, make: Callable[[], Any]) -> Finding | None:
    """One call, and what is wrong with its answer."""
    value = make()
    Work.begun = False
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore", UserWarning)
            one.run(parameter, value)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        shown = one.shown.get(parameter, (parameter,))
        if isinstance(error, one.raises) or (callable(value) and one.admits(parameter, value)):
            # It belongs to the call, or to the function that was given.
            return None
        wrong = hostile.fault(shown, make(), error, files=parameter in one.files)
        # A file that is not there is found missing as it is opened.
        excused = parameter in one.late or isinstance(error, (OSError, *hostile.OWN))
        if wrong is None and Work.begun and not excused:
            wrong = "refused after the work had begun"
        if wrong is None:
            return None
        said = f"{type(error).__name__}: {error}"
    else:
        if one.admits(parameter, make()):
            return None
        wrong, said = "accepted", ""
    return Finding(one.name, parameter, name, wrong, said[:300])


# Arguments that several callables hand to the same checks.
SHARED = {*StrategyKeywords.__annotations__, *RunArguments.__annotations__}


def findings(
    one: Target, values: Mapping[str, Callable[[], Any]], *, everywhere: bool = True
) -> Iterator[Finding]:
    """What breaks the rule among the calls of a callable, each argument with each of the values.

    Args:
        one: the callable.
        values: what makes the values, by name.
        everywhere: whether arguments that `Decoder.generate` has as well are attacked here, too.
    """
    # What calls need is made before they are watched.
    one.valid()
    if one.of is not None:
        one.of()
    for parameter in one.parameters:
        if not everywhere and parameter in SHARED and one.name in HANDS_ON:
            continue
        for name, make in values.items():
            if parameter == "draws" and name == "2**33":
                # It would be done, in hours.
                continue
            found = attack(one, parameter, name, make)
            if found is not None:
                yield found
