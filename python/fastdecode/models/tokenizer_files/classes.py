"""Classes of tokenizers: what transformers makes of a vocabulary, whatever else the files say.

The class without a model of its own takes `tokenizer.json` as it is. The others take the
vocabulary, the merges and the added tokens, and have steps of their own before and after them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_END = "<|endoftext|>"
_SPACE = "\u2581"
QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class TokenizerClass:
    """What a class does by itself; this one takes `tokenizer.json` as it is.

    Attributes:
        special: the special tokens that have a name, where the files do not say.
        pads: whether it has a token for padding of its own, or says that there is none.
        rebuilds: whether it takes no more than the vocabulary and the added tokens of
            `tokenizer.json`.
        older_files: whether it reads `vocab.json` and `merges.txt`.
        keeps_surroundings: whether `tokenizer.json` says which tokens are put around a text.
        adds_special_again: whether it adds its special tokens a second time, as special ones.
        needs_unknown: whether its vocabulary needs a token for what it does not have.
    """

    special: Mapping[str, str] = field(default_factory=dict)
    pads: bool = False
    rebuilds: bool = False
    older_files: bool = False
    keeps_surroundings: bool = True
    adds_special_again: bool = False
    needs_unknown: bool = False

    def model(self, unknown: str | None) -> dict[str, Any]:
        """The settings of its BPE model.

        Args:
            unknown: the token for what the vocabulary does not have.
        """
        return {"unk_token": None, "fuse_unk": False, "byte_fallback": False}

    def prepare(self, tokenizer: Tokenizer, settings: Mapping[str, Any]) -> None:
        """Give a tokenizer the steps of this class before and after the vocabulary."""


@dataclass(frozen=True, slots=True)
class _ByteLevel(TokenizerClass):
    """Byte-level BPE.

    Attributes:
        composed: whether texts are brought into Unicode's form NFC.
        words: a regular expression for the words; None for GPT-2's.
    """

    pads: bool = True
    rebuilds: bool = True
    older_files: bool = True
    composed: bool = False
    words: str | None = None

    def prepare(self, tokenizer: Tokenizer, settings: Mapping[str, Any]) -> None:
        from tokenizers import Regex, decoders, normalizers, pre_tokenizers

        prefix = settings.get("add_prefix_space", False)
        if self.words is None:
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Split(Regex(self.words), behavior="isolated"),
                    pre_tokenizers.ByteLevel(add_prefix_space=bool(prefix), use_regex=False),
                ]
            )
        tokenizer.normalizer = normalizers.NFC() if self.composed else None
        tokenizer.decoder = decoders.ByteLevel()


@dataclass(frozen=True, slots=True)
class _Llama(TokenizerClass):
    """BPE over characters, with tokens for bytes and a sign for spaces."""

    rebuilds: bool = True

    def model(self, unknown: str | None) -> dict[str, Any]:
        return {"unk_token": None, "fuse_unk": True, "byte_fallback": True}

    def prepare(self, tokenizer: Tokenizer, settings: Mapping[str, Any]) -> None:
        from tokenizers import decoders, pre_tokenizers

        prefix = settings.get("add_prefix_space")
        prefix = True if prefix is None else prefix
        # The older way also puts a space after each special token.
        scheme = "always" if settings.get("legacy", False) else "first"
        tokenizer.normalizer = None
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
            replacement=_SPACE, prepend_scheme=scheme if prefix else "never", split=False
        )
        steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
        if prefix:
            steps.append(decoders.Strip(content=" ", left=1))
        tokenizer.decoder = decoders.Sequence(steps)


@dataclass(frozen=True, slots=True)
class _Gemma(TokenizerClass):
    """The same without a space at the beginning of a text."""

    pads: bool = True
    rebuilds: bool = True
    needs_unknown: bool = True

    def model(self, unknown: str | None) -> dict[str, Any]:
        return {"unk_token": unknown, "fuse_unk": True, "byte_fallback": True}

    def prepare(self, tokenizer: Tokenizer, settings: Mapping[str, Any]) -> None:
        from tokenizers import decoders, normalizers, pre_tokenizers

        tokenizer.normalizer = normalizers.Replace(" ", _SPACE)
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
        )


PLAIN = TokenizerClass()
_GPT2 = _ByteLevel(special=dict.fromkeys(("bos_token", "eos_token", "unk_token"), _END))
_GPT_NEOX = _ByteLevel(
    special={**_GPT2.special, "pad_token": "<|padding|>"},
    composed=True,
    keeps_surroundings=False,
)
_QWEN2 = _ByteLevel(
    special=dict.fromkeys(("eos_token", "unk_token", "pad_token"), _END),
    composed=True,
    words=QWEN2_WORDS,
    adds_special_again=True,
)
LLAMA = _Llama(special={"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"})
GEMMA = _Gemma(
    special={f"{name}_token": f"<{name}>" for name in ("unk", "bos", "eos", "pad", "mask")}
)
# By the name of the class of transformers, with or without "Fast".
_CLASSES = {
    "GPT2Tokenizer": _GPT2,
    "GPTNeoXTokenizer": _GPT_NEOX,
    "GemmaTokenizer": GEMMA,
    "LlamaTokenizer": LLAMA,
    "PreTrainedTokenizer": PLAIN,
    "Qwen2Tokenizer": _QWEN2,
    "TokenizersBackend": PLAIN,
}
# The class of a type of models; None where only the files name one.
MODEL_TYPES = {
    "gemma3_text": "GemmaTokenizer",
    "gpt2": "GPT2Tokenizer",
    "gpt_neo": "GPT2Tokenizer",
    "gpt_neox": "GPTNeoXTokenizer",
    "llama": None,
    "mistral": "TokenizersBackend",
    "opt": "GPT2Tokenizer",
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
    "smollm3": None,
}
# Types of models whose files are known to name a wrong class.
_ALWAYS = ("mistral", "qwen2")


def tokenizer_class(
    named: str | None, model_type: str | None, *, byte_level: bool
) -> TokenizerClass | None:
    """The class that `AutoTokenizer` of transformers would take; None where it is not known.

    Args:
        named: the class that the files name.
        model_type: `model_type` of the model's configuration, one of `MODEL_TYPES`, or None.
        byte_level: whether `tokenizer.json` mentions a step "ByteLevel".
    """
    own = MODEL_TYPES.get(model_type or "")
    if model_type in _ALWAYS and own is not None:
        return _CLASSES[own]
    if named is None:
        # Files of the first release have no `model_type`.
        return _GPT2 if model_type is None else _CLASSES[own or "TokenizersBackend"]
    name = named.removesuffix("Fast")
    if name == "LlamaTokenizer" and byte_level:
        return PLAIN
    return _CLASSES.get(name)
