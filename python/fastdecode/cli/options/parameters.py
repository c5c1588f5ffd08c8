"""Command-line options of the sampling parameters, made from the table.

An option's spelling follows from the parameter's kind: numbers and token ids are separated by
commas; an option that takes several sequences or biases is repeated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click

from fastdecode.cli.options.sections import Decorator, SectionOption, combined
from fastdecode.options.table import PARAMETERS, Parameter

TRUNCATION = "Temperature and truncation"
PROCESSORS = "Logits processors (greedy decoding applies them, too)"
_SECTIONS = {"truncation": TRUNCATION, "processor": PROCESSORS}
# For the end of a help page.
EPILOG = (
    "IDS is a token id or several, such as 11,262; fastdecode tokens shows them. Other examples: "
    "--logit-bias 11=-5, --dry multiplier=0.8,base=1.75, --xtc 0.5,0.1. "
    "Unless given, no processor and no truncation is on."
)
_FORMS = {
    "flag": "true|false",
    "integer": "INTEGER",
    "number": "NUMBER",
    "tokens": "IDS",
    "sequences": "IDS",
    "biases": "IDS=BIAS",
    "record": "NAME=VALUE,...",
}
# Kinds of which an option gives one element; it is repeated for more.
_REPEATED = ("sequences", "biases")


def flags(parameter: Parameter) -> list[str]:
    """The spellings of a parameter's option, the short one first, as in the help."""
    spellings = [f"--{parameter.name.replace('_', '-')}", *parameter.row.flags]
    return sorted(spellings, key=lambda flag: flag.startswith("--"))


def flag(name: str) -> str:
    """The long option of a parameter: "--top-k"."""
    return f"--{name.replace('_', '-')}"


def spelling(parameter: Parameter) -> str:
    """The option with the form of its value: "--xtc PROBABILITY,THRESHOLD"."""
    return f"{flag(parameter.name)} {_form(parameter)}"


def typed(names: Iterable[str]) -> str:
    """Options as they are typed: "--top-k, --top-p"."""
    return ", ".join(map(flag, names))


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling parameters that are on the command line, by their names in Python."""
    return {name: value for name, value in options.items() if value not in (None, ())}


def chosen(options: Mapping[str, Any], sample: bool | None, *, drawn: bool) -> dict[str, Any]:
    """The keywords of a strategy: the parameters that are given, and whether tokens are drawn.

    Args:
        options: the parameters on the command line.
        sample: --sample or --greedy; None where neither is given.
        drawn: whether another option asks for draws.

    Raises:
        ValueError: where --greedy leaves nothing for a parameter to do.
    """
    from fastdecode.options import keywords

    sampling = given(options)
    _, truncations = keywords.split(sampling)
    if sample is False and truncations:
        raise ValueError(
            f"--greedy takes the likeliest token, so {typed(truncations)} would do nothing"
        )
    if sample is None:
        sample = bool(truncations) or drawn
    return {**sampling, "do_sample": sample}


def _option(parameter: Parameter) -> Decorator:
    repeated = parameter.kind in _REPEATED
    text = _help(parameter)
    if repeated:
        text += " May be repeated."
    return click.option(
        *flags(parameter),
        parameter.name,
        cls=SectionOption,
        section=_SECTIONS[parameter.stage],
        type=_reader(parameter),
        metavar=_form(parameter),
        multiple=repeated,
        help=text,
    )


def _help(parameter: Parameter) -> str:
    """What a parameter does, without references, and its range."""
    plain = re.sub(r" \([^()]*et al\.[^()]*\)", "", parameter.help).replace("`", "")
    return f"{plain} Range: {parameter.range}."


def _form(parameter: Parameter) -> str:
    """The form of the value of an option."""
    if parameter.kind != "numbers":
        return _FORMS[parameter.kind]
    names, required = parameter.names, parameter.required
    optional = "".join(f"[,{name}" for name in names[required:]) + "]" * (len(names) - required)
    return (",".join(names[:required]) + optional).upper()


def _reader(parameter: Parameter) -> Any:
    """What turns a word of that form into a value."""
    if parameter.kind == "flag":
        return click.BOOL
    if parameter.kind == "integer":
        return click.INT
    if parameter.kind == "number":
        return click.FLOAT

    def read(word: str) -> Any:
        try:
            return _READERS[parameter.kind](word, parameter)
        except ValueError:
            form, example = _form(parameter), _example(parameter)
            raise click.BadParameter(
                f"{word!r} is not of the form {form}, such as {example}"
            ) from None

    return read


def _example(parameter: Parameter) -> str:
    if parameter.kind == "numbers":
        return ",".join(["0.5"] * parameter.required)
    if parameter.kind == "record":
        return ",".join(f"{field['name']}=2" for field in parameter.fields[:2])
    return {"biases": "11=-5 or 11,262=-inf"}.get(parameter.kind, "11 or 11,262")


def _ids(word: str, _: Parameter | None = None) -> list[int]:
    return [int(token) for token in word.split(",")]


def _numbers(word: str, parameter: Parameter) -> tuple[float, ...]:
    numbers = tuple(float(number) for number in word.split(","))
    if not parameter.required <= len(numbers) <= len(parameter.names):
        raise ValueError(word)
    return numbers


def _bias(word: str, _: Parameter) -> tuple[tuple[int, ...], float]:
    ids, _equals, bias = word.partition("=")
    return tuple(_ids(ids)), float(bias)


def _record(word: str, parameter: Parameter) -> dict[str, Any]:
    """Entries, of which those of token id sequences may come several times."""
    kinds = {field["name"]: field["kind"] for field in parameter.fields}
    record: dict[str, Any] = {}
    for entry in re.split(r",(?=[a-z_]+=)", word):
        name, _equals, value = entry.partition("=")
        if name not in kinds:
            raise ValueError(name)
        if kinds[name] == "sequences":
            record.setdefault(name, []).append(_ids(value))
        elif name in record:
            raise ValueError(name)
        else:
            record[name] = int(value) if kinds[name] == "integer" else float(value)
    return record


_READERS: dict[str, Callable[[str, Parameter], Any]] = {
    "numbers": _numbers,
    "tokens": _ids,
    "sequences": _ids,
    "biases": _bias,
    "record": _record,
}

# An option for each sampling parameter, or each that a beam search has; `given` reads them.
parameter_options = combined(*map(_option, PARAMETERS.values()))
beam_parameter_options = combined(
    *(_option(p) for p in PARAMETERS.values() if p.affects_greedy or p.needs_only_the_row)
)
