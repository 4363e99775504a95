"""What machines say of themselves, recorded, and what is read from it."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from engine.measure.bench.about import roofline
from engine.measure.bench.hardware import (
    APPLE_GBS,
    apple_bandwidth,
    copy_bandwidth,
    cuda_bandwidth,
    cuda_facts,
    detect_hardware,
    gpu_cores,
)
from engine.measure.bench.load import thermal
from engine.measure.bench.plan import Case
from engine.measure.bench.result import Point
from tests.engine.measure.bench.builders import sample

M3_MAX = """Hardware:

    Hardware Overview:

      Model Name: MacBook Pro
      Model Identifier: Mac15,8
      Chip: Apple M3 Max
      Total Number of Cores: 16 (12 performance and 4 efficiency)
      Memory: 128 GB

Graphics/Displays:

    Apple M3 Max:

      Chipset Model: Apple M3 Max
      Type: GPU
      Bus: Built-In
      Total Number of Cores: 40
      Vendor: Apple (0x106b)
      Metal Support: Metal 3
      Displays:
        Color LCD:
          Display Type: Built-in Liquid Retina XDR Display
          Resolution: 3456 x 2234 Retina
"""
M1 = """Graphics/Displays:

    Apple M1:

      Chipset Model: Apple M1
      Type: GPU
      Bus: Built-In
      Total Number of Cores: 8
      Vendor: Apple (0x106b)
      Metal Family: Supported, Metal GPUFamily Apple 7
"""
INTEL = """Graphics/Displays:

    Intel Iris Plus Graphics 655:

      Chipset Model: Intel Iris Plus Graphics 655
      Type: GPU
      VRAM (Dynamic, Max): 1536 MB
"""
COOL = """Note: No thermal warning level has been recorded
Note: No performance warning level has been recorded
Note: No CPU power status has been recorded
"""
HOT = """2026-11-21 10:00:00 +0100 CPU Power notify
\tCPU_Scheduler_Limit \t= 100
\tCPU_Available_CPUs \t= 8
\tCPU_Speed_Limit \t= 62
"""


@pytest.mark.parametrize(("text", "cores"), [(M3_MAX, 40), (M1, 8), (INTEL, None), ("", None)])
def test_cores_of_the_gpu(text: str, cores: int | None) -> None:
    assert gpu_cores(text) == cores


@pytest.mark.parametrize(
    ("chip", "cores", "gbs"),
    [
        ("Apple M1", 8, 68.3),
        ("Apple M2 Ultra", 76, 800.0),
        ("Apple M3 Max", 40, 400.0),
        ("Apple M3 Max", 30, 300.0),
        ("Apple M4 Max", 32, 410.0),
        ("Apple M4 Pro", 20, 273.0),
        ("Apple M5", 10, 153.0),
        ("Apple M9 Max", 40, None),
        ("Intel(R) Core(TM) i7-8559U CPU @ 2.70GHz", None, None),
    ],
)
def test_bandwidth_of_apples_chips(chip: str, cores: int | None, gbs: float | None) -> None:
    assert apple_bandwidth(chip, cores) == gbs


def test_every_family_is_there() -> None:
    assert {name.split()[0] for name in APPLE_GBS} == {"M1", "M2", "M3", "M4", "M5"}


@pytest.mark.parametrize(
    ("name", "gbs"),
    [
        ("NVIDIA H100 80GB HBM3", 3350.0),
        ("NVIDIA H100 PCIe", 2000.0),
        ("NVIDIA H200", 4800.0),
        ("NVIDIA GH200 480GB", 4000.0),
        ("NVIDIA A100-SXM4-80GB", 2039.0),
        ("NVIDIA A10", 600.0),
        ("NVIDIA L40S", 864.0),
        ("NVIDIA L4", 300.0),
        ("NVIDIA GeForce RTX 4090", 1008.0),
        ("Some Card", None),
    ],
)
def test_bandwidth_of_cuda_devices(name: str, gbs: float | None) -> None:
    assert cuda_bandwidth(name) == gbs


def test_what_mlx_says_of_a_cuda_device() -> None:
    assert cuda_facts({"device_name": "NVIDIA L4", "total_memory": 24 * 2**30}, "cpu") == ("NVIDIA L4", 24 * 2**30)
    assert cuda_facts({}, "cpu") == ("cpu", 0)


def test_heat() -> None:
    assert thermal(COOL) == "" and thermal("") == ""
    assert thermal(HOT) == "CPU_Speed_Limit 62 %"


def test_this_machine() -> None:
    found = detect_hardware()
    assert found.chip_name and found.total_memory_gb > 0.1 and found.os and found.blas
    assert found.memory_bandwidth_gbs is None or found.memory_bandwidth_gbs > 0.1
    assert {"chip_name", "total_memory_gb", "memory_bandwidth_gbs", "gpu_cores"} <= asdict(found).keys()


def test_copying_is_measured() -> None:
    assert 0.1 < copy_bandwidth() < 2000


def test_the_roofline() -> None:
    """1 GB a token and 100 GB/s allow 100 tok/s; ten tokens a second after the first are a tenth of it."""
    point = Point(Case("text", "x"), "a", ((sample(0.1, 1.0, tokens=11),),))
    machine, model = {"memory_bandwidth_gbs": 100.0, "bandwidth_source": "s"}, {"bytes_per_token": 10**9}
    found = roofline([point], "a", machine, model)
    assert found["limit_tps"] == pytest.approx(100) and found["share"] == pytest.approx(0.1)
    assert roofline([point], "a", {}, model) == {} == roofline([point], "b", machine, model)
    many = Point(Case("concurrency", "16 streams"), "a", point.rounds)
    assert roofline([many], "a", machine, model) == {}, "a step of many streams reads the weights once for all"
