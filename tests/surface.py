"""Every public callable with valid arguments, what each argument may be, and hostile calls of all.

python tests/surface.py                  # every argument with every value
python tests/surface.py Decoder.score    # those whose name contains one of the words
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import fastdecode
import gguf_files
import hostile
import numpy as np
from fastdecode import Beam, Decoder, Greedy, Sample, _core, core, testing
from fastdecode.models.engines.native import NativeEngine
from fastdecode.options.keyword_types import RunArguments, StrategyKeywords
from fastdecode.options.table import PARAMETERS
from fastdecode.testing import rows as testing_rows
from hostile import (
    Kind,
    also,
    anything,
    array,
    either,
    flag,
    function,
    group,
    integer,
    number,
    optional,
    path,
    several,
    text,
)

TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
LOGITS = np.zeros((2, 5), np.float32)
PENALTY = Sample(repetition_penalty=2.0)
DEMO = files("fastdecode") / "demo"


# Things that calls need ---------------------------------------------------------------------------


class Work:
    """Whether a model has run, or its weights were read, since `begun` was set to False."""

    begun = False

    @classmethod
    def watch(cls, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def watched(*given: Any, **named: Any) -> Any:
            cls.begun = True
            return method(*given, **named)

        return watched


@cache
def decoder() -> Decoder:
    made = Decoder.from_pretrained("demo")
    for method in ("start", "all_logits"):
        setattr(made.engine, method, Work.watch(getattr(made.engine, method)))
    return made


@contextlib.contextmanager
def place() -> Iterator[None]:
    """A folder of its own, which hostile paths are written to, and a watch over what is loaded."""
    before, read = Path.cwd(), NativeEngine.__dict__["from_folder"]
    with tempfile.TemporaryDirectory(prefix="fastdecode-surface-") as folder:
        os.chdir(folder)
        watched = staticmethod(Work.watch(NativeEngine.from_folder))
        NativeEngine.from_folder = watched  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            NativeEngine.from_folder = read  # type: ignore[method-assign]
            os.chdir(before)


@cache
def saved() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fastdecode-surface-"))
    run = folder / "run.json"
    fastdecode.generate("Once", model="demo", max_new_tokens=1).save(run)
    return run


@cache
def native() -> _core.NativeModel:
    return _core.NativeModel.from_folder(str(DEMO))


def native_rows() -> _core.NativeRows:
    rows = native().rows()
    rows.join([[1, 2]], [2])
    return rows


@cache
def candidates() -> fastdecode.Candidates:
    return decoder().next_token("Once", 3)


@cache
def tree() -> fastdecode.BeamTree:
    return decoder().generate("Once", num_beams=2, max_new_tokens=2, trace=True).tree


@cache
def generations() -> fastdecode.Generations:
    return decoder().generate("Once", max_new_tokens=1, trace=True)


def decode_state(**given: Any) -> core.DecodeState:
    return core.DecodeState(**{"prompts": [[1], [2]], "seed": 1, "limits": 3} | given)


def beam_state(**given: Any) -> core.BeamState:
    place = {"beam": Beam(2), "prompts": [[1], [2]], "limits": [4, 4], "eos_token_ids": [0]}
    return core.BeamState(**place | given)


# What arguments may be ----------------------------------------------------------------------------


def lone_text(value: Any) -> bool:
    return hostile.axes(value) == 0 and isinstance(value.tolist(), str)


IDS = several(integer)
TEXTS = either(text, several(text))
# A structured array is read as a list of tuples, and an array without dimensions as its text.
PROMPT = either(text, IDS, several(IDS), lone_text)
PROMPTS = either(text, IDS, several(either(text, IDS)), lone_text)
LOGITS_KIND = array("float32", "float16", "bfloat16", "f4")
WORDS = optional(integer, several(integer))
OPTIONAL_FLAG = optional(flag)
MESSAGE = either(text, lambda value: isinstance(value, Mapping))
MESSAGES = either(text, several(MESSAGE), several(several(MESSAGE)))


def sample(value: Any) -> bool:
    return isinstance(value, Sample)


# What an argument of this name is, wherever it has no other kind.
NAMES: dict[str, Kind] = {
    **dict.fromkeys(("prompts", "texts"), PROMPTS),
    **dict.fromkeys(("prompt", "text"), PROMPT),
    "add_generation_prompt": OPTIONAL_FLAG,
    "add_special_tokens": flag,
    "allowed": optional(several(integer), function),
    "alternatives": integer,
    "bad_words": optional(several(several(integer))),
    "bad_words_ids": optional(several(several(integer))),
    "batch_size": optional(integer),
    "bos": OPTIONAL_FLAG,
    "bytes": integer,
    "candidates": optional(integer),
    "chat_template": optional(text, path),
    "chat_template_kwargs": optional(lambda value: isinstance(value, Mapping)),
    "context": TEXTS,
    "continue_final_message": either(flag, text),
    "count": integer,
    "device": optional(text, integer, lambda v: type(v).__module__ == "torch"),
    "diversity_penalty": optional(number),
    "do_sample": OPTIONAL_FLAG,
    "documents": optional(several(lambda value: isinstance(value, Mapping))),
    "draws": integer,
    "dry": optional(lambda value: isinstance(value, dict)),
    "dtype": optional(text, lambda v: isinstance(v, np.dtype) or type(v).__module__ == "torch"),
    "dynamic_temperature": optional(several(number)),
    "early_stopping": optional(flag, also("never")),
    "engine": text,
    "eos": OPTIONAL_FLAG,
    "eos_token_id": optional(integer, several(integer), group(integer)),
    "eos_token_ids": optional(several(integer)),
    "exact": flag,
    "false_alarm": number,
    "histories": optional(several(several(integer))),
    "k": integer,
    "labels": several(text),
    "ledger": flag,
    "length_penalty": optional(number),
    "limit_reasons": optional(text, several(text)),
    "logit_bias": optional(anything),
    "logits": LOGITS_KIND,
    "logits_processor": lambda value: value is None,
    "logprobs": optional(integer),
    "max_length": optional(integer),
    "max_new_tokens": optional(integer),
    "messages": MESSAGES,
    "min_new_tokens": optional(integer),
    "min_probability": number,
    "mirostat": optional(several(number)),
    "model": either(path, lambda value: isinstance(value, Decoder)),
    "mus": optional(several(number)),
    "n": integer,
    "name_or_path": path,
    "num_beam_groups": optional(integer),
    "num_beams": optional(integer),
    "num_return_sequences": optional(integer),
    "num_samples": integer,
    "no_repeat_ngram_size": optional(integer),
    "padding": integer,
    "params": optional(sample, several(sample)),
    "path": path,
    "penalties_count_prompt": OPTIONAL_FLAG,
    "per_token": flag,
    "position": optional(integer),
    "prefix_allowed_tokens_fn": optional(function),
    "priors": optional(several(number), lambda value: isinstance(value, Mapping)),
    "probe": flag,
    "processed_logprobs": flag,
    "progress": OPTIONAL_FLAG,
    "pruned": flag,
    "raw_logprobs": flag,
    "replacement": flag,
    "revision": optional(text),
    "sample": integer,
    "samples": WORDS,
    "seed": optional(integer),
    "separator": text,
    "sequence_bias": optional(anything),
    "size": integer,
    "skip_special_tokens": flag,
    "stochastic": flag,
    "stop": optional(text, several(text), group(text)),
    "stop_strings": optional(text, several(text), group(text)),
    "stop_token_ids": optional(integer, several(integer), group(integer)),
    "strategy": optional(lambda value: isinstance(value, Sample | Beam | Greedy)),
    "stream": optional(integer),
    "streams": optional(several(integer)),
    "stride": optional(integer),
    "tokenizer": lambda value: value is None,
    "tolerance": number,
    "tools": optional(several(anything)),
    "trace": flag,
    "trust_remote_code": flag,
    "xtc": optional(several(number)),
}
# The sampling parameters that are one number.
NAMES |= {
    name: optional({"integer": integer, "number": number}[one.kind])
    for name, one in PARAMETERS.items()
    if one.kind in ("integer", "number") and name not in NAMES
}


@dataclasses.dataclass(frozen=True)
class Target:
    """A callable that is called with one argument exchanged.

    Attributes:
        name: where it is.
        call: the callable; the arguments are its keywords.
        valid: makes arguments with which it works.
        kinds: what an argument may be, where `NAMES` does not say it.
        shown: names of which a message has one, where that is not the argument's alone: what
            stands in brackets has none, and of two that do not match either may be named.
        files: arguments that name a file.
        raises: exceptions that belong to what it does.
        late: arguments that only a model which has been loaded can tell to be bad.
        of: makes the object of a method.
        parameters: the names of all arguments.
    """

    name: str
    call: Callable[..., Any]
    valid: Callable[[], dict[str, Any]]
    kinds: Mapping[str, Kind] = dataclasses.field(default_factory=dict)
    shown: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    files: tuple[str, ...] = ()
    raises: tuple[type[Exception], ...] = ()
    late: tuple[str, ...] = ()
    of: Callable[..., Any] | None = None
    parameters: tuple[str, ...] = ()

    def admits(self, parameter: str, value: Any) -> bool:
        """Whether an argument may have a value."""
        kind = self.kinds[parameter] if parameter in self.kinds else NAMES[parameter]
        try:
            return kind(value)
        except Exception:  # The value's own.
            return False

    def run(self, parameter: str, value: Any) -> Any:
        found = self.call(**self.valid() | {parameter: value})
        # A stream checks at its call, and works as it is read.
        return list(found) if isinstance(found, Iterator) else found


TARGETS: dict[str, Target] = {}


def target(
    name: str,
    call: Callable[..., Any],
    valid: Callable[[], dict[str, Any]] | dict[str, Any],
    /,
    *,
    by_position: int = 0,
    more: Iterable[str] = (),
    of: Callable[..., Any] | None = None,
    shown: Mapping[str, tuple[str, ...]] | None = None,
    files: tuple[str, ...] = (),
    raises: tuple[type[Exception], ...] = (),
    late: tuple[str, ...] = (),
    **kinds: Kind,
) -> None:
    """Enter a callable.

    Args:
        name: where it is.
        call: the callable, or a method without its object.
        valid: arguments with which it works, or what makes them.
        by_position: how many of the arguments it takes by position alone.
        more: arguments that its signature does not list.
        of: makes the object of a method.
        shown: as for `Target`.
        files: as for `Target`.
        raises: as for `Target`.
        late: as for `Target`.
        **kinds: as for `Target`.
    """
    signature = inspect.signature(call).parameters
    names = [
        one.name
        for one in signature.values()
        if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL) and one.name != "self"
    ]

    def called(**given: Any) -> Any:
        first = [] if of is None else [of()]
        placed = [given.pop(one) for one in names[:by_position] if one in given]
        return call(*first, *placed, **given)

    made = valid if callable(valid) else lambda: dict(valid)
    every = (*names, *(one for one in more if one not in names))
    TARGETS[name] = Target(name, called, made, kinds, shown or {}, files, raises, late, of, every)


def enter_core() -> None:
    both: dict[str, Any] = {"logits": LOGITS}
    for function_ in (core.argmax, core.log_softmax, core.logsumexp):
        target(f"core.{function_.__name__}", function_, both)
    target("core.top_k", core.top_k, both | {"k": 2})
    target("core.token_logprobs", core.token_logprobs, both | {"tokens": [1, 2]}, tokens=IDS)
    streams = {"streams": WORDS, "positions": WORDS, "prompt_lengths": WORDS}
    target("core.distribution", core.distribution, both, **streams)
    target("core.weights", core.weights, both, **streams)
    target(
        "core.sample",
        core.sample,
        both | {"seed": 1},
        seed=integer,
        **streams,
        alternatives=optional(integer),
    )
    penalised = both | {"seed": 1, "params": PENALTY, "histories": [[1], [2]]}
    target(
        "core.sample, penalised",
        core.sample,
        penalised,
        seed=integer,
        **streams,
        alternatives=optional(integer),
    )
    target(
        "core.multinomial",
        core.multinomial,
        both | {"num_samples": 2, "seed": 1},
        seed=integer,
        **streams,
    )
    target("core.uniform", core.uniform, {"seed": 1}, seed=integer, sample=optional(integer))
    target(
        "core.philox4x32",
        core.philox4x32,
        {"counter": [1] * 4, "key": [1] * 2},
        counter=IDS,
        key=IDS,
    )
    target("core.Sample", Sample, {})
    target(
        "core.Sample.with_eos", Sample.with_eos, {"eos_token_id": [1]}, of=Sample, eos_token_id=IDS
    )
    target("core.Sample.check_vocabulary", Sample.check_vocabulary, {"size": 9}, of=Sample)
    target("core.Beam", Beam, {}, sample=optional(sample))
    target("core.Beam.with_eos", Beam.with_eos, {"eos_token_id": [1]}, of=Beam, eos_token_id=IDS)
    target("core.Beam.check_vocabulary", Beam.check_vocabulary, {"size": 9}, of=Beam)
    lists = several(several(integer))
    state = core.DecodeState
    target(
        "core.DecodeState",
        state,
        {"prompts": [[1], [2]], "seed": 1, "limits": 3},
        prompts=lists,
        seed=integer,
        limits=either(integer, IDS),
        params=optional(sample),
        **streams,
    )
    of: dict[str, Any] = {"of": decode_state}
    proposed = {"proposed": optional(lists), "alternatives": optional(integer)}
    target("core.DecodeState.step", state.step, both, **of, alternatives=optional(integer))
    target(
        "core.DecodeState.draw",
        state.draw,
        both,
        **of,
        **proposed,
        processed=optional(LOGITS_KIND),
        shown={"processed": ("processed", "logits")},
    )
    target("core.DecodeState.process", state.process, both, **of, **proposed)
    target(
        "core.DecodeState.join",
        state.join,
        lambda: {"other": decode_state()},
        **of,
        other=lambda value: isinstance(value, state),
    )
    target("core.DecodeState.keep", state.keep, {"rows": [0]}, **of, rows=IDS)
    own_draw = object()
    target("core.DecodeState.fork", state.fork, {"row": 0, "sample": 1}, **of, row=integer)

    def committed(state_: core.DecodeState, drawn: Any = own_draw, counts: Any = None) -> None:
        state_.commit(state_.draw(LOGITS) if drawn is own_draw else drawn, counts)

    # The draw has to be of the same state.
    committed.__signature__ = inspect.signature(state.commit)  # type: ignore[attr-defined]
    target(
        "core.DecodeState.commit",
        committed,
        {},
        **of,
        counts=optional(IDS),
        drawn=lambda value: isinstance(value, core.DecodeStep),
    )
    search = core.BeamState
    target(
        "core.BeamState",
        search,
        {"beam": Beam(2), "prompts": [[1], [2]], "limits": [4, 4], "eos_token_ids": [0]},
        beam=lambda value: isinstance(value, Beam),
        prompts=lists,
        limits=IDS,
        eos_token_ids=IDS,
        streams=WORDS,
        indices=WORDS,
    )
    target(
        "core.BeamState.step",
        search.step,
        both,
        of=beam_state,
        allowed=optional(several(optional(IDS))),
        stop=optional(function),
    )
    for method in (search.outcomes, search.settled):
        target(
            f"core.BeamState.{method.__name__}",
            method,
            {"prompt": 0},
            of=beam_state,
            prompt=integer,
        )
    target(
        "core.BeamState.expansions",
        search.expansions,
        {"prompt": 0},
        of=lambda: beam_state(trace=True),
        prompt=integer,
    )
    listing = {"min_probability": 0.1, "max_new_tokens": 3, "eos_token_ids": [0]}
    target("core.Listing", core.Listing, listing, max_new_tokens=integer, eos_token_ids=IDS)
    target(
        "core.Listing.step",
        core.Listing.step,
        {"logits": LOGITS[:1]},
        of=lambda: core.Listing(**listing),
    )


@cache
def gguf() -> _core.GgufFile:
    return _core.GgufFile(str(gguf_files.write(saved().with_name("a.gguf"), {"a": 1}, {})))


def enter_low_level() -> None:
    dtype = {"dtype": text}
    config = (DEMO / "config.json").read_text()
    model = _core.NativeModel
    folder = {"path": str(DEMO)}
    target("_core.NativeModel.from_folder", model.from_folder, folder, files=("path",), **dtype)
    target(
        "_core.NativeModel.from_gguf",
        model.from_gguf,
        {"file": "no.gguf"},
        files=("file",),
        # A path is named as GgufFile names it.
        shown={"file": ("file", "path")},
        file=either(path, lambda value: isinstance(value, _core.GgufFile)),
        **dtype,
    )
    target(
        "_core.NativeModel.from_arrays",
        model.from_arrays,
        {"config": config, "tensors": {}},
        config=text,
        tensors=lambda value: isinstance(value, dict),
        shown={"tensors": ("tensors", "tensor")},
        **dtype,
    )
    target("_core.NativeModel.check", model.check, {"config": config}, config=text)
    target("_core.NativeModel.all_logits", model.all_logits, {"tokens": [1]}, of=native, tokens=IDS)
    rows = _core.NativeRows
    target(
        "_core.NativeRows.join",
        rows.join,
        {"prompts": [[1]], "repeats": [1]},
        of=native_rows,
        prompts=several(IDS),
        repeats=IDS,
        shown={"prompts": ("prompts", "repeats")},
    )
    target(
        "_core.NativeRows.step",
        rows.step,
        lambda: {"tokens": np.array([1, 2])},
        of=native_rows,
        tokens=IDS,
    )
    target(
        "_core.NativeRows.truncate",
        rows.truncate,
        {"lengths": [2, 2]},
        of=native_rows,
        lengths=IDS,
    )
    target(
        "_core.NativeRows.keep",
        rows.keep,
        lambda: {"rows": np.array([1])},
        of=native_rows,
        rows=IDS,
    )
    target("_core.GgufFile", _core.GgufFile, {"path": "no.gguf"}, files=("path",))
    target(
        "_core.GgufFile.__getitem__",
        _core.GgufFile.__getitem__,
        {"key": "a"},
        of=gguf,
        by_position=1,
        key=text,
        raises=(KeyError,),
    )
    target(
        "_core.GgufFile.get",
        _core.GgufFile.get,
        {"key": "a"},
        of=gguf,
        by_position=1,
        key=text,
        default=anything,
    )
    for method in (_core.GgufFile.tensor, _core.GgufFile.weight):
        target(
            f"_core.GgufFile.{method.__name__}",
            method,
            {"name": "b"},
            of=gguf,
            name=text,
            shown={"name": ("name", "tensor", "tensors")},
        )
    target("_core.check_memory", _core.check_memory, {"bytes": 1})
    target("_core.probe_memory", _core.probe_memory, {"bytes": 1})


def of_decoder() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Valid arguments and kinds of each method that runs the model."""
    talk = {"messages": "Hello", "chat_template": TEMPLATE}
    once = {"prompt": "Once", "max_new_tokens": 1}
    scored: dict[str, Any] = {"texts": ["Once", "Twice"], "bos": True, "eos": False}
    labels: dict[str, Any] = {"labels": ["a", "b"], "bos": True}
    of_text = {"texts": TEXTS, "text": TEXTS, "eos": flag}
    generation = lambda value: isinstance(value, fastdecode.Generation)  # noqa: E731
    return {
        "generate": ({"prompts": "Once", "max_new_tokens": 1}, {}),
        "stream": (once, {"prompt": PROMPTS}),
        "next_token": ({"prompt": "Once", "k": 2}, {}),
        "enumerate_continuations": (
            {"prompt": "Once", "max_new_tokens": 2, "min_probability": 0.5},
            {"max_new_tokens": integer},
        ),
        "score": (scored, {"texts": either(PROMPTS, generation, several(generation))}),
        "compare": (scored, {"texts": several(either(text, IDS))}),
        "surprising": (scored, {"texts": several(either(text, IDS))}),
        "classify": (
            {"texts": "Once"} | labels,
            {"prompts": optional(TEXTS, lambda value: isinstance(value, Mapping)), **of_text},
        ),
        "tokens": ({"text": "Once"}, {}),
        "encode": ({"text": "Once"}, {"text": TEXTS}),
        "decode": ({"ids": [1, 2]}, {"ids": either(IDS, several(IDS))}),
        "logits": ({"text": "Once"}, {"text": PROMPTS}),
        "log_probs": ({"text": "Once"}, {"text": PROMPTS}),
        "chat": (talk | {"max_new_tokens": 1}, {"add_special_tokens": optional(flag)}),
        "stream_chat": (talk | {"max_new_tokens": 1}, {"add_special_tokens": optional(flag)}),
        "chat_prompt": (talk, {}),
        "fingerprint": ({}, {}),
        "identity": ({}, {}),
    }


