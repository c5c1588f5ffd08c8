"""The functions of the package, over any kind of `model`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack, overload

from fastdecode.options.keyword_types import (
    DEFAULT_MODEL,
    GenerateCall,
    ModelArguments,
    NextTokenCall,
    StreamCall,
)
from fastdecode.options.signatures import documented

if TYPE_CHECKING:
    import os

    from fastdecode.decoder import Decoder
    from fastdecode.jobs.replay import Replay
    from fastdecode.models.identity.fingerprint import Fingerprint
    from fastdecode.options.prompts import PromptLike, Prompts
    from fastdecode.options.strategies import Strategy
    from fastdecode.results.candidates import Candidates
    from fastdecode.results.classification import Classification, Classifications
    from fastdecode.results.comparison import Comparison
    from fastdecode.results.continuations import Continuations
    from fastdecode.results.generations import Generation, Generations
    from fastdecode.results.scores import Scores
    from fastdecode.results.step import Step
    from fastdecode.results.surprises import Surprises
    from fastdecode.results.tokens import Tokens, Vocabulary

__all__ = [
    "DEFAULT_MODEL",
    "classify",
    "compare",
    "enumerate_continuations",
    "generate",
    "next_token",
    "replay",
    "score",
    "stream",
    "surprising",
    "tokens",
    "unload",
    "verify",
    "vocabulary",
]


@documented(GenerateCall)
def generate(prompts: Prompts, **arguments: Unpack[GenerateCall]) -> Generations:
    """Continue each prompt.

    Given the same logits, a token depends on (seed, stream, sample, position) alone, so a prompt's
    result does not depend on the batch or the order, up to the rounding of the forward pass, which
    on the native engine does not depend on them either.

    Args:
        prompts: a string or several; or token ids: a list of integers is one prompt, a list of
            lists several, and so are NumPy arrays and torch tensors of one and of two dimensions.
            An empty string begins at the tokenizer's BOS token; an empty sequence gives an empty
            result.
        **arguments: a strategy by transformers' names: `do_sample`, `temperature`, `top_k`, `top_p`
            and the other parameters of `Sample`; `num_beams` and the other parameters of `Beam`.
            None of them: greedy decoding. `num_beams` above 1: a beam search. A parameter that
            shapes the draw (`temperature` to `top_n_sigma`), or n above 1, samples unless
            do_sample=False; `do_sample=True` adds no hidden top-k (transformers adds 50).
            Penalties and bans apply to the greedy choice as well.

    Returns:
        Generations in the order of the prompts, then of the samples.

    Raises:
        TypeError: for a wrong type or an unknown keyword.
        ValueError: for a bad value, a prompt without room in the context, an unknown model.
        Interrupted: at Ctrl-C, within one step; its `generations` has the texts so far.
    """
    decoder, rest = _split(arguments)
    return decoder.generate(prompts, **rest)


@documented(StreamCall)
def stream(prompt: Prompts, **arguments: Unpack[StreamCall]) -> Iterator[Step]:
    """Yield a `Step` for each token as it is generated; several texts are interleaved.

    The tokens are those of `generate` with the same arguments. A beam search yields the tokens of
    its best sequence, each as soon as it is settled: when every beam, live or finished, begins with
    it. Leaving the iterator stops the work.

    Args:
        prompt: one or several, as for `generate`.
        **arguments: a strategy by transformers' names, as for `generate`.

    Returns:
        An iterator of steps. Each step's `text` is what its token completes, which may be empty.

    Raises:
        TypeError: at the call, not at the first step, for a wrong type or an unknown keyword.
        ValueError: at the call, for a bad value, a prompt without room in the context, an unknown
            model, or a beam search that does not have a single best sequence.
    """
    decoder, rest = _split(arguments)
    return decoder.stream(prompt, **rest)


@documented(NextTokenCall)
def next_token(
    prompt: PromptLike,
    k: int = 10,
    *,
    strategy: Strategy | None = None,
    seed: int | None = None,
    add_special_tokens: bool = True,
    **keywords: Unpack[NextTokenCall],
) -> Candidates:
    """The `k` likeliest next tokens after `prompt`, and which of them a strategy keeps.

    The result is a table in a terminal and in a notebook, can be drawn from (`.draw(seed=...)`,
    `.sample(20, seed=...)`), and converts to pandas and polars.

    Args:
        prompt: a text or token ids; an empty text begins at the tokenizer's BOS token.
        k: the number of candidates, 1 to the size of the vocabulary.
        strategy: `Greedy()` or `Sample(...)`: what it cuts is marked, and the probabilities after
            it are shown beside the model's own. None: built from the keywords, or the model's own
            distribution where there is none.
        seed: for the draws; `xtc`, which tosses coins before it cuts, needs one here.
        add_special_tokens: as for `generate`.
        **keywords: a strategy by transformers' names: `temperature`, `top_k`, `top_p`, ...

    Raises:
        TypeError: for a wrong type or an unknown keyword.
        ValueError: for a bad value, or a prompt without room in the context.
    """
    decoder, rest = _split(keywords)
    return decoder.next_token(
        prompt, k, strategy=strategy, seed=seed, add_special_tokens=add_special_tokens, **rest
    )


@documented(ModelArguments)
def enumerate_continuations(
    prompt: PromptLike,
    *,
    max_new_tokens: int,
    min_probability: float,
    eos_token_id: int | Sequence[int] | None = None,
    add_special_tokens: bool = True,
    **source: Unpack[ModelArguments],
) -> Continuations:
    """List every continuation of `prompt` that is at least as likely as `min_probability`.

    Exact, without a beam: a continuation is never likelier than its beginning, so beginnings below
    the bound are dropped and all others are followed, at most `1 / min_probability` at a time.
    `left_out` of the result is the probability of everything that is not listed.

    Args:
        prompt: the text or token ids to continue.
        max_new_tokens: a continuation is complete with this many tokens, or where it ends.
        min_probability: above 0 and at most 1. Work and memory grow as its inverse.
        eos_token_id: tokens that end a continuation; None: those of the model.
        add_special_tokens: as for `generate`.
        **source: the model.

    Raises:
        ValueError: for a bad value, or a prompt without room in the context.
    """
    return _opened("enumerate_continuations", source).enumerate_continuations(
        prompt,
        max_new_tokens=max_new_tokens,
        min_probability=min_probability,
        eos_token_id=eos_token_id,
        add_special_tokens=add_special_tokens,
    )


@documented(ModelArguments)
def score(
    texts: Prompts | Generation | Sequence[Generation],
    *,
    context: str | Sequence[str] = "",
    bos: bool | None = None,
    eos: bool | None = None,
    stride: int | None = None,
    alternatives: int = 0,
    progress: bool | None = None,
    **source: Unpack[ModelArguments],
) -> Scores:
    """The log-probability of each text, in nats: sum, mean, token by token, and perplexity.

    Args:
        texts: a string or several; token ids instead of strings, as for `generate`; or generations,
            whose own tokens are scored after their prompts (`bos` and `eos` then add nothing),
            which gives the numbers that `generate` records with `logprobs`.
        context: text before each of them: a condition, which is not scored. One for all texts, or
            a sequence with one for each. Context and text are tokenized as
            one text; a token that crosses the border counts as the text's.
        bos: begin with the tokenizer's BOS token, as a condition. Without it and without a
            context, the first token has nothing before it and is left out of the sum.
            None is True, with a warning where the tokenizer has a chat template: the model of a
            conversation may never have seen a text that begins so.
        eos: score the EOS token at the end as well. None is True, with the same warning.
        stride: for texts longer than the model's context, which are otherwise refused: they are
            scored in windows of the whole context, each `stride` tokens after the last, so that
            every token but the first ones has at least context - stride tokens before it. A
            smaller stride is more accurate and slower; half the context is usual.
        alternatives: how many of the likeliest tokens to record at each place, shown on hover.
        progress: a progress bar on stderr: True, False, or None for many texts on a terminal.
        **source: the model.

    Raises:
        TypeError: for a wrong type.
        ValueError: for a text longer than the context, and where the tokenizer lacks the token
            that `bos` or `eos` needs.
    """
    return _opened("score", source).score(
        texts,
        context=context,
        bos=bos,
        eos=eos,
        stride=stride,
        alternatives=alternatives,
        progress=progress,
    )


@documented(ModelArguments)
def compare(
    texts: Sequence[PromptLike],
    *,
    context: str | Sequence[str] = "",
    bos: bool | None = None,
    eos: bool | None = None,
    per_token: bool = False,
    alternatives: int = 3,
    **source: Unpack[ModelArguments],
) -> Comparison:
    """Compare texts: which is likelier, by how many nats, and which token decides it.

    Args:
        texts: two or more, none of them empty.
        context: as for `score`.
        bos: as for `score`.
        eos: as for `score`.
        per_token: rank by the mean log-probability of a token, not by the sum, so that a text
            does not lose by being longer.
        alternatives: how many of the likeliest tokens to record at each place, shown on hover.
        **source: the model.

    Raises:
        ValueError: for fewer than two texts, an empty one, or one longer than the context.
    """
    return _opened("compare", source).compare(
        texts, context=context, bos=bos, eos=eos, per_token=per_token, alternatives=alternatives
    )


@overload
def classify(  # type: ignore[overload-overlap]
    text: str,
    labels: Sequence[str],
    *,
    prompts: str | Sequence[str] | Mapping[str, str] | None = ...,
    priors: Sequence[float] | Mapping[str, float] | None = ...,
    separator: str = ...,
    bos: bool | None = ...,
    eos: bool = ...,
    progress: bool | None = ...,
    **source: Unpack[ModelArguments],
) -> Classification: ...
@overload
def classify(
    text: Sequence[str],
    labels: Sequence[str],
    *,
    prompts: str | Sequence[str] | Mapping[str, str] | None = ...,
    priors: Sequence[float] | Mapping[str, float] | None = ...,
    separator: str = ...,
    bos: bool | None = ...,
    eos: bool = ...,
    progress: bool | None = ...,
    **source: Unpack[ModelArguments],
) -> Classifications: ...
@documented(ModelArguments)
def classify(
    text: str | Sequence[str],
    labels: Sequence[str],
    *,
    prompts: str | Sequence[str] | Mapping[str, str] | None = None,
    priors: Sequence[float] | Mapping[str, float] | None = None,
    separator: str = " ",
    bos: bool | None = None,
    eos: bool = False,
    progress: bool | None = None,
    **source: Unpack[ModelArguments],
) -> Classification | Classifications:
    """Which label a text belongs to: p(label | text) by Bayes' rule from p(text | label).

    The model needs no training for it: it gives the probability of the text after each label's
    prompt.

    Args:
        text: a text, or several for `Classifications`; none of them empty.
        labels: two names or more, each once.
        prompts: the text before `text` for each label: a template with `{label}` in it, a
            sequence in the order of the labels, or a mapping by label. None: "{label}:".
        priors: how likely each label is before the text is read, above zero, in a sequence or a
            mapping; they need not sum to 1. None: all equal.
        separator: between prompt and text; it is scored with the text, as most tokenizers keep a
            space with the word after it.
        bos: begin with the tokenizer's BOS token. None is True, with a warning where the tokenizer
            has a chat template.
        eos: score the EOS token at the end as well: the text as a whole, not as a beginning.
        progress: as for `score`.
        **source: the model.

    Raises:
        TypeError: for a wrong type.
        ValueError: for labels that are empty, repeated or fewer than two, for prompts or priors
            that do not match them, for an empty text or one longer than the context.
    """
    # Its scorer, since this function has another name for the texts.
    return _opened("classify", source)._scorer.classify(
        text,
        labels,
        prompts=prompts,
        priors=priors,
        separator=separator,
        bos=bos,
        eos=eos,
        progress=progress,
        name="text",
    )


@documented(ModelArguments)
def surprising(
    texts: Sequence[PromptLike],
    *,
    context: str | Sequence[str] = "",
    bos: bool | None = None,
    eos: bool | None = None,
    stride: int | None = None,
    alternatives: int = 0,
    progress: bool | None = None,
    **source: Unpack[ModelArguments],
) -> Surprises:
    """The texts by their mean surprisal, in nats per token, the most surprising first.

    Args:
        texts: a sequence of texts, none of them empty.
        context: as for `score`.
        bos: as for `score`.
        eos: as for `score`.
        stride: as for `score`.
        alternatives: as for `score`.
        progress: as for `score`.
        **source: the model.

    Raises:
        TypeError: for a wrong type.
        ValueError: for an empty text, and as for `score`.
    """
    return _opened("surprising", source).surprising(
        texts,
        context=context,
        bos=bos,
        eos=eos,
        stride=stride,
        alternatives=alternatives,
        progress=progress,
    )


@documented(ModelArguments)
def tokens(text: PromptLike, **source: Unpack[ModelArguments]) -> Tokens:
    """Split `text` into tokens: ids, pieces and bytes. No special token is added.

    Args:
        text: the text, or token ids.
        **source: the model.

    Raises:
        TypeError: for anything else.
    """
    return _opened("tokens", source).tokens(text)


@documented(ModelArguments)
def vocabulary(**source: Unpack[ModelArguments]) -> Vocabulary:
    """All tokens of the model's tokenizer.

    `vocabulary(model="demo")[100:110]` shows ten of them, and `vocabulary(model="demo")[" king"]`
    is the token with that text.

    Args:
        **source: the model.
    """
    return _opened("vocabulary", source).vocabulary


def unload(model: str | os.PathLike[str] | None = None) -> int:
    """Release models that the functions of this package have loaded by name and keep in memory.

    The functions keep the last three. A call that is still running, such as an unfinished `stream`,
    keeps its model until it ends.

    Args:
        model: the name or folder that was given; None: all of them.

    Returns:
        How many were released.

    Raises:
        TypeError: for anything but a name or a folder; `Decoder.close` releases a decoder.
    """
    from fastdecode.loaded import unload

    return unload(model)


def fingerprint(
    model: Any, tokenizer: Any = None, *, revision: str | None = None, exact: bool = False
) -> Fingerprint:
    """What a model and its tokenizer are, by their contents, whatever their names.

    Saved runs and resumable files record it, so that `verify` can say that the weights differ and
    a run is not resumed with others. It is the same on every machine, for every engine, and for
    every number format that holds the same values; files in safetensors may be divided in another
    way.

    The quick fingerprint takes moments: it reads the names, shapes and 8192 values of each tensor,
    the whole configuration and the whole tokenizer. Training changes all values, so it notices any
    training; a change of a few chosen values it may miss. The exact one reads everything.

    Args:
        model: a hub name, a folder, a file, "demo", a `Decoder`, or a transformers model. Files on
            this machine are not loaded.
        tokenizer: the tokenizer of a transformers model; without it the fingerprint has none.
        revision: for a name of the hub.
        exact: read all values of the weights.

    Raises:
        TypeError: for another kind of model.
        ValueError: for an unknown model or damaged files, and as for `Decoder.fingerprint`.
        OSError: where a file cannot be read.

    Example:
        >>> fastdecode.fingerprint("demo").weights == fastdecode.fingerprint("demo").weights
        True
    """
    from fastdecode.loaded import resolve
    from fastdecode.models.identity.fingerprint import of_objects
    from fastdecode.models.identity.source import Source
    from fastdecode.options import checks

    checks.boolean("exact", exact)
    if revision is not None:
        checks.string("revision", revision)
    if callable(getattr(model, "state_dict", None)):
        return of_objects(model, tokenizer, exact=exact)
    if tokenizer is None and (isinstance(model, str) or hasattr(type(model), "__fspath__")):
        found = Source(checks.path("model", model), revision).fingerprint(exact=exact)
        if found.weights is not None:
            return found
    return resolve(model, tokenizer, revision=revision).fingerprint(exact=exact)


def replay(
    path: str | os.PathLike[str],
    *,
    model: Any = None,
    tokenizer: Any = None,
    trust_remote_code: bool = False,
) -> Generations:
    """Repeat a call saved by `Generations.save`; the result can be compared with `==`.

    It runs on the engine of the original run. Where the file names another model than "demo", a
    line on standard error says which one is loaded, and from where. `verify` reports where the
    two differ. Where the model is another than that of the file, as after new weights were saved in
    its folder, a `UserWarning` names what has changed.

    Args:
        path: the file.
        model: the model, where the call was made with a model object; None: the one it names.
            Other than a `Decoder`, it runs on the engine and with the dtype of the call.
        tokenizer: as for `generate`.
        trust_remote_code: as for `Decoder.from_pretrained`, for the model that `model` names; a
            file never chooses a model whose Python code is run.

    Raises:
        ValueError: where the file is something else (the message names the place), was drawn with
            another generator, or names no model and none is given; for trust_remote_code=True
            without a model.
    """
    from fastdecode.jobs import replay as replays

    return replays.replay(
        path, model=model, tokenizer=tokenizer, trust_remote_code=trust_remote_code
    )


def verify(
    path: str | os.PathLike[str],
    *,
    model: Any = None,
    tokenizer: Any = None,
    engine: str | None = None,
    dtype: Any = None,
    kv_cache_dtype: Any = None,
    trust_remote_code: bool = False,
    tolerance: float = 1e-3,
) -> Replay:
    """Run a saved call again and report whether the result is the same, or where it diverges.

    On the native engine it is the same, whatever the threads and the instruction set. A forward
    pass in torch may round differently with another version or number of threads; where that
    changes a token, the report names the prompt, the sample, the step, both tokens and their
    log-probabilities. Of an interrupted run, the part that was saved is compared. The report also
    says whether the weights, the configuration, the tokenizer and the definition of the number
    format are those of the saved run, or that the file, as one of version 0.1, does not record
    them.

    Args:
        path: a file that `Generations.save` wrote.
        model: as for `replay`.
        tokenizer: as for `generate`.
        engine: another engine than the saved run's; None: the same.
        dtype: another dtype than the saved run's; None: the same.
        kv_cache_dtype: another format of the KV cache than the saved run's; None: the same.
        trust_remote_code: as for `replay`.
        tolerance: how far the log-probabilities of the same token may be apart, in nats, where the
            file has them.

    Raises:
        ValueError: as for `replay`.
    """
    from fastdecode.jobs import replay as replays

    return replays.verify(
        path,
        model=model,
        tokenizer=tokenizer,
        engine=engine,
        dtype=dtype,
        kv_cache_dtype=kv_cache_dtype,
        trust_remote_code=trust_remote_code,
        tolerance=tolerance,
    )


def _split(arguments: Mapping[str, Any]) -> tuple[Decoder, dict[str, Any]]:
    """The decoder that some of the arguments choose, and the other arguments.

    Raises:
        TypeError: for an unknown keyword, before a model is loaded.
    """
    from fastdecode.loaded import resolve
    from fastdecode.options import keywords

    rest = dict(arguments)
    for name in rest:
        if name not in GenerateCall.__annotations__:
            raise TypeError(keywords.unknown(name))
    names = ModelArguments.__annotations__
    source = {"model": DEFAULT_MODEL} | {name: rest.pop(name) for name in names if name in rest}
    return resolve(**source), rest


def _opened(function: str, source: Mapping[str, Any]) -> Decoder:
    """The decoder that the arguments choose.

    Raises:
        TypeError: where they are something else, too.
    """
    for name in source:
        if name not in ModelArguments.__annotations__:
            import inspect

            from fastdecode.options import misspelt

            known = inspect.signature(globals()[function]).parameters
            raise TypeError(misspelt.of_call(function, name, known))
    return _split(source)[0]
