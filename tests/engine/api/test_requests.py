"""GET /v1/requests: every request is there, with its errors; everybody sees their own; no secret is told."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from engine.access import visibility
from engine.access.visibility import Caller
from engine.api.app import create_app
from engine.config import ServerConfig
from tests import pictures

PLANTED = "sk-planted-0123456789abcdef"


def ask(url: str, text: str, key: str = "", path: str = "/v1/chat/completions", **more: Any) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 3, "model": "default", **more}
    return httpx.post(url + path, json=body, headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=60)


def listed(url: str, key: str = "", **filters: Any) -> list[Any]:
    answer = httpx.get(
        f"{url}/v1/requests", params=filters, headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


def opened(url: str, id: str, key: str = "") -> httpx.Response:
    return httpx.get(f"{url}/v1/requests/{id}", headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=60)


def test_a_request_is_there_with_the_id_of_its_answer(demo_server: Any) -> None:
    answer = ask(demo_server.url, "Is this logged?").json()
    summary = next(one for one in listed(demo_server.url) if one["id"] == answer["id"])
    whole = opened(demo_server.url, answer["id"]).json()
    assert {name: whole[name] for name in summary} == summary
    assert whole["dialect"] == "chat.completions" and whole["status"] == "finished"
    assert whole["completion_tokens"] == answer["usage"]["completion_tokens"]
    assert whole["answer"][0]["text"] == answer["choices"][0]["message"]["content"]
    assert whole["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Is this logged?"}]}]


@pytest.mark.parametrize(
    ("path", "name"), [("/v1/messages", "messages"), ("/api/chat", "ollama.chat"), ("/v1/responses", "responses")]
)
def test_every_protocol_is_logged(demo_server: Any, path: str, name: str) -> None:
    more = {"input": "hi", "messages": None, "max_tokens": None} if name == "responses" else {"stream": False}
    text = f"By {name}."
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 3, "model": "default", **more}
    body = {key: value for key, value in body.items() if value is not None}
    assert httpx.post(demo_server.url + path, json=body, timeout=60).status_code == 200
    assert listed(demo_server.url)[0]["dialect"] == name


def test_filters_and_what_they_refuse(demo_server: Any) -> None:
    ask(demo_server.url, "Filtered.")
    assert listed(demo_server.url, source="nobody") == []
    assert {one["status"] for one in listed(demo_server.url, status="finished", model="demo")} == {"finished"}
    assert len(listed(demo_server.url, limit=1)) == 1
    for wrong in ({"limit": 0}, {"status": "asleep"}, {"colour": "red"}):
        assert httpx.get(f"{demo_server.url}/v1/requests", params=wrong).status_code == 400


def test_what_the_routes_refuse_is_logged_with_its_error(demo_server: Any) -> None:
    refused = ask(demo_server.url, "Too cold.", temperature=-1)
    assert refused.status_code == 400
    whole = opened(demo_server.url, refused.headers["x-request-id"]).json()
    assert whole["status"] == "failed" and whole["failure"]["param"] == "temperature"


def own_requests_only(url: str) -> None:
    mine = ask(url, "A secret of bob's.", "sk-bob").json()["id"]
    assert mine in {one["id"] for one in listed(url, "sk-bob")}
    assert opened(url, mine, "sk-bob").status_code == 200
    assert mine not in {one["id"] for one in listed(url, "sk-carol")}, "carol sees bob's request"
    hidden = opened(url, mine, "sk-carol")
    assert hidden.status_code == 404 and "bob" not in hidden.text
    operator = next(one for one in listed(url, "sk-alice") if one["id"] == mine)
    assert operator["key"] == "bob"


def test_each_key_sees_its_own_and_the_operator_all(three_keys: str) -> None:
    own_requests_only(three_keys)


def test_sabotage_without_the_rule_of_visibility_others_are_seen(
    three_keys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visibility.Caller, "sees", lambda self, tenant: True)
    with pytest.raises(AssertionError, match="carol sees bob's request"):
        own_requests_only(three_keys)


def test_a_stranger_on_a_space_sees_nothing(demo_engine: Any, serve: Callable[..., Any]) -> None:
    with serve(create_app(demo_engine, ServerConfig(open_access=True))) as url:
        id = ask(url, "On a Space.").json()["id"]
        assert listed(url) == [] and opened(url, id).status_code == 404
    assert demo_engine.requests.has(id)


def test_planted_secrets_are_in_no_answer(demo_engine: Any, serve: Callable[..., Any]) -> None:
    with serve(create_app(demo_engine, ServerConfig(api_keys=(("me", PLANTED),)))) as url:
        data = base64.b64encode(pictures.encode(pictures.picture())).decode()
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
        remote = {"type": "image_url", "image_url": {"url": f"http://user:{PLANTED}@127.0.0.1:1/a.png?token={PLANTED}"}}
        for content in ([image, {"type": "text", "text": f"My key is {PLANTED}."}], [remote]):
            ask(url, "", PLANTED, messages=[{"role": "user", "content": content}], stop=[PLANTED], user=PLANTED)
        found = listed(url, PLANTED, limit=2)
        told = str(found) + "".join(opened(url, one["id"], PLANTED).text for one in found)
        assert "[secret]" in told and PLANTED not in told
        assert data[40:80] not in told


def test_who_waited_for_whom_is_told_without_a_name(demo_engine: Any) -> None:
    """Of others only the source and the time."""
    from engine.request_log.form import _wait_json
    from engine.request_log.record import LoggedRequest
    from engine.request_log.waits import RanMeanwhile, Wait
    from engine.types import Request, StageClock, StageSpan

    other = LoggedRequest("theirs", Request(id="theirs", tenant="bob"), StageClock())
    wait = Wait(0, StageSpan("queue", 0, 1), (RanMeanwhile(other, "decode", 5.0),))
    told = _wait_json(wait, Caller("carol", operator=False))
    assert told["meanwhile"] == [{"id": None, "source": "api", "stage": "decode", "ms": 5.0}]
    assert _wait_json(wait, Caller())["meanwhile"][0]["id"] == "theirs"
