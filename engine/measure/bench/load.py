"""What else the machine does while something is measured. Reading it costs a fraction of a millisecond."""

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
    """The machine at one moment. at_s: seconds since the run began; memory in bytes; cpu_percent: 100 is one whole core
    times all cores; load: runnable processes over a minute. others: requests of others that the engine serves."""

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
    """This machine now, with what the first target says of itself. CPU since the last call in this process."""
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
    """What macOS says about heat, "" where it says nothing or elsewhere: a Mac that is hot is a slower Mac."""
    if sys.platform != "darwin":
        return ""
    done = subprocess.run(["/usr/bin/pmset", "-g", "therm"], capture_output=True, text=True, check=False)
    return thermal(done.stdout)


def thermal(text: str) -> str:
    """The limits below 100 and warnings in the text of `pmset -g therm`."""
    said = []
    for line in text.splitlines():
        name, sign, value = (part.strip() for part in line.partition("="))
        if sign and name.endswith("_Limit") and value.isdigit() and int(value) < 100:
            said.append(f"{name} {value} %")
        elif "warning level" in line and "No " not in line:
            said.append(line.strip(" -"))
    return ", ".join(said)
