"""The plain routes: who is let in, whose conversations they see, and what another site may not do."""

from __future__ import annotations

from typing import Any

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
    with TestClient(app, base_url=LOCAL) as anna, TestClient(app, base_url=LOCAL) as bob:
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
