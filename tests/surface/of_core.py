"""`fastdecode.core`."""

from __future__ import annotations

import inspect
from typing import Any

from fastdecode import Beam, Sample, core
from hostile import either, function, integer, optional, several

from surface.kinds import IDS, LOGITS_KIND, WORDS, sample
from surface.made import LOGITS, PENALTY, beam_state, decode_state
from surface.target import target


def enter() -> None:
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
