"""Servers as child processes, our own `serve` and peers: started, asked over HTTP and stopped."""

from __future__ import annotations

import asyncio
import os
import shlex
import socket
import sys
import tempfile
import time
from dataclasses import replace
from types import MappingProxyType
from typing import IO, Any

import httpx

from engine import device
from engine.errors import BadRequest, Unavailable
from engine.measure.bench.questions import Question
from engine.measure.bench.remote import HttpTarget, Server
from engine.measure.bench.samples import Sample, SeenMedia
from engine.measure.bench.targets import OnFirst, Status

START_S = 300.0
STOP_S = 20.0
POLL_S = 0.02
LOG_CHARS = 600

COMMANDS = MappingProxyType(
    {
        "mlx_lm.server": f"{shlex.quote(sys.executable)} -m mlx_lm.server --model {{model}} --port {{port}}",
        "mlx_vlm.server": f"{shlex.quote(sys.executable)} -m mlx_vlm.server --model {{model}} --port {{port}}",
    }
)
"""Servers among our own dependencies. {model}: the checkpoint's folder. {port}: a free port."""

OURS = "workbench"


def our_command(engine_arguments: list[str]) -> str:
    """`vllm-mlx serve` with these engine options."""
    return " ".join([shlex.quote(sys.executable), "-m engine serve --port {port}", *map(shlex.quote, engine_arguments)])


class ServerProcess:
    """One child process on a port of its own."""

    def __init__(self, command: str, model_path: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        try:
            self._argv = [word.format(model=model_path, port=self._port) for word in shlex.split(command)]
        except (KeyError, IndexError, ValueError) as e:
            raise BadRequest(f"{command!r} is not a command with {{model}} and {{port}} ({e}).", param="vs") from e
        self._process: asyncio.subprocess.Process | None = None
        self._log: IO[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start the process, which does not answer yet. Raises Unavailable when there is no such program."""
        self._log = tempfile.TemporaryFile(prefix="bench-server-")  # noqa: SIM115 (closed by stop)
        try:
            # The same BLAS for all: on a Linux CPU the ratio of two servers would else be that of their BLAS.
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                env=os.environ | device.for_others(),
                stdout=self._log,
                stderr=self._log,
                stdin=asyncio.subprocess.DEVNULL,
            )
        except OSError as e:
            raise Unavailable(f"{self._argv[0]} cannot be started: {e.strerror}.") from e

    async def wait_listening(self) -> None:
        """Wait until its port answers. Raises Unavailable when the process ends or takes too long."""
        deadline = time.monotonic() + START_S
        async with httpx.AsyncClient(trust_env=False) as client:
            while True:
                self.check()
                try:
                    if (await client.get(f"{self.url}/v1/models", timeout=10)).status_code < 500:
                        return
                except httpx.TransportError:
                    pass
                if time.monotonic() > deadline:
                    raise Unavailable(f"{self._argv[0]} did not answer within {START_S:.0f} s.")
                await asyncio.sleep(POLL_S)

    def check(self) -> None:
        """Raises Unavailable, with the end of its log, if the process has ended."""
        if self._process is None or self._process.returncode is None:
            return
        raise Unavailable(f"{' '.join(self._argv)} ended ({self._process.returncode}): {self._log_end()}")

    def _log_end(self) -> str:
        if self._log is None:
            return ""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-LOG_CHARS:].strip()

    async def stop(self) -> None:
        """Terminate the process; kill it after STOP_S."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), STOP_S)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        if self._log is not None:
            self._log.close()
        self._process = self._log = None


class ServerTarget(HttpTarget):
    """A server that runs from `open` to `close`."""

    def __init__(self, process: ServerProcess, server: Server, fresh: FreshTarget) -> None:
        super().__init__(process.url, replace(server, pid=process.pid))
        self._process = process
        self._fresh = fresh

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @classmethod
    async def open(cls, name: str, command: str, model_path: str) -> ServerTarget:
        """Start the command and wait until it answers. Raises Unavailable."""
        process = ServerProcess(command, model_path)
        await process.start()
        try:
            await process.wait_listening()
        except BaseException:
            await process.stop()
            raise
        server = Server(name=name, model=model_of(name, model_path), model_path=model_path)
        return cls(process, server, FreshTarget(name, command, model_path))

    async def ask(self, question: Question, on_first: OnFirst = None) -> Sample:
        """Ask the running process, or a new one for a question that is `fresh`."""
        return await (self._fresh.ask(question, on_first) if question.fresh else super().ask(question, on_first))

    async def close(self) -> None:
        await super().close()
        await self._process.stop()


class FreshTarget:
    """A server that is started anew for each question. Time to first token counts from the start of its process."""

    in_process = False

    def __init__(self, name: str, command: str, model_path: str) -> None:
        self.name = name
        self.model_path = model_path
        self._command = command
        self._status = Status()

    async def ask(self, question: Question, on_first: OnFirst = None) -> Sample:
        process = ServerProcess(self._command, self.model_path)
        started_s = time.perf_counter()
        await process.start()
        server = Server(name=self.name, model=model_of(self.name, self.model_path), pid=process.pid)
        target = HttpTarget(process.url, server)
        try:
            sample = await self._first_answer(process, target, question, on_first)
            self._status = await target.status()
        finally:
            await target.close()
            await process.stop()
        waited_s = sample.started_s - started_s
        return replace(
            sample,
            started_s=started_s,
            ttft_s=sample.ttft_s + waited_s,
            e2e_s=sample.e2e_s + waited_s,
            cached_tokens=None,
        )

    async def _first_answer(
        self, process: ServerProcess, target: HttpTarget, question: Question, on_first: Any
    ) -> Sample:
        """Ask until it answers; a server that cannot be reached yet is asked again after POLL_S."""
        deadline = time.monotonic() + START_S
        await process.wait_listening()
        while True:
            try:
                return await target.ask(replace(question, fresh=False), on_first)
            except Unavailable:
                process.check()
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(POLL_S)

    def status_nowait(self) -> Status:
        return self._status

    async def status(self) -> Status:
        return self._status

    async def predict(self, question: Question) -> tuple[SeenMedia, ...] | None:
        return None

    async def close(self) -> None:
        """Nothing to close: the process is stopped after each question."""


def model_of(name: str, model_path: str) -> str | None:
    """The `model` of requests: the mlx servers load the model that is named there."""
    return model_path if name in COMMANDS else None
