"""Description of the machine, its load, and locks against other measurements."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

# The processor flags that matter for decoding.
_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "bf16")


def describe(threads: int) -> dict[str, Any]:
    """Describe processor, cores, caches, memory and system."""
    fields = _cpuinfo()
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    return {
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "family": fields.get("cpu family"),
        "model": fields.get("model"),
        "cores": os.cpu_count(),
        "threads": threads,
        "features": [flag for flag in _FLAGS if flag in flags],
        "last_level_cache": _cache(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


@contextmanager
def alone(locks: Sequence[Path], *, shared: bool = False) -> Iterator[None]:
    """Hold lock files (`flock`) while measuring, on a machine that is shared with others.

    All locks are acquired in order; then all but the last, which act as gates, are released. With
    `shared`, the last lock is held in shared mode. Without lock files this does nothing.
    """
    if not locks:
        yield
        return
    import fcntl

    with ExitStack() as held:
        *gates, last = [held.enter_context(path.open("a")) for path in locks]
        for gate in gates:
            fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(last, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        for gate in gates:
            fcntl.flock(gate, fcntl.LOCK_UN)
        yield


def others_load(since: tuple[float, float], ours: float) -> float:
    """The average number of processors that other processes have kept busy since a point in time.

    Args:
        since: the result of `busy_now` at that time.
        ours: processor time that the harness's own processes have used since then, in seconds.
    """
    now = busy_now()
    return max(0.0, now[1] - since[1] - ours) / max(now[0] - since[0], 1e-9)


def busy_now() -> tuple[float, float]:
    """The current time, and the processor time used so far by all processes, in seconds."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return time.perf_counter(), 0.0
    user, nice, system, _, _, irq, softirq = map(int, fields[:7])
    ticks = os.sysconf("SC_CLK_TCK")
    return time.perf_counter(), (user + nice + system + irq + softirq) / ticks


def _cpuinfo() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {name.strip(): value.strip() for name, value in reversed(list(pairs))}


def _cache() -> str | None:
    folder = Path("/sys/devices/system/cpu/cpu0/cache")
    sizes = {p.parent.name: p.read_text().strip() for p in folder.glob("index*/size")}
    return sizes[max(sizes)] if sizes else None


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None
