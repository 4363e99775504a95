"""This machine and the bandwidth of its memory: a decoded token takes at least the time to read the weights.

Bandwidths are the makers' published numbers; a Linux CPU's is measured. Parsers are pure; detect_hardware() takes up to
a second: not on an event loop.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np

from engine import device

APPLE_GBS = MappingProxyType(
    {
        "M1": 68.3, "M1 Pro": 200.0, "M1 Max": 400.0, "M1 Ultra": 800.0,
        "M2": 100.0, "M2 Pro": 200.0, "M2 Max": 400.0, "M2 Ultra": 800.0,
        "M3": 100.0, "M3 Pro": 150.0, "M3 Max": 400.0, "M3 Ultra": 819.0,
        "M4": 120.0, "M4 Pro": 273.0, "M4 Max": 546.0,
        "M5": 153.0, "M5 Pro": 307.0, "M5 Max": 614.0,
    }
)  # fmt: skip
"""GB/s of unified memory, https://support.apple.com/specs."""

FEWER_CORES_GBS = MappingProxyType({("M3 Max", 30): 300.0, ("M4 Max", 32): 410.0, ("M5 Max", 32): 460.0})
"""By (chip, GPU cores): chips sold under the same name with a smaller GPU and a lower bandwidth."""

CUDA_GBS = MappingProxyType(
    {
        "B200": 8000.0, "H200": 4800.0, "GH200": 4000.0, "H100 PCIe": 2000.0, "H100 NVL": 3900.0, "H100": 3350.0,
        "A100-SXM4-80GB": 2039.0, "A100 80GB PCIe": 1935.0, "A100": 1555.0, "A10": 600.0, "L40S": 864.0, "L4": 300.0,
        "T4": 320.0, "V100": 900.0, "GB10": 273.0, "RTX 6000 Ada": 960.0, "RTX A6000": 768.0, "RTX 5090": 1792.0,
        "RTX 5080": 960.0, "RTX 4090": 1008.0, "RTX 4080": 717.0, "RTX 3090": 936.0, "RTX 3080": 760.0,
    }
)  # fmt: skip
"""GB/s by a part of the device's name; the longest match counts. https://www.techpowerup.com/gpu-specs"""

COPY_BYTES = 256 * 2**20
COPIES = 3


@dataclass(frozen=True, slots=True)
class Hardware:
    """total_memory_gb: in 2**30 bytes. memory_bandwidth_gbs: in 10**9 bytes per second, None where it is not known;
    bandwidth_source: where that number is from. gpu_cores: None where there is no GPU, or its cores are not known."""

    chip_name: str
    total_memory_gb: float
    memory_bandwidth_gbs: float | None
    bandwidth_source: str
    gpu_cores: int | None
    mlx_device: str
    os: str
    num_cores: int
    blas: str


@lru_cache(maxsize=1)
def detect_hardware() -> Hardware:
    """This machine. Any thread but an event loop's; runs system_profiler on a Mac, copies memory on a Linux CPU."""
    info = device.describe()
    chip, cores, memory_bytes = info.chip, None, info.memory_bytes
    if sys.platform == "darwin":
        cores = gpu_cores(_profile())
        bandwidth, source = apple_bandwidth(chip, cores), "Apple's number"
    elif info.mlx_device.startswith("CUDA"):
        chip, cuda_bytes = cuda_facts(_mlx_device_info(), chip)
        memory_bytes = cuda_bytes or memory_bytes
        bandwidth, source = cuda_bandwidth(chip), "NVIDIA's number"
    else:
        bandwidth, source = copy_bandwidth(), "measured by copying"
    return Hardware(
        chip_name=chip,
        total_memory_gb=round(memory_bytes / 2**30, 1),
        memory_bandwidth_gbs=bandwidth,
        bandwidth_source=source if bandwidth else "not known",
        gpu_cores=cores,
        mlx_device=info.mlx_device,
        os=info.os,
        num_cores=info.num_cores,
        blas=info.blas,
    )


def gpu_cores(profile: str) -> int | None:
    """GPU cores in the output of `system_profiler SPDisplaysDataType`. Returns None where it lists none."""
    section = profile.partition("Chipset Model:")[2]
    match = re.search(r"^\s*Total Number of Cores:\s*(\d+)\s*$", section, re.MULTILINE)
    return int(match[1]) if match else None


def apple_bandwidth(chip: str, cores: int | None) -> float | None:
    """GB/s by a name like "Apple M4 Max" and its GPU cores. Returns None for a chip that is not in the table."""
    match = re.search(r"\bM\d+(?: (?:Pro|Max|Ultra))?\b", chip)
    if not match:
        return None
    return FEWER_CORES_GBS.get((match[0], cores or 0), APPLE_GBS.get(match[0]))


def cuda_facts(info: dict[str, Any], otherwise: str) -> tuple[str, int]:
    """(name, memory in bytes) from MLX's device info; `otherwise` and 0 where they are missing."""
    name = str(info.get("device_name") or info.get("name") or otherwise)
    return name, int(info.get("total_memory") or info.get("memory_size") or 0)


def cuda_bandwidth(name: str) -> float | None:
    """GB/s by a device's name. Returns None for one that is not in the table."""
    names = [key for key in CUDA_GBS if re.search(rf"(?<![A-Z0-9]){re.escape(key)}(?![0-9])", name)]
    return CUDA_GBS[max(names, key=len)] if names else None


def copy_bandwidth() -> float:
    """GB/s, counting bytes read and bytes written, of copying memory with one core: the best of COPIES."""
    source = np.ones(COPY_BYTES // 8)
    target = np.empty_like(source)
    times = []
    for _ in range(COPIES):
        started = time.perf_counter()
        np.copyto(target, source)
        times.append(time.perf_counter() - started)
    return round(2 * COPY_BYTES / min(times) / 1e9, 1)


def _profile() -> str:
    command = ["/usr/sbin/system_profiler", "SPDisplaysDataType"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _mlx_device_info() -> dict[str, Any]:
    """What MLX reports about the GPU; nothing is computed."""
    device.prepare()
    import mlx.core as mx

    return dict(mx.device_info())
