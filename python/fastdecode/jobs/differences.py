"""Differences: where the texts of two runs of the same call first differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from fastdecode import core
from fastdecode.decoder import Decoder
from fastdecode.results.generations import Generation, Generations
from fastdecode.results.scores import one_line


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


def pairs(
    saved: Generations, found: Generations
) -> Iterator[tuple[int, Generation | None, Generation | None]]:
    """Pairs of texts of the same prompt and sample, in order, with the prompt's index.

    Prompts that an interrupted run had not begun are left out, and samples that a saved slice of a
    run does not have.
    """
    mine, theirs = by_prompt(saved), by_prompt(found)
    beams = saved.call["strategy"]["name"] == "beam"
    for index, items in mine.items():
        cut = any(item.finish_reason == "interrupted" for item in items.values())
        extra = theirs.get(index, {}) if beams and not cut else ()
        for sample in sorted({*items, *extra}):
            yield index, items.get(sample), theirs.get(index, {}).get(sample)


def by_prompt(generations: Generations, where: str = "the run") -> dict[int, dict[int, Generation]]:
    """Generations by the index of their prompt and by their sample.

    Args:
        generations: the run.
        where: the file that it was read from, for messages.

    Raises:
        ValueError: where they are not those of the call.
    """
    prompts = generations.call["prompts"]
    found: dict[int, dict[int, Generation]] = {}
    for index, item in enumerate(generations):
        given = prompts[item.prompt_index] if item.prompt_index < len(prompts) else None
        samples = found.setdefault(item.prompt_index, {})
        if given is None or given not in (item.prompt, item.prompt_token_ids):
            raise ValueError(
                f"{where}, generations[{index}]: the prompt {one_line(item.prompt, 40)} is not "
                "among the prompts of the call, or not at this place; the file has been changed"
            )
        if item.sample in samples:
            raise ValueError(
                f"{where}, generations[{index}]: sample {item.sample} of its prompt is there twice"
            )
        samples[item.sample] = item
    return found


def difference(
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
        if p != q and not abs(p - q) <= tolerance:
            token = _token(_shown(decoder, saved.token_ids[step]), saved.token_ids[step])
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
    now: dict[int, float | None] = dict.fromkeys(some)
    context = decoder.engine.context
    if context is None or len(before) < context + 1:
        _, logits = decoder.engine.start([before], [1])
        rows = np.asarray(core.log_softmax(logits[0]))
        now = {token: float(rows[token]) for token in some if token < len(rows)}
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
        saved=None if first is None else _shown(decoder, first),
        found=None if second is None else _shown(decoder, second),
        saved_id=first,
        found_id=second,
        now=(_of(now, first), _of(now, second)),
        then=(_of(then, first), _of(then, second)),
    )


def apart(saved: Generation, found: Generation) -> float | None:
    """The largest difference of log-probabilities, as far as the tokens are the same."""
    if saved.logprobs is None or found.logprobs is None:
        return None
    largest = 0.0
    for a, b, p, q in zip(
        saved.token_ids, found.token_ids, saved.logprobs, found.logprobs, strict=False
    ):
        if a != b:
            break
        largest = max(largest, 0.0 if p == q else abs(p - q))
    return largest


def _of(values: Any, token: int | None) -> float | None:
    return None if token is None else values.get(token)


def _shown(decoder: Decoder, token_id: int) -> str:
    """A token in readable form; the number of one that the model does not have in brackets."""
    known = token_id < decoder.engine.vocab_size
    return decoder.pieces.readable(token_id) if known else f"[{token_id}]"


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
