"""The files of a tokenizer, read as transformers reads them for a GPT-2.

Which class of transformers would read the files decides about their meaning. `GPT2Tokenizer` takes
vocabulary and merges alone, and has a way of its own to split texts; the class without a model of
its own takes `tokenizer.json` as it is. Both then add tokens that `tokenizer_config.json` names.
Files that mention anything else are refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastdecode.files.reading import Place, decoded, read_file
from fastdecode.models import strict_json
from fastdecode.models.settings import read_object, special_tokens, tokenizer_settings

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer

# The classes that transformers makes of these names, with or without "Fast".
_GPT2 = "GPT2Tokenizer"
_PLAIN = ("PreTrainedTokenizer", "TokenizersBackend")
_GPT2_SPECIAL = "<|endoftext|>"
# Types of models for which transformers may use another class than the one that the files name.
_OTHER_TOKENIZERS = ("mistral", "qwen2")
_NAMED = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
_READ = (
    "add_bos_token",
    "add_eos_token",
    "add_prefix_space",
    "added_tokens_decoder",
    "additional_special_tokens",
    "extra_special_tokens",
    "split_special_tokens",
    "tokenizer_class",
    *_NAMED,
)
# Settings that change neither the tokens of a text nor the text of tokens.
_WITHOUT_EFFECT = (
    "backend",
    "chat_template",
    "clean_up_tokenization_spaces",
    "errors",
    "is_local",
    "local_files_only",
    "max_len",
    "max_length",
    "model_input_names",
    "model_max_length",
    "name_or_path",
    "pad_to_multiple_of",
    "pad_token_type_id",
    "padding_side",
    "processor_class",
    "special_tokens_map_file",
    "stride",
    "truncation_side",
    "truncation_strategy",
    "use_fast",
    "verbose",
)


class NeedsTransformers(ValueError):
    """Files that are not damaged, and of which only transformers makes a tokenizer."""


class TokenizerFiles:
    """The settings and the vocabulary of a tokenizer in a folder.

    Attributes:
        settings: those of `tokenizer_config.json`, with those of older files.
    """

    def __init__(self, folder: Path) -> None:
        """Read the settings.

        Raises:
            ValueError: where they are damaged; `NeedsTransformers` where they are not.
        """
        self._folder = folder
        self.settings = tokenizer_settings(folder)
        for name in self.settings:
            if name not in _READ and name not in _WITHOUT_EFFECT:
                raise self._refusal(f"the setting {name!r} in tokenizer_config.json")
        self._gpt2 = self._is_gpt2(read_object(folder / "config.json"))
        self._read_older_settings()
        self._declared = self._declared_tokens()
        self._specials = self._special_tokens()

    def tokenizer(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            ValueError: where its files are missing or damaged; `NeedsTransformers` where not.
        """
        path = self._path("tokenizer.json")
        try:
            found = self._from_json() if path.is_file() else self._from_bpe()
            found.encode_special_tokens = bool(self.settings.get("split_special_tokens", False))
            # A tokenizer file may enable padding and truncation.
            found.no_padding()
            found.no_truncation()
        except NeedsTransformers:
            raise
        except Exception as error:
            if str(error).startswith(str(self._folder)):
                raise
            place = str(path if path.is_file() else f"{self._path('merges.txt')} with vocab.json")
            raise ValueError(f"{place}: the tokenizer cannot be read: {error}") from error
        return found

    def special(self, name: str, tokenizer: Tokenizer) -> int | None:
        """The id of a special token such as "bos_token", or None."""
        token = self._specials.get(name)
        return None if token is None else tokenizer.token_to_id(_content(token))

    def named_tokens(self) -> dict[str, str]:
        """The special tokens that have a name, such as "bos_token", as text."""
        return {name: _content(self._specials[name]) for name in _NAMED if name in self._specials}

    def _path(self, name: str) -> Path:
        return self._folder / name

    def _refusal(self, reason: str) -> NeedsTransformers:
        return NeedsTransformers(f"{self._folder}: {reason} needs the tokenizer of transformers")

    def _is_gpt2(self, config: dict[str, Any]) -> bool:
        """Whether transformers would make a `GPT2Tokenizer`, and no plain one."""
        named = self.settings.get("tokenizer_class") or config.get("tokenizer_class")
        if named is None:
            if config.get("model_type", "gpt2") != "gpt2":
                raise self._refusal(f"a model of type {config['model_type']!r}")
            return True
        if config.get("model_type") in _OTHER_TOKENIZERS:
            raise self._refusal(f"a model of type {config['model_type']!r}")
        name = str(named).removesuffix("Fast")
        if name != _GPT2 and name not in _PLAIN:
            raise self._refusal(f"a tokenizer of class {named!r}")
        return name == _GPT2

    def _read_older_settings(self) -> None:
        """The files in which older versions of transformers saved special tokens."""
        if "added_tokens_decoder" in self.settings:
            return
        if self._path("added_tokens.json").is_file():
            raise self._refusal("added_tokens.json")
        for name, value in special_tokens(self._folder).items():
            if name not in _READ:
                raise self._refusal(f"{name!r} in special_tokens_map.json")
            known = isinstance(value, dict) and name in _NAMED
            self.settings[name] = {**value, "__type": "AddedToken"} if known else value

    def _declared_tokens(self) -> dict[int, AddedToken] | None:
        """The tokens that the settings add, by id; None where they do not say."""
        declared = self.settings.get("added_tokens_decoder")
        if declared is None:
            return None
        try:
            return {int(token): _added(value) for token, value in declared.items()}
        except Exception as error:
            raise self._refusal(f"added_tokens_decoder ({error})") from error

    def _special_tokens(self) -> dict[str, str | AddedToken]:
        """The special tokens by name; those without a name are "extra[0]", and so on."""
        extra = self.settings.get("additional_special_tokens")
        extra = self.settings.get("extra_special_tokens") or extra or []
        if not isinstance(extra, list):
            raise self._refusal("extra_special_tokens by name")
        default = _GPT2_SPECIAL if self._gpt2 else None
        values = {
            name: self.settings.get(name, default if name in _NAMED[:3] else None)
            for name in _NAMED
        }
        values |= {f"extra[{place}]": token for place, token in enumerate(extra)}
        found: dict[str, str | AddedToken] = {}
        for name, value in values.items():
            if value is None:
                continue
            if not isinstance(value, str) and not (isinstance(value, dict) and "__type" in value):
                raise self._refusal(f"{name} as {value!r:.40}")
            token = value if isinstance(value, str) else _added(value)
            for known in (self._declared or {}).values():
                if known.content == _content(token) and name in _NAMED:
                    token = known
            found[name] = token
        return found

    def _from_json(self) -> Tokenizer:
        """From `tokenizer.json`."""
        from tokenizers import Tokenizer

        path = self._path("tokenizer.json")
        tokenizer = Tokenizer.from_file(str(path))
        inside = tokenizer.get_added_tokens_decoder()
        added = inside if self._declared is None else self._declared
        if self._gpt2:
            if not _is_plain_bpe(tokenizer.model) or not self._is_complete(inside):
                # GPT2Tokenizer takes the vocabulary and the merges only.
                processor = tokenizer.post_processor
                tokenizer = _from_model(path)
                if processor is not None:
                    tokenizer.post_processor = processor
            self._split_as_gpt2(tokenizer)
        elif tokenizer.padding and "pad_token" not in self.settings:
            # The plain class pads as the file says.
            padding = {"pad_token": tokenizer.padding["pad_token"]}
            self._specials = padding | self._specials
        self._add(tokenizer, added)
        return tokenizer

    def _from_bpe(self) -> Tokenizer:
        """From `vocab.json` and `merges.txt`."""
        from tokenizers import Tokenizer
        from tokenizers.models import BPE

        for name in ("vocab.json", "merges.txt"):
            if not self._path(name).is_file():
                raise FileNotFoundError(f"there is no tokenizer.json and no {name}")
        if not self._gpt2:
            raise self._refusal("a vocabulary without tokenizer.json")
        strict_json.read(self._path("vocab.json"))
        merges = self._path("merges.txt")
        decoded(read_file(merges), Place(str(merges)))
        model = BPE.from_file(str(self._path("vocab.json")), str(self._path("merges.txt")))
        tokenizer = Tokenizer(model)
        self._split_as_gpt2(tokenizer)
        self._add(tokenizer, self._declared or {})
        self._surround(tokenizer)
        return tokenizer

    def _is_complete(self, inside: dict[int, AddedToken]) -> bool:
        """Whether `tokenizer.json` has exactly the added tokens that the settings name."""
        if self._declared is not None and _states(self._declared) != _states(inside):
            return False
        special = {token.content for token in inside.values() if token.special}
        return all(_content(token) in special for token in self._specials.values())

    def _split_as_gpt2(self, tokenizer: Tokenizer) -> None:
        """Split texts as `GPT2Tokenizer` does, whatever the file says."""
        from tokenizers import decoders, pre_tokenizers

        prefix = self.settings.get("add_prefix_space", False)
        tokenizer.normalizer = None
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
        tokenizer.decoder = decoders.ByteLevel()

    def _add(self, tokenizer: Tokenizer, added: dict[int, AddedToken]) -> None:
        """Add the tokens that the tokenizer does not have yet, in the order of transformers."""
        from tokenizers import AddedToken

        tokens: list[str | AddedToken] = [added[token] for token in sorted(added)]
        known = {one.content for one in tokenizer.get_added_tokens_decoder().values()}
        known |= {_content(token) for token in tokens}
        order = [name for name in _NAMED if name in self._specials]
        for name in [*order, *(name for name in self._specials if name not in _NAMED)]:
            special = self._specials[name]
            if _content(special) not in known:
                known.add(_content(special))
                tokens.append(special)
        named = {_content(token) for name, token in self._specials.items() if name in _NAMED}
        for place, token in enumerate(tokens):
            if isinstance(token, str):
                tokens[place] = AddedToken(token, special=True)
            elif token.content in named:
                token.special = True
        if tokens:
            tokenizer.add_tokens(tokens)

    def _surround(self, tokenizer: Tokenizer) -> None:
        """Add BOS and EOS to each text, where the settings say so."""
        from tokenizers.processors import TemplateProcessing

        ids = {name: self.special(name, tokenizer) for name in ("bos_token", "eos_token")}
        used = {
            name: _content(self._specials[name])
            for name, token in ids.items()
            if token is not None and self.settings.get(f"add_{name}", False)
        }
        if used:
            begin, end = used.get("bos_token", ""), used.get("eos_token", "")
            tokenizer.post_processor = TemplateProcessing(
                single=[*filter(None, [begin]), "$A", *filter(None, [end])],
                special_tokens=[(text, ids[name]) for name, text in used.items()],
            )


