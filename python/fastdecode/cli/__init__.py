"""The command line, `fastdecode`: one module per command, and what the commands share.

Results go to standard output, everything else to standard error. Exit codes: 0 for success; 1 where
a check failed, or standard output is closed or full; 2 for bad input (one line, "error: ..."); 130
after Ctrl-C, when the results so far have been printed. torch and transformers are imported only
when a command needs them.
"""

from fastdecode.cli.main import app, main

__all__ = ["app", "main"]
