"""The files that the page loads: its own script and style, and Gradio's; packed once, and kept by browsers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from workbench import files, theme

LOCAL = "http://127.0.0.1"
GZIP, PLAIN = {"Accept-Encoding": "gzip, br"}, {"Accept-Encoding": "identity"}


@pytest.mark.parametrize("path", [files.SCRIPT, files.STYLE])
def test_the_page_names_its_own_files_by_their_content_and_before_gradios(page_app: Any, path: str) -> None:
    with TestClient(page_app(), base_url=LOCAL) as client:
        page = client.get("/", headers=PLAIN)
        assert int(page.headers["content-length"]) == len(page.content)
        named = re.search(rf'"({path}\?v=\w+)"', page.text)
        assert named and named.start() < page.text.index("<script>") < page.text.index('type="module"')
        reply = client.get(f"/{named[1]}", headers=GZIP)
        assert "immutable" in reply.headers["cache-control"] and "accept-encoding" in reply.headers["vary"].lower()
        assert 3 * int(reply.headers["content-length"]) < len(reply.content)
        assert int(reply.headers["content-length"]) < 200_000, "what a page loads of ours beside Gradio's own"
        assert reply.text == {files.SCRIPT: theme.page_script(), files.STYLE: theme.style()}[path]
        assert client.get(f"/{named[1]}", headers=PLAIN).text == reply.text
        assert client.get(f"/{path}?v=another", headers=GZIP).headers["cache-control"] == "no-cache"


def test_gradios_files_are_packed_once_and_kept(page_app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with TestClient(page_app(), base_url=LOCAL) as client:
        page = client.get("/").text
        names = re.findall(r'(?:src|href)="\./(assets/[^"]+\.(?:js|css))"', page)
        assert len(names) > 1, "the test sees nothing"
        for name in names:
            reply = client.get(f"/{name}", headers=GZIP)
            assert reply.headers["content-type"].startswith(("text/javascript", "text/css"))
            assert reply.headers["content-encoding"] == "gzip" and "immutable" in reply.headers["cache-control"]
            assert client.get(f"/{name}", headers=PLAIN).content == reply.content
        monkeypatch.setattr(files, "packed", None)
        assert client.get(f"/{names[0]}", headers=GZIP).status_code == 200, "it was packed again"
        for path in ("/assets/none.js", "/assets/..%2F..%2Fpackage.json", "/assets/%2e%2e/%2e%2e/package.json"):
            assert client.get(path).status_code in (403, 404), "Gradio refuses some itself"


def test_a_font_is_sent_as_it_is(page_app: Any) -> None:
    import gradio as gr

    font = next(Path(gr.__file__).parent.glob("templates/frontend/assets/*.woff2"))
    with TestClient(page_app(), base_url=LOCAL) as client:
        reply = client.get(f"/assets/{font.name}", headers=GZIP)
    assert reply.content == font.read_bytes() and "content-encoding" not in reply.headers


def test_nobody_has_to_log_in_for_them(page_app: Any) -> None:
    with TestClient(page_app(api_keys=(("anna", "sk-anna-0123456789"),)), base_url=LOCAL) as client:
        assert client.get(f"/{files.SCRIPT}").status_code == 200
        assert "page.js" not in client.get("/").text, "the page to log in has its own"


@pytest.mark.parametrize("prefix", ["", "/w"])
def test_they_are_there_behind_any_prefix(page_app: Any, prefix: str) -> None:
    with TestClient(page_app(root_path=prefix), base_url=LOCAL) as client:
        for path in {f"/{files.SCRIPT}", f"{prefix}/{files.SCRIPT}"}:
            assert client.get(path).headers["content-type"].startswith("text/javascript")
