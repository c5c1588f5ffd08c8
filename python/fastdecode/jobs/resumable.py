"""Resumable runs: a file of JSON lines that the same command completes after an interruption.

Each text is written when it ends, as one line in one write, so the file has whole lines, in the
order in which texts end, and at most one broken line, the last, which is dropped and generated
again. The settings of the run, including its seed, are kept beside the file in `FILE.run.json`; a
run with other settings is refused. When all texts are present the file is sorted by prompt, in one
atomic step.

On the native engine a text does not depend on its batch, so only the missing ones are generated.
On other engines the last bit of a forward pass depends on the batch: prompts are processed in
groups of a fixed size, and an incomplete group is generated again as a whole, in the batches of an
uninterrupted run.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fastdecode import core
from fastdecode.jobs.records import Record, line
from fastdecode.options import checks
from fastdecode.options.strategies import Strategy, describe

if TYPE_CHECKING:
    from fastdecode.decoder import Decoder
    from fastdecode.results.step import Step

_FORMAT = "fastdecode lines v1"
_INTERRUPTED = 130
# Prompts that are generated together where an engine's last bits depend on the batch.
_BLOCK = 256

Key = tuple[int, int]


def write(
    path: str, decoder: Decoder, prompts: Sequence[str], strategy: Strategy, call: Mapping[str, Any]
) -> int:
    """Generate what `path` does not have yet.

    Args:
        path: the file of JSON lines.
        decoder: the model.
        prompts: all prompts of the run.
        strategy: how to choose tokens.
        call: arguments of `Decoder.generate`.

    Returns:
        The exit code: 0, or 130 after Ctrl-C.

    Raises:
        ValueError: where the file belongs to another run, or a prompt or a setting is bad.
    """
    from fastdecode.display.progress import progress_bar

    n = checks.integer("n", call["n"], 1, checks.U32)
    settings = _settings(decoder, prompts, strategy, call)
    arguments = {k: v for k, v in call.items() if k not in ("seed", "n") and v is not None}
    arguments |= {"n": n, "strategy": strategy}
    # Every prompt and setting is checked here, before the file is touched.
    decoder.stream(prompts, seed=call["seed"], **arguments)
    whole = len(prompts) * n
    with Lines(Path(path), settings, whole) as lines:
        already = len(lines)
        meter = progress_bar(None, len(prompts), "generate", each=n)
        if meter is not None:
            meter.update(already)
        code = 0
        try:
            for key, record in _texts(decoder, prompts, lines, arguments, n):
                if key not in lines:
                    lines.add(key, record)
                    if meter is not None:
                        meter.update()
        except KeyboardInterrupt:
            code = _INTERRUPTED
        finally:
            if meter is not None:
                meter.close()
        if len(lines) == whole:
            lines.finish()
        rest = f", {already:,} of them from before" if already else ""
        done = f"{whole:,} texts" if len(lines) == whole else f"{len(lines):,} of {whole:,} texts"
        print(f"{path}: {done}{rest}, seed {lines.seed}", file=sys.stderr)
    return code


class Lines:
    """The file of a run, and which texts it has.

    Attributes:
        seed: the seed that the run was started with.
    """

    def __init__(self, path: Path, settings: dict[str, Any], whole: int) -> None:
        """Open the file of this run, or create it.

        Raises:
            ValueError: where the file belongs to another run, or has been changed.
        """
        self._path = path
        self._beside = path.with_name(path.name + ".run.json")
        self._places: dict[Key, tuple[int, int]] = {}
        if path.exists():
            self.seed = self._same_run(settings)
        else:
            if settings["seed"] is None:
                settings = settings | {"seed": checks.seed(None)}
            self.seed = int(settings["seed"])
            _replace(self._beside, [json.dumps(settings, indent=1).encode()])
        self._file = path.open("a+b", buffering=0)
        try:
            _lock(self._file.fileno(), path)
            self._read(settings["n"], whole)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Lines:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._file.close()

    def __len__(self) -> int:
        """How many texts it has."""
        return len(self._places)

    def __contains__(self, key: Key) -> bool:
        """Whether it has the text of this prompt and sample."""
        return key in self._places

    def add(self, key: Key, record: dict[str, Any]) -> None:
        """Write one text as one line."""
        raw = line(record).encode() + b"\n"
        place = self._file.seek(0, os.SEEK_END)
        if self._file.write(raw) != len(raw):
            raise OSError(f"{self._path}: no room for another line")
        self._places[key] = place, len(raw)

    def finish(self) -> None:
        """Sort the lines by prompt and sample."""
        order = sorted(self._places)
        places = [self._places[key] for key in order]
        if places != sorted(places):
            _replace(self._path, map(self._line, places))

    def _line(self, place: tuple[int, int]) -> bytes:
        self._file.seek(place[0])
        return self._file.read(place[1])

    def _same_run(self, settings: dict[str, Any]) -> int:
        """The seed of the run that the file belongs to; refuses a file of another run."""
        advice = f"choose another --out, or remove {self._path}"
        try:
            known = json.loads(self._beside.read_text("utf-8"))
        except (OSError, ValueError):
            known = None
        if not isinstance(known, dict) or known.get("format") != _FORMAT:
            raise ValueError(
                f"{self._path} exists, and {self._beside.name} beside it, which would say what run "
                f"it belongs to, is missing or something else; {advice}"
            )
        for name in [*settings, *known]:
            then, value = known.get(name), settings.get(name)
            if then == value or (name == "seed" and value is None):
                continue
            if name in ("prompts", "prompts_digest"):
                said = f"other prompts ({known.get('prompts')} then, {settings['prompts']} now)"
            else:
                said = f"{name} {_short(then)}, not {_short(value)}"
            raise ValueError(
                f"{self._path} was begun with {said}; use the settings it was begun with, {advice}"
            )
        return int(known["seed"])

    def _read(self, n: int, whole: int) -> None:
        """Index the whole lines, and truncate a broken last one."""
        self._file.seek(0)
        place = number = 0
        with open(self._file.fileno(), "rb", closefd=False) as reader:
            for raw in reader:
                number += 1
                if not raw.endswith(b"\n"):
                    break
                key = self._key(raw, number, n)
                if key in self._places or key[0] * n + key[1] >= whole:
                    raise ValueError(f"{self._path}, line {number}: it is not of this run")
                self._places[key] = place, len(raw)
                place += len(raw)
        self._file.truncate(place)

    def _key(self, raw: bytes, number: int, n: int) -> Key:
        try:
            record = json.loads(raw)
            key = int(record["stream"]), int(record["sample"])
        except (ValueError, KeyError, TypeError):
            key = (-1, -1)
        if key[0] < 0 or not 0 <= key[1] < n:
            raise ValueError(
                f"{self._path}, line {number}: it is not a line that this run wrote; mend or "
                "remove the file"
            )
        return key


def _settings(
    decoder: Decoder, prompts: Sequence[str], strategy: Strategy, call: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings that determine the texts of a run, and their form."""
    chosen = describe(strategy)
    settings = {
        "format": _FORMAT,
        "model": decoder.name,
        "revision": decoder.revision,
        "engine": decoder.engine.name,
        "dtype": decoder.engine.dtype,
        "prompts": len(prompts),
        "prompts_digest": hashlib.sha256(json.dumps(list(prompts)).encode()).hexdigest(),
        "strategy": chosen.pop("name"),
        **chosen,
        **{name: call.get(name) for name in ("n", "max_new_tokens", "stop", "logprobs")},
        # In batches of another size torch may round differently.
        "batch_size": call.get("batch_size") if decoder.engine.name != "native" else None,
        "rng": core.RNG_VERSION,
        "seed": None if call["seed"] is None else checks.seed(call["seed"]),
    }
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain


