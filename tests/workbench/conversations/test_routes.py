"""The plain routes: who is let in, whose conversations they see, and what another site may not do."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from engine.access.visibility import conversation_owner, keeps_conversations
from engine.config import ServerConfig
from engine.errors import Forbidden

LOCAL = "http://127.0.0.1"
OURS = {"X-Workbench-Visitor": "a" * 32}
OTHERS = {"X-Workbench-Visitor": "b" * 32}
KEYS = (("anna", "sk-anna-0123456789"), ("bob", "sk-bob-0123456789"))
CHAT = '[{"role": "user", "content": "Hello there"}, {"role": "assistant", "content": "Hi"}]'


def bring(client: TestClient, **headers: str) -> Any:
    return client.post("/workbench/import?name=one.json", content=CHAT, headers={**OURS, **headers})


def titles(client: TestClient, headers: dict[str, str] = OURS, query: str = "") -> list[str]:
    reply = client.get("/workbench/conversations", params={"q": query}, headers=headers)
    assert reply.status_code == 200, reply.text
    return [one["title"] for one in reply.json()["conversations"]]


def test_a_conversation_through_its_routes(page_app):
    with TestClient(page_app(), base_url=LOCAL) as client:
        made = bring(client).json()
        at = f"/workbench/conversations/{made['id']}"
        assert (
            titles(client) == ["one"] and titles(client, query="hello") == ["one"] and titles(client, query="xyz") == []
        )
        assert client.patch(at, json={"title": "two", "is_pinned": True}, headers=OURS).json()["is_pinned"]
        assert client.get(f"{at}/export.md").text.count("## ") == 2
        assert client.get(f"{at}/export.exe").status_code == 400
        assert "Hello there" in client.get(f"{at}/print").text
        assert client.put(f"/workbench/drafts/{made['id']}", json={"text": "half"}, headers=OURS).status_code == 200
        assert client.delete(at, headers=OURS).status_code == 200
        assert titles(client) == []
        assert client.post(f"{at}/restore", headers=OURS).status_code == 200
        assert titles(client) == ["two"]
        for method, path in (("patch", at + "x"), ("delete", at + "x"), ("get", f"{at}x/export.md")):
            arguments = {"json": {"title": "x"}} if method == "patch" else {}
            reply = getattr(client, method)(path, headers=OURS, **arguments)
            assert (reply.status_code, reply.json()["error"]["code"]) == (404, "conversation_not_found")


def test_another_site_changes_nothing(page_app):
    """Without the header, which a browser sends across sites only after asking first; and that is not allowed."""
    with TestClient(page_app(), base_url=LOCAL) as client:
        made = bring(client).json()
        at = f"/workbench/conversations/{made['id']}"
        foreign = {"Origin": "https://evil.example"}
        assert client.post("/workbench/import", content=CHAT, headers=foreign).status_code == 403
        assert client.delete(at, headers=foreign).status_code == 403
        assert client.put("/workbench/drafts/new", json={"text": "x"}, headers=foreign).status_code == 403
        asked = {
            **foreign,
            "Access-Control-Request-Method": "DELETE",
            "Access-Control-Request-Headers": "x-workbench-visitor",
        }
        assert "access-control-allow-origin" not in client.options(at, headers=asked).headers
        assert titles(client) == ["one"]


def test_a_file_that_was_not_uploaded_is_no_draft(page_app, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_text("the secret")
    with TestClient(page_app(), base_url=LOCAL) as client:
        reply = client.put("/workbench/drafts/new", json={"files": [str(secret)]}, headers=OURS)
        assert reply.status_code == 400 and "not uploaded" in reply.json()["error"]["message"]


def test_each_key_has_its_own(page_app):
    app = page_app(api_keys=KEYS)
    bob = TestClient(app, base_url=LOCAL)  # not started: an app lives once
    with TestClient(app, base_url=LOCAL) as anna:
        assert anna.get("/workbench/conversations", headers=OURS).status_code == 401
        assert anna.get("/workbench/live?page=p").status_code == 401
        for client, (name, key) in zip((anna, bob), KEYS, strict=True):
            assert client.post("/login", data={"username": name, "password": key}).status_code == 200
        made = bring(anna).json()
        assert (titles(anna), titles(bob)) == (["one"], [])
        assert bob.get(f"/workbench/conversations/{made['id']}/export.md").status_code == 404


def test_a_visitor_has_those_of_their_tab(page_app):
    with TestClient(page_app(open_access=True), base_url=LOCAL) as client:
        bring(client)
        assert (titles(client), titles(client, OTHERS)) == (["one"], [])
        for nameless in ("", "a" * 31, "A" * 32, "../" * 10 + "ab"):
            reply = client.get("/workbench/conversations", headers={"X-Workbench-Visitor": nameless})
            assert (reply.status_code, reply.json()["error"]["code"]) == (403, "unknown_visitor")


def test_an_import_beyond_the_limit_is_refused(page_app):
    with TestClient(page_app(max_upload_bytes=1000), base_url=LOCAL) as client:
        assert client.post("/workbench/import", content=b"x" * 5000, headers=OURS).status_code == 413


def test_whose_conversations_are_whose(tmp_path):
    local = ServerConfig(data_folder=tmp_path)
    assert conversation_owner(local) == conversation_owner(ServerConfig(api_keys=KEYS[:1]), "anna") == "operator"
    several = ServerConfig(api_keys=KEYS, data_folder=tmp_path)
    assert conversation_owner(several, "anna") != conversation_owner(several, "bob")
    space, link = ServerConfig(open_access=True), ServerConfig(public_link=True, api_keys=KEYS[:1])
    for public in (space, link):
        assert conversation_owner(public, "", "a" * 32) != conversation_owner(public, "", "b" * 32)
        assert "a" * 32 not in conversation_owner(public, "", "a" * 32)
        with pytest.raises(Forbidden, match="no name"):
            conversation_owner(public)
    assert keeps_conversations(local) and keeps_conversations(several)
    assert not keeps_conversations(ServerConfig())
    assert not keeps_conversations(ServerConfig(open_access=True, data_folder=tmp_path))
    assert not keeps_conversations(ServerConfig(public_link=True, data_folder=tmp_path))


def test_any_search_and_any_page_of_the_list_is_answered(page_app):
    with TestClient(page_app(), base_url=LOCAL) as client:
        bring(client)
        for query in ("\0abc", "hello\0there", '"' * 9, "' OR 1", "hello AND", "*", "%", "\N{GRINNING FACE}abc"):
            assert titles(client, query=query) in ([], ["one"])
        for offset in (-1, 10**30):
            reply = client.get("/workbench/conversations", params={"offset": offset}, headers=OURS)
            assert reply.status_code == 400 and "offset" in reply.json()["error"]["message"]


@pytest.mark.parametrize("prefix", ["/w", "/workbench", "/v1"])
@pytest.mark.parametrize("strips", [True, False])
def test_behind_a_proxy_with_a_prefix(page_app, prefix, strips):
    """Also where the prefix begins like one of our own paths, and whether the proxy takes it away or not."""
    with TestClient(page_app(root_path=prefix), base_url=LOCAL) as client:
        before = "" if strips else prefix
        made = client.post(f"{before}/workbench/import?name=one.json", content=CHAT, headers=OURS).json()
        listed = client.get(f"{before}/workbench/conversations", headers=OURS).json()["conversations"]
        assert [one["id"] for one in listed] == [made["id"]]
        at = f"{before}/workbench/conversations/{made['id']}"
        assert "Hello there" in client.get(f"{at}/print").text
        assert client.get(f"{at}/export.zip").content.startswith(b"PK")
        assert client.delete(at, headers={"Origin": "https://evil.example"}).status_code == 403
        assert client.delete(at, headers=OURS).status_code == 200
        assert client.get(f"{before}/v1/models").json()["object"] == "list"
        (path,) = client.post(f"{before}/gradio_api/upload", files={"files": ("a b.txt", b"words")}).json()
        assert client.get(f"{before}/gradio_api/file={path}").content == b"words"
        assert client.get(f"{before}/config").json()["root"] == f"{LOCAL}{prefix}"


@pytest.mark.parametrize("strips", [True, False])
def test_the_events_of_the_page_come_through_a_prefix(page_app, serve, strips):
    with serve(page_app(root_path="/workbench")) as url:
        at = f"{url}{'' if strips else '/workbench'}/workbench/live?page=p"
        with httpx.stream("GET", at, timeout=30) as events:
            assert events.headers["content-type"].startswith("text/event-stream")
            first = next(line for line in events.iter_lines() if line)
        assert json.loads(first.removeprefix("data: "))["kind"] == "hello"
