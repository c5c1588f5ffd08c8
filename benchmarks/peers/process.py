"""The harness's side of a peer's process."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.peers.roster import Peer

ROOT = Path(__file__).resolve().parents[2]


class PeerProcess:
    """A running worker. `reason` says why it is not running; None if it is."""

    def __init__(self, peer: Peer, python: str, folder: Path, threads: int) -> None:
        """Start the process and wait until the model is loaded."""
        command = [python, "-m", "benchmarks.peers.worker", peer.module, peer.variant]
        self.reason: str | None = None
        self._log = (folder / f"{peer.name.replace(' ', '-').replace(',', '')}.log").open("w")
        self._process = subprocess.Popen(
            [*command, str(folder), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=ROOT,
            env=environment(threads),
        )
        hello = self._read()
        self.reason = hello.get("reason")
        self.versions: dict[str, str] = hello.get("versions", {})
        self.loaded_mb: float | None = hello.get("peak_mb")

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and wait for the answer."""
        if self.reason is not None:
            return {"reason": self.reason}
        pipe = self._process.stdin
        if pipe is None:
            raise RuntimeError("the worker has no input")
        try:
            pipe.write(json.dumps(request) + "\n")
            pipe.flush()
        except BrokenPipeError:
            pass
        return self._read()

    def rest(self, limit: float = 1.0) -> None:
        """Wait until its threads are idle; some libraries spin for a while after a call."""
        end = time.perf_counter() + limit
        before = self._ticks()
        while time.perf_counter() < end:
            time.sleep(0.03)
            now = self._ticks()
            if now == before:
                return
            before = now

    def processor_seconds(self) -> float:
        """Processor time used so far, in seconds."""
        return self._ticks() / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End the process."""
        if self._process.stdin:
            # Closing flushes the pipe, which fails if the process has already ended.
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            self.reason = f"the process ended (exit code {self._process.wait()})"
            return {"reason": self.reason}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ticks(self) -> int:
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            return 0
        return int(fields[11]) + int(fields[12])


def environment(threads: int) -> dict[str, str]:
    """Environment variables of every worker: the same number of threads, and no network."""
    count = str(threads)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
    return {
        **os.environ,
        **dict.fromkeys((*names, "FASTDECODE_THREADS"), count),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore",
    }
