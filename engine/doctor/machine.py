"""Checks of the machine: device, BLAS, memory, wired limit, ports, folders. Each returns a Diagnosis."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine import device
from engine.assets import asset, data_folder
from engine.doctor.diagnosis import Diagnosis
from engine.errors import say_bytes

PORTS = {8000: "vllm-mlx", 7860: "vllm-mlx-chat"}
LEAST_MEMORY_BYTES = 8 * 1024**3
LEAST_FREE_BYTES = 10 * 1024**3
MLX_TIMEOUT_S = 120
COMPUTES = "import mlx.core as mx; mx.eval(mx.ones(3) + 1); print(mx.default_device())"


def mlx(command: Sequence[str] | None = None) -> Diagnosis:
    """Whether MLX can be imported and computes; in a process of its own, since it may crash. command: instead of it."""
    command = command or (sys.executable, "-c", COMPUTES)
    info = device.describe()
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=MLX_TIMEOUT_S,
            check=False,
            env={**os.environ, **device.for_others()},
        )
        status, said = done.returncode, done.stderr
    except subprocess.TimeoutExpired:
        status, said = 1, f"no answer within {MLX_TIMEOUT_S} s"
    if status != 0:
        why = (said.strip().splitlines() or [f"it ended with status {status}"])[-1]
        remedy = f"Run `{sys.executable} -m pip install --force-reinstall mlx`."
        return Diagnosis("mlx", "fail", f"MLX {info.mlx_version} does not run: {why}", remedy)
    return Diagnosis("mlx", "ok", f"MLX {info.mlx_version} computes on the {info.mlx_device} of {info.chip}, {info.os}")


def speed(hints: Sequence[str] | None = None) -> Diagnosis:
    """Whether MLX is as fast as it can be here. hints: engine.device's."""
    info = device.describe()
    if sys.platform == "darwin":
        if info.mlx_device == "Metal GPU":
            return Diagnosis("speed", "ok", "Metal, Accelerate")
        why = "this Python runs on Intel, or under Rosetta, where MLX has no GPU"
        return Diagnosis("speed", "warn", why, "On Apple Silicon, install a Python for arm64.")
    found = device.hints() if hints is None else hints
    if found:
        text, _, remedy = found[0].partition(". ")
        return Diagnosis("speed", "warn", text, remedy)
    return Diagnosis("speed", "ok", f"BLAS: {info.blas}" if info.mlx_device == "CPU" else info.mlx_device)


def memory(total: int | None = None, available: int | None = None) -> Diagnosis:
    """Of the machine, in bytes; None for this one."""
    import psutil

    now = psutil.virtual_memory()
    total, available = now.total if total is None else total, now.available if available is None else available
    text = f"{say_bytes(total)}, {say_bytes(available)} available"
    if total < LEAST_MEMORY_BYTES:
        return Diagnosis("memory", "warn", text, "Choose small or quantized models: `vllm-mlx-chat` says which fit.")
    return Diagnosis("memory", "ok", text)


def wired_limit(said: str | None = None) -> Diagnosis | None:
    """How much memory a Mac lets its GPU hold; None elsewhere. said: of `sysctl iogpu.wired_limit_mb`."""
    if said is None:
        if sys.platform != "darwin":
            return None
        command = ["/usr/sbin/sysctl", "iogpu.wired_limit_mb"]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    match = re.search(r"iogpu\.wired_limit_mb:\s*(\d+)", said)
    if match is None:
        return Diagnosis("wired limit", "warn", "macOS does not say it", "It needs macOS 15 or newer.")
    if match[1] == "0":
        return Diagnosis("wired limit", "ok", "macOS's own, about three quarters of the memory")
    return Diagnosis("wired limit", "ok", f"{int(match[1]):,} MB, set by hand")


def ports(wanted: Mapping[int, str] | None = None) -> list[Diagnosis]:
    """Whether the ports that the commands use are free. wanted: port -> the command that uses it."""
    return [_port(port, command) for port, command in (PORTS if wanted is None else wanted).items()]


def _port(port: int, command: str) -> Diagnosis:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            text = f"{command} cannot have it: {error.strerror}"
            return Diagnosis(f"port {port}", "warn", text, f"Where that is not {command} itself, give it --port.")
    return Diagnosis(f"port {port}", "ok", f"free for {command}")


def files() -> Diagnosis:
    """How many files, and so connections, a server may have open."""
    most = device.raise_file_limit()
    if most < 1024:
        return Diagnosis("open files", "warn", f"at most {most}", "Raise it with `ulimit -n 4096` before the start.")
    return Diagnosis("open files", "ok", f"up to {most:,}")


def folders(wanted: Mapping[str, Path] | None = None) -> list[Diagnosis]:
    """Whether what is downloaded and kept has room. wanted: what -> its folder, None for this project's."""
    if wanted is None:
        from engine.inventory.places import hub_cache

        wanted = {"models": hub_cache(), "conversations": data_folder(), "temporary files": Path(tempfile.gettempdir())}
    return [_folder(what, folder) for what, folder in wanted.items()]


def _folder(what: str, folder: Path) -> Diagnosis:
    title = f"folder of {what}"
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        return Diagnosis(title, "fail", f"{folder} cannot be written", f"Make {there} yours, or name another folder.")
    free = shutil.disk_usage(there).free
    text = f"{folder}, {say_bytes(free)} free"
    if what == "models" and free < LEAST_FREE_BYTES:
        return Diagnosis(title, "warn", text, "Make room, or set HF_HOME to a folder on a larger disk.")
    return Diagnosis(title, "ok", text)


def shipped_files() -> Diagnosis:
    """The demo model and the samples, without which the first start has nothing to show."""
    missing = [name for name in ("demo-model/model.safetensors", "samples/samples.json") if not asset(name).is_file()]
    if missing:
        return Diagnosis("shipped files", "fail", f"missing: {', '.join(missing)}", "Install the project again.")
    return Diagnosis("shipped files", "ok", str(asset("demo-model").parent))
