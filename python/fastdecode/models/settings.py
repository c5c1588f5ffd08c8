"""Settings: what a model's files say about its tokens, checked when the model is loaded.

All engines read them here, so that they agree. In `eos_token_id` and the like, null and -1 mean
none; an integer outside the vocabulary is ignored, with one warning; anything else is refused by a
`ValueError` that names the file and the field. The settings of a model object in memory follow the
same rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastdecode.errors import warn
from fastdecode.files.inner import Folder
from fastdecode.files.reading import Place, decoded, read_file
from fastdecode.models import strict_json
from fastdecode.models.strict_json import shown
from fastdecode.models.weight_files import check_index

_CONFIG = "config.json"
_GENERATION = "generation_config.json"
_TOKENIZER = "tokenizer_config.json"
# Of older versions of transformers, beside it.
_SPECIAL_TOKENS = "special_tokens_map.json"
# Those that are not settings.
_OTHERS = (
    *("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"),
    *("tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json", "chat_template.jinja"),
)
_EOS = "eos_token_id"
# Those of which there is one; there may be several end tokens.
_SINGLE = ("bos_token_id", "pad_token_id")
# The end tokens of transformers' configurations, where a file has none.
_DEFAULT_EOS = {
    "gemma3_text": 1,
    "gpt2": 50256,
    "gpt_neo": 50256,
    "gpt_neox": 2,
    "llama": 2,
    "mistral": 2,
    "opt": 2,
    "smollm3": 128001,
}
_NONE = -1
# transformers wrote the infinite limit of Mamba 2's time steps as `Infinity`.
_UNBOUNDED = ("time_step_limit",)
# Larger sizes are mistakes; the native engine has the same limits.
_LARGEST_SIZE = 2**24
_MOST_LAYERS = 2**12


def check(folder: Folder) -> None:
    """Check the settings of a model and of its tokenizer, in as many files as there are.

    Raises:
        ValueError: where one is not JSON, or has a value that no engine can use; the message names
            the file and the line or the field.
        OSError: where one cannot be read.
    """
    _check_regular(folder)
    _model_settings(folder)
    tokenizer_settings(folder)
    special_tokens(folder)
    _check_template(folder)
    check_index(folder)


def brings_code(folder: Folder) -> bool:
    """Whether the settings of a model or of its tokenizer name Python classes of their folder.

    Raises:
        ValueError: as for `check`.
        OSError: where one cannot be read.
    """
    return any("auto_map" in read_object(folder / name) for name in (_CONFIG, _TOKENIZER))


def end_tokens(folder: Folder, vocab_size: int) -> tuple[int, ...]:
    """The tokens that end a sequence: those of the generation settings, else of the configuration.

    Args:
        folder: where the model's files are.
        vocab_size: the width of a row of logits.

    Raises:
        ValueError: as for `check`.
        OSError: where a file cannot be read.
    """
    config, generation = _model_settings(folder)
    name, value = _GENERATION, generation.get(_EOS)
    if value is None:
        name, value = _CONFIG, config.get(_EOS)
        if _EOS not in config:
            # Files of the first release have no `model_type`.
            value = _DEFAULT_EOS.get(config.get("model_type") or "gpt2")
    place = str(folder / name)
    return _known(_token_ids(value, place, _EOS), vocab_size, place)


class EndTokens:
    """The tokens that end a sequence by the settings of a transformers model in memory.

    The settings are checked when the object is made, and again where they have changed.
    """

    def __init__(self, model: Any, vocab_size: int) -> None:
        """Read the generation settings of `model`, else its configuration.

        Args:
            model: a transformers model, which may be wrapped.
            vocab_size: the width of a row of logits.

        Raises:
            ValueError: for what is neither a token id, nor a list of them, nor None.
        """
        self._model = model
        folder = getattr(model.config, "name_or_path", None)
        self._files = {name: _file(folder, name) for name in (_CONFIG, _GENERATION)}
        self._seen: tuple[tuple[int, ...], int] | None = None
        self._ids: tuple[int, ...] = ()
        self.within(vocab_size)

    def within(self, vocab_size: int) -> tuple[int, ...]:
        """The end tokens that are in a vocabulary of this size.

        Raises:
            ValueError: as for the constructor, where the settings have changed since.
        """
        settings = getattr(self._model, "generation_config", None)
        value = getattr(settings, _EOS, None)
        # Where they have no file, transformers copies the generation settings from `config`.
        copied = not self._files[_GENERATION] and getattr(settings, "_from_model_config", False)
        name = _CONFIG if value is None or copied else _GENERATION
        if value is None:
            value = getattr(self._model.config.get_text_config(decoder=True), _EOS, None)
        place = self._files[name] or f"the model's {name.removesuffix('.json')}"
        seen = _token_ids(value, place, _EOS), vocab_size
        if seen != self._seen:
            self._ids = _known(*seen, place)
            self._seen = seen
        return self._ids


def tokenizer_settings(folder: Folder) -> dict[str, Any]:
    """`tokenizer_config.json`, checked; empty where there is none.

    Raises:
        ValueError: as for `check`.
        OSError: where it cannot be read.
    """
    return _of_tokenizer(folder / _TOKENIZER)


def special_tokens(folder: Folder) -> dict[str, Any]:
    """`special_tokens_map.json`, checked; empty where there is none.

    Raises:
        ValueError: as for `check`.
        OSError: where it cannot be read.
    """
    return _of_tokenizer(folder / _SPECIAL_TOKENS)


def _of_tokenizer(path: Folder) -> dict[str, Any]:
    found = read_object(path)
    _check_fields(found, _TOKENIZER_FIELDS, path)
    return found


def _check_regular(folder: Folder) -> None:
    """Refuse folders, pipes and devices under the names of a model's files."""
    for name in (_CONFIG, _GENERATION, _TOKENIZER, _SPECIAL_TOKENS, *_OTHERS):
        path = folder / name
        if path.exists() and not path.is_file():
            what = "a folder" if path.is_dir() else "a pipe or a device"
            raise ValueError(f"{path}: it is {what}, and not a file")


