"""The machine's load while something is measured. Reading it takes a fraction of a millisecond."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

import psutil

from engine.measure.bench.targets import Status

EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Load:
    """The machine at one moment. at_s: seconds since the run began. cpu_percent: 100 is all cores busy. load: the load
    average of the last minute. others: requests of others that the engine runs."""

    at_s: float
    cpu_percent: float
    load: float
    used_bytes: int
    available_bytes: int
    swap_bytes: int
    process_bytes: int | None = None
    mlx_active_bytes: int | None = None
    mlx_cache_bytes: int | None = None
    mlx_peak_bytes: int | None = None
    others: int = 0


def read(at_s: float, status: Status) -> Load:
    """This machine now. status: of the first target. cpu_percent is since the last call in this process."""
    memory = psutil.virtual_memory()
    return Load(
        at_s=at_s,
        cpu_percent=psutil.cpu_percent(None),
        load=os.getloadavg()[0],
        used_bytes=memory.used,
        available_bytes=memory.available,
        swap_bytes=psutil.swap_memory().used,
        process_bytes=status.process_bytes,
        mlx_active_bytes=status.mlx_active_bytes,
        mlx_cache_bytes=status.mlx_cache_bytes,
        mlx_peak_bytes=status.mlx_peak_bytes,
        others=status.num_others,
    )


def thermal_note() -> str:
    """What macOS reports about heat, which slows a Mac down; "" where it reports nothing, and on other systems."""
    if sys.platform != "darwin":
        return ""
    done = subprocess.run(["/usr/bin/pmset", "-g", "therm"], capture_output=True, text=True, check=False)
    return thermal(done.stdout)


def thermal(text: str) -> str:
    """The limits below 100 and the warnings in the output of `pmset -g therm`."""
    notes = []
    for line in text.splitlines():
        name, sign, value = (part.strip() for part in line.partition("="))
        if sign and name.endswith("_Limit") and value.isdigit() and int(value) < 100:
            notes.append(f"{name} {value} %")
        elif "warning level" in line and "No " not in line:
            notes.append(line.strip(" -"))
    return ", ".join(notes)
