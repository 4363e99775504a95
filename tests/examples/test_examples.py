"""Every file of assets/examples runs, on the demo model, and says what is true of the samples."""

from __future__ import annotations

import ast
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Server
from tests.sounds import noise, wav

EXAMPLES = Path(__file__).resolve().parents[2] / "assets" / "examples"
Run = Callable[..., str]

OFFLINE = {
    "simple_generate.py": ("Answer: ", "'What can you do? (4)' -> "),
    "mllm_example.py": (
        "Picture: A large red circle in the center.",
        "Question: It is red.",
        "Clip: A red circle moves to the right.",
        "Two pictures: The first image shows a blue square, the second an orange square.",
    ),
}
ONLINE = {
    "demo_openai_text.py": ("Answer: ", "Stream: "),
    "demo_openai_image.py": ("Answer: A large red circle in the center.", "'seen': [128, 128]"),
    "demo_openai_video.py": ("Answer: A red circle moves to the right.", "Frames at: [0.0, "),
    "structured_pictures.py": ("circle.png {'shape': '", "triangle.png {'shape': '", "', 'is_red': "),
    "decisions.py": ("value='red'", "input_tokens="),
    "tools.py": ('weather({"city": ', " -> 12 degrees and rain in ", "Answer: "),
}
CHATS = {
    "text-only": "",
    "single-image": "A large red circle in the center.",
    "multi-image": "The first image shows a blue square, the second an orange square.",
    "video": "A red circle moves to the right.",
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """run(file, *arguments) -> what the program prints."""

    def program(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return program


def test_each_file_has_a_test() -> None:
    tested = {*OFFLINE, *ONLINE, "client.py", "pictures.ipynb"}
    assert {file.name for file in EXAMPLES.iterdir() if file.suffix in (".py", ".ipynb")} == tested


@pytest.mark.parametrize("name", OFFLINE)
def test_in_python(run: Run, name: str) -> None:
    said = run(name)
    assert [words for words in OFFLINE[name] if words not in said] == [], said


@pytest.mark.parametrize("name", ONLINE)
def test_through_a_server(run: Run, demo_server: Server, name: str) -> None:
    said = run(name, "--base-url", f"{demo_server.url}/v1")
    assert [words for words in ONLINE[name] if words not in said] == [], said


@pytest.mark.parametrize("kind", CHATS)
def test_the_client(run: Run, demo_server: Server, kind: str) -> None:
    said = run("client.py", "--chat-type", kind, "--base-url", f"{demo_server.url}/v1")
    assert CHATS[kind] in said and said.count(" tokens\n") == {"text-only": 0, "multi-image": 2}.get(kind, 1)


@pytest.fixture
async def hearing(engine_for: Any, tiny_model: Any) -> Any:
    """An engine on a tiny model that hears, and may fetch from this machine."""
    from engine.config import MediaLimits

    return await engine_for(tiny_model("gemma4"), media=MediaLimits(allow_private_urls=True))


async def test_the_client_sends_media_by_url(run: Run, hearing: Any, serve: Any, tmp_path: Path) -> None:
    import asyncio

    from starlette.applications import Starlette
    from starlette.staticfiles import StaticFiles

    from engine.api.app import create_app
    from engine.config import ServerConfig

    (tmp_path / "sound.wav").write_bytes(wav(noise(seconds=0.5)))
    files = Starlette()
    files.mount("/", StaticFiles(directory=tmp_path))
    with serve(files) as web, serve(create_app(hearing, ServerConfig())) as url:
        arguments = (f"{web}/sound.wav", "--chat-type", "audio", "--base-url", f"{url}/v1", "--max-tokens", "4")
        said = await asyncio.to_thread(run, "client.py", *arguments)
    assert "audio: " in said and " tokens" in said


@pytest.mark.parametrize("arguments", [("--chat-type", "audio"), ("x.png", "--chat-type", "text-only")])
def test_the_client_asks_for_what_is_missing(run: Run, arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit):
        run("client.py", *arguments)


async def test_the_notebook_runs_from_top_to_bottom(capsys: pytest.CaptureFixture[str]) -> None:
    """Cell by cell beside a running loop, as a kernel does; what a cell ends with is shown as HTML where it has any."""
    notebook = json.loads((EXAMPLES / "pictures.ipynb").read_text())
    assert notebook["nbformat"] == 4
    names: dict[str, Any] = {}
    shown = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            shown.append(_run_cell(cell["source"], names))
    html = [value._repr_html_() for value in shown if hasattr(value, "_repr_html_")]
    assert len(html) == 2 and "A large red circle in the center." in html[0] and "moves to the right" in html[1]
    assert all('src="data:image/png;base64,' in one for one in html)
    cached, whole = next(value for value in shown if isinstance(value, tuple))
    assert 0 < cached < whole and "The first image shows" in capsys.readouterr().out
    names["model"].close()


def _run_cell(source: str, names: dict[str, Any]) -> Any:
    """What the cell's last line gives, None where it is no expression."""
    body = ast.parse(source).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if isinstance(last, ast.Expr) else None
