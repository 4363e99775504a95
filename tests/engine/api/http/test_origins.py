"""Web pages of other origins: CORS where it was asked for, and refused where it was not."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter

from engine.api.app import create_app
from engine.arguments.types import origins
from engine.config import ServerConfig

MINE = "http://localhost:3000"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}


@pytest.fixture(scope="module")
def allowing(demo_engine: Any, serve: Callable[[Any], Any]) -> Iterator[str]:
    """A server with a key that lets pages of one origin in."""
    config = ServerConfig(allowed_origins=(MINE,), api_keys=(("a", "k"),))
    with serve(create_app(demo_engine, config)) as url:
        yield url


def preflight(url: str, origin: str, path: str = "/v1/chat/completions", method: str = "POST") -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization, content-type, x-stainless-os",
        "Access-Control-Request-Private-Network": "true",
    }
    return httpx.options(url + path, headers=headers, timeout=60)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/chat/completions/", "//v1/models"])
def test_a_preflight_of_an_allowed_origin(allowing: str, path: str) -> None:
    """Without the key: browsers send none with it."""
    response = preflight(allowing, MINE, path)
    assert response.status_code == 200
    headers = response.headers
    assert headers["access-control-allow-origin"] == MINE and "POST" in headers["access-control-allow-methods"]
    assert "x-stainless-os" in headers["access-control-allow-headers"]
    assert headers["access-control-allow-private-network"] == "true" and "Origin" in headers["vary"]
    assert "access-control-allow-credentials" not in headers


@pytest.mark.parametrize(
    "origin", ["http://evil.com", "null", "http://localhost:3001", "https://localhost:3000", f"{MINE}.evil.com"]
)
def test_a_preflight_of_any_other(allowing: str, origin: str) -> None:
    response = preflight(allowing, origin)
    assert response.status_code == 400 and "access-control-allow-origin" not in response.headers


def test_answers_and_errors_can_be_read(allowing: str) -> None:
    """A page must be able to read why it was refused."""
    key = {"Authorization": "Bearer k", "Origin": MINE}
    for response, status in (
        (httpx.get(f"{allowing}/v1/models", headers=key), 200),
        (httpx.get(f"{allowing}/v1/models", headers={"Origin": MINE}), 401),
        (httpx.put(f"{allowing}/v1/models", headers=key), 405),
        (httpx.get(f"{allowing}/v1/none", headers=key), 404),
        (httpx.post(f"{allowing}/v1/completions", content=b"x", headers={**key, "Content-Encoding": "br"}), 415),
        (httpx.post(f"{allowing}/v1/chat/completions", json=HELLO, headers=key, timeout=60), 200),
    ):
        assert (response.status_code, response.headers.get("access-control-allow-origin")) == (status, MINE)
        exposed = response.headers["access-control-expose-headers"].lower()
        assert "x-request-id" in exposed and "x-ignored-fields" in exposed
    other = httpx.get(f"{allowing}/v1/models", headers={**key, "Origin": "http://evil.com"})
    assert "access-control-allow-origin" not in other.headers


def page_routes() -> APIRouter:
    """Routes as the page has them beside ours."""
    router = APIRouter(include_in_schema=False)

    @router.api_route("/workbench/conversations", methods=["GET", "POST"])
    @router.api_route("/apiary", methods=["GET", "POST"])
    @router.api_route("/v1x/models", methods=["GET", "POST"])
    async def mine() -> str:
        return "what somebody wrote"

    return router


PAGES_OWN = ("/workbench/conversations", "//workbench/conversations/", "/apiary", "/v1x/models", "/docs")


@pytest.mark.parametrize("prefix", ["", "/box"])
@pytest.mark.parametrize("origins", [(MINE,), ("*",)])
def test_the_pages_own_routes_are_for_no_other_page(
    demo_engine: Any, serve: Callable[[Any], Any], origins: tuple[str, ...], prefix: str
) -> None:
    """They tell of conversations. What programs ask is allowed, beside them."""
    app = create_app(demo_engine, ServerConfig(allowed_origins=origins, root_path=prefix))
    app.include_router(page_routes())
    with serve(app) as base, httpx.Client(timeout=60, headers={"Origin": MINE}) as other_page:
        url = base + prefix
        for path in PAGES_OWN:
            read = other_page.get(url + path)
            asked = preflight(url, MINE, path)
            assert read.status_code == 200 and asked.status_code == 405
            assert not [name for answer in (read, asked) for name in answer.headers if "access-control" in name], path
        for path in PAGES_OWN[:-1]:
            written = other_page.post(url + path)
            assert (written.status_code, written.json()["error"]["code"]) == (403, "origin_not_allowed"), path
            assert other_page.post(url + path, headers={"Origin": base}).status_code == 200, "its own page may"
        for path in ("/v1", "/v1/models", "/health", "/health/ready", "/api/tags", "/metrics", "/openapi.json"):
            assert "access-control-allow-origin" in other_page.get(url + path).headers, path


def test_any_origin(demo_engine: Any, serve: Callable[[Any], Any]) -> None:
    with serve(create_app(demo_engine, ServerConfig(allowed_origins=("*",)))) as url:
        assert preflight(url, "http://anywhere.org").headers["access-control-allow-origin"] == "*"
        response = httpx.post(f"{url}/v1/chat/completions", json=HELLO, headers={"Origin": "http://a.org"}, timeout=60)
        assert response.status_code == 200 and response.headers["access-control-allow-origin"] == "*"


def test_without_a_key_other_pages_change_nothing(demo_server: Any) -> None:
    """A browser sends simple requests of any page to a loopback server, and only keeps the answer from the page."""
    url = demo_server.url
    own = url.removeprefix("http://")
    for origin in (
        "http://evil.com",
        "null",
        "https://evil.com:8443",
        "http://localhost:3000",
        f"http://{own}.evil.com",
    ):
        for path in ("/v1/cache/clear", "/v1/chat/completions", "//v1/cache/clear/"):
            response = httpx.post(url + path, headers={"Origin": origin}, json=HELLO)
            assert (response.status_code, response.json()["error"]["code"]) == (403, "origin_not_allowed")
    for origin in (
        f"http://{own}",
        f"https://{own}",
        "app://obsidian.md",
        "vscode-webview://x",
        "chrome-extension://x",
    ):
        response = httpx.post(f"{url}/v1/chat/completions", headers={"Origin": origin}, json=HELLO, timeout=60)
        assert response.status_code == 200, origin
    assert httpx.get(f"{url}/v1/models", headers={"Origin": "http://evil.com"}).status_code == 200, "and cannot be read"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("http://localhost:3000", ["http://localhost:3000"]),
        ("HTTP://Example.ORG:80/", ["http://example.org"]),
        ("https://example.org:443", ["https://example.org"]),
        ("http://[::1]:3000", ["http://[::1]:3000"]),
        ("https://käse.example", ["https://xn--kse-qla.example"]),
        ("app://obsidian.md", ["app://obsidian.md"]),
        ("*", ["*"]),
        ('["*"]', ["*"]),
        ('["http://a.org", "http://b.org"]', ["http://a.org", "http://b.org"]),
    ],
)
def test_origins_as_they_are_given(text: str, clean: list[str]) -> None:
    assert origins(text) == clean


@pytest.mark.parametrize(
    "text",
    ["null", "localhost", "localhost:3000", "http://", "http://a/b", "http://a?x", "http://u:p@a", "http://a:b",
     "http://a:99999", "[1]", '["http://a/b"]', "[", "", "http://[::1", "https://*.a.org/x"],
)  # fmt: skip
def test_what_is_no_origin(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not an origin"):
        origins(text)
