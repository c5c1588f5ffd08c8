"""`fastdecode classify`: which label a text belongs to, by Bayes' rule."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fastdecode.cli.inputs import Inputs, read
from fastdecode.cli.options import MODEL, File, Json, Texts, group, opened
from fastdecode.cli.output import emit, show


@group("model", MODEL)
def classify(
    model: dict[str, Any],
    texts: Texts = None,
    file: File = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", "-l", help="A label; give two or more.", show_default=False),
    ] = None,
    labels: Annotated[
        str | None, typer.Option("--labels", metavar="FILE", help="Labels, one a line.")
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt",
            help="What stands before the text: once with {label} in it, or once a label.",
            show_default="{label}:",
        ),
    ] = None,
    prior: Annotated[
        list[float] | None,
        typer.Option(
            "--prior",
            help="How likely each label is by itself, once a label.",
            show_default="equal",
        ),
    ] = None,
    separator: Annotated[str, typer.Option("--separator", help="Between prompt and text.")] = " ",
    bos: Annotated[bool, typer.Option("--bos/--no-bos", help="Begin with the BOS token.")] = True,
    eos: Annotated[
        bool, typer.Option("--eos/--no-eos", help="Score the EOS token at the end.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say which label each TEXT belongs to: p(label | text) from p(text | label)."""
    if not label and labels is None:
        raise ValueError("no label; give --label twice or more, or --labels FILE")
    if file == "-" and labels == "-":
        raise ValueError("standard input (-) can be read only once")
    inputs = read(texts, file, "text")
    try:
        names = read(label, labels, "label")
    except FileNotFoundError as error:
        raise ValueError(
            f"--labels {labels}: there is no such file; a label in words is given as --label"
        ) from error
    names = Inputs([name.strip() for name in names.texts], names.arguments, names.source, "--label")
    prompts: Any = prompt or None
    if prompt is not None and len(prompt) == 1 and "{label}" in prompt[0]:
        prompts = prompt[0]
    _check(names, prompts, prior)
    decoder = opened(model)
    with inputs.named():
        found = decoder.classify(
            inputs.texts,
            names.texts,
            prompts=prompts,
            priors=prior or None,
            separator=separator,
            bos=bos,
            eos=eos,
        )
    if as_json:
        for item in found:
            emit({"text": item.text, "label": item.label, "posterior": item.posterior})
    elif len(found) == 1:
        show(found[0])
    else:
        show(found)


def _check(names: Inputs, prompts: Any, priors: Any) -> None:
    """Refuse labels that are empty or repeated by where they were given, before a model loads."""
    from fastdecode.results.classification import read_labels

    with names.named():
        read_labels(names.texts, prompts, priors or None)
