"""Attack what the words on the command line name, or everything."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import hostile
from findings import report

from surface import findings, place, targets


def attacked(words: Sequence[str]) -> Iterator[str]:
    """What is found in the callables whose names contain one of the words, or in all."""
    values = hostile.VALUES | hostile.torch_values()
    for one in targets().values():
        if words and not any(word in one.name for word in words):
            continue
        with place():
            yield from findings(one, values)


if __name__ == "__main__":
    report(attacked(sys.argv[1:]))
