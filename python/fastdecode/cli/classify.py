"""`fastdecode classify`: which label a text belongs to, by Bayes' rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from fastdecode.cli.inputs.lines import Line
from fastdecode.cli.inputs.texts import Inputs, file_option, read, texts_argument
from fastdecode.cli.options.escapes import ESCAPES, unescaped
from fastdecode.cli.options.model import model_options, opened
from fastdecode.cli.options.sections import Command
from fastdecode.cli.output import emit, json_option, show
from fastdecode.cli.sinks.file import answer, out_option
from fastdecode.jobs.records import of_classification


@click.command(cls=Command)
@texts_argument
@model_options
@file_option
@click.option("--label", "-l", multiple=True, metavar="LABEL", help="A label; give two or more.")
@click.option("--labels", metavar="FILE", help="Read labels from a file, one a line.")
@click.option(
    "--prompt",
    multiple=True,
    metavar="TEXT",
    show_default="{label}:",
    help="Text before the classified one: one with {label} in it, or one for each label.",
)
@click.option(
    "--prior",
    multiple=True,
    type=float,
    show_default="equal",
    help="Prior weight of a label; give one for each label.",
)
@click.option(
    "--separator",
    type=unescaped,
    default=" ",
    help=f"Text between prompt and text. {ESCAPES}",
)
@click.option(
    "--bos/--no-bos", default=None, help="Begin with the BOS token, which is the default."
)
@click.option("--eos/--no-eos", default=False, help="Score the EOS token at the end.")
@json_option
@out_option
def classify(
    texts: Sequence[str],
    model: str,
    engine: str,
    dtype: str | None,
    file: str | None,
    kind: str | None,
    label: Sequence[str],
    labels: str | None,
    prompt: Sequence[str],
    prior: Sequence[float],
    separator: str,
    bos: bool | None,
    eos: bool,
    as_json: bool,
    out: str | None,
) -> None:
    """Find the label of each TEXT, by p(label | text).

    Bayes' rule gives it from p(text | label) and the labels' priors.
    """
    if not label and labels is None:
        raise ValueError("no label; give --label twice or more, or --labels FILE")
    if file == "-" and labels == "-":
        raise ValueError("standard input (-) can be read only once")
    inputs = read(texts, file, "text", kind)
    try:
        names = read(label, labels, "label")
    except FileNotFoundError as error:
        raise ValueError(
            f"--labels {labels}: there is no such file; a label in words is given as --label"
        ) from error
    stripped = [Line(name.strip()) for name in names.texts]
    names = Inputs(stripped, names.arguments, names.source, "--label")
    prompts: Any = list(prompt) or None
    priors = list(prior) or None
    if len(prompt) == 1 and "{label}" in prompt[0]:
        prompts = prompt[0]
    _check(names, prompts, priors)
    decoder = opened(model, engine, dtype)
    call: dict[str, Any] = {
        "prompts": prompts,
        "priors": priors,
        "separator": separator,
        "bos": bos,
        "eos": eos,
    }
    with inputs.named():
        if out is not None:
            from fastdecode.jobs.questions.scores import Labels

            answer(out, Labels(decoder, inputs.texts, names.texts, **call), inputs)
            return
        found = decoder.classify(inputs.texts, names.texts, **call)
    if as_json:
        for index, item in enumerate(found):
            emit(inputs.record(index, of_classification(item)))
    else:
        show(found[0] if len(found) == 1 else found)


def _check(names: Inputs, prompts: Any, priors: list[float] | None) -> None:
    """Refuse labels that are empty or repeated by where they were given, before a model loads."""
    from fastdecode.results.classification import read_labels

    with names.named():
        read_labels(names.texts, prompts, priors)
