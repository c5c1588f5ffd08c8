"""Options that several commands share, and how a command takes a group of them at once."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from fastdecode.api import DEFAULT_MODEL

Json = Annotated[bool, typer.Option("--json", help="JSON lines: an object each.")]
File = Annotated[
    str | None,
    typer.Option("--file", "-f", metavar="FILE", help="More of them, one a line; - for stdin."),
]
Texts = Annotated[
    list[str] | None,
    typer.Argument(metavar="TEXT...", help="Texts; - reads one from stdin.", show_default=False),
]


class EngineName(StrEnum):
    """What runs the model; see `fastdecode.Decoder.from_pretrained`."""

    AUTO = "auto"
    NATIVE = "native"
    TORCH = "torch"
    TRANSFORMERS = "transformers"


MODEL: dict[str, tuple[Any, Any]] = {
    "model": (
        Annotated[
            str,
            typer.Option(
                "--model", "-m", help="A hub name, a folder, or demo: ships, works offline."
            ),
        ],
        DEFAULT_MODEL,
    ),
    "engine": (
        Annotated[EngineName, typer.Option("--engine", help="What runs the model.")],
        EngineName.AUTO,
    ),
    "dtype": (
        Annotated[
            str | None,
            typer.Option("--dtype", help="float32, bfloat16, int8, float64, ...: the weights."),
        ],
        None,
    ),
}

# Those that shape the distribution that a token is drawn from.
DRAWING: dict[str, tuple[Any, Any]] = {
    "temperature": (
        Annotated[
            float | None,
            typer.Option("--temperature", "-t", help="Below 1 sharpens, above 1 flattens."),
        ],
        None,
    ),
    "top_k": (
        Annotated[int | None, typer.Option("--top-k", help="Keep the k likeliest tokens.")],
        None,
    ),
    "top_p": (
        Annotated[
            float | None,
            typer.Option("--top-p", help="Keep the smallest set with this much probability."),
        ],
        None,
    ),
    "min_p": (
        Annotated[
            float | None,
            typer.Option("--min-p", help="Keep tokens this likely, relative to the likeliest."),
        ],
        None,
    ),
    "typical_p": (
        Annotated[
            float | None,
            typer.Option("--typical-p", help="Keep the most typical set with this much."),
        ],
        None,
    ),
    "epsilon_cutoff": (
        Annotated[
            float | None,
            typer.Option("--epsilon-cutoff", help="Keep tokens at least this probable."),
        ],
        None,
    ),
    "eta_cutoff": (
        Annotated[
            float | None,
            typer.Option("--eta-cutoff", help="The same, lower where entropy is high."),
        ],
        None,
    ),
    "top_n_sigma": (
        Annotated[
            float | None,
            typer.Option("--top-n-sigma", help="Keep logits within n deviations of the top."),
        ],
        None,
    ),
}

# Those that edit the logits first, which a greedy choice feels too.
EDITS: dict[str, tuple[Any, Any]] = {
    "repetition_penalty": (
        Annotated[
            float | None,
            typer.Option("--repetition-penalty", help="Above 1: less of what was there."),
        ],
        None,
    ),
    "frequency_penalty": (
        Annotated[
            float | None,
            typer.Option("--frequency-penalty", help="Nats off for each time it came."),
        ],
        None,
    ),
    "presence_penalty": (
        Annotated[
            float | None, typer.Option("--presence-penalty", help="Nats off if it came at all.")
        ],
        None,
    ),
    "no_repeat_ngram_size": (
        Annotated[
            int | None,
            typer.Option("--no-repeat-ngram", help="No run of so many tokens comes twice."),
        ],
        None,
    ),
}

STRATEGY = DRAWING | EDITS


def flags(names: Mapping[str, Any]) -> str:
    """Options as they were typed: "--top-k, --top-p"."""
    spelled = {"no_repeat_ngram_size": "no_repeat_ngram"}
    return ", ".join(f"--{spelled.get(name, name).replace('_', '-')}" for name in names)


def group(
    name: str, options: Mapping[str, tuple[Any, Any]]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a group; its argument `name` takes those that were said.

    The options stand in the help where the argument stands in the signature.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            if parameter.name != name:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
                continue
            parameters += [
                inspect.Parameter(
                    option, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind
                )
                for option, (kind, default) in options.items()
            ]

        @wraps(command)
        def wrapper(**given: Any) -> None:
            said = {option: given.pop(option) for option in options}
            command(**given, **{name: {k: v for k, v in said.items() if v is not None}})

        wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
        return wrapper

    return decorate


def quiet_loading(model: str) -> None:
    """Bars of a download are for people who wait for one."""
    if not sys.stderr.isatty() or model == "demo" or Path(model).is_dir():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def opened(model: Mapping[str, Any]) -> Any:
    """The decoder that the group `MODEL` says.

    Raises:
        ValueError: as for `fastdecode.Decoder.from_pretrained`.
    """
    from fastdecode.loaded import resolve

    quiet_loading(model["model"])
    return resolve(model["model"], engine=str(model["engine"]), dtype=model.get("dtype"))
