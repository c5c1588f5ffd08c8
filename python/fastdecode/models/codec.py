"""Text to tokens: a tokenizer with the conventions of the package."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from fastdecode._core import probe_memory
from fastdecode.errors import warn
from fastdecode.forks import cached_property
from fastdecode.models.detokenizer import Detokenizer
from fastdecode.models.pieces import ROOM, Pieces
from fastdecode.models.text_bound import most_bytes
from fastdecode.options.prompts import Given

# Bytes that a tokenizer takes for each character of a text while it splits it.
_BYTES_OF_CHARACTER = 192
# Characters a token up to which a text is encoded without a look at the longest tokens.
_USUAL_TOKEN = 16


class Joined(NamedTuple):
    """The tokens of a text and of the context before it."""

    context: list[int]
    text: list[int]


class Codec:
    """Encodes texts with a transformers tokenizer, or with one that behaves like it.

    Attributes:
        tokenizer: the tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Use `tokenizer`."""
        self.tokenizer = tokenizer

    @cached_property
    def pieces(self) -> Pieces:
        """The tokens one by one, as bytes and in readable form."""
        return Pieces(self.tokenizer)

    @cached_property
    def detokenizer(self) -> Detokenizer:
        """Turns tokens into text, without special tokens."""
        return Detokenizer(self.tokenizer)

    @cached_property
    def _with_special_tokens(self) -> Detokenizer:
        return Detokenizer(self.tokenizer, skip_special_tokens=False)

    @cached_property
    def _most_bytes(self) -> int | None:
        return most_bytes(self.tokenizer)

    def decoding(self, *, skip_special_tokens: bool) -> Detokenizer:
        """Turns tokens into text, without special tokens or with them."""
        return self.detokenizer if skip_special_tokens else self._with_special_tokens

    def prompts(
        self, prompts: Sequence[Given], *, add_special_tokens: bool = True, name: str = "prompts"
    ) -> list[list[int]]:
        """The tokens of each prompt; token ids are returned unchanged.

        An empty prompt becomes the BOS token.

        Args:
            prompts: texts and lists of token ids.
            add_special_tokens: whether texts get the special tokens that the tokenizer adds by
                itself.
            name: what the caller calls them.

        Raises:
            ValueError: for an empty prompt where the tokenizer has no BOS token.
        """
        ids = self._ids(prompts, name, add_special_tokens=add_special_tokens)
        if all(ids):
            return ids
        bos = getattr(self.tokenizer, "bos_token_id", None)
        if bos is None:
            row = next(row for row, tokens in enumerate(ids) if not tokens)
            raise ValueError(
                f"{name}[{row}] is empty and the tokenizer has no BOS token to begin from; "
                "give at least one token of text"
            )
        return [tokens or [bos] for tokens in ids]

    def plain(self, texts: Sequence[Given]) -> list[list[int]]:
        """The tokens of each text, without special tokens around them; token ids unchanged."""
        return self._ids(texts, "texts", add_special_tokens=False)

    def text(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of `ids`, without tidying up spaces."""
        return self.decoding(skip_special_tokens=skip_special_tokens).decode(ids)

    def around(self, bos: bool | None, eos: bool | None) -> tuple[list[int], list[int]]:
        """The tokens before and after a text that is scored.

        Args:
            bos: whether the BOS token comes first; None is True, with a warning where the tokenizer
                has a chat template.
            eos: whether the EOS token comes last; None as for `bos`.

        Raises:
            ValueError: where the tokenizer lacks a token that is needed.
        """
        left = [name for name, value in (("bos", bos), ("eos", eos)) if value is None]
        if left and getattr(self.tokenizer, "chat_template", None):
            defaults = " and ".join(f"{name}=True" for name in left)
            warn(
                "the tokenizer has a chat template, so its model expects the messages of a "
                f"conversation, while {defaults}, the default, suits models of plain text; give "
                f"{' and '.join(f'{name}=' for name in left)} to choose"
            )
        start = [self.special("bos")] if bos is None or bos else []
        end = [self.special("eos")] if eos is None or eos else []
        return start, end

    def joined(self, contexts: Sequence[str], texts: Sequence[Given]) -> list[Joined]:
        """The tokens of each text after its context, without special tokens around them.

        Texts that are given as token ids keep them, after the tokens of their context alone.

        Context and text are encoded as one text, which is cut where the context ends. A token that
        crosses the border belongs to the text: its probability is that of the rest of the
        context's last word as well.

        Args:
            contexts: the context of each text; an empty one is none.
            texts: the texts.
        """
        pairs = list(zip(contexts, texts, strict=True))
        whole = [context + text if isinstance(text, str) else context for context, text in pairs]
        ids, ends = self._with_ends(whole)
        alone: dict[str, list[int]] = {}
        if ends is None:
            distinct = sorted(set(contexts) - {""})
            alone = dict(zip(distinct, self.plain(distinct), strict=True))
        found = []
        for row, (context, text, tokens) in enumerate(zip(contexts, texts, ids, strict=True)):
            if not isinstance(text, str):
                found.append(Joined(tokens, list(text)))
                continue
            if not context or not text:
                cut = 0 if text else len(tokens)
            elif ends is not None:
                border = len(context)
                cut = next((i for i, end in enumerate(ends[row]) if end > border), len(tokens))
            else:
                # Without the places of tokens: up to the first that the text has changed.
                same = zip(tokens, alone[context], strict=False)
                cut = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], same))
            found.append(Joined(tokens[:cut], tokens[cut:]))
        return found

    def _with_ends(self, texts: Sequence[str]) -> tuple[list[list[int]], list[list[int]] | None]:
        """The tokens of each text, and where each ends in it, if the tokenizer knows that."""
        if not texts or not getattr(self.tokenizer, "is_fast", False):
            return self.plain(texts), None
        names = [f"texts[{row}]" for row in range(len(texts))]
        found = self._encoded(texts, names, add_special_tokens=False, return_offsets_mapping=True)
        return found["input_ids"], [[end for _, end in row] for row in found["offset_mapping"]]

    def check_size(self, name: str, text: str, context: int | None) -> None:
        """Refuse a text that cannot fit into `context` tokens before it is encoded.

        Raises:
            ValueError: where its bytes are more than the longest tokens could stand for.
        """
        if context is None or len(text) <= context * _USUAL_TOKEN or self._most_bytes is None:
            return
        size = len(text.encode())
        if size > context * self._most_bytes:
            raise ValueError(
                f"{name} has {size:,} bytes, which cannot fit into a context of {context:,} "
                f"tokens: no token stands for more than {self._most_bytes} bytes; shorten it"
            )

    def special(self, name: str) -> int:
        """The special token `name`, "bos" or "eos".

        Raises:
            ValueError: where the tokenizer has none.
        """
        token = getattr(self.tokenizer, f"{name}_token_id", None)
        if token is None:
            raise ValueError(f"the tokenizer has no {name.upper()} token; use {name}=False")
        return int(token)

    def _ids(
        self, given: Sequence[Given], name: str, *, add_special_tokens: bool
    ) -> list[list[int]]:
        """The tokens of each of `given`, which the caller calls `name`."""
        rows = [row for row, one in enumerate(given) if isinstance(one, str)]
        texts = [one for one in given if isinstance(one, str)]
        # Tokenizers like those of transformers add special tokens unless they are told not to.
        more = {} if add_special_tokens else {"add_special_tokens": False}
        names = [f"{name}[{row}]" for row in rows]
        encoded = iter(self._encoded(texts, names, **more)["input_ids"] if texts else [])
        return [next(encoded) if isinstance(one, str) else list(one) for one in given]

    def _encoded(self, texts: Sequence[str], names: Sequence[str], **keywords: Any) -> Any:
        """What the tokenizer gives for `texts`; an error names the first that it cannot split."""
        probe_memory(ROOM + _BYTES_OF_CHARACTER * sum(map(len, texts)))
        try:
            return self.tokenizer(list(texts), verbose=False, **keywords)
        except Exception as error:
            # The tokenizers package has no exceptions of its own.
            if type(error) is not Exception:
                raise
            for name, text in zip(names, texts, strict=True):
                try:
                    self.tokenizer([text], verbose=False, **keywords)
                except MemoryError:
                    raise
                except Exception as reason:
                    raise ValueError(
                        f"{name} cannot be split into tokens: {reason}; tokenizer.json "
                        "names the unknown token (model.unk_token), which must be in its vocabulary"
                    ) from error
            raise
