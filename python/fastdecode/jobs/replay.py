"""Replays: a saved run is run again and compared with what was saved."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastdecode import core
from fastdecode.decoder import Decoder
from fastdecode.decoding.arguments import check_call
from fastdecode.display.terminal import printable, tell
from fastdecode.jobs.differences import Difference, apart, by_prompt, difference, pairs
from fastdecode.jobs.model_changes import changes, uncertain
from fastdecode.loaded import resolve
from fastdecode.models.checkpoints import is_gguf, is_hub_name
from fastdecode.models.identity.fingerprint import is_exact
from fastdecode.models.identity.source import differences, unknown
from fastdecode.models.placement import recorded_dtype
from fastdecode.options import checks
from fastdecode.options.strategies import restore
from fastdecode.results.generations import Generations

_FORMATS = ("engine", "dtype", "kv_cache_dtype")

__all__ = ["Difference", "Replay", "replay", "verify"]


@dataclass(frozen=True, slots=True)
class Replay:
    """A saved run and its repetition.

    Attributes:
        path: the file.
        saved: the generations of the file.
        found: those of this run.
        differences: the first difference of each text that differs, in the order of the texts.
        largest: the largest difference between log-probabilities of the same tokens, in nats;
            None where the file has none.
        environment: the parts of the environment that differ between the runs, by name, as
            (then, now); None for what one of them does not record.
        model: the parts of the model that differ between the runs, as (then, now): fingerprints of
            "weights", "config" and "tokenizer", and the "definition" of the number format.
        note: why the models cannot be compared, or not in all parts; empty where they can be.
    """

    path: str
    saved: Generations
    found: Generations
    differences: list[Difference]
    largest: float | None
    environment: dict[str, tuple[Any, Any]]
    model: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    note: str = ""

    @property
    def same(self) -> bool:
        """Whether every text is the same as the saved one."""
        return not self.differences

    @property
    def first(self) -> Difference | None:
        """The first difference, by prompt and sample; None where there is none."""
        return self.differences[0] if self.differences else None

    def explain(self) -> str:
        """The outcome, the first difference, and how models and environments differ."""
        count = len(self.saved)
        whole = f"{count:,} {'text' if count == 1 else 'texts'}"
        lines = [_sentence(said) for said in changes(self.model, "the saved run")]
        if self.first is None:
            tokens = sum(len(item.token_ids) for item in self.saved)
            lines.append(f"The same: {whole}, {tokens:,} tokens.")
        else:
            lines += [
                f"Not the same: {len(self.differences):,} of {whole}. The first difference:",
                self.first.explain(),
            ]
        if self.largest == 0:
            lines.append("Log-probabilities of the same tokens are the same to the last bit.")
        elif self.largest is not None:
            lines.append(
                f"Log-probabilities of the same tokens differ by at most {self.largest:.2g} nats."
            )
        for name, (then, now) in self.environment.items():
            lines.append(f"{printable(name)}: {_or_unknown(now)} now, {_or_unknown(then)} then.")
        if not self.saved.environment:
            lines.append("The file does not say what it was made with.")
        if self.note:
            lines.append(_sentence(self.note))
        return "\n".join(lines)

    def __repr__(self) -> str:
        """The text of `explain`."""
        return self.explain()


def replay(path: str | os.PathLike[str], **asked: Any) -> Generations:
    """Run a saved call again; `fastdecode.replay` describes the arguments."""
    saved = Generations.load(path)
    decoder, found = _rerun(saved, path, **asked)
    changed = changes(_compared(saved, found, decoder)[0], "the saved run")
    if changed:
        warnings.warn(f"{os.fspath(path)}: {'; '.join(changed)}", stacklevel=3)
    return found


def verify(path: str | os.PathLike[str], *, tolerance: float, **asked: Any) -> Replay:
    """Run a saved call again and compare; `fastdecode.verify` describes the arguments."""
    nats = checks.number("tolerance", tolerance)
    if not nats >= 0:
        raise ValueError(
            f"tolerance must be a number of nats from 0, not {checks.shown(tolerance)}"
        )
    saved = Generations.load(path)
    decoder, found = _rerun(saved, path, **asked)
    differing, largest = [], None
    for place, mine, theirs in pairs(saved, found):
        if mine is not None and theirs is not None:
            gap = apart(mine, theirs)
            largest = gap if largest is None else max(largest, gap or 0.0)
        first = difference(decoder, place, mine, theirs, nats)
        if first is not None:
            differing.append(first)
    then, now = saved.environment, found.environment
    changed, note = _compared(saved, found, decoder)
    return Replay(
        path=os.fspath(path),
        saved=saved,
        found=found,
        differences=differing,
        largest=largest,
        environment={
            name: (then.get(name), now.get(name))
            for name in [*now, *(name for name in then if name not in now)]
            if then and then.get(name) != now.get(name)
        },
        model=changed,
        note=note,
    )


def _rerun(
    saved: Generations,
    path: str | os.PathLike[str],
    *,
    model: Any,
    tokenizer: Any,
    engine: str | None = None,
    dtype: Any = None,
    kv_cache_dtype: Any = None,
    trust_remote_code: bool = False,
) -> tuple[Decoder, Generations]:
    """Run a saved call again, on the model, engine and dtype that it names or on those given.

    Raises:
        ValueError: where it was drawn with another generator, was constrained by a function, has
            arguments that `generate` refuses, or names no model and none is given; where the
            Python code of a model is trusted that the file names.
    """
    if checks.boolean("trust_remote_code", trust_remote_code) and model is None:
        raise ValueError(
            "trust_remote_code=True needs model=... beside it, the model that you trust: a file "
            "must not choose whose code is run"
        )
    if tokenizer is not None and (model is None or isinstance(model, Decoder)):
        raise TypeError(
            f"tokenizer={checks.shown(tokenizer)} goes with a transformers model object, given as "
            "model=...; leave it out here"
        )
    where = os.fspath(path)
    call = dict(saved.call)
    name, revision, rng = call.pop("model"), call.pop("revision"), call.pop("rng")
    # Files of earlier versions name no engine.
    by, kind = call.pop("engine", "auto"), call.pop("dtype")
    source = name if model is None else model
    of_gguf = isinstance(source, str | os.PathLike) and is_gguf(os.fspath(source))
    definition = saved.identity.get("definition")
    kept = {"engine": by, "dtype": recorded_dtype(kind, by, definition, of_gguf=of_gguf)}
    # Where a file names no format, the cache is in float32, or that of an engine in torch.
    cache = call.pop("kv_cache_dtype", None)
    if cache is not None and engine in (None, "auto", "native"):
        kept["kv_cache_dtype"] = cache
    asked = {"engine": engine, "dtype": dtype, "kv_cache_dtype": kv_cache_dtype}
    kept |= {key: value for key, value in asked.items() if value is not None}
    if rng != core.RNG_VERSION:
        raise ValueError(
            f"{where} was drawn with rng={rng!r}, and this version has {core.RNG_VERSION!r}; "
            "replay it with the version of fastdecode that wrote it"
        )
    if model is None and name is None:
        raise ValueError(f"{where} was made with a model object; give it as model=...")
    with _named(f"{where}, call.strategy"):
        strategy = restore(call.pop("strategy"))
    by_prompt(saved, where)
    if model is None and name != "demo":
        _announce(where, str(name), revision)
    if isinstance(model, Decoder):
        decoder = model
    elif model is not None:
        decoder = resolve(model, tokenizer, **kept, trust_remote_code=trust_remote_code)
    elif engine is None and dtype is None and kv_cache_dtype is None:
        with _named(f"{where}, call"):
            decoder = resolve(name, revision=revision, **kept)
    else:
        decoder = resolve(name, revision=revision, **kept)
    arguments = {"strategy": strategy, **call}
    with _named(f"{where}, call"):
        check_call(decoder.engine, decoder.codec, arguments.pop("prompts"), arguments)
    return decoder, decoder.generate(call["prompts"], **arguments)


def _announce(where: str, name: str, revision: str | None) -> None:
    """Say which model a file makes this process load, before it does."""
    if is_gguf(name) or Path(name).is_file():
        source = f"the model in the file {name}"
    elif Path(name).is_dir() or not is_hub_name(name):
        source = f"the model in the folder {name}"
    else:
        source = f"the model {name} of the hub, " + (
            f"revision {revision}" if revision else "newest revision"
        )
    tell(f"note: {where} names {source}, which is loaded now; model=... or --model uses another")


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Let errors about what a file asks for name the file."""
    try:
        yield
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{where}: {error}") from error


def _compared(
    saved: Generations, found: Generations, decoder: Decoder
) -> tuple[dict[str, tuple[Any, Any]], str]:
    """The parts of the models of two runs that differ, and why others cannot be compared."""
    then, now = saved.identity, found.identity
    if not then:
        return {}, "the file records no fingerprint of its model, so models are not compared"
    if is_exact(then.get("weights")):
        now = decoder.identity(exact=True)
    changed = differences(then, now)
    if any(saved.call.get(name) != found.call.get(name) for name in _FORMATS):
        # Another format has another definition, of course; the environments say which it was.
        changed.pop("definition", None)
    reasons = [str(identity["note"]) for identity in (then, now) if "note" in identity]
    missing = unknown(then, now)
    if not reasons and not missing:
        return changed, ""
    return changed, uncertain(
        missing, "; ".join(reasons) or "their fingerprints are of different kinds"
    )


def _sentence(said: str) -> str:
    return f"{said[:1].upper()}{printable(said[1:])}."


def _or_unknown(value: Any) -> str:
    return "unknown" if value is None else printable(str(value))
