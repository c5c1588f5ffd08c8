"""Shows which errors the models of the thread pool detect: `python tests/weaken.py`.

Each memory ordering of the pool is weakened, one at a time, and a few other errors are planted;
then loom runs the models (`rust/fastdecode-simd/src/pool/model.rs`) on a copy of the sources. What
"passes" is harmless, or out of the models' reach; each takes a minute or more.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
POOL = Path("rust/fastdecode-simd/src/pool")
FILES = (POOL / "mod.rs", POOL / "shared.rs")
WEAKER = {
    "Acquire": ("Relaxed",),
    "Release": ("Relaxed",),
    "AcqRel": ("Acquire", "Release"),
}
# Other errors: what is replaced, where it occurs once, and by what.
PLANTED = {
    "a task is claimed in any phase": (
        "word & !u64::from(u32::MAX) == phase && word != phase",
        "word & u64::from(u32::MAX) != 0",
    ),
    "the caller does not wait for the last task": (
        "while done() < count",
        "while done() + 1 < count",
    ),
    "counts are not reset": ("share.done.store(0, Ordering::Relaxed);", ""),
    "two sessions have the workers": ("|| self\n", "|| false && self\n"),
    "workers are not woken at the end": ("self.shared.quit.store(true, Ordering::Release);", ""),
}


def weakened() -> Iterator[tuple[str, Path, str]]:
    """What is weaker or wrong, in which file, and the file's new text."""
    texts = {path: (ROOT / path).read_text(encoding="utf-8") for path in FILES}
    for name, (old, new) in PLANTED.items():
        [path] = [path for path, text in texts.items() if text.count(old) == 1]
        yield name, path, texts[path].replace(old, new)
    for path, text in texts.items():
        for found in re.finditer(r"Ordering::(Acquire|Release|AcqRel)", text):
            line = text.count("\n", 0, found.start()) + 1
            code = text.splitlines()[line - 1].strip()
            for order in WEAKER[found[1]]:
                changed = f"{text[: found.start(1)]}{order}{text[found.end(1) :]}"
                yield f"{path.name}:{line}: {found[1]} -> {order}: {code}", path, changed


def detected(copy: Path, target: Path) -> str | None:
    """The first line of what the models report; None where they pass.

    Raises:
        RuntimeError: where the sources do not compile.
    """
    environment = os.environ | {
        "RUSTFLAGS": "--cfg loom",
        "CARGO_PROFILE_RELEASE_LTO": "off",
        "CARGO_TARGET_DIR": str(target),
    }
    command = ["cargo", "test", "--locked", "--release", "-p", "fastdecode-simd", "--lib"]
    built = subprocess.run(
        [*command, "--no-run"], cwd=copy, env=environment, capture_output=True, text=True
    )
    if built.returncode:
        raise RuntimeError(built.stderr)
    run = subprocess.run(
        [*command, "--", "pool::model"], cwd=copy, env=environment, capture_output=True, text=True
    )
    if not run.returncode:
        return None
    lines = (run.stdout + run.stderr).splitlines()
    at = next((i for i, text in enumerate(lines) if " panicked at " in text), None)
    return "the process ended" if at is None else lines[at + 1]


def main() -> None:
    """Print what is detected."""
    target = ROOT / "target" / "loom"
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("Cargo.toml", "Cargo.lock", "rust-toolchain.toml"):
            shutil.copy(ROOT / name, copy / name)
        shutil.copytree(ROOT / "rust", copy / "rust", ignore=shutil.ignore_patterns("target"))
        for name, path, text in weakened():
            if sys.argv[1:] and not any(part in name for part in sys.argv[1:]):
                continue
            before = (copy / path).read_text(encoding="utf-8")
            (copy / path).write_text(text, encoding="utf-8")
            found = detected(copy, target)
            (copy / path).write_text(before, encoding="utf-8")
            print(f"{'passes  ' if found is None else 'detected'}  {name}", flush=True)
            if found is not None:
                print(f"          {found}", flush=True)


if __name__ == "__main__":
    main()
