"""The command line, `fastdecode`: one module a command, and what they share.

Results go to standard output, everything else to standard error. Exit codes: 0; 1 where something
that was to be checked does not hold, and for a closed pipe; 2 for bad input (one line,
"error: ..."); 130 after Ctrl-C, with what there was by then. torch and transformers load when a
command needs them, not before.
"""

from fastdecode.cli.main import app, main

__all__ = ["app", "main"]