def _is_plain_bpe(model: Any) -> bool:
    """Whether a model is as `GPT2Tokenizer` makes it."""
    from tokenizers.models import BPE

    return (
        isinstance(model, BPE)
        and model.dropout is None
        and not model.unk_token
        and not model.continuing_subword_prefix
        and not model.end_of_word_suffix
        and not model.fuse_unk
        and not model.byte_fallback
        and not model.ignore_merges
    )


def _from_model(path: Path) -> Tokenizer:
    """A tokenizer of the vocabulary and the merges in a `tokenizer.json`, and nothing else."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE

    model = json.loads(path.read_text("utf-8"))["model"]
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    merges = [(first, second) for first, second in pairs]
    plain = {"dropout": None, "continuing_subword_prefix": "", "end_of_word_suffix": ""}
    return Tokenizer(BPE(vocab=model["vocab"], merges=merges, fuse_unk=False, **plain))


def _added(value: Any) -> AddedToken:
    """An added token from its settings."""
    from tokenizers import AddedToken

    return AddedToken(**{key: item for key, item in value.items() if key != "__type"})


def _content(token: Any) -> str:
    return token if isinstance(token, str) else token.content


def _states(tokens: dict[int, AddedToken]) -> dict[int, Any]:
    return {token: one.__getstate__() for token, one in tokens.items()}