def enter_decoder() -> None:
    for name, (valid, kinds) in of_decoder().items():
        target(
            f"Decoder.{name}",
            getattr(Decoder, name),
            valid,
            of=decoder,
            files=("chat_template",),
            shown={"separator": ("separator", "texts")},
            **kinds,
        )
        function_ = getattr(fastdecode, name, None)
        if function_ is not None and name != "fingerprint":
            renamed = {"texts": "text"} if name == "classify" else {}
            given = {renamed.get(k, k): v for k, v in valid.items()}
            target(
                name,
                function_,
                lambda given=given: given | {"model": decoder()},
                **kinds,
                engine=also("auto"),
                dtype=lambda value: value is None,
                device=lambda value: value is None,
                revision=lambda value: value is None,
                trust_remote_code=lambda value: not value,
            )
    source = {"name_or_path": "demo"}
    target(
        "Decoder.from_pretrained",
        Decoder.from_pretrained,
        source,
        files=("name_or_path",),
        shown={"name_or_path": ("name_or_path", "model")},
    )
    target(
        "Decoder",
        Decoder,
        lambda: {"model": decoder().engine, "tokenizer": decoder().tokenizer},
        model=lambda value: value is decoder().engine,
        tokenizer=lambda value: callable(getattr(value, "decode", None)),
        engine=also("auto"),
        dtype=lambda value: value is None,
    )
    target("unload", fastdecode.unload, {"model": "none-such"}, model=optional(path))
    # Where a model is loaded by name.
    for name in ("tokens", "vocabulary"):
        given = {"text": "Once"} if name == "tokens" else {}
        target(
            f"{name}, by name",
            getattr(fastdecode, name),
            given | {"model": "demo"},
            files=("model",),
            late=("text",),
        )
    target(
        "vocabulary",
        fastdecode.vocabulary,
        lambda: {"model": decoder()},
        engine=also("auto"),
        dtype=lambda v: v is None,
        device=lambda v: v is None,
        revision=lambda v: v is None,
        trust_remote_code=lambda v: not v,
    )
    target("fingerprint", fastdecode.fingerprint, {"model": "demo"}, files=("model",))
    target(
        "replay",
        fastdecode.replay,
        lambda: {"path": str(saved())},
        files=("path", "model"),
        model=optional(NAMES["model"]),
    )
    target(
        "verify",
        fastdecode.verify,
        lambda: {"path": str(saved())},
        files=("path", "model"),
        model=optional(NAMES["model"]),
        engine=optional(text),
    )


