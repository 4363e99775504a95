"""--server-url and models.yaml: which server, with which key, beside which models; and what is refused."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from engine.arguments.models import model_specs
from engine.cli import serve_parser
from engine.config import SERVER_KEY_VARIABLE, ModelSpec
from engine.errors import BadRequest
from engine.types import RemoteServer
from workbench.app import _parser as chat_parser

URL = "http://localhost:8000"
KEY = "the-planted-key-1234"


def specs(*options: str) -> list[ModelSpec]:
    args: argparse.Namespace = serve_parser().parse_args(["serve", *options])
    if args.served is not None:
        args.model = args.served
    return model_specs(args)


@pytest.mark.parametrize(
    ("url", "base"),
    [
        (URL, f"{URL}/v1"),
        (f"{URL}/", f"{URL}/v1"),
        (f"{URL}/v1/", f"{URL}/v1"),
        ("https://host/v1beta/openai", "https://host/v1beta/openai"),
        ("http://[::1]:80", "http://[::1]:80/v1"),
    ],
)
def test_where_it_is(url: str, base: str) -> None:
    assert RemoteServer.at(url).url == base


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "ftp://host", "http://", "http://a:b@host", "http://h/?key=1", "http://h:99999", "http://h#a"],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(BadRequest, match="server_url"):
        RemoteServer.at(url)


@pytest.mark.parametrize("key", ["", "a b", "a\nb", "ü"])
def test_what_is_no_key_is_not_repeated(key: str) -> None:
    with pytest.raises(BadRequest, match="server_key: a key is of visible ASCII characters"):
        RemoteServer.at(URL, key)


def test_it_is_the_default_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SERVER_KEY_VARIABLE, raising=False)
    [alone] = specs("--server-url", URL)
    assert (alone.served_name, alone.server) == ("localhost:8000", RemoteServer(f"{URL}/v1"))
    [named] = specs("--server-url", URL, "--server-model", "org/m", "--server-key", KEY)
    assert named.served_name == "org/m" and named.server == RemoteServer(f"{URL}/v1", KEY, "org/m")
    first, second = specs("--server-url", URL, "--model", "small=demo", "--served-model-name", "far")
    assert (first.served_name, second.served_name, second.server) == ("far", "small", None)
    assert [spec.served_name for spec in specs("demo", "--server-url", URL)] == ["localhost:8000", "demo"]
    monkeypatch.setenv(SERVER_KEY_VARIABLE, KEY)
    [kept] = specs("--server-url", URL)
    assert kept.server is not None and kept.server.key == KEY and KEY not in repr(kept)
    assert model_specs(chat_parser().parse_args(["--server-url", URL]))[0].server is not None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--server-key", KEY), "--server-key: it belongs to --server-url"),
        (("--server-model", "m"), "--server-model: it belongs to --server-url"),
        (("--server-url", URL, "--text-only"), "--text-only: it is about a model in this process"),
        (("--server-url", URL, "--revision", "main"), "--revision: it is about a model in this process"),
        (("--server-url", URL, "--models-config", "m.yaml"), "--server-url: --models-config says"),
        (("--server-url", "nowhere"), "server_url: it must be like"),
    ],
)
def test_options_that_do_not_fit(options: tuple[str, ...], words: str) -> None:
    with pytest.raises(BadRequest, match=words) as refused:
        specs(*options)
    assert KEY not in refused.value.message


def from_file(tmp_path: Path, text: str) -> list[ModelSpec]:
    file = tmp_path / "models.yaml"
    file.write_text("models:\n" + text)
    return specs("--models-config", str(file))


def test_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_KEY", KEY)
    far = f"  - {{name: far, server_url: '{URL}', server_key_env: OTHER_KEY, server_model: m, aliases: [f]}}\n"
    near, other = from_file(tmp_path, "  - {name: near, path: demo}\n" + far)
    assert (near.server, other.server) == (None, RemoteServer(f"{URL}/v1", KEY, "m"))
    assert {"far", "f"} <= set(other.names)
    [plain] = from_file(tmp_path, f"  - {{name: far, server_url: '{URL}', server_key: {KEY}}}\n")
    assert plain.server is not None and plain.server.key == KEY


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (f"name: a, path: demo, server_url: '{URL}'", "say one of path"),
        ("name: a, path: demo, server_key: k", "server_key: it belongs to server_url"),
        (f"name: a, server_url: '{URL}', params: {{mem: 5}}", "params: it is about a model in this process"),
        (f"name: a, server_url: '{URL}', server_key_env: hf_71117", "server_key_env: the environment has no variable"),
        (f"name: a, server_url: '{URL}', server_key: 71117", "server_key: it should be a text"),
        (f"name: a, server_url: '{URL}', server_key_env: 71117", "server_key_env: it should be the name of"),
        (f"name: a, server_url: '{URL}', server_key_env: sk-71117", "server_key_env: it should be the name of"),
        ("name: a, server_url: nowhere", "server_url: it must be like"),
        (
            f"name: a, server_url: '{URL}', capabilities: {{vision_mode: proxy}}, vision_proxy: {{model: a}}",
            "vision_proxy: it is about a model in this process",
        ),
    ],
)
def test_what_is_wrong_in_a_file(tmp_path: Path, entry: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words) as refused:
        from_file(tmp_path, f"  - {{{entry}}}\n")
    assert "models.yaml:2" in refused.value.message and "71117" not in refused.value.message


def test_a_server_is_no_eye_of_others(tmp_path: Path) -> None:
    entries: Any = (
        "  - {name: blind, path: demo, capabilities: {vision_mode: proxy}, vision_proxy: {model: far}}\n"
        f"  - {{name: far, server_url: '{URL}'}}\n"
    )
    with pytest.raises(BadRequest, match="far is served by another server"):
        from_file(tmp_path, entries)
