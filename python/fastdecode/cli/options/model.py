"""The options that choose a model, and the decoder that they choose."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fastdecode._interrupts import unraised
from fastdecode.api import DEFAULT_MODEL
from fastdecode.cli.options.sections import Decorator, SectionOption, combined

# See `fastdecode.Decoder.from_pretrained`.
ENGINES = ("auto", "native", "torch", "transformers")
_SECTION = "Model"


def engine_option(default: str | None, text: str) -> Decorator:
    """The option --engine."""
    return click.option(
        "--engine",
        cls=SectionOption,
        section=_SECTION,
        type=click.Choice(ENGINES),
        default=default,
        help=text,
    )


def dtype_option(text: str) -> Decorator:
    """The option --dtype."""
    return click.option("--dtype", cls=SectionOption, section=_SECTION, metavar="NAME", help=text)


def cache_option(text: str, *, kept: bool = False) -> Decorator:
    """The option --kv-cache-dtype; `kept` for `opened`, which then takes it."""
    return click.option(
        "--kv-cache-dtype",
        cls=SectionOption,
        section=_SECTION,
        metavar="NAME",
        expose_value=not kept,
        callback=_kept("kv_cache_dtype") if kept else None,
        help=text,
    )


def _kept(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """A callback that keeps the value of an option for `opened`."""

    def keep(context: click.Context, _: click.Parameter, value: Any) -> None:
        context.meta[f"{__name__}.{name}"] = value

    return keep


def trust_option(text: str, *, kept: bool = False) -> Decorator:
    """The option --trust-remote-code; `kept` for `opened`, which then takes it."""
    return click.option(
        "--trust-remote-code",
        cls=SectionOption,
        section=_SECTION,
        is_flag=True,
        expose_value=not kept,
        callback=_kept("trust_remote_code") if kept else None,
        help=text,
    )


# --model, --engine and --dtype, which `opened` takes; it finds the others by itself.
model_options = combined(
    click.option(
        "--model",
        "-m",
        cls=SectionOption,
        section=_SECTION,
        metavar="NAME",
        default=DEFAULT_MODEL,
        help="A hub name, a folder, a GGUF or packed file, or demo, which is part of the package.",
    ),
    engine_option("auto", "What runs the model."),
    dtype_option("Number format of the weights: float32, bfloat16, int8, int4, gguf, ..."),
    cache_option("Number format of the KV cache: float32, bfloat16 or int8.", kept=True),
    click.option(
        "--device",
        cls=SectionOption,
        section=_SECTION,
        metavar="NAME",
        expose_value=False,
        callback=_kept("device"),
        help="Where torch runs the model: cpu, cuda, cuda:1, mps, ...",
    ),
    click.option(
        "--revision",
        cls=SectionOption,
        section=_SECTION,
        metavar="NAME",
        expose_value=False,
        callback=_kept("revision"),
        help="Branch, tag or commit of a model of the hub.",
    ),
    trust_option("Run the Python code that the model brings with it.", kept=True),
)


def quiet_loading(model: str) -> None:
    """Show progress bars of a download only on a terminal, and for a hub name."""
    if not sys.stderr.isatty() or model == "demo" or Path(model).is_dir():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def opened(model: str, engine: str = "auto", dtype: str | None = None) -> Any:
    """The decoder that `model_options` name.

    Raises:
        ValueError: as for `fastdecode.Decoder.from_pretrained`.
    """
    quiet_loading(model)
    meta = click.get_current_context().meta
    names = ("kv_cache_dtype", "device", "revision", "trust_remote_code")
    more = {name: meta[f"{__name__}.{name}"] for name in names}
    with unraised():
        from fastdecode.loaded import resolve

        return resolve(model, engine=engine, dtype=dtype, **more)
