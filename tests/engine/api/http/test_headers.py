"""engine.api.http.headers: every response keeps its page to this server."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from engine.api.http.headers import SafeHeaders, inline_scripts, policy, script_hash

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
    return TestClient(SafeHeaders(app, scripts=["three()"]))


def test_the_scripts_of_a_page_may_run_and_no_others(client):
    for path in ("/", "/pieces"):
        answer = client.get(path)
        assert answer.text == PAGE
        csp = answer.headers["content-security-policy"]
        for text in ("one()", "\ntwo()\n", "three()"):
            assert script_hash(text.encode()) in csp
        assert "'unsafe-inline'" not in csp.partition("style-src")[0]
        assert csp.count("sha256-") == 3


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