def enter_results() -> None:
    def indexed(result: Any, index: Any) -> Any:
        return result[index]

    slices = lambda value: isinstance(value, slice)  # noqa: E731
    made: dict[str, Callable[[], Any]] = {
        "BeamTree": tree,
        "Candidates": candidates,
        "Raffle": lambda: candidates().draw(1),
        "Tally": lambda: candidates().sample(3, 1),
        "Classifications": lambda: decoder().classify(["Once"], ["a", "b"], bos=True),
        "Classification": lambda: decoder().classify("Once", ["a", "b"], bos=True),
        "Comparison": lambda: decoder().compare(["Once", "Twice"], bos=True, eos=False),
        "Continuations": lambda: decoder().enumerate_continuations(
            "Once", max_new_tokens=1, min_probability=0.01
        ),
        "Generations": generations,
        "Scores": lambda: decoder().score(["Once", "Twice"], bos=True, eos=False),
        "Surprises": lambda: decoder().surprising(["Once", "Twice"], bos=True, eos=False),
        "Tokens": lambda: decoder().tokens("Once upon"),
        "Vocabulary": lambda: decoder().vocabulary,
    }
    for name, make in made.items():
        of = cache(make)
        kinds = {"index": either(integer, slices, *([text] if name == "Vocabulary" else []))}
        # What stands in brackets has no name.
        target(
            f"{name}.__getitem__",
            indexed,
            {"index": 0},
            of=of,
            shown={"index": ()},
            raises=(KeyError,) if name == "Vocabulary" else (),
            **kinds,
        )
        TARGETS[f"{name}.__getitem__"] = dataclasses.replace(
            TARGETS[f"{name}.__getitem__"], parameters=("index",)
        )
    target(
        "BeamTree.children", fastdecode.BeamTree.children, {"number": 0}, of=tree, number=integer
    )
    target("BeamTree.to_svg", fastdecode.BeamTree.to_svg, {}, of=tree)
    target("Candidates.draw", fastdecode.Candidates.draw, {}, of=candidates, stream=integer)
    target(
        "Candidates.sample",
        fastdecode.Candidates.sample,
        {"count": 2},
        of=candidates,
        stream=integer,
    )
    target(
        "Surprises.top",
        fastdecode.Surprises.top,
        {"count": 1},
        of=cache(lambda: decoder().surprising(["Once"], bos=True, eos=False)),
    )
    target(
        "Vocabulary.containing",
        fastdecode.Vocabulary.containing,
        {"text": "a"},
        of=lambda: decoder().vocabulary,
        text=text,
    )
    target(
        "Generations.load",
        fastdecode.Generations.load,
        lambda: {"path": str(saved())},
        files=("path",),
    )
    target(
        "Generations.save",
        fastdecode.Generations.save,
        lambda: {"path": str(saved().with_name("again.json"))},
        of=generations,
        files=("path",),
    )
    axes = lambda value: value is None  # noqa: E731
    target("Generation.plot", fastdecode.Generation.plot, {}, of=lambda: generations()[0], ax=axes)
    target(
        "Score.plot",
        fastdecode.Score.plot,
        {},
        ax=axes,
        of=cache(lambda: decoder().score("Once", bos=True, eos=False)[0]),
    )