def _check_template(folder: Folder) -> None:
    path = folder / "chat_template.jinja"
    if path.is_file():
        decoded(read_file(path), Place(str(path)))


def _file(folder: Any, name: str) -> str | None:
    """The file of a folder that a model was loaded from, if there is one."""
    if isinstance(folder, str) and folder and (Path(folder) / name).is_file():
        return str(Path(folder) / name)
    return None


def _model_settings(folder: Folder) -> tuple[dict[str, Any], dict[str, Any]]:
    """`config.json` and `generation_config.json`, checked; empty where there is none."""
    config, generation = read_object(folder / _CONFIG), read_object(folder / _GENERATION)
    for settings, name in ((config, _CONFIG), (generation, _GENERATION)):
        _check_token_ids(settings, folder / name)
    text = config.get("text_config")
    if isinstance(text, dict):
        _check_token_ids(text, folder / _CONFIG, "text_config.")
    _check_fields(config, _CONFIG_FIELDS, folder / _CONFIG)
    if _is_gpt2(config):
        _check_fields(config, _GPT2_FIELDS, folder / _CONFIG)
        width = config.get("n_embd", config.get("hidden_size", 768))
        heads = config.get("n_head", config.get("num_attention_heads", 12))
        if width % heads:
            raise ValueError(
                f"{folder / _CONFIG}: n_head is {heads}, which does not divide n_embd, {width}"
            )
    return config, generation


def _is_gpt2(config: Mapping[str, Any]) -> bool:
    # Files of the first release have no `model_type`.
    return (config.get("model_type") or "gpt2") == "gpt2"


def read_object(path: Folder) -> dict[str, Any]:
    """The JSON object in a file; empty where there is no file.

    Raises:
        ValueError: where it is something else; the message names the file and the place.
        OSError: where it cannot be read.
    """
    try:
        found = strict_json.read(path, unbounded=_UNBOUNDED)
    except FileNotFoundError:
        return {}
    if not isinstance(found, dict):
        raise ValueError(f"{path}: it must be a JSON object, not {shown(found)}")
    return found


def _check_token_ids(settings: Mapping[str, Any], path: Folder, within: str = "") -> None:
    _token_ids(settings.get(_EOS), str(path), within + _EOS)
    for name in _SINGLE:
        if isinstance(settings.get(name), list):
            raise ValueError(
                f"{path}: {within}{name} must be one token id or null, not {shown(settings[name])}"
            )
        _token_ids(settings.get(name), str(path), within + name, "a token id or null")


def _token_ids(
    value: Any, place: str, name: str, wanted: str = "a token id, a list of them, or null"
) -> tuple[int, ...]:
    """One id or several as a tuple, without those that mean none; `wanted` is for messages."""
    value = _plain(value)
    several = isinstance(value, list | tuple)
    ids = []
    for index, entry in enumerate(value if several else [value]):
        item = _plain(entry)
        if item is None and not several:
            continue
        field = f"{name}[{index}]" if several else name
        if isinstance(item, bool) or not isinstance(item, int):
            expected = "a token id" if several else wanted
            raise ValueError(f"{place}: {field} must be {expected}, not {shown(item)}")
        if not -(2**63) <= item < 2**63:
            raise ValueError(f"{place}: {field} is {shown(item)}, which is beyond any vocabulary")
        if item != _NONE:
            ids.append(item)
    return tuple(ids)


