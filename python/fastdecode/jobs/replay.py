"""Replays: a saved run is run again and compared with what was saved."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from fastdecode import core
from fastdecode.decoder import Decoder
from fastdecode.loaded import resolve
from fastdecode.options.strategies import restore
from fastdecode.results.generations import Generation, Generations
from fastdecode.results.scores import one_line

# How far log-probabilities of the same tokens may be apart: ten times what another order of
# additions changes in a float32 forward pass, a hundredth of what another model changes.
TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Difference:
    """Where one text first differs from the one saved.

    Attributes:
        prompt_index: the index of the prompt in the run.
        prompt: the prompt.
        sample: which sample of it, or which sequence of a beam search, from 0.
        kind: "token"; "logprob" (the same tokens, a log-probability beyond the tolerance); "text"
            or "finish_reason" (the same tokens, but another text or reason); "missing" or "extra"
            (a beam search found fewer or more sequences).
        step: the index of the generated token that differs; None where no single one does.
        saved: the saved token at that step, in readable form; None where the saved text had ended.
        found: the token of this run at that step; None where the text found had ended.
        saved_id: the id of `saved`.
        found_id: the id of `found`.
        now: the log-probabilities of `saved` and of `found` in this run, in nats.
        then: the same in the saved run; None for those that were not saved.
        note: for other kinds than "token", what differs, in words.
    """

    prompt_index: int
    prompt: str
    sample: int
    kind: str
    step: int | None = None
    saved: str | None = None
    found: str | None = None
    saved_id: int | None = None
    found_id: int | None = None
    now: tuple[float | None, float | None] = (None, None)
    then: tuple[float | None, float | None] = (None, None)
    note: str = ""

    @property
    def gap(self) -> float | None:
        """How far apart the two tokens are in this run, in nats; None where one has ended."""
        first, second = self.now
        return None if first is None or second is None else abs(first - second)

    def explain(self) -> str:
        """The difference in a sentence or two."""
        place = f"prompts[{self.prompt_index}] {one_line(self.prompt, 40)}, sample {self.sample}"
        if self.step is None:
            return f"{place}: {self.note}."
        place += f", step {self.step}"
        if self.kind != "token":
            return f"{place}: {self.note}."
        said = f"{place}: saved {_token(self.saved, self.saved_id)}, found "
        said += f"{_token(self.found, self.found_id)}."
        numbers = [
            f"{name} {_numbers(self.saved, self.found, values)}"
            for name, values in (("now", self.now), ("then", self.then))
            if values != (None, None)
        ]
        if numbers:
            said += f" Log-probability {'; '.join(numbers)}."
        if self.gap is not None:
            said += f" The two are {self.gap:.3g} nats apart."
        return said


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
    """

    path: str
    saved: Generations
    found: Generations
    differences: list[Difference]
    largest: float | None
    environment: dict[str, tuple[Any, Any]]

    @property
    def same(self) -> bool:
        """Whether every text is the same as the saved one."""
        return not self.differences

    @property
    def first(self) -> Difference | None:
        """The first difference, by prompt and sample; None where there is none."""
        return self.differences[0] if self.differences else None

    def explain(self) -> str:
        """The outcome, the first difference, and how the environments differ."""
        count = len(self.saved)
        whole = f"{count:,} {'text' if count == 1 else 'texts'}"
        if self.first is None:
            tokens = sum(len(item.token_ids) for item in self.saved)
            lines = [f"The same: {whole}, {tokens:,} tokens."]
        else:
            lines = [
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
            lines.append(f"{name}: {_or_unknown(now)} now, {_or_unknown(then)} then.")
        if not self.saved.environment:
            lines.append("The file does not say what it was made with.")
        return "\n".join(lines)

    def __repr__(self) -> str:
        """The text of `explain`."""
        return self.explain()


def rerun(
    saved: Generations,
    path: str | os.PathLike[str],
    *,
    model: Any,
    tokenizer: Any,
    engine: str | None = None,
    dtype: Any = None,
) -> tuple[Decoder, Generations]:
    """Run a saved call again, on the model, engine and dtype that it names or on those given.

    Raises:
        ValueError: where it was drawn with another generator, was constrained by a function, or
            names no model and none is given.
    """
    call = dict(saved.call)
    name, revision, rng = call.pop("model"), call.pop("revision"), call.pop("rng")
    # Files of earlier versions name no engine.
    kept = {"engine": call.pop("engine", "auto"), "dtype": call.pop("dtype")}
    asked = {"engine": engine, "dtype": dtype}
    kept |= {key: value for key, value in asked.items() if value is not None}
    if rng != core.RNG_VERSION:
        raise ValueError(
            f"{path} was drawn with rng={rng!r}, and this version has {core.RNG_VERSION!r}; "
            "replay it with the version of fastdecode that wrote it"
        )
    if model is None and name is None:
        raise ValueError(f"{path} was made with a model object; give it as model=...")
    if isinstance(model, Decoder):
        decoder = model
    elif model is None:
        decoder = resolve(name, revision=revision, **kept)
    else:
        decoder = resolve(model, tokenizer, **kept)
    return decoder, decoder.generate(strategy=restore(call.pop("strategy")), **call)


def verify(path: str | os.PathLike[str], *, tolerance: float, **asked: Any) -> Replay:
    """Run a saved call again and compare; `fastdecode.verify` describes the arguments."""
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not tolerance >= 0:
        raise ValueError(f"tolerance must be a number of nats from 0, not {tolerance!r}")
    saved = Generations.load(path)
    decoder, found = rerun(saved, path, **asked)
    differences, largest = [], None
    for place, mine, theirs in _pairs(saved, found):
        if mine is not None and theirs is not None:
            apart = _apart(mine, theirs)
            largest = apart if largest is None else max(largest, apart or 0.0)
        difference = _difference(decoder, place, mine, theirs, tolerance)
        if difference is not None:
            differences.append(difference)
    then, now = saved.environment, found.environment
    return Replay(
        path=os.fspath(path),
        saved=saved,
        found=found,
        differences=differences,
        largest=largest,
        environment={
            name: (then.get(name), now.get(name))
            for name in [*now, *(name for name in then if name not in now)]
            if then and then.get(name) != now.get(name)
        },
    )


def _pairs(
    saved: Generations, found: Generations
) -> Iterator[tuple[int, Generation | None, Generation | None]]:
    """Pairs of texts of the same prompt and sample, in order, with the prompt's index.

    Prompts that an interrupted run had not begun are left out, and samples that a saved slice of a
    run does not have.
    """
    mine, theirs = _by_prompt(saved), _by_prompt(found)
    beams = saved.call["strategy"]["name"] == "beam"
    for index, items in mine.items():
        cut = any(item.finish_reason == "interrupted" for item in items.values())
        extra = theirs.get(index, {}) if beams and not cut else ()
        for sample in sorted({*items, *extra}):
            yield index, items.get(sample), theirs.get(index, {}).get(sample)


def _by_prompt(generations: Generations) -> dict[int, dict[int, Generation]]:
    """Generations by the index of their prompt and by their sample."""
    prompts = generations.call["prompts"]
    found: dict[int, dict[int, Generation]] = {}
    for item in generations:
        given = prompts[item.prompt_index] if item.prompt_index < len(prompts) else None
        if given not in (item.prompt, item.prompt_token_ids) or given is None:
            raise ValueError(
                f"the prompt {one_line(item.prompt, 40)} of a saved text is not among the "
                "prompts of its call; the file has been changed"
            )
        found.setdefault(item.prompt_index, {})[item.sample] = item
    return found


def _difference(
    decoder: Decoder,
    index: int,
    saved: Generation | None,
    found: Generation | None,
    tolerance: float,
) -> Difference | None:
    """The first difference of two texts, or None."""
    if saved is None or found is None:
        some = saved or found
        if some is None:
            return None
        kind, note = ("missing", "not found") if found is None else ("extra", "found but not saved")
        return Difference(index, some.prompt, some.sample, kind, note=note)
    place = (index, saved.prompt, saved.sample)
    cut = saved.finish_reason == "interrupted"
    theirs = found.token_ids[: len(saved.token_ids)] if cut else found.token_ids
    for step, (a, b) in enumerate(zip_longest(saved.token_ids, theirs)):
        if a != b:
            return _parted(decoder, place, step, saved, found, (a, b))
    for step, (p, q) in enumerate(zip(saved.logprobs or (), found.logprobs or (), strict=False)):
        if not abs(p - q) <= tolerance:
            token = _token(decoder.pieces.readable(saved.token_ids[step]), saved.token_ids[step])
            note = f"log-probability of {token} saved as {p:.6f}, found as {q:.6f}"
            note += f", {abs(p - q):.3g} nats apart"
            return Difference(*place, "logprob", step, note=note)
    alike = found.text.startswith(saved.text) if cut else found.text == saved.text
    if not alike:
        note = f"the same tokens, but text saved {one_line(saved.text)}, found "
        return Difference(*place, "text", note=note + one_line(found.text))
    if not cut and saved.finish_reason != found.finish_reason:
        note = f"ended by {saved.finish_reason!r} when saved, by {found.finish_reason!r} now"
        return Difference(*place, "finish_reason", note=note)
    return None


def _parted(
    decoder: Decoder,
    place: tuple[int, str, int],
    step: int,
    saved: Generation,
    found: Generation,
    ids: tuple[int | None, int | None],
) -> Difference:
    """The difference of two tokens at `step`, with both log-probabilities."""
    some = [token for token in ids if token is not None]
    prompt = saved.prompt_token_ids or decoder.encode(saved.prompt)
    before = prompt + saved.token_ids[:step]
    now = dict.fromkeys(some)
    context = decoder.engine.context
    if context is None or len(before) < context + 1:
        _, logits = decoder.engine.start([before], [1])
        rows = np.asarray(core.log_softmax(logits[0]))
        now = {token: float(rows[token]) for token in some}
    then: dict[int, float] = {}
    if saved.alternatives is not None and step < len(saved.alternatives):
        then |= dict(saved.alternatives[step])
    if ids[0] is not None and saved.logprobs is not None:
        then[ids[0]] = saved.logprobs[step]
    first, second = ids
    return Difference(
        *place,
        "token",
        step,
        saved=None if first is None else decoder.pieces.readable(first),
        found=None if second is None else decoder.pieces.readable(second),
        saved_id=first,
        found_id=second,
        now=(_of(now, first), _of(now, second)),
        then=(_of(then, first), _of(then, second)),
    )


def _apart(saved: Generation, found: Generation) -> float | None:
    """The largest difference of log-probabilities, as far as the tokens are the same."""
    if saved.logprobs is None or found.logprobs is None:
        return None
    largest = 0.0
    for a, b, p, q in zip(
        saved.token_ids, found.token_ids, saved.logprobs, found.logprobs, strict=False
    ):
        if a != b:
            break
        largest = max(largest, abs(p - q))
    return largest


def _of(values: Any, token: int | None) -> float | None:
    return None if token is None else values.get(token)


def _token(shown: str | None, token_id: int | None) -> str:
    return "the end" if token_id is None else f"{shown} (id {token_id})"


def _numbers(
    saved: str | None, found: str | None, values: tuple[float | None, float | None]
) -> str:
    return ", ".join(
        f"{shown} {value:.6f}"
        for shown, value in zip((saved, found), values, strict=True)
        if value is not None
    )


def _or_unknown(value: Any) -> str:
    return "unknown" if value is None else str(value)
