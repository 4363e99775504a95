"""What the buttons of the Models tab ask for, and who is refused. Over the whole app, without a browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from engine.hub.shelf import Shelf
from engine.inventory.inventory import Inventory
from tests.engine.inventory.folders import write_model

OURS = {"X-Workbench-Visitor": "a" * 32}
ACTIONS = {
    "look": {},
    "load": {"source": "demo"},
    "unload": {"source": "demo"},
    "delete": {"source": "demo"},
    "try": {"folder": "/tmp"},
    "search": {"words": "x"},
    "pull": {"repo": "org/x"},
    "downloads/pause": {"repo": "org/x"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "models" / "one").parent


@pytest.fixture
def client(
    page_app: Callable[..., FastAPI], demo_engine: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., TestClient]:
    shelf = Shelf(Inventory([folder], tmp_path / "cache"), "http://127.0.0.1:9")
    monkeypatch.setitem(vars(demo_engine), "shelf", shelf)

    def make(**fields: Any) -> TestClient:
        return TestClient(page_app(**fields), base_url="http://localhost")

    return make


@pytest.mark.parametrize("action", ACTIONS)
def test_another_site_or_program_is_refused(client: Callable[..., TestClient], action: str) -> None:
    reply = client().post(f"/workbench/models/{action}", json=ACTIONS[action])
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "not_this_page")


@pytest.mark.parametrize("action", ACTIONS)
def test_a_visitor_is_refused(client: Callable[..., TestClient], action: str) -> None:
    reply = client(open_access=True).post(f"/workbench/models/{action}", json=ACTIONS[action], headers=OURS)
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "operator_only")


def test_somebody_without_a_login_is_refused(client: Callable[..., TestClient]) -> None:
    reply = client(api_keys=(("a", "b"),)).post("/workbench/models/look", json={}, headers=OURS)
    assert reply.status_code == 401


def test_only_what_is_on_the_list_is_loaded(client: Callable[..., TestClient], tmp_path: Path) -> None:
    outside = write_model(tmp_path / "outside")
    page = client()
    for source in (str(outside), "/etc", "../outside", "org/never-downloaded", ""):
        reply = page.post("/workbench/models/load", json={"source": source}, headers=OURS)
        assert reply.status_code == 404, source


def test_deleting_only_where_it_may(client: Callable[..., TestClient], folder: Path, tmp_path: Path) -> None:
    outside = write_model(tmp_path / "outside")
    page = client()
    delete = [page.post("/workbench/models/delete", json={"source": source}, headers=OURS).status_code
              for source in ("demo", str(outside), str(folder), str(folder / "one"))]  # fmt: skip
    assert delete == [403, 404, 404, 200]
    assert outside.is_dir() and folder.is_dir() and not (folder / "one").exists()


def test_a_folder_that_cannot_be_loaded_says_why(client: Callable[..., TestClient], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    page = client()
    for path, words in ((str(empty), "config.json is missing"), ("models/one", "whole path"), ("", "whole path")):
        reply = page.post("/workbench/models/try", json={"folder": path}, headers=OURS)
        assert reply.status_code == 400 and words in reply.json()["error"]["message"]


def test_a_hub_that_does_not_answer(client: Callable[..., TestClient]) -> None:
    reply = client().post("/workbench/models/search", json={"words": "x"}, headers=OURS)
    assert reply.status_code == 503 and "cannot be reached" in reply.json()["error"]["message"]
