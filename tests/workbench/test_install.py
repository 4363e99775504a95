"""What a browser asks for to show the page as an app."""

from __future__ import annotations

import io
from urllib.parse import urljoin

import pytest
from fastapi.testclient import TestClient
from PIL import Image

LOCAL = "http://127.0.0.1"


@pytest.mark.parametrize("prefix", ["", "/w"])
def test_every_address_of_the_manifest_is_below_the_page_behind_any_prefix(page_app, prefix):
    """A proxy in front takes the prefix away; the browser resolves what the manifest says against its own address."""
    with TestClient(page_app(root_path=prefix), base_url=LOCAL) as client:
        reply = client.get("/manifest.json")
        assert reply.headers["content-type"] == "application/manifest+json"
        at = f"http://proxy{prefix}/manifest.json"
        manifest = reply.json()
        for name in ("start_url", "scope", "id"):
            assert urljoin(at, manifest[name]) == f"http://proxy{prefix}/"
        purposes = set()
        for icon in manifest["icons"]:
            address = urljoin(at, icon["src"])
            assert address.startswith(f"http://proxy{prefix}/workbench/")
            picture = client.get(address.removeprefix(f"http://proxy{prefix}"))
            assert picture.headers["content-type"] == "image/png"
            image = Image.open(io.BytesIO(picture.content))
            assert icon["sizes"] == f"{image.width}x{image.height}"
            purposes.add((icon["purpose"], image.getpixel((0, 0))[3]))
        assert purposes == {("any", 0), ("maskable", 255)}, "the corners of a maskable icon are filled"
        for nobody_asks in ("icon-64", "icon-180"):
            assert client.get(f"/workbench/{nobody_asks}.png").status_code == 404


def test_the_worker_is_asked_for_anew_and_keeps_nothing(page_app):
    with TestClient(page_app(), base_url=LOCAL) as client:
        reply = client.get("/workbench/worker.js")
        assert reply.headers["content-type"].startswith("text/javascript")
        assert (reply.headers["cache-control"], reply.headers["service-worker-allowed"]) == ("no-cache", "/")
        assert "caches" not in reply.text and "importScripts" not in reply.text
        assert "unsafe-inline" not in reply.headers["content-security-policy"].partition("script-src")[2].split(";")[0]


def test_nobody_has_to_log_in_for_them(page_app):
    with TestClient(page_app(api_keys=(("anna", "sk-anna-0123456789"),)), base_url=LOCAL) as client:
        for path in ("/manifest.json", "/workbench/worker.js", "/workbench/maskable-180.png"):
            assert client.get(path).status_code == 200
