"""How byte-level vocabularies split a text into words, by llama.cpp's names for the ways.

`tokenizer.ggml.pre` in a file names the way. The expressions are those of the models' own
`tokenizer.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastdecode.models.tokenizer_files.classes import QWEN2_WORDS

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class Split:
    """A way to split a text, and what goes with it.

    Attributes:
        pattern: a regular expression for the words; None for GPT-2's.
        digits: whether each digit is a word of its own, before the words are split.
        composed: whether the text is brought into Unicode's form NFC first.
        whole_words: whether a word that is a token is that token, whatever the merges say.
        bos: whether the BOS token begins a text where the file does not say.
    """

    pattern: str | None = None
    digits: bool = False
    composed: bool = False
    whole_words: bool = False
    bos: bool = False

    def pre_tokenizer(self) -> PreTokenizer:
        """The step of a tokenizer that splits texts so."""
        from tokenizers import Regex, pre_tokenizers

        if self.pattern is None:
            words: PreTokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        else:
            words = pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Split(Regex(self.pattern), behavior="isolated"),
                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
                ]
            )
        if not self.digits:
            return words
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])


_GPT2 = Split()
_DIGITS = Split(digits=True)
_LLAMA3_WHOLE = Split(_LLAMA3, whole_words=True, bos=True)
SPLITS = {
    **dict.fromkeys(("default", "gpt-2", "phi-2", "mpt", "olmo"), _GPT2),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell"), _DIGITS),
    **dict.fromkeys(("llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral"), _LLAMA3_WHOLE),
    **dict.fromkeys(("dbrx", "smaug-bpe"), Split(_LLAMA3)),
    "qwen2": Split(QWEN2_WORDS, composed=True),
    "tekken": Split(_TEKKEN, whole_words=True, bos=True),
}