def _plain(value: Any) -> Any:
    """An array, a tensor, or a scalar of one of these as Python's own numbers."""
    return value.tolist() if hasattr(value, "tolist") else value


def _known(ids: tuple[int, ...], vocab_size: int, place: str) -> tuple[int, ...]:
    """Those of `ids` that are in the vocabulary; a warning for the others."""
    unknown = [token for token in ids if not 0 <= token < vocab_size]
    if unknown:
        verb = "is" if len(unknown) == 1 else "are"
        warn(
            f"{place}: {_EOS} {', '.join(map(str, unknown))} {verb} outside the model's "
            f"vocabulary, 0..{vocab_size - 1}, and {verb} ignored; {_EOS}=... at a call names "
            "the tokens that end a text"
        )
    return tuple(token for token in ids if 0 <= token < vocab_size)


# What a field has to be: a condition, and its description.
_Kind = tuple[Callable[[Any], bool], str]


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


TOKEN_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def _token(value: Any) -> bool:
    if not isinstance(value, dict):
        return isinstance(value, str)
    flags = all(isinstance(value.get(name, False), bool) for name in TOKEN_FLAGS)
    return isinstance(value.get("content"), str) and flags


def _added_tokens(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return all(re.fullmatch(r"\d{1,18}", k) and _token(v) for k, v in value.items())


def _templates(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(template, str) for template in value.values())
    if not isinstance(value, list):
        return isinstance(value, str)
    return all(isinstance(item, dict) and isinstance(item.get("template"), str) for item in value)


def _size(most: int) -> _Kind:
    return (
        lambda value: _whole(value) and 0 < value <= most,
        f"an integer in 1..{most}",
    )


_POSITIVE: _Kind = (
    lambda value: not isinstance(value, bool) and isinstance(value, int | float) and value > 0,
    "a number above 0",
)
_FLAG: _Kind = (lambda value: isinstance(value, bool), "true or false")
_SIDE: _Kind = (lambda value: value in ("left", "right"), '"left" or "right"')
_STRING: _Kind = (lambda value: isinstance(value, str), "a string")
_TOKEN: _Kind = (_token, 'a string, or an object with a string "content" and flags')
_TOKENS: _Kind = (
    lambda value: isinstance(value, list) and all(map(_token, value)),
    "a list of tokens",
)
_CONFIG_FIELDS: dict[str, _Kind] = {
    "quantization_config": (
        lambda value: isinstance(value, dict) and isinstance(value.get("quant_method", ""), str),
        'an object with a string "quant_method"',
    ),
    "model_type": _STRING,
    "architectures": (
        lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
        "a list of strings",
    ),
}
_SIZES = {
    **dict.fromkeys(("vocab_size", "n_positions", "n_embd", "n_head"), _size(_LARGEST_SIZE)),
    "n_layer": _size(_MOST_LAYERS),
    # The names of the same numbers in other architectures, which transformers takes as well.
    **dict.fromkeys(
        ("max_position_embeddings", "hidden_size", "num_attention_heads"), _size(_LARGEST_SIZE)
    ),
    "num_hidden_layers": _size(_MOST_LAYERS),
}
# Any other field may be null.
_REQUIRED = {*_SIZES, "layer_norm_epsilon"}
_GPT2_FIELDS: dict[str, _Kind] = {
    **_SIZES,
    "n_inner": _size(4 * _LARGEST_SIZE),
    "layer_norm_epsilon": _POSITIVE,
    "activation_function": _STRING,
    "scale_attn_weights": _FLAG,
    "scale_attn_by_inverse_layer_idx": _FLAG,
    "reorder_and_upcast_attn": _FLAG,
    "add_cross_attention": _FLAG,
    "tie_word_embeddings": _FLAG,
}
_TOKENIZER_FIELDS: dict[str, _Kind] = {
    **dict.fromkeys(
        ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token"), _TOKEN
    ),
    "mask_token": _TOKEN,
    "additional_special_tokens": _TOKENS,
    "added_tokens_decoder": (_added_tokens, "an object of tokens by their ids"),
    "add_prefix_space": _FLAG,
    "add_bos_token": _FLAG,
    "add_eos_token": _FLAG,
    "tokenizer_class": _STRING,
    "clean_up_tokenization_spaces": _FLAG,
    "split_special_tokens": _FLAG,
    "model_max_length": _POSITIVE,
    "padding_side": _SIDE,
    "truncation_side": _SIDE,
    "chat_template": (_templates, "a string, or several by name"),
}


def _check_fields(settings: Mapping[str, Any], kinds: Mapping[str, _Kind], path: Folder) -> None:
    for name, (fits, description) in kinds.items():
        value = settings.get(name)
        if value is None and (name not in settings or name not in _REQUIRED):
            continue
        if not fits(value):
            raise ValueError(f"{path}: {name} must be {description}, not {shown(value)}")
