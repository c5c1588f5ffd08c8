"""What a model's configuration says and a few tokens cannot show: lengths at which it changes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

# The names under which configurations keep the number of positions.
_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions")
_WINDOWS = (
    "sliding_window",
    "attention_window_size",
    "attention_chunk_size",
    "local_attention",
    "window_size",
    "index_topk",
)
_BLOCKS = ("index_block_size", "compress_rates", "compress_ratios")
_SPARSE = re.compile(r"sparse|compress")
_TABLE = re.compile(r"(^|\.)(wpe|positions?_embed|position_embeddings?|embed_positions?)$")
_OF_OTHER_INPUTS = re.compile(r"vision|visual|image|audio|speech|relative", re.IGNORECASE)


def text_config(model: Any) -> Any:
    """The configuration of the part that reads and writes text."""
    return model.config.get_text_config(decoder=True)


def context(model: Any) -> int | None:
    """The maximum length of a sequence in tokens, or None where there is no limit.

    It is what the configuration says, or fewer where a table of learned positions is shorter than
    that: RoBERTa's positions start at padding_idx + 1.
    """
    config = text_config(model)
    found = [value for name in _LENGTHS if (value := _whole(config, name)) is not None]
    limits = found[:1]
    # Doge picks that many keys for all positions together, the later ones included.
    if (kept := _whole(config, "keep_window_size")) is not None:
        limits.append(kept)
    for table in position_tables(model):
        limits.append(int(table.num_embeddings) - first_position(table))
    if not limits:
        return None
    return max(1, min(limits) - virtual_tokens(model))


def virtual_tokens(model: Any) -> int:
    """How many positions a PEFT prompt takes before the first token."""
    settings = getattr(model, "active_peft_config", None)
    if settings is None or not getattr(settings, "is_prompt_learning", False):
        return 0
    return int(getattr(settings, "num_virtual_tokens", 0) or 0)


def position_tables(model: Any) -> Iterator[Any]:
    """The tables of absolute positions of the model's text side, `torch.nn.Embedding` modules."""
    for name, module in model.named_modules():
        named = _TABLE.search(name) and not _OF_OTHER_INPUTS.search(name)
        if named and hasattr(module, "num_embeddings"):
            yield module


def first_position(table: Any) -> int:
    """The row of a table of positions that a sequence's first token takes."""
    offset = getattr(table, "offset", None)
    if isinstance(offset, int):
        return offset
    padding = getattr(table, "padding_idx", None)
    return 0 if padding is None else int(padding) + 1


def rope_border(model: Any) -> int | None:
    """The length beyond which LongRoPE turns all positions by its long factors, or None.

    The factors are chosen by the longest row of a pass, so rows on both sides of the border cannot
    share one, and the cache of a row that crosses it is void.
    """
    config = text_config(model)
    borders = []
    for name in ("rope_parameters", "rope_scaling"):
        for rope in _ropes(getattr(config, name, None)):
            if rope.get("rope_type", rope.get("type")) not in ("longrope", "su"):
                continue
            border = rope.get("original_max_position_embeddings")
            if border is None:
                border = _whole(config, "original_max_position_embeddings")
            if border is not None:
                borders.append(int(border))
    return min(borders, default=None)


def window(model: Any) -> int | None:
    """The widest window of attention that the configuration names, or None."""
    config = text_config(model)
    found = [value for name in _WINDOWS if (value := _whole(config, name)) is not None]
    return max(found, default=None)


def blocks_by_columns(model: Any) -> bool:
    """Whether attention groups the past in blocks, which padding on the left would shift.

    The blocks of published models are longer than the few tokens of a probe.
    """
    config = text_config(model)
    kinds = getattr(config, "layer_types", None) or ()
    return any(_SPARSE.search(kind) for kind in kinds if isinstance(kind, str)) or any(
        getattr(config, name, None) not in (None, 0, 1, [], {}) for name in _BLOCKS
    )


def cache_bytes(model: Any) -> int:
    """An estimate of the memory of one token of one row in the KV cache, in bytes."""
    config = text_config(model)

    def whole(*names: str) -> int | None:
        return next((v for name in names if (v := _whole(config, name)) is not None), None)

    layers = whole("num_hidden_layers", "decoder_layers", "n_layer", "n_layers") or 1
    heads = whole("num_attention_heads", "decoder_attention_heads", "n_head", "n_heads") or 1
    width = whole("hidden_size", "d_model", "n_embd") or 1
    kv_heads = whole("num_key_value_heads") or heads
    dim = whole("head_dim") or max(1, width // heads)
    return 2 * layers * kv_heads * dim * int(model.dtype.itemsize)


def _ropes(value: Any) -> Iterator[Mapping[str, Any]]:
    """The settings of RoPE, of which some configurations have one for each type of layer."""
    if isinstance(value, Mapping):
        yield value
        for inner in value.values():
            if isinstance(inner, Mapping):
                yield inner


def _whole(config: Any, name: str) -> int | None:
    """A positive whole number of the configuration, or None where it has none of that name."""
    try:
        value = getattr(config, name, None)
    except Exception:
        # Configurations whose layers differ refuse to name one value for all of them.
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        return None
    return value
