"""Other people's clients, unchanged, over a real socket. Each kind is installed into a folder of its own, which is kept
in pytest's cache: `pytest -m clients`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.api.app import create_app
from engine.config import ServerConfig

HERE = Path(__file__).parent
KEY = "sk-clients"
INSTALL_S = 900
Client = Callable[[str], str]


@pytest.fixture(scope="session")
def url(demo_engine: Any, serve: Callable[[Any], Any]) -> Iterator[str]:
    """The demo model behind a key."""
    with serve(create_app(demo_engine, ServerConfig(api_keys=(("me", KEY),)))) as base:
        yield base


def installed(folder: Path, listed: Path, install: Callable[[], None]) -> Path:
    """The folder with what is listed in it, installed anew where the list has changed."""
    mark = folder / f"installed-{listed.name}"
    if not mark.exists() or mark.read_bytes() != listed.read_bytes():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        install()
        shutil.copy(listed, mark)
    return folder


def run(*command: str, cwd: Path, environment: dict[str, str], timeout_s: float = 120) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
    return done.stdout


def settings(url: str, home: Path) -> dict[str, str]:
    """What a client is told, and a home of its own."""
    return {
        "BASE_URL": f"{url}/v1", "ROOT_URL": url, "API_KEY": KEY, "HOME": str(home), "PYTHONPATH": "",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false", "NO_PROXY": "*",
    }  # fmt: skip


@pytest.fixture(scope="session")
def python(request: pytest.FixtureRequest, url: str, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """python(program) -> what it prints, run where the Python clients are installed."""
    folder, listed = Path(request.config.cache.mkdir("clients")) / "python", HERE / "requirements.txt"  # type: ignore[union-attr]
    program = folder / "bin" / "python"

    def install() -> None:
        run(sys.executable, "-m", "venv", str(folder), cwd=HERE, environment={}, timeout_s=INSTALL_S)
        run(
            str(program), "-m", "pip", "install", "-q", "-r", str(listed), cwd=HERE, environment={}, timeout_s=INSTALL_S
        )

    installed(folder, listed, install)
    home = tmp_path_factory.mktemp("home")
    environment = {**settings(url, home), "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    return lambda code: run(str(program), "-c", code, cwd=home, environment=environment)


@pytest.fixture(scope="session")
def node(request: pytest.FixtureRequest, url: str, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """node(program) -> what it prints, run where the JavaScript clients are installed."""
    folder, listed = Path(request.config.cache.mkdir("clients")) / "node", HERE / "package-lock.json"  # type: ignore[union-attr]

    def install() -> None:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder / name)
        npm = ("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
        run(*npm, cwd=folder, environment={}, timeout_s=INSTALL_S)

    installed(folder, listed, install)
    environment = settings(url, tmp_path_factory.mktemp("home"))
    return lambda code: run("node", "--input-type=module", "-e", code, cwd=folder, environment=environment)
