"""workbench.app: one port, and who may come in. The server is asked as a hostile client would ask it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from engine.api.http.headers import inline_scripts, script_hash
from engine.arguments.server import server_config
from engine.assets import data_folder
from engine.config import ServerConfig
from workbench.app import local_url, open_to

KEYS = (("anna", "sk-anna-0123456789"),)
LOCAL = "http://127.0.0.1"


def send(client: TestClient, path: str) -> Any:
    """Send a message with one file as the page does, or as a client would that forges what the page sends."""
    config = client.get("/config").json()
    outbox = next(c["id"] for c in config["components"] if c["props"].get("elem_id") == "outbox")
    (event,) = [d for d in config["dependencies"] if outbox in d["inputs"] and d["backend_fn"]]
    value = {"text": "hi", "files": [{"path": path, "meta": {"_type": "gradio.FileData"}}]}
    data = [value if component == outbox else None for component in event["inputs"]]
    body = {"fn_index": event["id"], "data": data, "session_hash": "s1", "event_data": None}
    return client.post("/gradio_api/run/predict", json=body)


def page_of(app: FastAPI) -> Any:
    """The Blocks mounted in the app, behind the login page."""
    return app.routes[-1].app._app._app.get_blocks()  # type: ignore[attr-defined]


def test_help_imports_neither_gradio_nor_mlx():
    code = (
        "import sys, workbench.app as app\n"
        "try: app.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('gradio', 'mlx', 'mlx.core', 'fastapi') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip().endswith("[]")
    for option in (
        "--model",
        "--host",
        "--port",
        "--no-browser",
        "--text-only",
        "--max-tokens",
        "--temperature",
        "--share",
    ):
        assert option in out


def test_the_page_is_packed_and_small(page_app: Any) -> None:
    """Its own script is not in it (test_files.py)."""
    with TestClient(page_app(), base_url=LOCAL) as client:
        reply = client.get("/", headers={"Accept-Encoding": "gzip"})
        assert reply.headers["content-encoding"] == "gzip" and 50_000 < len(reply.content) < 200_000
        assert int(reply.headers["content-length"]) < len(reply.content) / 3
        allowed = reply.headers["content-security-policy"]
        assert all(script_hash(script) in allowed for script in inline_scripts(reply.content))
        for path in ("/v1/models", "/openapi.json"):
            assert "content-encoding" not in client.get(path, headers={"Accept-Encoding": "gzip"}).headers
        assert "content-encoding" not in client.get("/", headers={"Accept-Encoding": "identity"}).headers


def test_gradios_queue_sleeps_because_nothing_of_the_page_is_queued(page_app):
    """Awake, it took a twentieth of a core of every server that has nothing to do."""
    app = page_app()
    with TestClient(app, base_url=LOCAL) as client:
        events = client.get("/config").json()["dependencies"]
    assert len(events) > 50 and not [event for event in events if event["queue"] is not False]
    queue = page_of(app)._queue
    assert min(queue.sleep_when_free, queue.progress_update_sleep_when_free) >= 1


def test_loopback_asks_for_no_key():
    assert open_to(ServerConfig(), shared=False, in_a_space=False).api_keys == ()


@pytest.mark.parametrize(("host", "shared"), [("0.0.0.0", False), ("192.168.1.5", False), ("127.0.0.1", True)])
def test_a_port_that_others_reach_gets_a_key(host, shared):
    config = open_to(ServerConfig(host=host), shared=shared, in_a_space=False)
    ((name, secret),) = config.api_keys
    assert name == "user"
    assert len(secret) > 30
    assert (config.host, config.open_access) == (host, False)


@pytest.mark.parametrize(
    ("options", "folder"),
    [([], data_folder()), (["--data-dir", "/x"], Path("/x")), (["--no-history", "--data-dir", "/x"], None)],
)
def test_where_conversations_are_kept(options, folder):
    from workbench.app import _parser, kept

    args = _parser().parse_args([*options, "--unwatched-minutes", "2"])
    config = kept(server_config(args), args)
    assert (config.data_folder, config.unwatched_s) == (folder, 120.0)


def test_a_public_link_has_visitors():
    assert open_to(ServerConfig(), shared=True, in_a_space=False).public_link
    assert not open_to(ServerConfig(), shared=False, in_a_space=False).public_link


def test_a_given_key_is_the_one():
    config = ServerConfig(host="0.0.0.0", api_keys=KEYS)
    assert open_to(config, shared=True, in_a_space=False).api_keys == KEYS


def test_a_space_is_open():
    config = open_to(ServerConfig(host="0.0.0.0"), shared=False, in_a_space=True)
    assert config.open_access
    assert config.api_keys == ()


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:80"), ("0.0.0.0", "http://127.0.0.1:80"), ("::", "http://[::1]:80")],
)
def test_local_url(host, url):
    assert local_url(ServerConfig(host=host, port=80)) == url


def test_routes_come_before_the_page(page_app):
    with TestClient(page_app(), base_url=LOCAL) as client:
        assert client.get("/health").headers["content-type"].startswith("application/json")
        assert client.get("/v1/models").headers["content-type"].startswith("application/json")
        assert client.post("/v1/chat/completions", json={}).status_code in (400, 404, 503)
        assert "text/html" in client.get("/").headers["content-type"]


def test_the_page_names_no_other_machine(page_app):
    with TestClient(page_app(), base_url=LOCAL) as client:
        html, config = client.get("/").text, client.get("/config").json()
        loaded = re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"']?(https?:)?//", html)
        assert loaded == []
        assert config["analytics_enabled"] is False
        assert not config["run_history"]


def test_a_server_file_is_refused(page_app, tmp_path):
    """A client names a file of this machine instead of uploading one; it must not get to where files are served."""
    secret = tmp_path / "secret.png"
    secret.write_text("the secret")
    with TestClient(page_app(), base_url=LOCAL) as client:
        answer = send(client, str(secret))
        assert answer.status_code >= 400 or str(secret) not in answer.text
        assert not list((tmp_path / "uploads").rglob("secret.png"))
        assert client.get(f"/gradio_api/file={secret}").status_code in (403, 404)


def test_without_the_guard_a_server_file_is_read(page_app, tmp_path):
    """The twin of the test above: it would see the leak if the guard were gone."""
    secret = tmp_path / "secret.png"
    secret.write_text("the secret")
    app = page_app()
    page_of(app).has_launched = False
    with TestClient(app, base_url=LOCAL) as client:
        send(client, str(secret))
        assert list((tmp_path / "uploads").rglob("secret.png"))


def test_an_uploaded_file_is_taken(page_app):
    """So that the refusal above is of the file, not of the way of asking."""
    with TestClient(page_app(), base_url=LOCAL) as client:
        (path,) = client.post("/gradio_api/upload", files={"files": ("cat.png", b"x")}).json()
        answer = send(client, path)
        assert answer.status_code == 200
        assert "cat.png" in answer.text


def test_an_example_card_is_taken_by_its_number_only(page_app, tmp_path):
    """The page says which card was chosen; what it says of the card's text and files is not believed."""
    secret = tmp_path / "uploads" / "other" / "secret.png"
    with TestClient(page_app(), base_url=LOCAL) as client:
        secret.parent.mkdir()
        secret.write_text("of another page")
        config = client.get("/config").json()
        (event,) = [d for d in config["dependencies"] if d["targets"][0][1] == "example_select"]
        chosen = {"index": 0, "value": {"text": "forged", "files": [{"path": str(secret)}]}}
        data = [None for _ in event["inputs"]]
        body = {"fn_index": event["id"], "data": data, "session_hash": "s1", "event_data": chosen}
        answer = client.post("/gradio_api/run/predict", json=body)
        assert answer.status_code == 200
        assert "secret.png" not in answer.text
        assert "forged" not in answer.text
        assert "circle.png" in answer.text


