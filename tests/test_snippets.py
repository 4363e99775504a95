"""Every snippet of the documents is true: Python runs against a live server, commands of ours are parsed with their
options, JSON and YAML are read by what reads them."""

from __future__ import annotations

import argparse
import base64
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from engine import cli
from engine.api.http.described import ANSWERS
from engine.assets import asset
from engine.config import MediaLimits, ModelSpec
from engine.measure.bench import command as bench
from engine.measure.bench import files
from tests.conftest import Server
from tests.engine.measure.bench.test_frames import told
from tests.test_docs import PAGES

FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
DIAGRAM = ""
"""The tag of blocks that are no code."""

NOT_RUN = {
    "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/vllm-mlx-chat": "installs; test_wheel builds it",
    "bash tests/run.sh": "it is what runs this test",
    "lm-eval run": "another program; tests/clients has others' clients",
    "curl -N http://localhost:7860/v1/models/pull": "downloads gigabytes; tests/engine/hub has the route",
}
"""Commands that are not looked at, by how they begin, and why."""


@dataclass(frozen=True)
class Snippet:
    page: str
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}-{self.kind}"


READERS = [page for page in PAGES if page.parent.name != ".github"]
"""Pages for users. What CONTRIBUTING names is how these tests are run."""

SNIPPETS = [Snippet(page.name, kind, text) for page in READERS for kind, text in FENCED.findall(page.read_text())]


def of(kind: str) -> list[Snippet]:
    return [snippet for snippet in SNIPPETS if snippet.kind == kind]


def test_each_has_a_kind_that_is_looked_at() -> None:
    assert {snippet.kind for snippet in SNIPPETS} <= {"python", "bash", "json", "yaml", DIAGRAM}
    assert len(of("python")) >= 6 and len(of("bash")) >= 8, "the test sees nothing"


@pytest.fixture
def readers_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a reader stands: the folders that an option of a snippet asks for are there, and a run of the benchmark."""
    for name in ("adapters/sql", "adapters/law"):
        (tmp_path / name).mkdir(parents=True)
    files.write(told(), tmp_path / "before.parquet")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("readers_folder")
@pytest.mark.parametrize("snippet", of("python"), ids=str)
def test_python(snippet: Snippet, demo_server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """Addresses that stand for the reader's own are those of a server and a picture that are there."""
    picture = base64.b64encode((asset("samples") / "circle.png").read_bytes()).decode()
    text = re.sub(r"http://localhost:\d+", demo_server.url, snippet.text)
    text = text.replace("https://example.org/circle.png", f"data:image/png;base64,{picture}")
    assert "example.org" not in text
    names: dict[str, Any] = {}
    exec(compile(text, snippet.page, "exec"), names)
    said = capsys.readouterr().out
    assert said.strip(), "a snippet shows something"
    if "circle.png" in snippet.text and snippet.page != "decisions.md":
        assert "red" in said
    for value in names.values():
        if hasattr(value, "close") and type(value).__module__.startswith("engine."):
            value.close()


def commands(snippet: Snippet) -> Iterator[list[str]]:
    """Its command lines in words, without those of NOT_RUN."""
    lines = snippet.text.replace("\\\n", " ").splitlines()
    for line in lines:
        if line.strip() and not line.startswith(tuple(NOT_RUN)):
            yield shlex.split(line, comments=True)


@pytest.mark.usefixtures("readers_folder")
@pytest.mark.parametrize("snippet", of("bash"), ids=str)
def test_commands(snippet: Snippet) -> None:
    for name, *words in commands(snippet):
        if name == "vllm-mlx":
            check(words)
        elif name == "vllm-mlx-bench":
            bench.parse(words)
        elif name == "vllm-mlx-chat":
            from workbench.app import _parser

            _parser().parse_args(words)
        elif name == "curl":
            check_curl(words)
        elif name == "mlx.launch":
            started = words[words.index("--") + 1 :]
            assert Path(started[0]).name == "vllm-mlx"
            check(started[1:])
        else:
            raise AssertionError(f"nothing looks at {name}")


def check(words: list[str]) -> None:
    """Parse a line of vllm-mlx. Raises SystemExit for what it would refuse."""
    if words and words[0] in cli.COMMANDS:
        import importlib

        importlib.import_module(cli.COMMANDS[words[0]]).parser().parse_intermixed_args(words[1:])
    else:
        cli.serve_parser().parse_intermixed_args(words)


def check_curl(words: list[str]) -> None:
    """Look at an address on this server, and at the JSON that is sent there."""
    parser = argparse.ArgumentParser()
    for flag in ("-s", "-N"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("-X", dest="method", choices=["POST"])
    parser.add_argument("-d", dest="body", type=json.loads)
    parser.add_argument("url", type=urlsplit)
    asked = parser.parse_args(words)
    url = asked.url if asked.url.netloc else urlsplit(f"//{asked.url.geturl()}")
    assert url.hostname == "localhost", f"another server: {words}"
    assert ("post" if asked.body or asked.method else "get", url.path) in ANSWERS, f"no such route: {url.path}"


def test_a_wrong_option_would_be_seen() -> None:
    with pytest.raises(AssertionError, match="no such route: /v1/request"):
        test_commands(Snippet("x", "bash", "curl -s localhost:7860/v1/request\n"))
    with pytest.raises(SystemExit):
        test_commands(Snippet("x", "bash", "vllm-mlx serve demo --no-such-option\n"))
    with pytest.raises(AssertionError, match="nothing looks at rm"):
        test_commands(Snippet("x", "bash", "rm -r x\n"))


def test_what_is_not_run_is_there() -> None:
    lines = [line for snippet in of("bash") for line in snippet.text.splitlines()]
    assert [start for start in NOT_RUN if not any(line.startswith(start) for line in lines)] == []


@pytest.mark.parametrize("snippet", of("json"), ids=str)
def test_json(snippet: Snippet) -> None:
    from engine.api.bodies.parts import read_part

    for line in snippet.text.splitlines():
        assert read_part(json.loads(line), "part", MediaLimits()).kind


@pytest.mark.parametrize("snippet", of("yaml"), ids=str)
def test_yaml(snippet: Snippet, tmp_path: Path) -> None:
    from engine.models_file import Machine, read_models

    file = tmp_path / "models.yaml"
    file.write_text(snippet.text)
    assert read_models(file, ModelSpec(), Machine(64 * 1024**3))
