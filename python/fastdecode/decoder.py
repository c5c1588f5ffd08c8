"""The decoder: a model and its tokenizer, with everything that can be asked of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from fastdecode import core
from fastdecode.decoding.beam_search import BeamSearch, SettledText
from fastdecode.decoding.loop import Decoding
from fastdecode.decoding.request import Prompt, Request, Timer
from fastdecode.decoding.sequence import TokenSequence
from fastdecode.display.progress import progress_bar
from fastdecode.errors import Interrupted
from fastdecode.models.engines.base import Engine
from fastdecode.models.environment import environment
from fastdecode.options import checks, keywords
from fastdecode.options.strategies import Beam, Strategy, describe
from fastdecode.reader import Reader
from fastdecode.results.generations import Generation, Generations, Stats
from fastdecode.results.step import Step

if TYPE_CHECKING:
    from fastdecode.results.continuations import Continuations

_DEFAULT_NEW_TOKENS = 20
_MOST_ROWS = 32
_CACHE_BYTES = 2**30


class Decoder(Reader):
    """A causal language model and its tokenizer, ready to decode.

    Example:
        >>> decoder = Decoder.from_pretrained("demo")
        >>> decoder.generate("Once upon a time", seed=7, temperature=0.8).texts
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, engine: str = "auto", dtype: Any = None
    ) -> None:
        """Bring your own transformers model and tokenizer; the model is put in evaluation mode.

        Args:
            model: the model. The native engine copies its weights once; the model keeps its own,
                and its changes are followed.
            tokenizer: its tokenizer.
            engine: as for `from_pretrained`.
            dtype: "float32", "bfloat16" or "int8": what the native engine keeps the weights as.
                None is the model's own dtype, and then a model that is not in float32 runs in
                torch unless engine="native".

        Raises:
            TypeError: where the tokenizer is missing or the model is no causal language model.
            ValueError: for an engine or a dtype that there is not for this model.
        """
        if not callable(getattr(tokenizer, "decode", None)):
            raise TypeError(
                f"tokenizer must be a transformers tokenizer, not {type(tokenizer).__name__}; "
                "a model object needs tokenizer=... beside it"
            )
        if not hasattr(model, "get_output_embeddings") or model.get_output_embeddings() is None:
            raise TypeError(
                f"model must be a transformers causal language model, not {type(model).__name__}"
            )
        from fastdecode.models.engines import open_engine

        self._set(open_engine(model, engine, dtype), tokenizer, model)

    def _set(self, engine: Engine, tokenizer: Any, model: Any) -> None:
        # None where the native engine has read the files by itself, without transformers.
        self.model = model
        self.tokenizer = tokenizer
        self.engine = engine
        self.name: str | None = None
        self.revision: str | None = None

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str,
        *,
        engine: str = "auto",
        device: Any = None,
        dtype: Any = None,
        revision: str | None = None,
    ) -> Decoder:
        """Load "demo" (the model in the package), a folder, or a model of the hub.

        Args:
            name_or_path: which model. A model in the local cache is not looked up on the hub.
            engine: "native" is the Rust engine, for plain GPT-2 on the CPU; "torch" a lean GPT-2
                step in torch where that fits, else the model's own forward pass; "transformers"
                always the latter. "auto" is the first of them that can run what is asked for.
                Files on this machine that "native" can run are read by it, without importing
                torch; `Decoder.model` is then None.
            device: a torch device; None is the CPU.
            dtype: a torch dtype or its name, or "int8"; None is float32. The native engine keeps
                its weights as "float32", "bfloat16" or "int8" and computes in float32, so that
                "bfloat16" rounds the weights alone; with engine="torch" it rounds everything.
                "int8", weights in 8 bits with a scale for each output, is in the native engine
                alone.
            revision: a hub revision.

        Raises:
            ValueError: for an unknown model, an unreachable hub, damaged weights, and an engine or
                dtype that there is not for the model.
        """
        if not isinstance(name_or_path, str):
            raise TypeError(f"name_or_path must be a string, not {type(name_or_path).__name__}")
        from fastdecode.models.checkpoints import load
        from fastdecode.models.engines import dtype_name, prefers_native

        native = prefers_native(engine, device, dtype)
        kept = (dtype_name(dtype) or "float32") if native else None
        if kept is not None:
            decoder = cls._native(name_or_path, revision, kept, required=engine == "native")
            if decoder is not None:
                return decoder
        if kept == "int8":
            dtype = None
        model, tokenizer = load(name_or_path, device=device, dtype=dtype, revision=revision)
        decoder = cls(model, tokenizer, engine=engine, dtype=kept)
        decoder.name, decoder.revision = name_or_path, revision
        return decoder

    @classmethod
    def _native(
        cls, name_or_path: str, revision: str | None, dtype: str, *, required: bool
    ) -> Decoder | None:
        """From files that the native engine can run, or None, or its refusal if `required`."""
        from fastdecode.models.checkpoints import files_of
        from fastdecode.models.engines.native import NativeEngine
        from fastdecode.models.tokenizer import FileTokenizer

        with files_of(name_or_path, revision) as folder:
            if folder is None:
                return None
            try:
                engine = NativeEngine.from_folder(folder, dtype)
                tokenizer = FileTokenizer(folder)
            except ValueError as error:
                # What it refuses transformers may read, or refuse in its own words.
                if required:
                    raise ValueError(f"model={name_or_path!r}: {error}") from error
                return None
        decoder = cls.__new__(cls)
        decoder._set(engine, tokenizer, None)
        decoder.name, decoder.revision = name_or_path, revision
        return decoder

    def __repr__(self) -> str:
        """The model, its engine and dtype."""
        name = self.name or type(self.model).__name__
        return f"Decoder({name!r}, engine={self.engine.name!r}, dtype={self.engine.dtype!r})"

    def generate(
        self,
        prompts: str | Sequence[str],
        *,
        strategy: Strategy | None = None,
        max_new_tokens: int | None = None,
        n: int = 1,
        seed: int | None = None,
        streams: Sequence[int] | None = None,
        stop: str | Sequence[str] | None = None,
        logprobs: int | None = None,
        trace: bool = False,
        logits_processor: Any = None,
        progress: bool | None = None,
        batch_size: int | None = None,
        **more: Any,
    ) -> Generations:
        """Continue each prompt; see `fastdecode.generate`, which has the same arguments."""
        request, texts, call = self._request(
            prompts,
            strategy=strategy,
            max_new_tokens=max_new_tokens,
            n=n,
            seed=seed,
            streams=streams,
            stop=stop,
            logprobs=logprobs,
            trace=trace,
            logits_processor=logits_processor,
            batch_size=batch_size,
            more=more,
        )
        timer, begun = Timer(), perf_counter()
        done: list[TokenSequence] = []
        interrupted = False
        bar = progress_bar(progress, len(request.prompts), "generate", each=request.n)
        strategy = request.strategy
        run = (
            BeamSearch(self.engine, request, strategy, timer, trace)
            if isinstance(strategy, Beam)
            else Decoding(self.engine, request, timer)
        )
        try:
            for rows in run:
                ended = [row for row in rows if row.reason is not None]
                done += ended
                if bar is not None and ended:
                    bar.update(len(ended))
        except KeyboardInterrupt:
            interrupted = True
            noted = set(map(id, done))
            done += [row for row in run.in_progress() if id(row) not in noted]
        finally:
            if bar is not None:
                bar.close()
        done.sort(key=lambda row: (row.prompt.index, row.sample))
        items = [self._generation(row, texts[row.prompt.index], request) for row in done]
        count = sum(len(row.ids) for row in done)
        stats = Stats.of(count, perf_counter() - begun, timer.forward, timer.core)
        generations = Generations(items, stats, call, environment(self.engine))
        if isinstance(run, BeamSearch):
            generations.trees = [tree for _, tree in sorted(run.trees.items())]
        if interrupted:
            raise Interrupted(generations)
        return generations

    def stream(
        self,
        prompt: str | Sequence[str],
        *,
        strategy: Strategy | None = None,
        max_new_tokens: int | None = None,
        n: int = 1,
        seed: int | None = None,
        streams: Sequence[int] | None = None,
        stop: str | Sequence[str] | None = None,
        logprobs: int | None = None,
        trace: bool = False,
        batch_size: int | None = None,
        **more: Any,
    ) -> Iterator[Step]:
        """Yield a `Step` a token; see `fastdecode.stream`, which has the same arguments."""
        request, _, _ = self._request(
            prompt,
            strategy=strategy,
            max_new_tokens=max_new_tokens,
            n=n,
            seed=seed,
            streams=streams,
            stop=stop,
            logprobs=0 if logprobs is None else logprobs,
            trace=trace,
            logits_processor=None,
            batch_size=batch_size,
            more=more,
            text_by_step=True,
        )
        if isinstance(request.strategy, Beam):
            return self._stream_beam(request, request.strategy)
        return (
            _step(row, request) for rows in Decoding(self.engine, request, Timer()) for row in rows
        )

    def _stream_beam(self, request: Request, beam: Beam) -> Iterator[Step]:
        """What is settled of each prompt's best sequence, as soon as it is."""
        checks.streamable(beam)
        return self._settled_steps(
            request, BeamSearch(self.engine, request, beam, Timer(), trace=False)
        )

    def _settled_steps(self, request: Request, search: BeamSearch) -> Iterator[Step]:
        streams = {prompt.index: SettledText(request, prompt) for prompt in request.prompts}
        for ended in search:
            for row in ended:
                yield from streams[row.prompt.index].grow(row.ids, row.logprobs, row.reason)
            for prompt, ids, logprobs in search.settled():
                yield from streams[prompt.index].grow(ids, logprobs, None)

    def enumerate_continuations(
        self,
        prompt: str,
        *,
        max_new_tokens: int,
        min_probability: float,
        eos_token_id: int | Sequence[int] | None = None,
    ) -> Continuations:
        """All likely continuations; see `fastdecode.enumerate_continuations`."""
        if not isinstance(prompt, str):
            raise TypeError(f"prompt must be a string, not {type(prompt).__name__}")
        if isinstance(min_probability, bool) or not isinstance(min_probability, int | float):
            raise TypeError(f"min_probability must be a number, not {min_probability!r}")
        count = checks.integer("max_new_tokens", max_new_tokens, 1)
        vocab = self.engine.vocab_size
        eos = self.engine.eos_ids if eos_token_id is None else checks.eos(eos_token_id, vocab)
        (ids,) = self._tokens([prompt])
        checks.fits([ids], self.engine.context, vocab)
        job = Prompt(0, ids, 0, *self._room(0, len(ids), count, None))
        from fastdecode.decoding.continuation_search import enumerate_continuations

        return enumerate_continuations(
            self.engine, self.tokenizer, prompt, job, float(min_probability), eos
        )

    def _request(
        self,
        prompts: str | Sequence[str],
        *,
        strategy: Strategy | None,
        max_new_tokens: int | None,
        n: int,
        seed: int | None,
        streams: Sequence[int] | None,
        stop: str | Sequence[str] | None,
        logprobs: int | None,
        trace: bool,
        logits_processor: Any,
        batch_size: int | None,
        more: dict[str, Any],
        text_by_step: bool = False,
    ) -> tuple[Request, list[str], dict[str, Any]]:
        """Check every argument and lay out the run; nothing has been computed before this."""
        said = keywords.read(more, strategy, n)
        if logits_processor is not None:
            raise ValueError("logits_processor is not available in this version of fastdecode")
        texts = checks.prompts(prompts)
        if said.n is not None:
            if n != 1:
                raise ValueError("n and num_return_sequences are one thing; give one of the two")
            n = checks.integer("num_return_sequences", said.n, 1, checks.U32)
        n = checks.integer("n", n, 1, checks.U32)
        if said.stop_strings is not None:
            if stop is not None:
                raise ValueError("stop and stop_strings are one thing; give one of the two")
            stop = said.stop_strings
        stops = checks.stops(stop)
        seed = checks.seed(seed)
        chosen_streams = checks.streams(streams, len(texts))
        vocab, context = self.engine.vocab_size, self.engine.context
        if logprobs is not None:
            logprobs = checks.integer("logprobs", logprobs, 0, vocab)
            if logprobs > 0 and isinstance(said.strategy, Beam):
                raise ValueError(
                    f"logprobs={logprobs} asks for alternatives, which a beam search notes with "
                    "trace=True; logprobs=0 gives the log-probability of each token"
                )
        elif trace and not isinstance(said.strategy, Beam):
            logprobs = 0
        eos = (
            self.engine.eos_ids
            if said.eos_token_id is None
            else checks.eos(said.eos_token_id, vocab)
        )
        chosen = self._fitted(said.strategy, eos)
        if max_new_tokens is not None:
            max_new_tokens = checks.integer("max_new_tokens", max_new_tokens, 1)
        if said.max_length is not None:
            checks.integer("max_length", said.max_length, 1)
        ids = self._tokens(texts)
        checks.fits(ids, context, vocab)
        jobs = [
            Prompt(i, tokens, stream, *self._room(i, len(tokens), max_new_tokens, said.max_length))
            for i, (tokens, stream) in enumerate(zip(ids, chosen_streams, strict=True))
        ]
        cache_tokens = None
        if batch_size is None:
            batch_size = _MOST_ROWS
            fit = _CACHE_BYTES // self.engine.bytes_per_token
            if self.engine.joins and not isinstance(chosen, Beam):
                cache_tokens = fit
            else:
                longest = max((job.longest for job in jobs), default=1)
                batch_size = int(min(max(fit // longest, 1), _MOST_ROWS))
        request = Request(
            prompts=jobs,
            n=n,
            strategy=chosen,
            seed=seed,
            batch_size=checks.integer("batch_size", batch_size, 1),
            eos_ids=eos,
            stops=stops,
            logprobs=logprobs,
            tokenizer=self.tokenizer,
            text_by_step=text_by_step,
            # A beam search keeps a tree instead.
            trace=trace and not isinstance(chosen, Beam),
            pieces=self.pieces if trace else None,
            cache_tokens=cache_tokens,
        )
        call = {
            "model": self.name,
            "revision": self.revision,
            "engine": self.engine.name,
            "dtype": self.engine.dtype,
            "prompts": texts,
            "strategy": describe(said.strategy),
            "max_new_tokens": max_new_tokens,
            "max_length": said.max_length,
            "n": n,
            "seed": seed,
            "streams": chosen_streams,
            "stop": list(stops),
            "logprobs": logprobs,
            "trace": trace,
            "batch_size": request.batch_size,
            "eos_token_id": list(eos),
            "rng": core.RNG_VERSION,
        }
        return request, texts, call

    def _room(
        self, row: int, length: int, max_new_tokens: int | None, max_length: int | None
    ) -> tuple[int, str]:
        """How many tokens a prompt of `length` may grow by, and what stops it there."""
        if max_new_tokens is not None or max_length is None:
            limit = _DEFAULT_NEW_TOKENS if max_new_tokens is None else max_new_tokens
        else:
            limit = max_length - length
            if limit < 1:
                raise ValueError(
                    f"prompts[{row}] has {length} tokens, which leaves no room within "
                    f"max_length={max_length}; raise it, or use max_new_tokens"
                )
        context = self.engine.context
        if context is not None and context - length < limit:
            return context - length, "context"
        return limit, "length"

    def _generation(self, row: TokenSequence, prompt: str, request: Request) -> Generation:
        text = row.text(self.tokenizer)
        if row.reason is None and row.cursor is not None and row.cutter is not None:
            # An interrupted row still holds back what could have begun a stop string.
            text += row.cutter.flush() + row.cursor.finish()
        # An interrupt may come between the note of a token's probability and the token.
        count = len(row.ids)
        return Generation(
            text=text,
            token_ids=row.ids,
            prompt=prompt,
            logprobs=row.logprobs[:count] if request.logprobs is not None else None,
            score=row.score,
            inclusion=row.inclusion,
            finish_reason=row.reason or "interrupted",
            seed=request.seed,
            stream=row.prompt.stream,
            sample=row.sample,
            alternatives=row.alternatives[:count] if request.logprobs else None,
            steps=[_step(row, request, i) for i in range(count)] if request.trace else None,
        )


def _step(row: TokenSequence, request: Request, index: int = -1) -> Step:
    """The step of the row's token `index`, the last one if not said otherwise."""
    index %= len(row.ids)
    last = index == len(row.ids) - 1
    return Step(
        text=row.pieces[index] if row.pieces else "",
        token_id=row.ids[index],
        position=len(row.prompt.ids) + index,
        stream=row.prompt.stream,
        sample=row.sample,
        prompt_index=row.prompt.index,
        logprob=row.logprobs[index],
        finish_reason=row.reason if last else None,
        seed=request.seed,
        alternatives=row.alternatives[index] if row.alternatives else None,
        trace=row.traces[index] if row.traces else None,
    )
