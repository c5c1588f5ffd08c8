"""The decoders that were loaded by name, of which the last few are kept."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import Any

from fastdecode import forks
from fastdecode.decoder import Decoder
from fastdecode.models.engines import check_name as check_engine
from fastdecode.models.identity.files import full_name
from fastdecode.models.loading import release_memory
from fastdecode.models.placement import cache_dtype_name, check_device, dtype_name
from fastdecode.options import checks

_MOST_LOADED = 3
_Key = tuple[str, str, str | None, str | None, str | None, str | None, bool]


class _Place:
    """A decoder that is kept, and the lock under which it is loaded."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.decoder: Decoder | None = None


class _Kept:
    """The decoders by what they were loaded from; threads may load several at the same time."""

    def __init__(self) -> None:
        self._places: OrderedDict[_Key, _Place] = OrderedDict()
        # Held for moments only; a place's own lock is held while its model is loaded.
        self._lock = threading.Lock()

    def get(self, given: str, key: _Key, device: Any) -> Decoder:
        """The decoder of `key`, loaded by the name `given` where there is none that is current."""
        with self._lock:
            place = self._places.setdefault(key, _Place())
        with place.lock:
            decoder = place.decoder
            if decoder is None or not decoder.is_current():
                # Two copies of the weights may be more than the memory holds.
                place.decoder = decoder = None
                _, engine, dtype, cache, _, revision, trusted = key
                try:
                    decoder = Decoder.from_pretrained(
                        given,
                        engine=engine,
                        dtype=dtype,
                        kv_cache_dtype=cache,
                        device=device,
                        revision=revision,
                        trust_remote_code=trusted,
                    )
                finally:
                    place.decoder = decoder
                    if decoder is None:
                        self._forget(key, place)
        with self._lock:
            self._places[key] = place
            self._places.move_to_end(key)
            while len(self._places) > _MOST_LOADED:
                self._places.popitem(last=False)
        return decoder

    def drop(self, name: str | None) -> int:
        """Forget the decoders of a model, or all; how many there were."""
        with self._lock:
            keys = [key for key in self._places if name is None or key[0] == name]
            # Not closed: another thread may be in the middle of a call.
            return sum(self._places.pop(key).decoder is not None for key in keys)

    def _forget(self, key: _Key, place: _Place) -> None:
        with self._lock:
            if self._places.get(key) is place:
                del self._places[key]


_kept = _Kept()


@forks.in_child
def _start_over() -> None:
    """In a forked child: locks that another thread of the parent held are never released."""
    global _kept
    before, _kept = _kept, _Kept()
    for key, place in before._places.items():
        if place.decoder is not None:
            _kept._places[key] = fresh = _Place()
            fresh.decoder = place.decoder


def resolve(
    model: Any,
    tokenizer: Any = None,
    *,
    engine: str = "auto",
    dtype: Any = None,
    kv_cache_dtype: Any = None,
    device: Any = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Decoder:
    """The decoder that `model` stands for; the last few loaded by name are kept.

    A decoder is loaded again where the files of its model have changed. Any number of threads may
    call this; each waits for the model that it needs, not for the loading of others.

    Args:
        model: a `Decoder`, a hub name, a folder, a GGUF or packed file, "demo", or a transformers
            model.
        tokenizer: the tokenizer of a transformers model; not for the others.
        engine: as for `Decoder`; a `Decoder` has its own.
        dtype: as for `Decoder`; a `Decoder` has its own.
        kv_cache_dtype: as for `Decoder`; a `Decoder` has its own.
        device: for a model that is loaded by name.
        revision: for a model that is loaded from the hub.
        trust_remote_code: for a model that is loaded by name.

    Raises:
        TypeError: for another kind of model, or for another argument where it does not belong.
    """
    trusted = checks.boolean("trust_remote_code", trust_remote_code)
    check_engine(engine)
    check_device(device)
    kept, cache = dtype_name(dtype), cache_dtype_name(kv_cache_dtype)
    if revision is not None:
        checks.string("revision", revision)
    if isinstance(model, Decoder | str | os.PathLike):
        if tokenizer is not None:
            raise TypeError("tokenizer= goes with a transformers model object; leave it out here")
        if isinstance(model, Decoder):
            given = {
                "dtype": dtype,
                "kv_cache_dtype": kv_cache_dtype,
                "device": device,
                "revision": revision,
            }
            some = trusted or any(value is not None for value in given.values())
            if engine != "auto" or some:
                raise TypeError(
                    "engine=, dtype=, kv_cache_dtype=, device=, revision= and trust_remote_code= "
                    "go with a name or a folder, the first three also with a transformers model; "
                    f"{model!r} has its own"
                )
            return model
        name, place = checks.path("model", model), None if device is None else str(device)
        key = (full_name(name), engine, kept, cache, place, revision, trusted)
        return _kept.get(name, key, device)
    if tokenizer is None and hasattr(model, "forward"):
        raise TypeError("a model object needs tokenizer=... beside it, or use Decoder(model, tok)")
    if tokenizer is None:
        raise TypeError(
            "model must be a hub name, a folder, a .gguf file, a Decoder or a transformers model, "
            f"not {type(model).__name__} ({checks.shown(model)})"
        )
    if device is not None or revision is not None or trusted:
        raise TypeError(
            "device=, revision= and trust_remote_code= go with a name or a folder; a model object "
            "is where it is, and model.to(device) moves it"
        )
    return Decoder(model, tokenizer, engine=engine, dtype=dtype, kv_cache_dtype=cache)


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
    count = _kept.drop(None if model is None else full_name(checks.path("model", model)))
    release_memory()
    return count
