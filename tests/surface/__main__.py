"""Attack what the words on the command line name, or everything."""

from __future__ import annotations

import sys

import hostile

from surface import findings, place, targets


def main() -> None:
    words = sys.argv[1:]
    values = hostile.VALUES | hostile.torch_values()
    count = 0
    for one in targets().values():
        if words and not any(word in one.name for word in words):
            continue
        with place():
            for finding in findings(one, values):
                print(finding, flush=True)
                count += 1
    print(f"{count} findings")
    sys.exit(count > 0)


if __name__ == "__main__":
    main()
