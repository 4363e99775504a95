"""engine.api.http.headers: every response keeps its page to this server."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from engine.api.app import create_app
from engine.api.http.headers import OTHERS, SafeHeaders, inline_scripts, policy, script_hash
from engine.config import ServerConfig

PAGE = (
    '<head><script>one()</script><script type="module" src="./a.js"></script><SCRIPT data-x>\ntwo()\n</SCRIPT></head>'
)


async def page(request):
    return HTMLResponse(PAGE)


async def numbers(request):
    return JSONResponse({"one": 1})


async def pieces(request):
    async def parts():
        for start in range(0, len(PAGE), 7):
            yield PAGE[start : start + 7].encode()

    return StreamingResponse(parts(), media_type="text/html")


@pytest.fixture
def client():
    app = Starlette(routes=[Route("/", page), Route("/numbers", numbers), Route("/pieces", pieces)])
    return TestClient(SafeHeaders(app))


def test_the_scripts_of_a_page_may_run_and_no_others(client):
    for path in ("/", "/pieces"):
        answer = client.get(path)
        assert answer.text == PAGE
        csp = answer.headers["content-security-policy"]
        for text in ("one()", "\ntwo()\n"):
            assert script_hash(text.encode()) in csp
        assert "'unsafe-inline'" not in csp.partition("style-src")[0]
        assert csp.count("sha256-") == 2


@pytest.mark.parametrize("path", ["/", "/numbers", "/pieces", "/missing"])
def test_no_response_names_another_host(client, path):
    headers = client.get(path).headers
    csp = headers["content-security-policy"]
    assert csp.startswith("default-src 'none'")
    assert "http" not in csp and "*" not in csp
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


def test_only_a_space_is_framed_by_others():
    assert "frame-ancestors 'self'" in policy()
    assert policy(frame_ancestors=["https://huggingface.co"]).endswith("frame-ancestors 'self' https://huggingface.co")


def test_a_script_with_a_source_is_no_inline_script():
    assert inline_scripts(PAGE.encode()) == [b"one()", b"\ntwo()\n"]


async def framed(request):
    return HTMLResponse(
        PAGE, headers={"Content-Security-Policy": "default-src 'none'", "Referrer-Policy": "no-referrer"}
    )


def test_a_page_with_a_policy_of_its_own_has_the_other_headers():
    answer = TestClient(SafeHeaders(Starlette(routes=[Route("/", framed)]))).get("/")
    assert answer.headers["content-security-policy"] == "default-src 'none'", "it stays"
    assert answer.headers["referrer-policy"] == "no-referrer", "so does this"
    assert all(name in answer.headers for name in OTHERS)


@pytest.mark.parametrize(
    "path", ["/docs", "/docs/", "/docs/assets/swagger-ui-bundle.js", "/openapi.json", "/health", "/x"]
)
@pytest.mark.parametrize("open_access", [False, True])
def test_all_that_the_server_shows_has_them(demo_engine, path, open_access):
    """Also the documentation, whose scripts come from here and whose one inline script may run."""
    config = ServerConfig(open_access=open_access)
    answer = TestClient(create_app(demo_engine, config), base_url="http://localhost").get(path)
    csp = answer.headers["content-security-policy"]
    assert csp.startswith("default-src 'none'") and "frame-ancestors 'self'" in csp
    assert ("huggingface.co" in csp) == open_access and "'unsafe-inline'" not in csp.partition("style-src")[0]
    assert all(answer.headers[name] == value for name, value in OTHERS.items())
    assert csp.count("sha256-") == (1 if path in ("/docs", "/docs/") else 0)