def enter_testing() -> None:
    row = np.array([2.0, 1.0, 0.0, -np.inf], np.float32)
    law = core.distribution(row)
    sampler = testing.core_sampler()
    batch = np.zeros((4, 5), np.float32)
    # NumPy makes numbers of the bools beside them.
    numbers = several(either(number, flag))
    matrix = either(several(numbers))
    seeded = {"seed": integer, "sampler": function, "row": numbers}
    many = {"sampler": sampler, "row": row, "draws": 10}
    target("testing.Bets", testing.Bets, {"expected": [0.5, 0.5]}, expected=numbers)
    target(
        "testing.Bets.add",
        testing.Bets.add,
        {"tokens": [0, 1]},
        tokens=IDS,
        of=lambda: testing.Bets([0.5, 0.5]),
    )
    target(
        "testing.check_batch_invariance",
        testing.check_batch_invariance,
        {"sampler": sampler, "logits": batch},
        **seeded,
        logits=matrix,
    )
    target(
        "testing.check_replay",
        testing.check_replay,
        {"sampler": sampler},
        **seeded,
        logits=optional(matrix),
    )
    target(
        "testing.check_cumulative",
        testing.check_cumulative,
        many | {"expected": law},
        **seeded,
        expected=numbers,
        key=optional(function),
    )
    target(
        "testing.check_fit", testing.check_fit, many | {"expected": law}, **seeded, expected=numbers
    )
    target(
        "testing.check_support",
        testing.check_support,
        many | {"allowed": law > 0},
        **seeded,
        allowed=several(flag),
    )
    weights = core.weights(row)
    target(
        "testing.check_ledger",
        testing.check_ledger,
        {"draws": core.sample(np.stack([row]), seed=1), "weights": weights},
        weights=IDS,
        draws=lambda value: hasattr(value, "tickets"),
    )
    target(
        "testing.check_ticket_map",
        testing.check_ticket_map,
        {"token_at": lambda tickets: np.zeros(len(tickets), int), "weights": [5]},
        weights=IDS,
        token_at=function,
    )
    target("testing.core_sampler", testing.core_sampler, {}, params=optional(sample))
    target("testing.torch_sampler", testing.torch_sampler, {}, processors=optional(function))
    for function_ in (testing_rows.adversarial, testing_rows.long_tail):
        target(
            f"testing.rows.{function_.__name__}",
            function_,
            {"vocabulary": 5},
            seed=integer,
            vocabulary=integer,
            mass=number,
        )


