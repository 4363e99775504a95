"""Paths and methods as tools send them, with and without a page mounted behind the routes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI

from engine.api.app import add_pointer, create_app
from engine.api.http.paths import OwnPaths
from engine.config import ServerConfig

PAGE = FastAPI()


@PAGE.get("/{path:path}")
async def page(path: str) -> str:
    return f"page {path}"


@pytest.fixture(scope="module", params=["alone", "page", "prefix"])
def url(request: pytest.FixtureRequest, demo_engine: Any, serve: Callable[[Any], Any]) -> Iterator[str]:
    """A server without a page, with one, and one that a proxy shows under /box."""
    asyncio.run(demo_engine.ready())  # until then a model's object says less
    prefix = "/box" if request.param == "prefix" else ""
    app = create_app(demo_engine, ServerConfig(root_path=prefix))
    if request.param == "page":
        app.mount("/", PAGE)
    else:
        add_pointer(app)
    with serve(app) as base:
        yield base + prefix


def ask(url: str, method: str, path: str, headers: str = "") -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a request that is sent as it is written here."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as line:
        head = f"{method} {parts.path}{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"
        line.sendall(head.encode())
        answer = b"".join(iter(lambda: line.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    pairs = (line.split(": ", 1) for line in rest)
    return int(first.split()[1]), {name.lower(): value for name, value in pairs}, body


@pytest.mark.parametrize(
    "path", ["/health", "/health/live", "/v1/models", "/v1/models/demo", "/v1", "/metrics", "/openapi.json", "/docs"]
)
def test_head_is_get_without_a_body(url: str, path: str) -> None:
    got, head = ask(url, "GET", path), ask(url, "HEAD", path)
    assert (head[0], head[2]) == (got[0], b"") and got[0] == 200 and got[2]
    assert head[1]["content-type"] == got[1]["content-type"]
    if path not in ("/metrics", "/health"):  # which count, and say what memory is now
        assert head[1].get("content-length") == got[1].get("content-length")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/models", "GET, HEAD"),
        ("DELETE", "/v1/models/demo", "GET, HEAD"),
        ("GET", "/v1/chat/completions", "POST"),
        ("HEAD", "/v1/completions/", "POST"),
        ("PUT", "/health", "GET, HEAD"),
        ("OPTIONS", "/v1/chat/completions", "POST"),
        ("POST", "/metrics", "GET, HEAD"),
        ("BREW", "/v1/models", "GET, HEAD"),
        ("TRACE", "/health", "GET, HEAD"),
        ("x" * 500, "/health", "GET, HEAD"),
        ("POST", "/docs", "GET, HEAD"),
        ("get", "/health", "GET, HEAD"),  # methods have a case
    ],
)
def test_a_wrong_method_is_405_and_says_the_right_ones(url: str, method: str, path: str, allowed: str) -> None:
    status, headers, body = ask(url, method, path)
    assert (status, headers["allow"]) == (405, allowed)
    assert method == "HEAD" or b'"method_not_allowed"' in body
    assert len(body) < 400, "what was sent is not sent back at length"


@pytest.mark.parametrize(
    "path",
    ["/v1/models/", "/v1//models", "//v1/models", "//v1//models//", "/v1/models///", "/v1/%6dodels", "/v1/models/?x=1"],
)
def test_slashes_too_many(url: str, path: str) -> None:
    status, _, body = ask(url, "GET", path)
    assert status == 200 and b'"object":"list"' in body


def test_a_post_with_a_slash_is_answered_and_not_sent_elsewhere(url: str) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    for path in ("/v1/chat/completions/", "/v1//chat/completions"):
        assert httpx.post(url + path, json=body, timeout=60, follow_redirects=False).status_code == 200


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/models-x", "/v2/models", "/v1/chat", "/healthy"])
def test_what_is_not_there_is_404(url: str, path: str) -> None:
    status, _, body = ask(url, "GET", path)
    assert status == (200 if b"page" in body else 404)
    if path.startswith("/v1/"):
        assert status == 404 and b"route_not_found" in body
    assert ask(url, "HEAD", "/v1/nothing")[0] == 404


def test_v1_says_where_things_are(url: str) -> None:
    for path in ("/v1", "/v1/"):
        assert httpx.get(url + path).json()["models"] == "/v1/models"


def test_a_models_name_may_be_the_path_of_a_folder() -> None:
    app = FastAPI()

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> str:
        return name

    paths = OwnPaths(app.routes)
    for written, path in (("/v1/models//a/b", "/v1/models//a/b"), ("/v1//models/a/", "/v1/models/a"), ("//", None)):
        own = paths.find(written)
        assert (own and own.path) == path


def test_the_page_keeps_its_own_paths(demo_engine: Any, serve: Callable[[Any], Any]) -> None:
    app = create_app(demo_engine, ServerConfig())
    app.mount("/", PAGE)
    with serve(app) as base:
        assert httpx.get(f"{base}/a//b/").json() == "page a//b/"
        assert httpx.get(f"{base}/").json() == "page "
        assert httpx.post(f"{base}/a").status_code == 405
