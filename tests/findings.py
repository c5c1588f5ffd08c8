"""How the attacks that are run by hand end: what they find, how much that is, and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import NoReturn


def report(findings: Iterable[str]) -> NoReturn:
    """Prints findings as they come, and exits with 1 where there are any."""
    count = 0
    for finding in findings:
        # An attack may replace the streams of this process, so nothing waits in a buffer.
        print(finding, flush=True)
        count += 1
    print(f"{count} findings")
    sys.exit(count > 0)
