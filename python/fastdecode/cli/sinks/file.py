"""The option --out, and the job that answers a command's question into that file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from fastdecode._interrupts import INTERRUPTED
from fastdecode.cli.inputs.texts import Inputs
from fastdecode.cli.output import tell

if TYPE_CHECKING:
    from fastdecode.jobs.questions.base import Question

out_option = click.option(
    "--out",
    "-o",
    metavar="FILE",
    help="Write JSON lines to FILE; after an interruption, the same command resumes the run.",
)


def refuse_beside_out(out: str | None, others: Mapping[str, Any]) -> None:
    """Refuse options that show a result which --out writes to a file.

    Args:
        out: the value of --out.
        others: values of other options, by what is typed for them.

    Raises:
        ValueError: where --out and one of them are given.
    """
    for typed, value in others.items():
        if out is not None and value:
            raise ValueError(
                f"{typed} is about what is shown, and --out writes the results to a file instead; "
                "give one of the two"
            )


def answer(path: str, question: Question, inputs: Inputs) -> None:
    """Find the answers that the file lacks, and print the progress of the job.

    Raises:
        ValueError: as for `fastdecode.jobs.resumable.open_job`.
        OSError: as for `fastdecode.jobs.resumable.open_job`.
        Exit: after Ctrl-C.
    """
    from fastdecode.display.progress import progress_bar
    from fastdecode.jobs.resumable import open_job

    code = 0
    with open_job(path, question, fields=inputs.fields, name="--out") as job:
        for note in job.notes:
            tell(f"note: {note}")
        meter = progress_bar(None, len(question.inputs), question.command, each=question.each)
        try:
            if meter is not None:
                meter.update(job.resumed)
            for _ in job.run():
                if meter is not None:
                    meter.update()
        except KeyboardInterrupt:
            code = INTERRUPTED
        finally:
            if meter is not None:
                meter.close()
    whole = job.done if job.is_complete else job.whole
    of = "" if job.is_complete else f"{job.done:,} of "
    texts = "text" if whole == 1 else "texts"
    before = f", {job.resumed:,} of them from before" if job.resumed else ""
    seed = "" if job.seed is None else f", seed {job.seed}"
    tell(f"{path}: {of}{whole:,} {texts}{before}{seed}")
    if code:
        raise click.exceptions.Exit(code)
