"""Runs a checked call: all of it for `generate`, token by token for `stream`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from time import perf_counter

from fastdecode._core import check_memory
from fastdecode.decoding.arguments import CheckedCall
from fastdecode.decoding.beam_search import BeamSearch, SettledText
from fastdecode.decoding.loop import Decoding
from fastdecode.decoding.request import Request, Timer
from fastdecode.decoding.sequence import TokenSequence
from fastdecode.display.progress import progress_bar
from fastdecode.errors import Interrupted
from fastdecode.models.engines.base import Engine
from fastdecode.models.environment import environment
from fastdecode.options import checks
from fastdecode.options.strategies import Beam
from fastdecode.results.generations import Generation, Generations, Identify, Stats
from fastdecode.results.step import Step

# The least that a generation takes in memory.
_BYTES_OF_GENERATION = 256


def generate(
    engine: Engine, call: CheckedCall, progress: bool | None, identity: Identify | None = None
) -> Generations:
    """Decode every prompt to its end.

    Args:
        engine: the model.
        call: the checked call.
        progress: whether to show a progress bar; see `progress_bar`.
        identity: computes what a saved run records of the model.

    Raises:
        Interrupted: at Ctrl-C, within one step, with the generations so far.
        MemoryError: at once, where the results could never be held at the same time.
    """
    request = call.request
    total = len(request.prompts) * request.n
    check_memory(min(total * _BYTES_OF_GENERATION, sys.maxsize))
    timer, begun = Timer(), perf_counter()
    done: list[TokenSequence] = []
    interrupted = False
    bar = progress_bar(progress, len(request.prompts), "generate", each=request.n)
    run = _run(engine, call, timer)
    try:
        for sequences in run:
            ended = [sequence for sequence in sequences if sequence.reason is not None]
            done += ended
            if bar is not None and ended:
                bar.update(len(ended))
    except KeyboardInterrupt:
        interrupted = True
        noted = set(map(id, done))
        done += [sequence for sequence in run.in_progress() if id(sequence) not in noted]
    finally:
        if bar is not None:
            bar.close()
    done.sort(key=lambda sequence: (sequence.prompt.index, sequence.sample))
    items = [_generation(sequence, call) for sequence in done]
    count = sum(len(sequence.ids) for sequence in done)
    stats = Stats.of(count, perf_counter() - begun, timer.forward, timer.core)
    generations = Generations(items, stats, call.record, environment(engine), identity)
    if isinstance(run, BeamSearch):
        generations.trees = [tree for _, tree in sorted(run.trees.items())]
    if interrupted:
        raise Interrupted(generations)
    return generations


def finished(engine: Engine, call: CheckedCall) -> Iterator[Generation]:
    """The generations of a checked call, each when it ends."""
    for sequences in _run(engine, call, Timer()):
        for sequence in sequences:
            if sequence.reason is not None:
                yield _generation(sequence, call)


def stream(engine: Engine, request: Request) -> Iterator[Step]:
    """A step for each token; for a beam search, for each token of the settled prefix.

    Raises:
        ValueError: at once, for a beam search that has no single best sequence.
    """
    if isinstance(request.strategy, Beam):
        checks.streamable(request.strategy)
        return _settled_steps(engine, request, request.strategy)
    steps = Decoding(engine, request, Timer())
    return (_step(sequence, request) for sequences in steps for sequence in sequences)


def _run(engine: Engine, call: CheckedCall, timer: Timer) -> BeamSearch | Decoding:
    """The decode of a checked call; iterate over it to run it."""
    request = call.request
    if isinstance(request.strategy, Beam):
        return BeamSearch(engine, request, request.strategy, timer, bool(call.record["trace"]))
    return Decoding(engine, request, timer)


def _settled_steps(engine: Engine, request: Request, beam: Beam) -> Iterator[Step]:
    search = BeamSearch(engine, request, beam, Timer(), trace=False)
    texts = {prompt.index: SettledText(request, prompt) for prompt in request.prompts}
    for ended in search:
        for one in ended:
            yield from texts[one.prompt.index].grow(one.ids, one.logprobs, one.reason)
        for prompt, ids, logprobs in search.settled():
            yield from texts[prompt.index].grow(ids, logprobs, None)


def _generation(sequence: TokenSequence, call: CheckedCall) -> Generation:
    request = call.request
    text = sequence.text(request.detokenizer)
    if sequence.reason is None and sequence.growing is not None:
        # An interrupted sequence still holds back what could have begun a stop string.
        text += sequence.growing.finish()
    # An interrupt may fall between the record of a token's probability and that of the token.
    count = len(sequence.ids)
    return Generation(
        text=text,
        token_ids=sequence.ids,
        prompt=call.texts[sequence.prompt.index],
        logprobs=sequence.logprobs[:count] if request.logprobs is not None else None,
        score=sequence.score,
        inclusion=sequence.inclusion,
        finish_reason=sequence.reason or "interrupted",
        seed=request.seed,
        stream=sequence.prompt.stream,
        sample=sequence.sample,
        alternatives=sequence.alternatives[:count] if request.logprobs else None,
        steps=[_step(sequence, request, i) for i in range(count)] if request.trace else None,
        prompt_index=sequence.prompt.index,
        prompt_token_ids=sequence.prompt.ids,
    )


def _step(sequence: TokenSequence, request: Request, index: int = -1) -> Step:
    """The step of the token at `index`, by default the last one."""
    index %= len(sequence.ids)
    last = index == len(sequence.ids) - 1
    return Step(
        text=sequence.pieces[index] if sequence.pieces else "",
        token_id=sequence.ids[index],
        position=len(sequence.prompt.ids) + index,
        stream=sequence.prompt.stream,
        sample=sequence.sample,
        prompt_index=sequence.prompt.index,
        logprob=sequence.logprobs[index],
        finish_reason=sequence.reason if last else None,
        seed=request.seed,
        alternatives=sequence.alternatives[index] if sequence.alternatives else None,
        trace=sequence.traces[index] if sequence.traces else None,
    )
