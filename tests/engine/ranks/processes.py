"""`vllm-mlx serve` as several ranks on loopback, as mlx.launch starts them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[3]
START_S = 90.0
END_S = 30.0


def free_ports(count: int) -> list[int]:
    """Ports that are free now."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def ring(folder: Path, size: int) -> Path:
    """A hostfile of MLX's ring."""
    path = folder / f"ring-{size}-{time.monotonic_ns()}.json"
    path.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in free_ports(size)]))
    return path


class RankProcesses:
    """A context manager. folder: where what they print is written. module: what each runs, with these words behind it.
    Its url answers once the model is loaded; what rank 0 and the others print is in `said`."""

    def __init__(self, folder: Path, size: int, *words: str, module: str = "engine") -> None:
        hosts = ring(folder, size)
        self._logs = [folder / f"{hosts.stem}-rank{rank}.log" for rank in range(size)]
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", module, *words, "--tensor-parallel-size", str(size)],
                cwd=ROOT,
                stdout=log.open("w"),
                stderr=subprocess.STDOUT,
                env={**os.environ, "MLX_HOSTFILE": str(hosts), "MLX_RANK": str(rank)},
            )
            for rank, log in enumerate(self._logs)
        ]

    @property
    def said(self) -> str:
        return "\n".join(f"rank {rank}: {log.read_text()}" for rank, log in enumerate(self._logs))

    @property
    def url(self) -> str:
        """Waits for the model."""
        until_s = time.monotonic() + START_S
        while " is ready" not in (said := self._logs[0].read_text()):
            assert time.monotonic() < until_s, self.said
            assert self.processes[0].poll() is None, self.said
            time.sleep(0.05)
        found = re.search(r"(http://\S+)/v1", said)
        assert found is not None, said
        return found[1]

    def end(self, how: signal.Signals = signal.SIGTERM) -> list[int]:
        """Ask rank 0 to end. Returns the exit statuses of all."""
        self.processes[0].send_signal(how)
        return self.wait()

    def wait(self, timeout_s: float = END_S) -> list[int]:
        """Until all have ended. Returns their exit statuses."""
        until_s = time.monotonic() + timeout_s
        try:
            return [process.wait(max(0.1, until_s - time.monotonic())) for process in self.processes]
        except subprocess.TimeoutExpired:
            raise AssertionError(f"a rank goes on: {self.said}") from None

    def __enter__(self) -> RankProcesses:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
