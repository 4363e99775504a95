"""device: the BLAS is in place before MLX, nothing imports MLX to describe the machine, and the facts are true."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from engine import device
from tests.conftest import ROOT

linux_cpu = pytest.mark.skipif(sys.platform != "linux" or device._has_cuda_mlx(), reason="the preload is for Linux CPU")


def python(code: str, **env: str) -> str:
    """Run code in a fresh interpreter; its standard output."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={k: v for k, v in os.environ.items() if k != "MLX_DISABLE_COMPILE"} | {"PYTHONPATH": str(ROOT)} | env,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_the_machine_is_described_without_importing_mlx() -> None:
    code = (
        "import sys; from engine import device; info = device.describe(); "
        "print(sorted(m for m in sys.modules if m.split('.')[0].startswith('mlx') or m == 'gradio')); print(info.blas)"
    )
    modules, blas = python(code).splitlines()
    assert modules == "[]"
    assert blas


def test_the_facts_are_true() -> None:
    info = device.describe()
    assert info.memory_bytes == psutil.virtual_memory().total
    assert info.num_cores == os.cpu_count()
    assert info.chip
    assert info.os
    assert info.mlx_version.startswith("0.")
    import mlx.core as mx

    is_gpu = mx.default_device().type == mx.DeviceType.gpu
    assert ("GPU" in info.mlx_device) == is_gpu
    assert device.process_bytes() > 10_000_000


def test_prepare_again_changes_nothing() -> None:
    assert device.prepare() == device.prepare() == device.describe().blas


LOADED = """
import os
from engine import device
name = device.prepare()
maps = open('/proc/self/maps').read()
print(name, os.environ.get('MLX_DISABLE_COMPILE'), 'openblas' in maps)
"""


@linux_cpu
def test_a_fast_blas_is_in_the_process_and_compile_is_off() -> None:
    name, compile_off, is_mapped = python(LOADED).split()
    assert "openblas" in name
    assert compile_off == "1"
    assert is_mapped == "True"


@linux_cpu
def test_the_wheels_own_blas_serves_where_the_system_has_none() -> None:
    code = "import ctypes.util\nctypes.util.find_library = lambda name: None\n" + LOADED
    name, _, is_mapped = python(code).split()
    assert name.startswith("libopenblas")
    assert ".so" in name
    assert is_mapped == "True"


@linux_cpu
@pytest.mark.parametrize(
    ("written", "cores"),
    [("max 100000\n", 4), ("200000 100000\n", 2), ("150000 100000", 2), ("50000 100000", 1), ("", 4)],
)
def test_a_container_has_the_cores_that_its_share_of_time_keeps_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2, 3})
    (tmp_path / "cpu.max").write_text(written)
    assert device.num_usable_cores(tmp_path / "cpu.max") == cores
    assert device.num_usable_cores(tmp_path / "missing") == 4


@linux_cpu
def test_no_blas_at_all_is_said_not_hidden() -> None:
    code = "from engine import device\ndevice._blas_candidates = lambda: ['/no/such/libopenblas.so']\n"
    assert python(code + "print(device.prepare())") == "reference"


@linux_cpu
def test_a_setting_of_the_users_own_stays() -> None:
    assert python(LOADED, MLX_DISABLE_COMPILE="0").split()[1] == "0"


@linux_cpu
def test_the_preload_is_what_serves_matrix_products() -> None:
    """Sabotage twin in one: without the preload a product takes many times the processor's time."""
    code = """
import sys, time
from engine import device
if sys.argv[1:] == ['fast']: device.prepare()
import mlx.core as mx
a = mx.random.normal((512, 512)); mx.eval(a @ a)
best = 9.0
for _ in range(3):
    t = time.process_time(); mx.eval(a @ a); best = min(best, time.process_time() - t)
print(best)
"""
    fast, slow = (
        float(python(code.replace("sys.argv[1:]", f"[{word!r}]"), MLX_DISABLE_COMPILE="1")) for word in ("fast", "slow")
    )
    assert slow > 4 * fast, f"{slow * 1e3:.1f} ms without, {fast * 1e3:.1f} ms with the preload"


class FileOfAPackage(importlib.metadata.PackagePath):
    """MLX's library, as a package's list of files has it."""

    where: Path

    def locate(self) -> Path:
        return self.where


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Make it look as if these packages were installed, and the library were as large as `last` says it is."""

    def install(sizes: dict[str, int], last: str) -> None:
        library = tmp_path / "libmlx.so"
        library.write_bytes(bytes(sizes[last]))

        def files(name: str) -> list[FileOfAPackage]:
            file = FileOfAPackage("mlx/lib/libmlx.so")
            file.where, file.size = library, sizes[name]
            return [file]

        monkeypatch.setattr(device, "_installed_backends", lambda: dict.fromkeys(sizes, "0.32.4"))
        monkeypatch.setattr(importlib.metadata, "files", files)

    return install


def test_the_cpu_package_installed_over_cuda_is_named_with_the_command_that_mends_it(backends) -> None:
    backends({"mlx-cuda-13": 20, "mlx-cpu": 10}, last="mlx-cpu")
    assert not device._has_cuda_mlx()
    assert "pip install --force-reinstall --no-deps mlx-cuda-13==0.32.4" in device.hints()[-1]


def test_cuda_in_place_needs_no_hint(backends) -> None:
    backends({"mlx-cuda-13": 20, "mlx-cpu": 10}, last="mlx-cuda-13")
    assert device._has_cuda_mlx()
    assert device.hints() == []


@pytest.mark.skipif(sys.platform != "linux", reason="a Mac's MLX brings its own library")
def test_the_backend_that_is_really_installed_is_told_by_its_file() -> None:
    """A contract: MLX's packages list the one library that they all install."""
    assert device._brought_the_library(device._backend())
