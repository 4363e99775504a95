"""What this machine is and has, what this process may take of it, and what must happen before MLX is imported.

`prepare()` is called once, before the first `import mlx.core`, by the engine thread and by the commands:
on Linux CPU it loads a fast BLAS into the process and turns MLX's CPU compiler off. Why: the MLX wheel for Linux links
a reference BLAS that is 50 to 90 times slower than OpenBLAS, and `mx.compile` on CPU calls g++ at each kernel's first
use. Both are no-ops on a Mac and when MLX runs on CUDA.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import logging
import math
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from engine.types import DeviceInfo
from engine.version import installed_version

log = logging.getLogger(__name__)

_BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_MOST_FILES = 10_240 if sys.platform == "darwin" else 65_536  # macOS refuses more than its OPEN_MAX

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_MAPPED_BYTES = 16 * 1024**2
_KEPT_BYTES = 64 * 1024**2

_BACKENDS = ("mlx-cuda-13", "mlx-cuda-12", "mlx-cpu")
"""Packages that bring MLX's library on Linux. Each installs the same file, so that of two the last one counts."""
_LIBRARY = "mlx/lib/libmlx.so"

_NO_BLAS = (
    "No OpenBLAS found: MLX on the CPU will be slow. Install one with `apt install libopenblas0` "
    "or `pip install opencv-python`."
)


@lru_cache(maxsize=1)
def _installed_backends() -> dict[str, str]:
    """Name and version of each installed package of _BACKENDS."""
    return {name: version for name in _BACKENDS if (version := installed_version(name))}


def _brought_the_library(name: str) -> bool:
    """Whether the library that lies there is this package's, by the size that its list of files gives."""
    from importlib.metadata import files as files_of

    files = [file for file in files_of(name) or () if file.as_posix() == _LIBRARY]
    return any(Path(file.locate()).is_file() and Path(file.locate()).stat().st_size == file.size for file in files)


def _backend() -> str:
    """The package whose library MLX runs on Linux, "" where none is installed."""
    installed = list(_installed_backends())
    return next((name for name in installed if _brought_the_library(name)), installed[0] if installed else "")


def _has_cuda_mlx() -> bool:
    return _backend().startswith("mlx-cuda")


def hints() -> list[str]:
    """What keeps MLX slow on this Linux machine and the command that mends it, one sentence each."""
    found = [] if _has_cuda_mlx() or _load_blas() else [_NO_BLAS]
    cuda = next((name for name in _installed_backends() if name.startswith("mlx-cuda")), None)
    if cuda and not _has_cuda_mlx():
        found.append(
            f"{cuda} is installed, but mlx-cpu was installed over it, so MLX runs on the CPU. "
            f"Run `pip install --force-reinstall --no-deps {cuda}=={_installed_backends()[cuda]}`."
        )
    return found


def _blas_candidates() -> list[str]:
    """Paths of OpenBLAS libraries to try, best first: the system's own, then the one in opencv-python's wheel."""
    found = []
    system = ctypes.util.find_library("openblas")
    if system:
        found.append(system)
    spec = importlib.util.find_spec("cv2")
    if spec and spec.origin:
        wheel_libs = Path(spec.origin).parent.parent / "opencv_python.libs"
        found += sorted(str(p) for p in wheel_libs.glob("libopenblas*.so*"))
    return found


def prepare() -> str:
    """Make MLX fast on this machine; call before `import mlx.core`. Any thread, idempotent.

    Returns the name of the BLAS that serves MLX's CPU matrix products: "Accelerate", the file name of an OpenBLAS,
    or "reference" when none was found.
    """
    if sys.platform == "darwin":
        return "Accelerate"
    _tell_hints()
    _map_large()
    return Path(_load_blas()).name or "reference"


@lru_cache(maxsize=1)
def _tell_hints() -> None:
    for hint in hints():
        log.warning("%s", hint)


def for_others() -> dict[str, str]:
    """What the environment of another program that uses MLX needs to be as fast as this process after `prepare`."""
    if sys.platform == "darwin" or _has_cuda_mlx():
        return {}
    blas = _load_blas()
    return {"MLX_DISABLE_COMPILE": "1"} | ({"LD_PRELOAD": blas} if blas else {})


