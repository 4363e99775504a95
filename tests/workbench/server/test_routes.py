"""What the dialog "This server" asks for, who is refused, and which pages are told. Without a browser."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from engine.config import ServerConfig
from engine.log_ring import LogRing
from engine.own_process import OwnProcess
from workbench.server.routes import server_news

OURS = {"X-Workbench-Visitor": "a" * 32}
ONE_KEY = (("a", "b"),)
ACTIONS = (("GET", "log"), ("POST", "restart"))


@pytest.fixture
def client(page_app: Callable[..., FastAPI]) -> Callable[..., TestClient]:
    return lambda **fields: TestClient(page_app(**fields), base_url="http://localhost")


def told(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json().get("error", {}).get("code", "")


@pytest.mark.parametrize(("method", "action"), ACTIONS)
def test_a_visitor_is_refused(client: Callable[..., TestClient], method: str, action: str) -> None:
    answer = client(open_access=True).request(method, f"/workbench/server/{action}", headers=OURS)
    assert told(answer) == (403, "operator_only")


@pytest.mark.parametrize(("method", "action"), ACTIONS)
def test_who_came_by_a_public_link_is_refused(client: Callable[..., TestClient], method: str, action: str) -> None:
    page = client(api_keys=ONE_KEY, public_link=True)
    assert page.post("/login", data={"username": "a", "password": "b"}).status_code == 200
    assert told(page.request(method, f"/workbench/server/{action}", headers=OURS)) == (403, "operator_only")


@pytest.mark.parametrize(("method", "action"), ACTIONS)
def test_somebody_without_a_login_is_refused(client: Callable[..., TestClient], method: str, action: str) -> None:
    assert client(api_keys=ONE_KEY).request(method, f"/workbench/server/{action}", headers=OURS).status_code == 401


def test_another_site_restarts_nothing(client: Callable[..., TestClient]) -> None:
    assert told(client().post("/workbench/server/restart")) == (403, "not_this_page")


def test_the_operator_reads_the_log(demo_engine: Any, page_app: Callable[..., FastAPI]) -> None:
    from workbench.app import create_app

    page_app()  # sets the upload folder
    ring, logger = LogRing("warning"), logging.Logger("engine.test")
    logger.addHandler(ring)
    page = TestClient(create_app(demo_engine, ServerConfig(), OwnProcess(ring)), base_url="http://localhost")
    logger.warning("one")
    first = page.get("/workbench/server/log", headers=OURS).json()
    logger.warning("two")
    after = page.get(f"/workbench/server/log?after={first['data'][-1]['id']}", headers=OURS).json()
    assert [line["text"] for line in (*first["data"], *after["data"])] == ["one", "two"]
    assert told(page.post("/workbench/server/restart", headers=OURS)) == (409, "cannot_restart")


def test_only_the_operators_page_hears_of_the_process(demo_engine: Any) -> None:
    process = OwnProcess()
    news = server_news(demo_engine, ServerConfig(), process, runs=True)
    assert news["server"]["started"] == round(process.started_s, 3) and news["server"]["running"] == 0
    assert server_news(demo_engine, ServerConfig(), process, runs=False) == {}


@pytest.mark.parametrize(("fields", "hears"), [({}, True), ({"open_access": True}, False)])
def test_its_events_say_so(
    page_app: Callable[..., FastAPI], serve: Callable[..., Any], fields: dict[str, Any], hears: bool
) -> None:
    kinds: list[str] = []
    with (
        serve(page_app(**fields)) as url,
        httpx.stream("GET", f"{url}/workbench/live?page=p&visitor={'a' * 32}", timeout=60) as events,
    ):
        for line in events.iter_lines():
            kinds += [json.loads(line.removeprefix("data: "))["kind"]] if line else []
            if "beat" in kinds:  # everything was said once
                break
    assert ("server" in kinds) is hears and "models" in kinds
