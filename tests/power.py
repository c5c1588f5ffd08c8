"""How many draws each planted bug is caught within: the power of `fastdecode.testing`.

    python tests/power.py [seeds]

Prints a table: the bug, and over the seeds the median and the most draws (or tickets) until the
check failed, and how often it did.
"""

import statistics
import sys

from test_testing import CAUGHT


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    print(f"{'planted bug':<66}{'median':>12}{'most':>12}  caught")
    for name, (sampler, check, _) in CAUGHT.items():
        results = [check(sampler, 1000 * seed) for seed in range(seeds)]
        draws = [result.draws for result in results if not result]
        middle = f"{statistics.median(draws):,.0f}" if draws else "-"
        most = f"{max(draws, default=0):,}"
        print(f"{name:<66}{middle:>12}{most:>12}  {len(draws)}/{seeds}", flush=True)


if __name__ == "__main__":
    main()
