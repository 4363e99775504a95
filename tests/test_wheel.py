"""The wheel holds what a stranger needs: both packages, the demo model, the samples, the page's files, the commands."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built from this checkout and unpacked as pip would."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    (wheel,) = out.glob("mlx_workbench-*.whl")
    site = out / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def test_the_model_is_found_in_an_installed_wheel(unpacked: Path):
    names = ("demo-model", "samples", "gsm8k")
    script = f"from engine.assets import asset; [print(asset(name)) for name in {names}]; import workbench"
    env = {"PYTHONPATH": str(unpacked), "PATH": "/usr/bin:/bin"}
    found = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, env=env, cwd=unpacked, timeout=120
    ).stdout.split()
    assert [Path(path).is_relative_to(unpacked) for path in found] == [True, True, True]
    assert (Path(found[0]) / "model.safetensors").stat().st_size < 16 * 1024**2
    assert (Path(found[1]) / "samples.json").is_file()
    assert len((Path(found[2]) / "sample.jsonl").read_text().splitlines()) == 20
    assert len((Path(found[2]) / "shots.jsonl").read_text().splitlines()) == 5


def test_the_commands_and_the_page_are_there(unpacked: Path):
    (points,) = unpacked.glob("mlx_workbench-*.dist-info/entry_points.txt")
    for command in ("vllm-mlx = ", "vllm-mlx-chat = ", "vllm-mlx-bench = "):
        assert command in points.read_text()
    assert {path.suffix for path in (unpacked / "workbench" / "static").iterdir()} >= {".css", ".js"}
    assert (unpacked / "engine" / "assets" / "icon.png").is_file()


def test_the_licence_and_the_type_information_are_there(unpacked: Path):
    (licence,) = unpacked.glob("mlx_workbench-*.dist-info/licenses/LICENSE")
    assert licence.read_text() == (ROOT / "LICENSE").read_text()
    assert [(unpacked / name / "py.typed").is_file() for name in ("engine", "workbench")] == [True, True]
    (metadata,) = unpacked.glob("mlx_workbench-*.dist-info/METADATA")
    assert "Project-URL: " in metadata.read_text()


def test_nothing_else_is_shipped(unpacked: Path):
    assert {p.name for p in unpacked.iterdir() if not p.name.endswith(".dist-info")} == {"engine", "workbench"}
