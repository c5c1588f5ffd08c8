"""The table of sampling parameters, and what has to agree with it."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
from importlib import import_module
from pathlib import Path

import click
import fastdecode
import pytest
from fastdecode import Beam, Sample
from fastdecode._core import parameters
from fastdecode.cli.main import app
from fastdecode.cli.options.parameters import flags
from fastdecode.options import foreign_names, keyword_types, keywords
from fastdecode.options.strategies import describe, restore
from fastdecode.options.table import (
    ALIASES,
    BEAM_KEYWORDS,
    OF_THE_MODEL,
    PARAMETERS,
    ROWS,
)
from fastdecode.testing import strategies
from hypothesis import given, settings

ROOT = Path(__file__).resolve().parent.parent
TOOL = ROOT / "tools" / "generate_parameters.py"
COMMANDS = ("generate", "next", "beam", "bench")
# A value of each kind on the command line and in Python.
SPELLED = {
    "flag": (["false"], False),
    "integer": (["3"], 3),
    "number": (["0.5"], 0.5),
    "numbers": (["0.25,0.5"], (0.25, 0.5)),
    "tokens": (["11,262"], [11, 262]),
    "sequences": (["11,262", "13"], [[11, 262], [13]]),
    "biases": (["11=-5", "11,262=-inf"], [((11,), -5.0), ((11, 262), float("-inf"))]),
    "record": (
        ["multiplier=0.5,sequence_breakers=13,198,base=2,sequence_breakers=4"],
        {"multiplier": 0.5, "sequence_breakers": [[13, 198], [4]], "base": 2.0},
    ),
}
WRONG = {
    "flag": ["x", "1.5"],
    "integer": ["x", "1.5"],
    "number": ["x", "1,2"],
    "numbers": ["x", "1", "1,2,3,4", "1,,2", ""],
    "tokens": ["x", "1,", "1.5"],
    "sequences": ["x", "1,", "[1]"],
    "biases": ["11", "11=", "x=1", "=1"],
    "record": ["x=1", "multiplier", "multiplier=", "multiplier=1,multiplier=2", "base=x"],
}
IN_BEAMS = [n for n, p in PARAMETERS.items() if p.affects_greedy or p.needs_only_the_row]
each = pytest.mark.parametrize("name", PARAMETERS)


def offered(command):
    """The parameters that a command has options for."""
    return IN_BEAMS if command == "beam" else list(PARAMETERS)


def test_every_parameter_of_the_core_has_a_row():
    assert [p["name"] for p in parameters() if p["name"] not in OF_THE_MODEL] == list(PARAMETERS)
    assert list(ROWS) == list(PARAMETERS)
    assert {*inspect.signature(Sample).parameters} == {*PARAMETERS, *OF_THE_MODEL}


def test_generated_files_are_those_of_the_table(monkeypatch):
    # The tools import each other, as scripts of one folder.
    monkeypatch.syspath_prepend(TOOL.parent)
    spec = importlib.util.spec_from_file_location("generate_parameters", TOOL)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    for path, text in tool.files().items():
        assert path.read_text(encoding="utf-8") == text, (
            f"{path.name} differs from the table; run tools/generate_parameters.py"
        )


def test_typed_keywords_are_those_of_the_tables():
    types = keyword_types
    assert list(types.SamplingKeywords.__annotations__) == list(PARAMETERS)
    assert {*types.BeamKeywords.__annotations__} == {*BEAM_KEYWORDS}
    assert {*types.UnavailableKeywords.__annotations__} == {*foreign_names.OFF}
    assert {*types.IgnoredKeywords.__annotations__} == {*foreign_names.IGNORED}
    assert {*ALIASES} < {*types.TransformersKeywords.__annotations__}
    beam = inspect.signature(Beam).parameters
    assert {*BEAM_KEYWORDS} < {*beam}
    assert {n for n, p in PARAMETERS.items() if p.affects_greedy} < {*beam}


def test_a_beam_search_has_what_depends_on_the_row_alone():
    assert {*PARAMETERS} - {*IN_BEAMS} == {"mirostat", "xtc"}


def test_names_of_transformers():
    transformers = pytest.importorskip("transformers")
    known = vars(transformers.GenerationConfig())
    for name, parameter in PARAMETERS.items():
        theirs = parameter.row.transformers
        # Where transformers has a parameter of that name, it is this one.
        assert theirs in known if theirs is not None else name not in known
    assert {*foreign_names.OFF} & {*PARAMETERS} == set()


@each
def test_what_transformers_calls_off_is_not_given(name):
    parameter = PARAMETERS[name]
    for value in (None, parameter.unset):
        assert keywords.read({name: value}, None).strategy == fastdecode.Greedy()
        if parameter.alias is not None:
            assert keywords.read({parameter.alias: value}, None).strategy == fastdecode.Greedy()


@each
def test_greedy_decoding_feels_logits_processors_alone(name):
    parameter = PARAMETERS[name]
    value = SPELLED[parameter.kind][1]
    chosen = keywords.read({name: value}, None).strategy
    assert chosen.settings()[name] == Sample(**{name: value}).settings()[name]
    assert (chosen.temperature == 0) == parameter.affects_greedy
    if parameter.affects_greedy or parameter.needs_only_the_row:
        beam = keywords.read({name: value, "num_beams": 2}, None).strategy
        assert (beam.sample is None) == parameter.affects_greedy


@each
def test_saved_runs_hold_every_parameter(name):
    strategy = Sample(**{name: SPELLED[PARAMETERS[name].kind][1]})
    assert name in describe(strategy)
    assert restore(json.loads(json.dumps(describe(strategy)))) == strategy


def test_saved_runs_with_unknown_settings_are_refused():
    for data in (
        {"name": "sample", "top_q": 0.5},
        {"name": "beam", "num_beams": 2, "top_q": 0.5},
        {"name": "beam", "num_beams": 2, "sample": {"top_q": 0.5}},
    ):
        with pytest.raises(ValueError, match="unknown setting 'top_q' of a saved run"):
            restore(data)


@each
def test_hypothesis_strategies(name):
    @settings(max_examples=20, deadline=None)
    @given(strategies.parameters(name))
    def made(found):
        assert found.keys() <= {name}
        Sample(**found)

    made()


def test_hypothesis_strategies_of_the_row_alone():
    @settings(max_examples=50, deadline=None)
    @given(strategies.samples(), strategies.rows())
    def computed(sample, row):
        fastdecode.core.distribution(row, sample)

    computed()
    with pytest.raises(ValueError, match="top_q"):
        strategies.parameters("top_q")


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_offer_every_parameter(command):
    options = {flag: option for option in app.commands[command].params for flag in option.opts}
    for name in offered(command):
        for flag in flags(PARAMETERS[name]):
            assert options[flag].name == name
    assert {o.name for o in options.values()} & {*PARAMETERS} == {*offered(command)}


def chosen(monkeypatch, run, command, *options):
    """The strategy that a command line describes."""
    module = import_module(f"fastdecode.cli.{command}")
    found = []

    def stop(*_, strategy=None, **rest):
        of_run = ("model", "max_new_tokens", "n", "seed")
        rest = {key: value for key, value in rest.items() if key not in of_run}
        found.append(strategy or keywords.read(rest, None).strategy)
        raise ValueError("enough")

    class Opened:
        next_token = stop

    monkeypatch.setattr(module, "opened", lambda *_: Opened)
    for name in ("generate", "stream"):
        monkeypatch.setattr(fastdecode, name, stop, raising=False)
    if command == "bench":
        monkeypatch.setattr("fastdecode.jobs.throughput.measure", stop)
    texts = [] if command == "bench" else ["Once"]
    code, _, err = run(command, *texts, *options)
    assert (code, err) == (2, "error: enough\n"), err
    return found[0]


@pytest.mark.parametrize(("command", "name"), [(c, n) for c in COMMANDS for n in offered(c)])
def test_options_reach_the_strategy(monkeypatch, run, command, name):
    parameter = PARAMETERS[name]
    words, value = SPELLED[parameter.kind]
    for flag in flags(parameter):
        options = [part for word in words for part in (flag, word)]
        strategy = chosen(monkeypatch, run, command, *options)
        if isinstance(strategy, Beam) and not parameter.affects_greedy:
            strategy = strategy.sample
        assert strategy.settings()[name] == Sample(**{name: value}).settings()[name]


@each
def test_values_of_another_form_are_refused_by_option(run, name):
    parameter = PARAMETERS[name]
    flag = f"--{name.replace('_', '-')}"
    for word in WRONG[parameter.kind]:
        code, out, err = run("generate", "Once", "-m", "demo", f"{flag}={word}")
        assert (code, out) == (2, "")
        assert re.match(f"error: Invalid value for '.*{flag}.*': '{re.escape(word)}'", err), err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_on_a_terminal(monkeypatch, run, command):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = run(command, "--help")
    assert max(map(len, out.splitlines())) <= 80
    for name in offered(command):
        for flag in flags(PARAMETERS[name]):
            assert re.search(rf"^  .*{flag}\b", out, re.MULTILINE)


def test_options_are_clicks_own():
    for command in app.commands.values():
        assert all(isinstance(p, click.Option | click.Argument) for p in command.params)