def _texts(
    decoder: Decoder, prompts: Sequence[str], lines: Lines, arguments: Mapping[str, Any], n: int
) -> Iterator[tuple[Key, dict[str, Any]]]:
    """The missing texts as they end, possibly with some that the file already has."""

    def missing(index: int) -> bool:
        return any((index, sample) not in lines for sample in range(n))

    blocks = [list(filter(missing, range(len(prompts))))]
    if decoder.engine.name != "native":
        spans = (range(i, min(i + _BLOCK, len(prompts))) for i in range(0, len(prompts), _BLOCK))
        blocks = [list(span) for span in spans if any(map(missing, span))]
    for block in filter(None, blocks):
        some = [prompts[index] for index in block]
        steps = decoder.stream(some, seed=lines.seed, streams=block, **arguments)
        yield from _ended(steps, some, arguments.get("logprobs"))


def _ended(
    steps: Iterator[Step], prompts: Sequence[str], logprobs: int | None
) -> Iterator[tuple[Key, dict[str, Any]]]:
    growing: dict[Key, Record] = {}
    for step in steps:
        key = step.stream, step.sample
        if key not in growing:
            growing[key] = Record(prompts[step.prompt_index], step, logprobs)
        growing[key].step(step)
        if step.finish_reason is not None:
            yield key, growing.pop(key).ended(step.finish_reason)


def _replace(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file atomically."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _lock(descriptor: int, path: Path) -> None:
    """Lock the file against other runs, on systems that have `fcntl`."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(f"{path}: another run is writing to it; wait for that one") from None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
