"""vllm-mlx-chat as a process: the port, the public link, a Space. No network beyond this machine is used."""

from __future__ import annotations

import re
import shutil
import socket
import tomllib
from pathlib import Path

import httpx
import pytest

from tests.workbench.conftest import ROOT

COMMAND = ("-m", "workbench.app", "--no-browser", "--port", "0")
SPACE = ROOT / "assets" / "space"
NO_NETWORK = {
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1,localhost",
}

TUNNEL = '''#!{python}
"""Stands in for frpc: a forwarder from a port of its own to the local port it is told."""
import socket, sys, threading

def copy(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    finally:
        sink.close()

target = (sys.argv[sys.argv.index("-i") + 1], int(sys.argv[sys.argv.index("-l") + 1]))
door = socket.create_server(("127.0.0.1", 0))
print(f"start proxy success: http://127.0.0.1:{{door.getsockname()[1]}}", flush=True)
while True:
    outside, _ = door.accept()
    inside = socket.create_connection(target)
    for pair in ((outside, inside), (inside, outside)):
        threading.Thread(target=copy, args=pair, daemon=True).start()
'''


def ask(url: str, key: str | None = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body = {"model": "default", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4}
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60)


def test_page_and_api_on_one_port(start):
    command = start(*COMMAND)
    url = command.value("MLX Workbench")
    assert command.value("OpenAI API") == f"{url}/v1"
    assert command.value("Model").startswith("demo ")
    assert "text/html" in httpx.get(url).headers["content-type"]
    assert ask(url).json()["choices"][0]["message"]["content"]
    assert not any(line.startswith("Login") for line in command.lines)
    assert not any("PyTorch" in line for line in command.lines), "a stranger's warning"
    assert command.stop() == 0
    assert not any("Traceback" in line for line in command.lines)


def test_a_taken_port_is_one_line(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = start("-m", "workbench.app", "--no-browser", "--port", str(taken.getsockname()[1]))
        assert command.ended(timeout_s=60) == 1
        assert len(command.lines) == 1
        assert "--port" in command.lines[0]


def test_a_model_that_is_not_there_is_one_line(start):
    command = start(*COMMAND, "--model", "/no/such/folder")
    assert command.ended(timeout_s=90) == 1
    assert any(line.startswith("error:") and "/no/such/folder" in line for line in command.lines)
    assert not any("Traceback" in line for line in command.lines)


def test_share_leads_page_and_api_through_the_tunnel(start, tmp_path):
    """With a stand-in for the tunnel program, where Gradio would download it to."""
    import sys

    from gradio.tunneling import BINARY_FILENAME

    program = tmp_path / "hf" / "gradio" / "frpc" / BINARY_FILENAME
    program.parent.mkdir(parents=True)
    program.write_text(TUNNEL.format(python=sys.executable))
    program.chmod(0o755)
    command = start(*COMMAND, "--share", "--share-server", "127.0.0.1:7000", HF_HOME=str(tmp_path / "hf"))
    public, key = command.value("Public link"), command.value("Password").split()[0]
    assert public != command.value("MLX Workbench")
    assert command.value("Public API") == f"{public}/v1"
    command.value("Model")

    with httpx.Client(base_url=public, timeout=60) as visitor:
        assert visitor.get("/config").status_code == 401
        assert visitor.post("/login", data={"username": "user", "password": key}).status_code == 200
        page = visitor.get("/").text
        assert "gradio.s3" not in page  # Gradio's own share page loads its script from there
        script = re.search(r'src="\.?(/assets/[^"]+\.js)"', page)[1]
        assert visitor.get(script).status_code == 200
    assert ask(public).status_code == 401
    assert ask(public, key).status_code == 200
    assert command.stop() == 0


def test_share_without_a_network_is_one_line_and_goes_on(start):
    command = start(*COMMAND, "--share", **NO_NETWORK)
    said = command.value("Public link")
    assert said.startswith("none (")
    assert command.value("MLX Workbench") in said
    key = command.value("Password").split()[0]
    command.value("Model")
    assert ask(command.value("MLX Workbench"), key).status_code == 200
    assert not any("Traceback" in line for line in command.lines)


@pytest.fixture
def space(tmp_path: Path) -> Path:
    """A Space's repository, laid out as its README says."""
    folder = tmp_path / "space"
    shutil.copytree(SPACE, folder)
    for name in ("engine", "workbench"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("demo-model", "samples"):
        shutil.copytree(ROOT / "assets" / name, folder / "assets" / name)
    shutil.copy(ROOT / "assets" / "icon.png", folder / "assets")
    return folder


def test_a_space_starts_open_with_what_its_platform_sets(start, space):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    platform = {"SYSTEM": "spaces", "SPACE_ID": "you/workbench", "GRADIO_SSR_MODE": "True", "PYTHONPATH": ""}
    platform |= {"GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "True"}
    command = start("app.py", cwd=space, **platform)
    command.value("Model")
    url = f"http://127.0.0.1:{port}"
    forwarded = {
        "Host": "you-workbench.hf.space",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "you-workbench.hf.space",
    }
    config = httpx.get(f"{url}/config", headers=forwarded).json()
    assert config["root"] == "https://you-workbench.hf.space"
    assert config["analytics_enabled"] is False
    assert not any(line.startswith("Login") for line in command.lines)
    assert ask(url).status_code == 200  # not the page: server-side rendering would have answered
    assert command.stop() == 0


def test_a_space_asks_for_what_the_project_asks_for():
    """Its platform brings Gradio by sdk_version and installs the rest from requirements.txt."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    gradio = [need for need in project if need.startswith("gradio")]
    wanted = [need for need in project if need not in gradio and "darwin" not in need]
    assert (SPACE / "requirements.txt").read_text().split("\n")[:-1] == wanted
    front = (SPACE / "README.md").read_text().split("---")[1]
    version = re.search(r"sdk_version: (\S+)", front)[1]
    assert gradio == [f"gradio~={version}"]
    assert "app_file: app.py" in front
    assert (SPACE / "app.py").exists()