def num_usable_cores(quota: Path = _QUOTA) -> int:
    """How many cores this process may keep busy: its affinity, within its container's share of time. Not on a Mac.

    quota: cgroup v2's cpu.max, "max 100000" or microseconds in a period; https://docs.kernel.org/admin-guide/cgroup-v2.html
    """
    cores = len(os.sched_getaffinity(0))
    try:
        share, period = quota.read_text(encoding="ascii").split()
        return max(1, min(cores, math.ceil(int(share) / int(period))))
    except (OSError, ValueError):
        return cores


@lru_cache(maxsize=1)
def _load_blas() -> str:
    """Load an OpenBLAS and return its path, "" when there is none. Not on a Mac."""
    if not _has_cuda_mlx():
        os.environ.setdefault("MLX_DISABLE_COMPILE", "1")
    # It counts the cores itself, but not a container's share of them: threads without a core would wait for each other.
    if not any(name in os.environ for name in _BLAS_THREADS):
        os.environ["OPENBLAS_NUM_THREADS"] = str(num_usable_cores())
    for path in _blas_candidates():
        try:
            # RTLD_GLOBAL: the symbols must win over the reference BLAS that libmlx links.
            ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        return path
    return ""


def _chip() -> str:
    """The processor's name, as its maker writes it."""
    if sys.platform == "darwin":
        out = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        return out.stdout.strip() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
            for line in f:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _os_name() -> str:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return f"{platform.system()} {platform.release()}"


@lru_cache(maxsize=1)
def describe() -> DeviceInfo:
    """This machine, as the header and /health show it. Does not import MLX (any thread)."""
    import psutil

    if sys.platform == "darwin":
        mlx_device = "Metal GPU" if platform.machine() == "arm64" else "CPU"
    else:
        mlx_device = "CUDA GPU" if _has_cuda_mlx() else "CPU"
    return DeviceInfo(
        os=_os_name(),
        chip=_chip(),
        mlx_device=mlx_device,
        memory_bytes=psutil.virtual_memory().total,
        num_cores=os.cpu_count() or 1,
        blas=prepare(),
        mlx_version=installed_version("mlx") or "",
    )


def process_bytes() -> int:
    """Resident memory of this process in bytes; 0 when it cannot be read, as when no more files may be opened."""
    import psutil

    try:
        return int(psutil.Process().memory_info().rss)
    except (OSError, psutil.Error):
        return 0


def raise_file_limit() -> int:
    """Let this process open as many files as its operator allows, within reason; how many that is.

    The soft limit is the small one for programs that use select(); nothing here does.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return most
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):
        return soft
    return most


@contextmanager
def file_limit_kept() -> Iterator[None]:
    """While this is open, nothing that is imported changes how many files this process may open.

    mlx_lm.utils sets the limits to (2048, 4096) when it is imported. That fails where less is allowed, and where more
    is, only root could set the hard limit back. So what is imported meanwhile gets a `resource` that leaves that limit
    alone.
    """
    stand_in = ModuleType("resource")
    stand_in.__dict__.update(vars(resource))

    def setrlimit(which: int, limits: Any) -> None:
        if which != resource.RLIMIT_NOFILE:
            resource.setrlimit(which, limits)

    stand_in.__dict__["setrlimit"] = setrlimit
    sys.modules["resource"] = stand_in
    try:
        yield
    finally:
        sys.modules["resource"] = resource


def return_memory() -> None:
    """Give freed memory back to the system: glibc keeps it, in pieces, for the next that asks. Any thread.

    https://man7.org/linux/man-pages/man3/malloc_trim.3.html; does nothing elsewhere.
    """
    if sys.platform == "linux" and (trim := getattr(_libc(), "malloc_trim", None)):
        trim(0)


@lru_cache(maxsize=1)
def _map_large() -> None:
    """Linux: what is large is mapped by itself, and so goes back to the system the moment it is freed.

    Left to itself, glibc raises that size to that of the largest piece freed so far, up to 32 MiB: then decoded
    pictures lie among small pieces that outlive them. Setting one of the two values fixes the other too, hence both.
    https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    if sys.platform == "linux" and (mallopt := getattr(_libc(), "mallopt", None)):
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
