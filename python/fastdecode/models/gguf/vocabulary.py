"""Tokenizers of the library `tokenizers` from the vocabulary in a GGUF file."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastdecode._core import GgufFile, probe_memory
from fastdecode.models.gguf.metadata import Metadata
from fastdecode.models.gguf.splits import SPLITS, Split
from fastdecode.models.pieces import ROOM, byte_of_character
from fastdecode.models.tokenizer_files.classes import GEMMA, LLAMA

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.models import BPE

_CONTROL, _USER_DEFINED = 3, 4
# Bytes that the library takes for each token, and for each merge.
_BYTES_OF_TOKEN = 300
_SPACE = "\u2581"
# The special tokens that have a name, and llama.cpp's name of each.
_NAMED = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}
# Tokens that end a text, besides the end-of-sequence token.
_ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the metadata of a GGUF file says about its tokenizer.

    Attributes:
        file: the file, or what it says of its tokenizer.
        tokens: the tokens, by id.
        kinds: llama.cpp's type of each token; empty where the file does not say.
    """

    file: GgufFile | Metadata
    tokens: list[str]
    kinds: list[int]

    @classmethod
    def of(cls, file: GgufFile | Metadata) -> Vocabulary:
        """Read it.

        Raises:
            ValueError: where the file has no vocabulary, or one that contradicts itself.
        """
        tokens = _strings(file, "tokens")
        if tokens is None:
            raise ValueError("it has no tokenizer: tokenizer.ggml.tokens is missing")
        kinds = _value(file, "token_type", [])
        if not isinstance(kinds, list) or (kinds and len(kinds) != len(tokens)):
            raise ValueError(
                f"tokenizer.ggml.token_type must have an entry for each of the {len(tokens)} tokens"
            )
        return cls(file, tokens, kinds)

    def tokenizer(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            ValueError: for a kind of tokenizer that is not known, by its name, and for damage.
        """
        model = _value(self.file, "model", None)
        if model == "gpt2":
            split = self._split()
            found = self._byte_level(split)
            bos = split.bos
        elif model == "llama":
            found = self._gemma() if self._is_gemma() else self._sentencepiece()
            bos = True
        else:
            raise ValueError(
                f"tokenizer.ggml.model is {model!r}; GGUF files are read whose tokenizer is "
                "'gpt2' (byte-level BPE) or 'llama' (SentencePiece)"
            )
        self._add_tokens(found)
        self._surround(found, bos)
        return found

    def special(self, name: str) -> int | None:
        """The id of a special token such as "bos_token", or None."""
        return self._id(_NAMED[name])

    def named_tokens(self) -> dict[str, str]:
        """The special tokens that have a name, such as "bos_token", as text."""
        ids = {name: self.special(name) for name in _NAMED}
        return {name: self.tokens[token] for name, token in ids.items() if token is not None}

    def ends(self) -> tuple[int, ...]:
        """The tokens that end a text."""
        found = (self._id(name) for name in _ENDS)
        return tuple(dict.fromkeys(token for token in found if token is not None))

    def templates(self) -> str | dict[str, str] | None:
        """The chat template, several by name, or None."""
        key = "tokenizer.chat_template"
        found = {"default": self.file[key]} if key in self.file else {}
        names = self.file.get(f"{key}s", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{key}s must be a list of strings")
        found |= {
            name: self.file[f"{key}.{name}"] for name in names if f"{key}.{name}" in self.file
        }
        for name, text in found.items():
            if not isinstance(text, str):
                raise ValueError(f"{key} ({name}) must be a string, not {text!r:.40}")
        return found["default"] if found.keys() == {"default"} else found or None

    def _id(self, name: str) -> int | None:
        found = _value(self.file, name, None)
        if found is None or found in (-1, 2**32 - 1):
            return None
        known = range(len(self.tokens))
        if isinstance(found, bool) or not isinstance(found, int) or found not in known:
            raise ValueError(
                f"tokenizer.ggml.{name} is {found!r:.40}; it must be the id of one of the "
                f"{len(self.tokens)} tokens"
            )
        return found

    def _flag(self, name: str, default: bool) -> bool:
        found = _value(self.file, name, default)
        if not isinstance(found, bool):
            raise ValueError(f"tokenizer.ggml.{name} must be a boolean, not {found!r:.40}")
        return found

    def _split(self) -> Split:
        pre = _value(self.file, "pre", None)
        if pre is None and self._architecture() == "gpt2":
            # Files from before the key existed.
            pre = "gpt-2"
        if pre is None:
            raise ValueError(
                "tokenizer.ggml.pre is missing, which says how texts are split; convert the model "
                "again with a newer llama.cpp"
            )
        if not isinstance(pre, str) or pre not in SPLITS:
            raise ValueError(
                f"tokenizer.ggml.pre is {pre!r:.60}, a way to split texts that fastdecode does not "
                f"know; it knows {', '.join(SPLITS)}"
            )
        return SPLITS[pre]

    def _architecture(self) -> Any:
        return self.file.get("general.architecture")

    def _is_gemma(self) -> bool:
        return str(self._architecture()).startswith("gemma")

    def _byte_level(self, split: Split) -> Tokenizer:
        """Byte-level BPE."""
        from tokenizers import Tokenizer, decoders, normalizers

        merges = self._merges()
        if merges is None:
            raise ValueError("tokenizer.ggml.merges is missing")
        model = _bpe(
            self._spelled(),
            merges,
            continuing_subword_prefix="",
            end_of_word_suffix="",
            fuse_unk=False,
            ignore_merges=split.whole_words,
        )
        found = Tokenizer(model)
        if split.composed:
            found.normalizer = normalizers.NFC()
        found.pre_tokenizer = split.pre_tokenizer()
        found.decoder = decoders.ByteLevel()
        return found

    def _spelled(self) -> dict[str, int]:
        """The tokens in the characters that stand for bytes; those that are matched whole as is."""
        alphabet = byte_of_character()
        if set(alphabet).issuperset("".join(self.tokens)):
            return dict(zip(self.tokens, range(len(self.tokens)), strict=True))
        characters = {byte: character for character, byte in alphabet.items()}
        known = set(alphabet)
        found = {}
        for token, text in enumerate(self.tokens):
            if not known.issuperset(text) and self._kind(token) not in (_CONTROL, _USER_DEFINED):
                text = "".join(characters[byte] for byte in text.encode())
            found[text] = token
        return found

    def _sentencepiece(self) -> Tokenizer:
        """BPE over characters, with bytes for those that have no token."""
        from tokenizers import Tokenizer

        vocabulary = {text: token for token, text in enumerate(self.tokens)}
        merges = self._merges()
        if merges is None:
            scores = _value(self.file, "scores", None)
            numbers = isinstance(scores, list) and all(
                isinstance(x, float) and not math.isnan(x) for x in scores
            )
            if not numbers or len(scores) != len(self.tokens):
                raise ValueError(
                    "tokenizer.ggml.scores must have a number for each of the "
                    f"{len(self.tokens)} tokens, since there are no merges"
                )
            merges = implied_merges(vocabulary, dict(zip(self.tokens, scores, strict=True)))
        found = Tokenizer(_bpe(vocabulary, merges, **LLAMA.model(None)))
        LLAMA.prepare(found, {"add_prefix_space": self._flag("add_space_prefix", True)})
        return found

    def _gemma(self) -> Tokenizer:
        """Gemma's: tokens of several spaces are stored as spaces; scores do not order merges."""
        from tokenizers import Tokenizer

        texts = [text if text.strip(" ") else _SPACE * len(text) for text in self.tokens]
        vocabulary = {text: token for token, text in enumerate(texts)}
        merges = self._merges()
        if merges is None:
            merges = implied_merges(
                vocabulary, {text: -token for text, token in vocabulary.items()}
            )
        unknown = self.special("unk_token")
        model = GEMMA.model(None if unknown is None else texts[unknown])
        found = Tokenizer(_bpe(vocabulary, merges, **model))
        GEMMA.prepare(found, {})
        return found

    def _merges(self) -> list[tuple[str, str]] | None:
        merges = _strings(self.file, "merges")
        if merges is None:
            return None
        pairs: list[Any] = [tuple(merge.split(" ")) for merge in merges]
        if all(map(all, pairs)) and set(map(len, pairs)) <= {2}:
            return pairs
        found = []
        for row, merge in enumerate(merges):
            # A space at the beginning belongs to the first token.
            first, _, second = merge[1:].partition(" ")
            if not second:
                raise ValueError(
                    f"tokenizer.ggml.merges[{row}] is {merge!r:.60}; it must be two tokens with a "
                    "space between them"
                )
            found.append((merge[:1] + first, second))
        return found

    def _kind(self, token: int) -> int | None:
        return self.kinds[token] if self.kinds else None

    def _add_tokens(self, tokenizer: Tokenizer) -> None:
        """Those that are matched whole in a text: special ones, and those that users defined."""
        from tokenizers import AddedToken

        def of_kind(kind: int) -> list[str]:
            return [self.tokens[token] for token, found in enumerate(self.kinds) if found == kind]

        special = dict.fromkeys([*self.named_tokens().values(), *of_kind(_CONTROL)])
        defined = of_kind(_USER_DEFINED)
        # An empty token cannot be matched, nor one that the vocabulary has in another spelling.
        known = {
            text
            for text in (*special, *defined)
            if text and tokenizer.token_to_id(text) is not None
        }
        tokenizer.add_special_tokens(
            [AddedToken(text, normalized=False, special=True) for text in special if text in known]
        )
        tokenizer.add_tokens(
            [
                AddedToken(text, normalized=False, special=False)
                for text in defined
                if text in known and text not in special
            ]
        )

    def _surround(self, tokenizer: Tokenizer, bos: bool) -> None:
        """Put BOS and EOS around each text, as the file or the kind of tokenizer says."""
        from tokenizers.processors import TemplateProcessing

        def added(name: str, default: bool) -> list[tuple[str, int]]:
            token, wanted = self.special(name), self._flag(f"add_{name}", default)
            return [(self.tokens[token], token)] if wanted and token is not None else []

        before, after = added("bos_token", bos), added("eos_token", False)
        if before or after:
            tokenizer.post_processor = TemplateProcessing(
                single=[*(text for text, _ in before), "$A", *(text for text, _ in after)],
                special_tokens=sorted({*before, *after}),
            )


def _bpe(vocabulary: dict[str, int], merges: list[tuple[str, str]], **settings: Any) -> BPE:
    """The model of a tokenizer.

    Raises:
        ValueError: for merges whose parts or result are not tokens.
    """
    from tokenizers.models import BPE

    characters = sum(map(len, vocabulary))
    probe_memory(ROOM + _BYTES_OF_TOKEN * (len(vocabulary) + len(merges)) + 4 * characters)
    try:
        return BPE(vocab=vocabulary, merges=merges, **settings)
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(
            f"tokenizer.ggml.merges do not fit tokenizer.ggml.tokens: {error}"
        ) from error


def implied_merges(vocabulary: dict[str, int], scores: dict[str, float]) -> list[tuple[str, str]]:
    """The merges that lead to each token, the best token first.

    Args:
        vocabulary: the ids of the tokens.
        scores: how good a token is.
    """
    found: list[tuple[float, int, int, str, str]] = []
    # Both parts are tokens: a token of a million characters is not cut at each of them.
    lengths = sorted({len(text) for text in vocabulary if text})
    for text, score in scores.items():
        cuts = lengths[: bisect_left(lengths, len(text))]
        pairs = [(text[:cut], text[cut:]) for cut in cuts]
        pairs = [pair for pair in pairs if pair[0] in vocabulary and pair[1] in vocabulary]
        pairs.sort(key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
        found += [(score, len(first), len(second), first, second) for first, second in pairs]
    found.sort(key=lambda merge: merge[:3], reverse=True)
    return [merge[3:] for merge in found]


def _value(file: GgufFile | Metadata, name: str, default: Any) -> Any:
    return file.get(f"tokenizer.ggml.{name}", default)


def _strings(file: GgufFile | Metadata, name: str) -> list[str] | None:
    found = _value(file, name, None)
    if found is None:
        return None
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise ValueError(f"tokenizer.ggml.{name} must be a list of strings")
    return found
