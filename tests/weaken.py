"""Shows which errors the models of the thread pool detect: `python tests/weaken.py`.

Each memory ordering of the pool is weakened, one at a time, and other errors are planted; then
loom runs the models (`rust/fastdecode-simd/src/pool/model.rs`) on a copy of the sources. Fails
where the models do not detect an error, unless `HARMLESS` says why it is none, and where they do
detect one that is listed there. Each takes from seconds to some minutes. Arguments choose the
errors whose names contain one of them.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
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
    "phases have the same number": (".wrapping_add(1);", ".max(1);"),
    "the caller does not wait for the last task": (
        "while done() < count",
        "while done() + 1 < count",
    ),
    "counts are not reset": ("share.done.store(0, Ordering::Relaxed);", ""),
    "counts are reset when tasks can be claimed": (
        """\
            share.done.store(0, Ordering::Relaxed);
            share.claims.store(phase | tasks as u64, Ordering::Release);
""",
        """\
            share.claims.store(phase | tasks as u64, Ordering::Release);
            share.done.store(0, Ordering::Relaxed);
""",
    ),
    "a thread that has claimed nothing counts": ("if ended > 0 {", "if ended < usize::MAX {"),
    "the job is that of the phase before": (
        "shared.data.store(job.data.cast_mut(), Ordering::Relaxed);",
        "if number < 2 { shared.data.store(job.data.cast_mut(), Ordering::Relaxed); }",
    ),
    "two sessions have the workers": ("&& self\n", "|| self\n"),
    "workers are not told to end": ("self.shared.quit.store(true, Ordering::Relaxed);", ""),
}
# What the models do not detect, by the beginning of its name, and why it does no harm.
HARMLESS: dict[str, str] = {}


def weakened() -> Iterator[tuple[str, Path, str]]:
    """What is weaker or wrong, in which file, and the file's new text."""
    texts = {path: (ROOT / path).read_text(encoding="utf-8") for path in FILES}
    for path, text in texts.items():
        for found in re.finditer(r"Ordering::(Acquire|Release|AcqRel)", text):
            line = text.count("\n", 0, found.start()) + 1
            code = text.splitlines()[line - 1].strip()
            for order in WEAKER[found[1]]:
                changed = f"{text[: found.start(1)]}{order}{text[found.end(1) :]}"
                yield f"{path.name}: {found[1]} -> {order}: {code}", path, changed
    for name, (old, new) in PLANTED.items():
        [path] = [path for path, text in texts.items() if text.count(old) == 1]
        yield name, path, texts[path].replace(old, new)


def detected(copy: Path, target: Path) -> str | None:
    """What detects an error: the first model that fails; None where all pass.

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
    with subprocess.Popen(
        [*command, "--", "pool::model"],
        cwd=copy,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as run:
        for line in run.stdout or ():
            if line.endswith("FAILED\n"):
                # The other models may take minutes.
                os.killpg(run.pid, signal.SIGKILL)
                return line.split()[1]
    return "the process ended" if run.returncode else None


def main() -> None:
    """Print what is detected; exit with 1 where that is not as it should be."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "loom"
    wrong: list[str] = []
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
            why = next((why for start, why in HARMLESS.items() if name.startswith(start)), None)
            if (found is None) != (why is not None):
                wrong.append(name)
            print(f"{'passes  ' if found is None else 'detected'}  {name}", flush=True)
            print(f"          {found or why or 'although it is an error'}", flush=True)
    if wrong:
        sys.exit(f"{len(wrong)} not as expected: {'; '.join(wrong)}")


if __name__ == "__main__":
    main()
