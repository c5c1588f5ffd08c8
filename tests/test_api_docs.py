"""Every public name is in the reference pages, and its docstring describes every parameter."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import fastdecode
import pytest
from fastdecode import core, testing
from fastdecode.options import keywords
from fastdecode.options.keyword_types import (
    ChatKeywords,
    GenerateArguments,
    ModelArguments,
    RunArguments,
    SamplingKeywords,
)
from fastdecode.options.signatures import DESCRIPTIONS

RUNS = ["generate", "stream"]
RUNS += [f"Decoder.{name}" for name in ("generate", "stream", "chat", "stream_chat")]
PAGES = Path(__file__).resolve().parent.parent / "docs" / "api"
# `core` has a page of its own, and so has `testing`.
NAMES = [name for name in fastdecode.__all__ if name not in ("core", "__version__")]


def documented() -> dict[str, set[str] | None]:
    """Each object of the pages, by its name behind "fastdecode.", with its members; None: all."""
    found: dict[str, set[str] | None] = {}
    for page in PAGES.glob("*.md"):
        last = ""
        for line in page.read_text(encoding="utf-8").splitlines():
            if match := re.match(r"\.\. auto\w+:: (?:fastdecode\.)?([\w.]+)", line):
                last = match[1].rpartition(".")[2]
                found[last] = set()
            elif match := re.match(r"   :members:(.*)", line):
                names = {name.strip() for name in match[1].split(",") if name.strip()}
                found[last] = names or None
    return found


def functions():
    """Public functions, and the methods that public classes define, by name."""
    for name in NAMES:
        value = getattr(fastdecode, name)
        if inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value) and value.__module__.startswith("fastdecode."):
            for method, member in vars(value).items():
                plain = getattr(member, "__func__", member)
                if inspect.isfunction(plain) and (not method.startswith("_")):
                    yield f"{name}.{method}", plain


FUNCTIONS = dict(functions())


def test_every_public_name_has_its_place():
    assert not sorted(set(NAMES) - set(documented()))
    assert {"core", "testing"} <= set(documented())
    for module in (core, testing):
        assert not [name for name in module.__all__ if not getattr(module, name).__doc__]


def test_every_public_member_has_its_place():
    pages, missing = documented(), []
    for name in NAMES:
        value = getattr(fastdecode, name)
        if not inspect.isclass(value) or pages[name] is None:
            continue
        for member, what in vars(value).items():
            public = inspect.isroutine(what) or isinstance(what, property | classmethod)
            if public and not member.startswith("_") and member not in pages[name]:
                missing.append(f"{name}.{member}")
    assert not missing


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings_describe_every_parameter(name):
    function = FUNCTIONS[name]
    code, text = function.__code__, function.__doc__
    assert text, name
    given = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    missing = [
        parameter
        for parameter in given
        if parameter not in ("self", "cls")
        and not re.search(rf"^ +{parameter}: |`{parameter}`|`{parameter}\b.*`", text, re.MULTILINE)
    ]
    assert not missing


@pytest.mark.parametrize("name", RUNS)
def test_the_arguments_of_a_run_are_described_and_listed(name):
    function = FUNCTIONS[name]
    listed = inspect.signature(function).parameters
    for argument in RunArguments.__annotations__:
        assert f"    {argument}: " in function.__doc__
        assert argument in listed
    assert {"temperature", "num_beams", "do_sample"} <= set(listed)
    assert listed["n"].default == 1


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n in fastdecode.__all__])
def test_the_arguments_of_a_model_are_described_and_listed(name):
    function = FUNCTIONS[name]
    if name in ("fingerprint", "replay", "unload", "verify"):
        return
    listed = inspect.signature(function).parameters
    for argument in ModelArguments.__annotations__:
        assert f"    {argument}: " in function.__doc__
        assert argument in listed
    assert listed["model"].default == "openai-community/gpt2"
    assert listed["engine"].default == "auto"
    assert "source" not in listed
    assert "**source" not in function.__doc__


def test_the_typed_arguments_are_the_known_keywords():
    assert {*keywords.OF_A_RUN, *keywords.READ} == {*GenerateArguments.__annotations__}
    given = set(inspect.signature(core.Sample).parameters) - {"eos_token_id"}
    assert set(SamplingKeywords.__annotations__) == given


def test_descriptions_are_of_arguments():
    described = re.findall(r"^(\w+):", DESCRIPTIONS, re.MULTILINE)
    of_a_run = {*RunArguments.__annotations__, "logits_processor", "progress"}
    of_chats = ChatKeywords.__annotations__
    assert set(described) == {*ModelArguments.__annotations__, *of_a_run, *of_chats}


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if f"Decoder.{name}" in FUNCTIONS])
def test_functions_and_methods_take_the_same(name):
    def own(function):
        found = list(inspect.signature(function).parameters.values())
        apart = ("self", *ModelArguments.__annotations__, "text", "texts")
        return [(p.name, p.kind, p.default) for p in found if p.name not in apart]

    assert own(FUNCTIONS[name]) == own(FUNCTIONS[f"Decoder.{name}"])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings_have_no_substitutions_by_accident(name):
    """In reStructuredText, a name between bars is one, and a token may be written so."""
    text = re.sub("`[^`]*`", "", FUNCTIONS[name].__doc__)
    assert not re.search(r"\|\w+\|", text)