def targets() -> dict[str, Target]:
    """All of them, once."""
    if not TARGETS:
        for enter in (enter_core, enter_low_level, enter_decoder, enter_results, enter_testing):
            enter()
    return TARGETS


# What is public -----------------------------------------------------------------------------------

# Objects that calls return; nobody makes them.
RESULTS = {
    value
    for name in fastdecode.__all__
    if inspect.isclass(value := getattr(fastdecode, name))
    and value not in (Sample, Beam, Decoder)
    and value is not Greedy
} | {testing.Result, testing.CheckFailed}
# Their makers, and what a drawing is made of, which the package gives what it has checked.
MADE_INSIDE = {"of", "restore", "flow"}
# Methods that Python itself has given them.
PYTHONS = {
    "count",
    "index",
    "add_note",
    "with_traceback",
    "__eq__",
    "__lt__",
    "__len__",
    "__iter__",
}


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public callable that takes an argument, by its name."""
    for module, prefix in (
        (fastdecode, ""),
        (core, "core."),
        (testing, "testing."),
        (_core, "_core."),
    ):
        names = getattr(module, "__all__", None) or [n for n in dir(module) if n[0] != "_"]
        for name in names:
            value = getattr(module, name)
            if inspect.isclass(value):
                yield from _of_class(prefix + name, value)
            elif callable(value):
                yield prefix + name, value


def _of_class(name: str, kind: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    if kind not in RESULTS and not getattr(kind, "_is_protocol", False):
        yield name, kind
    for method in dir(kind):
        if method in PYTHONS or method in MADE_INSIDE or method == "__init__":
            continue
        if method.startswith("_") and method != "__getitem__":
            continue
        value = getattr(kind, method)
        if callable(value) and not inspect.isdatadescriptor(value):
            yield f"{name}.{method}", value


def entry(name: str) -> Target | None:
    """The target of a public callable; the core's have several names."""
    names = (name, name.removeprefix("_"), f"core.{name}")
    return next((targets()[one] for one in names if one in targets()), None)


def takes_arguments(function_: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(function_)
    except ValueError:
        return True
    return any(name != "self" for name in signature.parameters)


# Callables whose arguments `Decoder.generate` has as well.
HANDS_ON = {
    *("generate", "stream", "next_token", "Decoder.stream", "Decoder.next_token", "Decoder.chat"),
    "Decoder.stream_chat",
}


# The hostile calls --------------------------------------------------------------------------------


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


def main() -> None:
    words = sys.argv[1:]
    values = hostile.VALUES | hostile.torch_values()
    count = 0
    for one in targets().values():
        if words and not any(word in one.name for word in words):
            continue
        with place():
            for finding in findings(one, values):
                print(finding, flush=True)
                count += 1
    print(f"{count} findings")
    sys.exit(count > 0)


if __name__ == "__main__":
    main()
