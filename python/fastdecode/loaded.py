"""The decoders that were loaded by name, of which the last few are kept."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from fastdecode.decoder import Decoder
from fastdecode.models.engines import dtype_name

_MOST_LOADED = 3
_loaded: OrderedDict[tuple[str, str, str | None, str | None], Decoder] = OrderedDict()


def resolve(
    model: Any,
    tokenizer: Any = None,
    *,
    engine: str = "auto",
    dtype: Any = None,
    revision: str | None = None,
) -> Decoder:
    """The decoder that `model` stands for; the last few loaded by name are kept.

    Args:
        model: a `Decoder`, a hub name, a folder, "demo", or a transformers model.
        tokenizer: the tokenizer of a transformers model; not for the others.
        engine: as for `Decoder`; a `Decoder` has its own.
        dtype: as for `Decoder`; a `Decoder` has its own.
        revision: for a model that is loaded from the hub.

    Raises:
        TypeError: for another kind of model, or for a tokenizer, engine or dtype where none
            belongs.
    """
    if isinstance(model, Decoder | str) or hasattr(model, "__fspath__"):
        if tokenizer is not None:
            raise TypeError("tokenizer= goes with a transformers model object; leave it out here")
        if isinstance(model, Decoder):
            if engine != "auto" or dtype is not None:
                raise TypeError(
                    "engine= and dtype= go with a name, a folder or a transformers model; "
                    f"{model!r} has its own"
                )
            return model
        key = (str(model), engine, dtype_name(dtype), revision)
        if key not in _loaded:
            _loaded[key] = Decoder.from_pretrained(
                key[0], engine=engine, dtype=dtype, revision=revision
            )
        _loaded.move_to_end(key)
        while len(_loaded) > _MOST_LOADED:
            _loaded.popitem(last=False)
        return _loaded[key]
    if tokenizer is None and hasattr(model, "forward"):
        raise TypeError("a model object needs tokenizer=... beside it, or use Decoder(model, tok)")
    if tokenizer is None:
        raise TypeError(
            "model must be a hub name, a folder, a Decoder or a transformers model, "
            f"not {type(model).__name__}"
        )
    return Decoder(model, tokenizer, engine=engine, dtype=dtype)
