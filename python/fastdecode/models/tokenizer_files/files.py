"""The settings and the vocabulary of a tokenizer in a folder.

Settings that no class of tokenizers is known to understand are refused, and so are files of older
forms that only transformers converts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastdecode._core import probe_memory
from fastdecode.files.inner import Folder, InnerPath, size_of
from fastdecode.files.reading import Place, decoded, read_file
from fastdecode.models import strict_json
from fastdecode.models.pieces import ROOM
from fastdecode.models.settings import read_object, special_tokens, tokenizer_settings
from fastdecode.models.tokenizer_files.classes import MODEL_TYPES, TokenizerClass, tokenizer_class
from fastdecode.models.tokenizer_files.refusal import NeedsTransformers
from fastdecode.models.tokenizer_files.special import NAMED, SpecialTokens, added, content

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer

_EXTRA = ("additional_special_tokens", "extra_special_tokens")
_READ = (
    "add_bos_token",
    "add_eos_token",
    "add_prefix_space",
    "added_tokens_decoder",
    "legacy",
    "model_specific_special_tokens",
    "split_special_tokens",
    "tokenizer_class",
    *_EXTRA,
    *NAMED,
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
    "response_schema",
    "response_template",
    "sp_model_kwargs",
    "spaces_between_special_tokens",
    "special_tokens_map_file",
    "stride",
    "trim_offsets",
    "truncation_side",
    "truncation_strategy",
    "use_default_system_prompt",
    "use_fast",
    "verbose",
)
# Bytes that the library takes for each byte of a tokenizer's files while it reads them.
_BYTES_OF_BYTE = 16
# Vocabularies of other forms, which transformers takes where there is no tokenizer.json.
_OTHER_FORMS = ("tekken.json", "tokenizer.model", "tiktoken.model")
_TEKKEN = "tekken.json"


def check_room(folder: Folder) -> None:
    """Refuse to read the files of a tokenizer for which there is no memory.

    Raises:
        MemoryError: where the system would not give as much as the library takes.
    """
    paths = (folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt"))
    size = sum(size_of(path) for path in paths if path.is_file())
    probe_memory(ROOM + _BYTES_OF_BYTE * size)


class TokenizerFiles:
    """The files of a tokenizer.

    Attributes:
        settings: those of `tokenizer_config.json`, with those of older files.
    """

    def __init__(self, folder: Folder) -> None:
        """Read the settings.

        Raises:
            ValueError: where they are damaged; `NeedsTransformers` where they are not.
        """
        self._folder = folder
        self.settings = tokenizer_settings(folder)
        for name, value in self.settings.items():
            if name not in _READ and name not in _WITHOUT_EFFECT and not _is_token(name, value):
                raise self._refusal(f"the setting {name!r} in tokenizer_config.json")
        self._class = self._class_of(read_object(folder / "config.json"))
        extra, additional = (self.settings.get(name) for name in reversed(_EXTRA))
        if additional is not None and not extra:
            self.settings[_EXTRA[1]] = self.settings.pop(_EXTRA[0])
        self._read_older_settings()
        self._declared = self._declared_tokens()
        try:
            self._specials = SpecialTokens(self.settings, self._class.special, self._declared)
        except NeedsTransformers as error:
            raise self._refusal(str(error)) from error

    def tokenizer(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            ValueError: where its files are missing or damaged; `NeedsTransformers` where not.
        """
        path = self._path("tokenizer.json")
        check_room(self._folder)
        try:
            found = self._from_json() if path.is_file() else self._from_bpe()
            found.encode_special_tokens = bool(self.settings.get("split_special_tokens", False))
            # A tokenizer file may enable padding and truncation.
            found.no_padding()
            found.no_truncation()
        except (NeedsTransformers, MemoryError):
            raise
        except Exception as error:
            if str(error).startswith(str(self._folder)):
                raise
            place = str(path if path.is_file() else f"{self._path('merges.txt')} with vocab.json")
            raise ValueError(f"{place}: the tokenizer cannot be read: {error}") from error
        return found

    def special(self, name: str, tokenizer: Tokenizer) -> int | None:
        """The id of a special token such as "bos_token", or None."""
        token = self._specials.named.get(name)
        return None if token is None else tokenizer.token_to_id(content(token))

    def named_tokens(self) -> dict[str, str]:
        """The special tokens that have a name, such as "bos_token", as text."""
        return {name: content(token) for name, token in self._specials.named.items()}

    def _path(self, name: str) -> Folder:
        return self._folder / name

    def _refusal(self, reason: str) -> NeedsTransformers:
        return NeedsTransformers(f"{self._folder}: {reason} needs the tokenizer of transformers")

    def _class_of(self, config: Mapping[str, Any]) -> TokenizerClass:
        """The class that transformers would take."""
        named, kind = self.settings.get("tokenizer_class"), config.get("model_type")
        named = named or config.get("tokenizer_class")
        if "model_name" in config:
            raise self._refusal("'model_name' in config.json")
        if kind == "mistral" and self._path(_TEKKEN).exists():
            raise self._refusal(_TEKKEN)
        path = self._path("tokenizer.json")
        if kind is not None and kind not in MODEL_TYPES:
            raise self._refusal(f"a model of type {kind!r}")
        found = None
        if named is None or isinstance(named, str):
            byte_level = path.is_file() and b'"ByteLevel"' in path.read_bytes()
            found = tokenizer_class(named, kind, byte_level=byte_level)
        if found is None:
            raise self._refusal(f"a tokenizer of class {named!r}")
        return found

    def _read_older_settings(self) -> None:
        """The files in which older versions of transformers saved special tokens."""
        if "added_tokens_decoder" in self.settings:
            return
        if self._path("added_tokens.json").is_file():
            raise self._refusal("added_tokens.json")
        for name, value in special_tokens(self._folder).items():
            if name not in (*NAMED, *_EXTRA) or (name == _EXTRA[1] and self.settings.get(name)):
                raise self._refusal(f"{name!r} in special_tokens_map.json")
            if isinstance(value, dict) and name in NAMED:
                self.settings[name] = {**value, "special": True, "__type": "AddedToken"}
            else:
                self.settings[name] = value

    def _declared_tokens(self) -> dict[int, AddedToken] | None:
        """The tokens that the settings add, by id; None where they do not say."""
        declared = self.settings.get("added_tokens_decoder")
        if declared is None:
            return None
        try:
            return {int(token): added(value) for token, value in declared.items()}
        except MemoryError:
            raise
        except Exception as error:
            raise self._refusal(f"added_tokens_decoder ({error})") from error

    def _from_json(self) -> Tokenizer:
        """From `tokenizer.json`."""
        from tokenizers import Tokenizer
        from tokenizers.models import BPE

        path, kind = self._path("tokenizer.json"), self._class
        if isinstance(path, InnerPath):
            tokenizer = Tokenizer.from_buffer(path.read_bytes())
        else:
            tokenizer = Tokenizer.from_file(str(path))
        inside = tokenizer.get_added_tokens_decoder()
        if tokenizer.padding and not kind.pads and "pad_token" not in self.settings:
            # These classes pad as the file says.
            self._specials.add("pad_token", tokenizer.padding["pad_token"])
        if kind.rebuilds:
            if not isinstance(tokenizer.model, BPE):
                raise self._refusal(f"a {type(tokenizer.model).__name__} for this class")
            model = tokenizer.model
            marked = bool(model.continuing_subword_prefix or model.end_of_word_suffix)
            if marked:
                model = BPE(**_vocabulary(path), **self._model())
            else:
                for name, value in self._model().items():
                    setattr(model, name, value)
            if marked or not self._has_added_tokens(tokenizer, inside):
                processor = tokenizer.post_processor
                tokenizer = Tokenizer(model)
                if processor is not None:
                    tokenizer.post_processor = processor
            kind.prepare(tokenizer, self.settings)
            if not kind.keeps_surroundings:
                _surround(tokenizer, {})
        self._specials.add_to(tokenizer, inside if self._declared is None else self._declared)
        if kind.adds_special_again:
            self._specials.add_again_to(tokenizer)
        return tokenizer

    def _from_bpe(self) -> Tokenizer:
        """From `vocab.json` and `merges.txt`."""
        from tokenizers import Tokenizer
        from tokenizers.models import BPE

        for other in sorted(path.name for path in self._folder.iterdir()):
            if any(form in other for form in _OTHER_FORMS):
                raise self._refusal(other)
        for name in ("vocab.json", "merges.txt"):
            if not self._path(name).is_file():
                raise FileNotFoundError(f"there is no tokenizer.json and no {name}")
        if not self._class.older_files:
            raise self._refusal("a vocabulary without tokenizer.json")
        strict_json.read(self._path("vocab.json"))
        merges = self._path("merges.txt")
        decoded(read_file(merges), Place(str(merges)))
        model = BPE.from_file(
            str(self._path("vocab.json")), str(self._path("merges.txt")), **self._model()
        )
        tokenizer = Tokenizer(model)
        self._class.prepare(tokenizer, self.settings)
        self._specials.add_to(tokenizer, self._declared or {})
        if self._class.adds_special_again:
            self._specials.add_again_to(tokenizer)
        used = {}
        for name in ("bos_token", "eos_token"):
            token = self.special(name, tokenizer)
            if token is not None and self.settings.get(f"add_{name}", False):
                used[name] = (content(self._specials.named[name]), token)
        if used:
            _surround(tokenizer, used)
        return tokenizer

    def _model(self) -> dict[str, Any]:
        """The settings of the BPE model of this class."""
        unknown = self._specials.named.get("unk_token")
        model = self._class.model(None if unknown is None else content(unknown))
        if unknown is None and self._class.needs_unknown:
            raise self._refusal("a vocabulary without unk_token")
        return {"dropout": None, "ignore_merges": False, **model}

    def _has_added_tokens(self, tokenizer: Tokenizer, inside: Mapping[int, AddedToken]) -> bool:
        """Whether a tokenizer has the added tokens that the class would give it."""
        # How these are found in a text depends on the normalizer that there was before.
        if tokenizer.normalizer is not None and any(one.normalized for one in inside.values()):
            return False
        if self._declared is not None and _states(self._declared) != _states(inside):
            return False
        special = {token.content for token in inside.values() if token.special}
        return all(content(token) in special for token in self._specials.all())


def _is_token(name: str, value: Any) -> bool:
    """Whether a setting names a special token that only this model has."""
    if not name.endswith("_token") or name.startswith("add_"):
        return False
    return isinstance(value, str)


def _vocabulary(path: Folder) -> dict[str, Any]:
    """The vocabulary and the merges in a `tokenizer.json`."""
    model = json.loads(path.read_text("utf-8"))["model"]
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    return {"vocab": model["vocab"], "merges": [(first, second) for first, second in pairs]}


def _states(tokens: Mapping[int, AddedToken]) -> dict[int, Any]:
    return {token: one.__getstate__() for token, one in tokens.items()}


def _surround(tokenizer: Tokenizer, used: Mapping[str, tuple[str, int]]) -> None:
    """Put tokens around each text: "bos_token" before it and "eos_token" after it."""
    from tokenizers.processors import TemplateProcessing

    begin, end = ([used[name][0]] if name in used else [] for name in ("bos_token", "eos_token"))
    tokenizer.post_processor = TemplateProcessing(
        single=[*begin, "$A", *end], special_tokens=list(dict(used.values()).items())
    )