@pytest.mark.parametrize("path", ["/etc/passwd", "pyproject.toml", "engine/config.py"])
def test_no_file_of_the_machine_is_served(page_app, path):
    with TestClient(page_app(), base_url=LOCAL) as client:
        assert client.get(f"/gradio_api/file={path}").status_code in (403, 404)


def test_the_upload_folder_is_private(page_app, tmp_path):
    page_app()
    assert (tmp_path / "uploads").stat().st_mode & 0o777 == 0o700


def test_an_upload_beyond_the_limit_is_refused(page_app):
    with TestClient(page_app(max_upload_bytes=1000), base_url=LOCAL) as client:
        assert client.post("/gradio_api/upload", files={"files": ("a.png", b"x" * 900)}).status_code == 200
        assert client.post("/gradio_api/upload", files={"files": ("a.png", b"x" * 5000)}).status_code == 413


def test_one_secret_opens_the_page_and_the_api(page_app):
    with TestClient(page_app(host="0.0.0.0", api_keys=KEYS), base_url=LOCAL) as client:
        assert client.get("/config").status_code == 401
        assert client.post("/gradio_api/upload", files={"files": ("a.png", b"x")}).status_code == 401
        assert client.post("/gradio_api/queue/join", json={"fn_index": 0, "data": []}).status_code == 401
        assert client.get("/v1/models").status_code == 401
        assert client.post("/login", data={"username": "anna", "password": "wrong"}).status_code == 400
        assert client.post("/login", data={"username": "bob", "password": KEYS[0][1]}).status_code == 400
        assert client.get("/config").status_code == 401
        assert client.post("/login", data={"username": "anna", "password": KEYS[0][1]}).status_code == 200
        assert client.get("/config").status_code == 200
        assert client.get("/v1/models", headers={"Authorization": f"Bearer {KEYS[0][1]}"}).status_code in (200, 503)


def test_open_access_asks_for_nothing(page_app):
    with TestClient(page_app(host="0.0.0.0", open_access=True), base_url="https://you-space.hf.space") as client:
        assert client.get("/config").status_code == 200
        assert client.get("/v1/models").status_code in (200, 503)


def test_it_can_be_installed_as_an_app(page_app):
    with TestClient(page_app(), base_url=LOCAL) as client:
        manifest = client.get("/manifest.json").json()
        assert manifest["name"] == "MLX Workbench"
        assert manifest["display"] == "standalone"
        for icon in manifest["icons"]:
            assert client.get(f"/{icon['src'].lstrip('/')}").headers["content-type"] == "image/png"
        assert any("512" in icon["sizes"] for icon in manifest["icons"])


def test_a_root_path_is_in_every_address(page_app):
    with TestClient(page_app(root_path="/workbench"), base_url=LOCAL) as client:
        assert client.get("/config").json()["root"] == f"{LOCAL}/workbench"
        assert client.get("/health").status_code == 200


def test_no_value_is_put_into_a_template(page_app):
    """Gradio runs what stands as ${...} in a template or in a value that goes into one; ours are drawn by scripts."""
    with TestClient(page_app(), base_url=LOCAL) as client:
        components = client.get("/config").json()["components"]
    templates = [part["props"]["html_template"] for part in components if part["type"] == "html"]
    assert len(templates) > 8
    assert not [template for template in templates if "${" in template or "{{" in template]
