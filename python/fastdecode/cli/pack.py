"""`fastdecode pack`: make a packed file of a model, or check one."""

from __future__ import annotations

import click

from fastdecode.cli.options.sections import Command
from fastdecode.cli.output import emit, json_option


@click.command(cls=Command)
@click.argument("model", metavar="MODEL", required=False)
@click.option(
    "--dtype",
    metavar="NAME",
    help="Number format of the weights.  [default: that of a GGUF file, else float32]",
)
@click.option("--output", "-o", metavar="FILE", help="The file.  [default: NAME-DTYPE.fastdecode]")
@click.option("--revision", metavar="NAME", help="Branch, tag or commit of a model of the hub.")
@click.option("--check", metavar="FILE", help="Check all of a packed file instead.")
@json_option
def pack(
    model: str | None,
    dtype: str | None,
    output: str | None,
    revision: str | None,
    check: str | None,
    as_json: bool,
) -> None:
    """Make a packed file of MODEL, from which it starts at once.

    The file has the weights as the native engine reads them, and the tokenizer, the settings and
    the chat template that belong to them. Wherever a model is named, its path names the model:
    --model FILE. MODEL is a hub name, a folder, a GGUF file, or demo.
    """
    from fastdecode._core import PackedFile
    from fastdecode.models.packed import writing
    from fastdecode.models.placement import dtype_name
    from fastdecode.options import checks

    if check is not None:
        given = {"MODEL": model, "--dtype": dtype, "--output": output, "--revision": revision}
        others = [name for name, value in given.items() if value is not None]
        if others:
            raise ValueError(f"--check FILE checks an existing packed file; leave {others[0]} out")
        file = PackedFile(checks.path("--check", check))
        file.check()
        done = "matches its checksums"
    elif model is None:
        raise ValueError("give MODEL, the model to pack, or --check FILE")
    else:
        target = None if output is None else checks.path("--output", output)
        file = writing.pack(
            checks.path("MODEL", model), target, dtype=dtype_name(dtype), revision=revision
        )
        done = "made"
    if as_json:
        record = {"path": str(file.path), "dtype": file.dtype, "definition": file.definition}
        emit({**record, "bytes": file.nbytes})
        return
    print(f"{file.path} {done}: {file.dtype}, {file.nbytes / 1e6:,.1f} MB")
