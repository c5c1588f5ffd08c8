"""The decoders that were loaded by name, of which the last few are kept."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Any

from fastdecode.decoder import Decoder
from fastdecode.models.loading import release_memory
from fastdecode.models.placement import dtype_name

_MOST_LOADED = 3
_Key = tuple[str, str, str | None, str | None, str | None]
_loaded: OrderedDict[_Key, Decoder] = OrderedDict()


def resolve(
    model: Any,
    tokenizer: Any = None,
    *,
    engine: str = "auto",
    dtype: Any = None,
    device: Any = None,
    revision: str | None = None,
) -> Decoder:
    """The decoder that `model` stands for; the last few loaded by name are kept.

    Args:
        model: a `Decoder`, a hub name, a folder, "demo", or a transformers model.
        tokenizer: the tokenizer of a transformers model; not for the others.
        engine: as for `Decoder`; a `Decoder` has its own.
        dtype: as for `Decoder`; a `Decoder` has its own.
        device: for a model that is loaded by name.
        revision: for a model that is loaded from the hub.

    Raises:
        TypeError: for another kind of model, or for another argument where it does not belong.
    """
    if isinstance(model, Decoder | str) or hasattr(model, "__fspath__"):
        if tokenizer is not None:
            raise TypeError("tokenizer= goes with a transformers model object; leave it out here")
        if isinstance(model, Decoder):
            given = {"dtype": dtype, "device": device, "revision": revision}
            if engine != "auto" or any(value is not None for value in given.values()):
                raise TypeError(
                    "engine=, dtype=, device= and revision= go with a name, a folder or a "
                    f"transformers model; {model!r} has its own"
                )
            return model
        place = None if device is None else str(device)
        key = (os.fspath(model), engine, dtype_name(dtype), place, revision)
        if key not in _loaded:
            _loaded[key] = Decoder.from_pretrained(
                key[0], engine=engine, dtype=dtype, device=device, revision=revision
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
    if device is not None or revision is not None:
        raise TypeError(
            "device= and revision= go with a name or a folder; a model object is where it is, and "
            "model.to(device) moves it"
        )
    return Decoder(model, tokenizer, engine=engine, dtype=dtype)


def unload(model: str | os.PathLike[str] | None = None) -> int:
    """Forget decoders that were loaded by name; `fastdecode.unload` describes it.

    Raises:
        TypeError: for anything but a name or a folder.
    """
    if model is not None and not isinstance(model, str | os.PathLike):
        raise TypeError(
            f"model must be a name or a folder, not {type(model).__name__}; a Decoder is released "
            "by its close(), and a model object by whoever holds it"
        )
    name = None if model is None else os.fspath(model)
    keys = [key for key in _loaded if name is None or key[0] == name]
    for key in keys:
        # Not closed: another thread may be in the middle of a call.
        del _loaded[key]
    release_memory()
    return len(keys)
