"""The decoder: a model and its tokenizer, and everything they can be used for."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self, Unpack, cast, overload

from fastdecode.forks import cached_property
from fastdecode.models.codec import Codec
from fastdecode.models.engines.base import ClosedEngine, Engine
from fastdecode.models.identity.source import Source
from fastdecode.models.loading import open_object, open_pretrained, release_memory
from fastdecode.models.pieces import Pieces
from fastdecode.models.placement import cache_dtype_name, device_name, dtype_name
from fastdecode.options import checks, misspelt
from fastdecode.options.keyword_types import (
    ChatArguments,
    ChatKeywords,
    GenerateArguments,
    StrategyKeywords,
    StreamArguments,
    StreamChatArguments,
)
from fastdecode.options.signatures import documented

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastdecode.models.chat.messages import Conversation, Messages
    from fastdecode.models.identity.fingerprint import Fingerprint
    from fastdecode.options.prompts import IdArray, PromptLike, Prompts
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
    from fastdecode.scoring.texts import TextScorer

# What a `usize` holds on every machine with 64 bits.
_MOST_BYTES = 2**63 - 1


class Decoder:
    """A causal language model and its tokenizer, ready to decode.

    A decoder pickles: one that was loaded by name as what it was loaded from (name, engine, dtype,
    kv_cache_dtype, device, revision, trust_remote_code), so that it is loaded again where it is
    unpickled; one that was made of objects with its model and tokenizer. `copy.copy` shares the
    weights. As a context manager it closes itself.

    Attributes:
        engine: computes logits from tokens.
        tokenizer: a transformers tokenizer, or one that behaves like it.
        model: the transformers model; None where the native engine has read the files by itself.
        name: the name it was loaded from, for a folder its absolute path, or None.
        revision: the hub revision it was loaded from, or None.

    Example:
        >>> decoder = Decoder.from_pretrained("demo")
        >>> decoder.generate("Once upon a time", seed=7, temperature=0.8).texts
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        engine: str = "auto",
        dtype: Any = None,
        kv_cache_dtype: Any = None,
        probe: bool = True,
    ) -> None:
        """Use a transformers model and its tokenizer; the model is put in evaluation mode.

        Args:
            model: the model. The native engine copies its weights once; the model keeps its own,
                and the engine follows their changes. An `Engine` object is used directly.
            tokenizer: its tokenizer.
            engine: as for `from_pretrained`.
            dtype: the format in which the native engine keeps the weights, as for
                `from_pretrained`. None is the model's own dtype, and then a model that is not in
                float32 runs in torch unless engine="native".
            kv_cache_dtype: as for `from_pretrained`.
            probe: whether a model that runs through its own forward pass first computes a few fixed
                tokens in several ways, to find out whether padding, caches and reordered rows
                leave its logits as they are; where they do not, it runs in a slower way that does.
                It costs about nine short passes and no random state. False trusts the model.

        Raises:
            TypeError: where the tokenizer is missing or the model has no head that gives logits.
            ValueError: for an engine or a dtype that this model cannot run with, and for a model
                that is not a causal language model, such as an encoder-decoder.
        """
        checks.boolean("probe", probe)
        loaded = open_object(
            model,
            tokenizer,
            engine=engine,
            dtype=dtype,
            kv_cache_dtype=kv_cache_dtype,
            probe=probe,
        )
        self.engine: Engine = loaded.engine
        self.tokenizer: Any = loaded.tokenizer
        self.model: Any = loaded.model
        self.name: str | None = None
        self.revision: str | None = None
        # What a pickle needs to open it again, besides the objects.
        self._opened_with: dict[str, Any] = {
            "engine": engine,
            "dtype": dtype_name(dtype),
            "kv_cache_dtype": cache_dtype_name(kv_cache_dtype),
            "probe": probe,
        }
        self._source = Source().loaded(loaded.model, loaded.tokenizer)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        *,
        engine: str = "auto",
        device: Any = None,
        dtype: Any = None,
        kv_cache_dtype: Any = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        probe: bool = True,
    ) -> Decoder:
        """Load "demo" (the model in the package), a folder, a GGUF or packed file, or a hub model.

        Args:
            name_or_path: "demo", the path of a folder, of a GGUF file or of a packed file, which
                `fastdecode pack` makes, or a hub name. A model in the local cache is not looked up
                on the hub. GGUF and packed files need the native engine.
            engine: "native" is the Rust engine, for the families that it knows, on the CPU;
                "torch" a lean GPT-2 step in torch where that applies, else the model's own
                forward pass; "transformers" always the latter. "auto" is the first of them that
                can run the model. Files on this machine that "native" can run are read by it,
                without importing torch; `Decoder.model` is then None.
            device: a torch device; None is the CPU.
            dtype: a torch dtype or its name; None is float32, "gguf" for a GGUF file, and for a
                packed file its own format, the only one that it has. With "bfloat16" the native
                engine rounds the weights, and the activations that they are multiplied with, and
                computes all else in float32; with engine="torch" everything is rounded. These need
                the native engine: "bfloat16_weights" (the weights alone are rounded), "int8" (8-bit
                weights with a scale for each output), "int4" (4-bit weights with a scale for each
                output and 32 inputs), and "gguf", which keeps weights as they are in a GGUF file:
                Q4_0, Q4_1, Q5_0, IQ4_NL, Q8_0 and what is not quantised without loss, and other
                quantisations rounded to 8 bits with a scale for each output and 32 inputs. Of such
                a file, "int8" and "int4" convert the weights that are not stored with as few bits.
            kv_cache_dtype: the format in which the native engine keeps the keys and values of the
                tokens so far: "float32", "bfloat16" (half the memory) or "int8" (about a quarter,
                with a scale for each head and token). None is float32. The smaller formats make
                steps faster where texts are long or many, and change the logits a little.
            revision: a hub revision.
            trust_remote_code: whether to run the Python code that the model's folder or repository
                brings with it, for architectures that transformers does not have. That code can do
                whatever you can do, so pass True only for a model that you trust, at a revision
                that you have read. No saved run and no other file can switch this on.
            probe: whether a model that runs through its own forward pass is probed first, as for
                `Decoder`.

        Raises:
            TypeError: where `name_or_path` is neither a string nor a path.
            ValueError: for an unknown model, an unreachable hub, damaged weights, an engine, device
                or dtype that the model cannot run with, and for a model that is not a causal
                language model. A device or dtype that does not exist is refused before anything is
                loaded.
        """
        if isinstance(name_or_path, str) and not name_or_path:
            raise ValueError(
                "name_or_path is empty; give a folder with a model, a .gguf file, a hub name, or "
                '"demo"'
            )
        name = checks.path("name_or_path", name_or_path)
        trusted = checks.boolean("trust_remote_code", trust_remote_code)
        checks.boolean("probe", probe)
        if revision is not None:
            checks.string("revision", revision)
        # Before the files are read, so that a change while they are is noticed.
        source = Source(name, revision)
        loaded = open_pretrained(
            name,
            engine=engine,
            device=device,
            dtype=dtype,
            kv_cache_dtype=kv_cache_dtype,
            revision=revision,
            trust_remote_code=trusted,
            probe=probe,
        )
        decoder = cls(loaded.engine, loaded.tokenizer)
        decoder.model, decoder.name, decoder.revision = loaded.model, source.name, revision
        decoder._source = source.loaded(loaded.model, loaded.tokenizer)
        decoder._opened_with = {
            # Another process may have another working directory.
            "name_or_path": source.name,
            "engine": engine,
            "device": device_name(device),
            "dtype": dtype_name(dtype),
            "kv_cache_dtype": cache_dtype_name(kv_cache_dtype),
            "revision": revision,
            "trust_remote_code": trusted,
            "probe": probe,
        }
        return decoder

    def __repr__(self) -> str:
        """The model, its engine and dtype."""
        if self.closed:
            return f"Decoder({self.name!r}, closed)" if self.name else "Decoder(closed)"
        name = self.name or type(self.model).__name__
        return f"Decoder({name!r}, engine={self.engine.name!r}, dtype={self.engine.dtype!r})"

    def close(self) -> None:
        """Release the model's weights; the decoder cannot be used any more.

        A call that is still running keeps them until it ends, and a model object that was given to
        `Decoder` is kept by whoever holds it. Closing twice does nothing.
        """
        self.engine = cast(Engine, ClosedEngine())
        self.model = None
        release_memory()

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return isinstance(self.engine, ClosedEngine)

    def __enter__(self) -> Self:
        """Itself, for a `with` statement."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def __copy__(self) -> Self:
        """A decoder that shares engine, model and tokenizer with this one."""
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        """What to load again, or model and tokenizer.

        Raises:
            TypeError: where the model or the tokenizer, which the caller made, cannot be pickled.
            ValueError: where the decoder is closed.
        """
        if self.closed:
            raise ValueError("this decoder is closed, so there is nothing to pickle")
        if "name_or_path" in self._opened_with:
            return _load, (type(self), self._opened_with)
        parts = {"model": self.engine if self.model is None else self.model}
        parts["tokenizer"] = self.tokenizer
        pickled = {}
        for what, part in parts.items():
            try:
                pickled[what] = pickle.dumps(part, protocol=pickle.HIGHEST_PROTOCOL)
            except MemoryError:
                raise
            except Exception as error:
                raise TypeError(
                    f"this decoder cannot be pickled, because its {what}, a "
                    f"{type(part).__name__}, cannot ({error}); load it by name in each process, "
                    "with Decoder.from_pretrained"
                ) from error
        return _remake, (type(self), pickled, self._opened_with)

    def fingerprint(self, *, exact: bool = False) -> Fingerprint:
        """What the model and its tokenizer are, by their contents; see `fastdecode.fingerprint`.

        Args:
            exact: read all values of the weights, not a sample of each tensor.

        Raises:
            ValueError: where the files, or the parameters of the model, have changed since they
                were loaded, so that they do not tell what this decoder runs.
            OSError: where a file cannot be read.
        """
        return self._source.fingerprint(exact=checks.boolean("exact", exact))

    def keep_prefixes(self, nbytes: int) -> None:
        """Keep the KV cache of the prompts used last, for prompts that begin with the same tokens.

        Where prompts repeat instructions, examples, a document or a conversation, only what is new
        in them is then computed. No result depends on it: a token's keys and values are a function
        of the tokens up to it, to the last bit. Prompts that are generated from together, and that
        have at least 64 tokens in common at the beginning, also have these computed once.

        `generate`, `stream`, `chat` and `next_token` use what is kept; `score` and what is built on
        it needs the logits after every token, and computes them.

        Args:
            nbytes: the most bytes to keep, least recently used prompts going first; what several
                prompts share counts for each. 0, which is the default of a new decoder, keeps
                nothing and gives back what is kept.

        Raises:
            TypeError: where `nbytes` is not an integer.
            ValueError: where it is negative, and on engines other than the native one: their
                results may depend on how a prompt is divided.

        Example:
            >>> decoder.keep_prefixes(256 * 2**20)
        """
        number = checks.integer("nbytes", nbytes, 0, _MOST_BYTES)
        keep = getattr(self.engine, "keep_prefixes", None)
        if keep is None:
            raise ValueError(
                f"the engine {self.engine.name!r} cannot keep prefixes; the native engine can "
                '(engine="native")'
            )
        keep(number)

    def is_current(self) -> bool:
        """Whether the files that it was loaded from are as they were; they are not read."""
        return self._source.is_current()

    def identity(self, *, exact: bool = False) -> dict[str, Any]:
        """What saved runs record of the model: its fingerprint and its number format's definition.

        Args:
            exact: as for `fingerprint`.

        Raises:
            ValueError: as for `fingerprint`.
            OSError: as for `fingerprint`.
        """
        return self._identify()(exact=checks.boolean("exact", exact))

    def _identify(self) -> partial[dict[str, Any]]:
        """`identity`, to be computed later, of the model as it is now."""
        return partial(self._source.now().identity, getattr(self.engine, "definition", None))

    @cached_property
    def codec(self) -> Codec:
        """Turns texts into tokens, with the conventions of the package."""
        return Codec(self.tokenizer)

    @property
    def pieces(self) -> Pieces:
        """The tokens one by one, as bytes and in readable form."""
        return self.codec.pieces

    @property
    def vocabulary(self) -> Vocabulary:
        """All tokens of the tokenizer; a slice of it shows ids, pieces and bytes."""
        from fastdecode.results.tokens import Vocabulary

        return Vocabulary(self.pieces)

    @property
    def _scorer(self) -> TextScorer:
        from fastdecode.scoring.texts import TextScorer

        return TextScorer(self.engine, self.codec)

    @overload
    def encode(  # type: ignore[overload-overlap]
        self, text: str, *, add_special_tokens: bool = ...
    ) -> list[int]: ...
    @overload
    def encode(self, text: Sequence[str], *, add_special_tokens: bool = ...) -> list[list[int]]: ...
    def encode(
        self, text: str | Sequence[str], *, add_special_tokens: bool = True
    ) -> list[int] | list[list[int]]:
        """The token ids of a prompt.

        Args:
            text: a text, or several. An empty one becomes the tokenizer's BOS token.
            add_special_tokens: whether to add the special tokens that the tokenizer adds by itself,
                such as a BOS token.

        Returns:
            A list of ids, or a list of lists for several texts.

        Raises:
            TypeError: for anything but strings.
            ValueError: for an empty text where the tokenizer has no BOS token.
        """
        checks.boolean("add_special_tokens", add_special_tokens)
        texts = checks.prompts(text, "text")
        ids = self.codec.prompts(texts, add_special_tokens=add_special_tokens, name="text")
        return ids[0] if isinstance(text, str) else ids

    @overload
    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = ...) -> str: ...
    @overload
    def decode(
        self, ids: Sequence[Sequence[int]] | Sequence[IdArray], *, skip_special_tokens: bool = ...
    ) -> list[str]: ...
    @overload
    def decode(self, ids: IdArray, *, skip_special_tokens: bool = ...) -> Any: ...
    def decode(self, ids: Any, *, skip_special_tokens: bool = True) -> str | list[str]:
        """The text of token ids, without tidying up spaces.

        Args:
            ids: a list of token ids, or several; also arrays of one or two dimensions.
            skip_special_tokens: whether to leave special tokens out.

        Returns:
            A string, or a list of strings for several lists.

        Raises:
            TypeError: for anything but integers.
            ValueError: for a token id that neither the model nor the tokenizer has.
        """
        from fastdecode.scoring.rows import decoded

        return decoded(self.engine, self.codec, ids, skip_special_tokens)

    @overload
    def logits(  # type: ignore[overload-overlap]
        self, text: str | Sequence[int], *, add_special_tokens: bool = ...
    ) -> NDArray[np.float32]: ...
    @overload
    def logits(
        self, text: Sequence[PromptLike], *, add_special_tokens: bool = ...
    ) -> list[NDArray[np.float32]]: ...
    @overload
    def logits(self, text: IdArray, *, add_special_tokens: bool = ...) -> Any: ...
    def logits(self, text: Any, *, add_special_tokens: bool = True) -> Any:
        """The logits after every token of a text: row i scores what follows tokens 0 to i.

        Args:
            text: a text or the token ids of one, at most the model's context long; or several,
                as for `generate`.
            add_special_tokens: whether a text gets the special tokens that the tokenizer adds by
                itself, as for `encode`.

        Returns:
            An array of shape (tokens, vocab), float32, which the caller may change; a list of such
            arrays for several texts. Each takes 4 * tokens * vocab bytes.

        Raises:
            TypeError: for a wrong type.
            ValueError: for a text longer than the context, and for a token id that the model does
                not have.

        Example:
            >>> decoder.logits("See you").shape
        """
        from fastdecode.scoring.rows import logits

        return logits(self.engine, self.codec, text, add_special_tokens)

    @overload
    def log_probs(  # type: ignore[overload-overlap]
        self, text: str | Sequence[int], *, add_special_tokens: bool = ...
    ) -> NDArray[np.float64]: ...
    @overload
    def log_probs(
        self, text: Sequence[PromptLike], *, add_special_tokens: bool = ...
    ) -> list[NDArray[np.float64]]: ...
    @overload
    def log_probs(self, text: IdArray, *, add_special_tokens: bool = ...) -> Any: ...
    def log_probs(self, text: Any, *, add_special_tokens: bool = True) -> Any:
        """The log-probability of every token after every token of a text, in nats.

        They are the log-softmax of `logits`, and the numbers of `score` to the last bit.

        Args:
            text: as for `logits`.
            add_special_tokens: as for `logits`.

        Returns:
            An array of shape (tokens, vocab), float64; a list of such arrays for several texts.

        Raises:
            TypeError: for a wrong type.
            ValueError: as for `logits`.
        """
        from fastdecode.scoring.rows import log_probs

        return log_probs(self.engine, self.codec, text, add_special_tokens)

    def tokens(self, text: PromptLike) -> Tokens:
        """Split `text` into tokens: ids, pieces and bytes. No special token is added.

        Args:
            text: the text, or token ids.

        Raises:
            TypeError: for anything else.
            ValueError: for a token id that the model does not have.
        """
        from fastdecode.options import prompts
        from fastdecode.results.tokens import Token, Tokens

        given = prompts.one(text, self.engine.vocab_size, "text")
        (ids,) = self.codec.plain([given])
        whole = given if isinstance(given, str) else self.codec.text(given)
        return Tokens((Token.of(self.pieces, i) for i in ids), whole)

    @documented(GenerateArguments)
    def generate(self, prompts: Prompts, **arguments: Unpack[GenerateArguments]) -> Generations:
        """Continue each prompt.

        Given the same logits, a token depends on (seed, stream, sample, position) alone, so a
        prompt's result does not depend on the batch or the order, up to the rounding of the forward
        pass, which on the native engine does not depend on them either.

        Args:
            prompts: a string or several; or token ids: a list of integers is one prompt, a list of
                lists several, and so are NumPy arrays and torch tensors of one and of two
                dimensions. An empty string begins at the tokenizer's BOS token; an empty sequence
                gives an empty result.
            **arguments: a strategy by transformers' names: `do_sample`, `temperature`, `top_k`,
                `top_p` and the other parameters of `Sample`; `num_beams` and the other parameters
                of `Beam`. None of them: greedy decoding. `num_beams` above 1: a beam search. A
                parameter that shapes the draw (`temperature` to `top_n_sigma`), or n above 1,
                samples unless do_sample=False; `do_sample=True` adds no hidden top-k
                (transformers adds 50). Penalties and bans apply to the greedy choice as well.

        Returns:
            Generations in the order of the prompts, then of the samples.

        Raises:
            TypeError: for a wrong type or an unknown keyword.
            ValueError: for a bad value, or a prompt without room in the context.
            Interrupted: at Ctrl-C, within one step; its `generations` has the texts so far.
        """
        from fastdecode.decoding.arguments import check_call
        from fastdecode.decoding.generation import generate

        origin = {"model": self.name, "revision": self.revision}
        call = check_call(self.engine, self.codec, prompts, arguments, origin=origin)
        return generate(self.engine, call, arguments.get("progress"), self._identify())

    @documented(StreamArguments)
    def stream(self, prompt: Prompts, **arguments: Unpack[StreamArguments]) -> Iterator[Step]:
        """Yield a `Step` for each token as it is generated; several texts are interleaved.

        The tokens are those of `generate` with the same arguments. A beam search yields the tokens
        of its best sequence, each as soon as every beam, live or finished, begins with it.
        Leaving the iterator stops the work.

        Args:
            prompt: one or several, as for `generate`.
            **arguments: a strategy by transformers' names, as for `generate`.

        Raises:
            TypeError: at the call, not at the first step, for a wrong type or an unknown keyword.
            ValueError: at the call, for a bad value, a prompt without room in the context, or a
                beam search that does not have a single best sequence.
        """
        from fastdecode.decoding.arguments import check_call
        from fastdecode.decoding.generation import stream

        if arguments.get("logprobs") is None:
            arguments["logprobs"] = 0
        call = check_call(
            self.engine, self.codec, prompt, arguments, text_by_step=True, name="prompt"
        )
        return stream(self.engine, call.request)

    @documented(ChatArguments, add_special_tokens=False)
    def chat(self, messages: Messages, **arguments: Unpack[ChatArguments]) -> Generations:
        """Reply to a conversation, written as the model's chat template has it.

        The prompt is that of `chat_prompt`, and the template has written the special tokens, so
        none are added. A reply ends with the end tokens of the model or the tokenizer's EOS token.

        Args:
            messages: the messages so far, each a dictionary such as
                `{"role": "user", "content": "Hello"}`; a string is one message of the user. A
                sequence of conversations is a batch.
            **arguments: a strategy by transformers' names, as for `generate`.

        Returns:
            Generations in the order of the conversations, then of the samples. `text` is the reply,
            `prompt` the conversation as the model has read it.

        Raises:
            TypeError: for a wrong type or an unknown keyword.
            ValueError: for a bad value, a message without role or content, a conversation without
                room in the context, a model without a chat template, and a template that is
                invalid, fails, or refuses the messages; the message names its file and line.
            Interrupted: as for `generate`.

        Example:
            >>> decoder.chat([{"role": "user", "content": "What is the capital of France?"}])
        """
        from fastdecode.models.chat.replies import of_conversations, reply_arguments, split

        template, rest = split(arguments)
        prompts, single = self._chat_prompts(messages, template)
        with of_conversations(single):
            return self.generate(prompts, **reply_arguments(self.engine, self.tokenizer, rest))

    @documented(StreamChatArguments, add_special_tokens=False)
    def stream_chat(
        self, messages: Messages, **arguments: Unpack[StreamChatArguments]
    ) -> Iterator[Step]:
        """Yield a `Step` for each token of the reply to a conversation, as it is generated.

        The tokens are those of `chat` with the same arguments.

        Args:
            messages: one conversation or several, as for `chat`.
            **arguments: a strategy by transformers' names, as for `generate`.

        Raises:
            TypeError: at the call, as for `chat`.
            ValueError: at the call, as for `chat` and `stream`.
        """
        from fastdecode.models.chat.replies import of_conversations, reply_arguments, split

        template, rest = split(arguments)
        prompts, single = self._chat_prompts(messages, template)
        with of_conversations(single):
            return self.stream(prompts, **reply_arguments(self.engine, self.tokenizer, rest))

    @overload
    def chat_prompt(  # type: ignore[overload-overlap]
        self, messages: Conversation, **keywords: Unpack[ChatKeywords]
    ) -> str: ...
    @overload
    def chat_prompt(
        self, messages: Sequence[Conversation], **keywords: Unpack[ChatKeywords]
    ) -> list[str]: ...
    @documented(ChatKeywords)
    def chat_prompt(self, messages: Messages, **keywords: Unpack[ChatKeywords]) -> str | list[str]:
        """The prompt that a conversation becomes by the model's chat template.

        It is the text of transformers' `apply_chat_template(..., tokenize=False)`, and has the
        special tokens that the template writes. So it is encoded without others: with
        `add_special_tokens=False` in `generate`, `stream`, `next_token`, `logits` and `encode`; as
        the `context` of `score` it is anyway.

        A template is a program that comes with the model. It runs in Jinja's sandbox, without
        access to files, and is stopped after 10 seconds of computing, and at 8 million characters
        of text.

        Args:
            messages: one conversation or several, as for `chat`.
            **keywords: how it is written.

        Returns:
            A string; a list of strings for several conversations.

        Raises:
            TypeError: for a wrong type or an unknown keyword.
            ValueError: as for `chat`.
            OSError: where `chat_template` is a file that cannot be read.

        Example:
            >>> prompt = decoder.chat_prompt("What is the capital of France?")
            >>> decoder.next_token(prompt, add_special_tokens=False)
        """
        for name in keywords:
            if name not in ChatKeywords.__annotations__:
                known = ChatKeywords.__annotations__
                raise TypeError(misspelt.of_call("chat_prompt", name, known))
        prompts, single = self._chat_prompts(messages, keywords)
        return prompts[0] if single else prompts

    def _chat_prompts(
        self, messages: Messages, keywords: Mapping[str, Any]
    ) -> tuple[list[str], bool]:
        from fastdecode.models.chat.prompts import prompts

        return prompts(self.tokenizer, messages, **keywords)

    @documented(StrategyKeywords)
    def next_token(
        self,
        prompt: PromptLike,
        k: int = 10,
        *,
        strategy: Strategy | None = None,
        seed: int | None = None,
        add_special_tokens: bool = True,
        **keywords: Unpack[StrategyKeywords],
    ) -> Candidates:
        """The `k` likeliest next tokens after `prompt`, and which of them a strategy keeps.

        Args:
            prompt: a text or token ids; an empty text begins at the tokenizer's BOS token.
            k: the number of candidates, 1 to the size of the vocabulary.
            strategy: `Greedy()` or `Sample(...)`; None: built from the keywords, or the model's
                own distribution where there is none.
            seed: for the draws, 0..2**64-1; `xtc`, which tosses coins before it cuts, needs one.
            add_special_tokens: as for `generate`.
            **keywords: a strategy by transformers' names: `temperature`, `top_k`, `top_p`, ...

        Raises:
            TypeError: for a wrong type or an unknown keyword.
            ValueError: for a bad value, or a prompt without room in the context.
        """
        from fastdecode.scoring.next_token import next_token

        return next_token(
            self.engine,
            self.codec,
            prompt,
            k,
            strategy=strategy,
            seed=seed,
            add_special_tokens=add_special_tokens,
            more=keywords,
        )

    def enumerate_continuations(
        self,
        prompt: PromptLike,
        *,
        max_new_tokens: int,
        min_probability: float,
        eos_token_id: int | Sequence[int] | None = None,
        add_special_tokens: bool = True,
    ) -> Continuations:
        """List every continuation of `prompt` that is at least as likely as `min_probability`.

        Args:
            prompt: the text or token ids to continue.
            max_new_tokens: a continuation is complete with this many tokens, or where it ends.
            min_probability: above 0 and at most 1. Work and memory grow as its inverse.
            eos_token_id: tokens that end a continuation; None: those of the model.
            add_special_tokens: as for `generate`.

        Raises:
            TypeError: for a wrong type.
            ValueError: for a bad value, or a prompt without room in the context.
        """
        from fastdecode.scoring.continuations import continuations

        return continuations(
            self.engine,
            self.codec,
            prompt,
            max_new_tokens=max_new_tokens,
            min_probability=min_probability,
            eos_token_id=eos_token_id,
            add_special_tokens=add_special_tokens,
        )

    def score(
        self,
        texts: Prompts | Generation | Sequence[Generation],
        *,
        context: str | Sequence[str] = "",
        bos: bool | None = None,
        eos: bool | None = None,
        stride: int | None = None,
        alternatives: int = 0,
        progress: bool | None = None,
    ) -> Scores:
        """The log-probability of each text, in nats: sum, mean, token by token, and perplexity.

        Args:
            texts: a string or several; token ids instead of strings, as for `generate`; or
                generations, whose own tokens are scored after their prompts (`bos` and `eos` then
                add nothing).
            context: text before each of them: a condition, which is not scored. One for all texts,
                or a sequence with one for each. Context and text are tokenized as one text, so a
                text may continue a word; a token that crosses the border counts as the text's.
            bos: begin with the tokenizer's BOS token, as a condition. None is True, with a warning
                where the tokenizer has a chat template: the model of a conversation may never
                have seen a text that begins so.
            eos: score the EOS token at the end as well. None is True, with the same warning.
            stride: new tokens of each window, for texts longer than the model's context, which
                are refused without it.
            alternatives: how many of the likeliest tokens to record at each place.
            progress: a progress bar on stderr: True, False, or None for many texts on a terminal.

        Raises:
            TypeError: for a wrong type.
            ValueError: for a text longer than the context, and where the tokenizer lacks the token
                that `bos` or `eos` needs.
        """
        return self._scorer.score(
            texts,
            context=context,
            bos=bos,
            eos=eos,
            stride=stride,
            alternatives=alternatives,
            progress=progress,
        )

    def compare(
        self,
        texts: Sequence[PromptLike],
        *,
        context: str | Sequence[str] = "",
        bos: bool | None = None,
        eos: bool | None = None,
        per_token: bool = False,
        alternatives: int = 3,
    ) -> Comparison:
        """Compare texts: which is likelier, by how many nats, and which token decides it.

        Args:
            texts: two or more, none of them empty.
            context: as for `score`.
            bos: begin with the tokenizer's BOS token, as a condition. None is True, with a warning
                where the tokenizer has a chat template: the model of a conversation may never
                have seen a text that begins so.
            eos: score the EOS token at the end as well. None is True, with the same warning.
            per_token: rank by the mean log-probability of a token, not by the sum.
            alternatives: how many of the likeliest tokens to record at each place.

        Raises:
            TypeError: for a wrong type.
            ValueError: for fewer than two texts, an empty one, or one longer than the context.
        """
        return self._scorer.compare(
            texts, context=context, bos=bos, eos=eos, per_token=per_token, alternatives=alternatives
        )

    def classify(
        self,
        texts: str | Sequence[str],
        labels: Sequence[str],
        *,
        prompts: str | Sequence[str] | Mapping[str, str] | None = None,
        priors: Sequence[float] | Mapping[str, float] | None = None,
        separator: str = " ",
        bos: bool | None = None,
        eos: bool = False,
        progress: bool | None = None,
    ) -> Classification | Classifications:
        """Which label a text belongs to: p(label | text) by Bayes' rule from p(text | label).

        Args:
            texts: a text, or several for `Classifications`; none of them empty.
            labels: two names or more, each once.
            prompts: the text before it for each label: a template with `{label}` in it, a
                sequence in the order of the labels, or a mapping by label. None: "{label}:".
            priors: how likely each label is before the text is read, above zero, in a sequence or
                a mapping; they need not sum to 1. None: all equal.
            separator: between prompt and text, and scored with the text.
            bos: begin with the tokenizer's BOS token, as a condition. None is True, with a warning
                where the tokenizer has a chat template.
            eos: score the EOS token at the end as well.
            progress: a progress bar on stderr: True, False, or None for many texts on a terminal.

        Raises:
            TypeError: for a wrong type.
            ValueError: for labels that are empty, repeated or fewer than two, for prompts or priors
                that do not match them, for an empty text or one longer than the context.
        """
        return self._scorer.classify(
            texts,
            labels,
            prompts=prompts,
            priors=priors,
            separator=separator,
            bos=bos,
            eos=eos,
            progress=progress,
        )

    def surprising(
        self,
        texts: Sequence[PromptLike],
        *,
        context: str | Sequence[str] = "",
        bos: bool | None = None,
        eos: bool | None = None,
        stride: int | None = None,
        alternatives: int = 0,
        progress: bool | None = None,
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

        Raises:
            TypeError: for a wrong type.
            ValueError: for an empty text, and as for `score`.
        """
        return self._scorer.surprising(
            texts,
            context=context,
            bos=bos,
            eos=eos,
            stride=stride,
            alternatives=alternatives,
            progress=progress,
        )


def _load(kind: type[Decoder], opened_with: dict[str, Any]) -> Decoder:
    """A pickled decoder that was loaded by name."""
    return kind.from_pretrained(**opened_with)


def _remake(kind: type[Decoder], pickled: dict[str, bytes], opened_with: dict[str, Any]) -> Decoder:
    """A pickled decoder that was made of objects."""
    parts = {what: pickle.loads(part) for what, part in pickled.items()}
    return kind(**parts, **opened_with)
