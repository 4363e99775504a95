"""/v1/logs, /v1/server and /v1/server/restart: who may ask, what is told, and a server that is really started anew."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.api.app import create_app
from engine.config import ServerConfig
from engine.log_ring import LogRing
from engine.own_process import RESTART_STATUS, SUPERVISED, OwnProcess
from engine.request_log.redact import HIDDEN
from tests.commands import Running, begun, breaks_off
from tests.endless import endless_request
from tests.waiting import wait_until

ROUTES = [("GET", "/v1/logs"), ("GET", "/v1/server"), ("POST", "/v1/server/restart")]
KEYS = (("alice", "sk-alice"), ("bob", "sk-bob"))


def asked(url: str, method: str, path: str, key: str = "") -> tuple[int, str]:
    """Status, and the code where it is an error."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    answer = httpx.request(method, url + path, headers=headers)
    return answer.status_code, answer.json().get("error", {}).get("code", "")


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    ("config", "key"),
    [
        (ServerConfig(api_keys=KEYS), "sk-bob"),
        (ServerConfig(open_access=True), ""),
        (ServerConfig(api_keys=KEYS[:1], public_link=True), "sk-alice"),
    ],
    ids=["the second key", "an open server", "a public link"],
)
def test_a_visitor_is_refused(
    demo_engine: Any, serve: Callable[..., Any], config: ServerConfig, key: str, method: str, path: str
) -> None:
    """As everything is refused that is the operator's."""
    with serve(create_app(demo_engine, config)) as url:
        assert asked(url, method, path, key) == (403, "operator_only")


def test_the_operator_is_not_and_nobody_without_a_key_is_let_in(demo_engine: Any, serve: Callable[..., Any]) -> None:
    with serve(create_app(demo_engine, ServerConfig(api_keys=KEYS, public_link=True))) as url:
        assert [asked(url, method, path, "sk-alice") for method, path in ROUTES] == [
            (200, ""), (200, ""), (409, "cannot_restart"),
        ]  # fmt: skip
        assert {asked(url, method, path) for method, path in ROUTES} == {(401, "invalid_api_key")}


def test_inside_another_program_it_says_so(demo_server: Any) -> None:
    server = httpx.get(f"{demo_server.url}/v1/server").json()
    assert server["restart"]["how"] is None and server["restart"]["obstacle"] == "embedded"
    refused = httpx.post(f"{demo_server.url}/v1/server/restart")
    assert refused.json()["error"]["message"] == server["restart"]["why_not"]
    assert httpx.get(f"{demo_server.url}/v1/logs").json()["level"] is None


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, LogRing]]:
    logger, ring = logging.Logger("engine.test"), LogRing("info")
    logger.addHandler(ring)
    yield logger, ring


def test_the_log_is_read_and_followed(
    demo_engine: Any, serve: Callable[..., Any], log: tuple[logging.Logger, LogRing]
) -> None:
    logger, ring = log
    logger.warning("the key is sk-alice")
    with serve(create_app(demo_engine, ServerConfig(api_keys=KEYS), process=OwnProcess(ring))) as url:

        def read(**query: Any) -> dict[str, Any]:
            headers = {"Authorization": "Bearer sk-alice"}
            return dict(httpx.get(f"{url}/v1/logs", params=query, headers=headers).json())

        first = read()
        assert [line["text"] for line in first["data"]] == [f"the key is {HIDDEN}"]
        assert (first["level"], first["num_gone"], first["has_more"]) == ("info", 0, False)
        assert first["data"][0]["level"] == "warning" and first["data"][0]["logger"] == "engine.test"
        logger.info("one")
        logger.error("two <b>bold</b>\nsk-bob")
        after = first["data"][-1]["id"]
        assert [line["text"] for line in read(after=after)["data"]] == ["one", f"two <b>bold</b>\n{HIDDEN}"]
        assert read(after=after, limit=1)["has_more"] and read(limit=1)["data"][0]["text"].startswith("two")
        assert [line["level"] for line in read(level="error")["data"]] == ["error"]


@pytest.mark.parametrize(
    ("query", "param"), [("after=-1", "after"), ("limit=0", "limit"), ("limit=2001", "limit"), ("level=loud", "level"),
                         ("aftr=1", "aftr")]
)  # fmt: skip
def test_a_wrong_filter_is_named(demo_server: Any, query: str, param: str) -> None:
    answer = httpx.get(f"{demo_server.url}/v1/logs?{query}")
    assert answer.status_code == 400 and param in answer.json()["error"]["param"]


def ready(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/health/ready").status_code == 200
    return False


def process_of(url: str) -> dict[str, Any]:
    return dict(httpx.get(f"{url}/v1/server").json())


def test_a_server_is_restarted_in_place(started: list[Running]) -> None:
    """What runs comes to its end, new requests are told to come back, and then the same port answers anew."""
    server = Running("serve", "demo", "--shutdown-timeout", "60")
    started.append(server)
    wait_until(lambda: ready(server.url), "it is never ready")
    before = process_of(server.url)
    assert before["restart"]["how"] == "in_place" and before["restart"]["wait_seconds"] == 60
    response, lines = begun(server.url, 800)
    told = httpx.post(f"{server.url}/v1/server/restart", timeout=60).json()
    assert told["restart"]["asked"] and told["running"] == 1
    wait_until(lambda: httpx.get(f"{server.url}/health/ready").status_code == 503, "it goes on to be ready")
    refused = httpx.post(f"{server.url}/v1/chat/completions", json=endless_request(1))
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "restarting")
    assert int(refused.headers["retry-after"]) > 0 and "restarted" in refused.json()["error"]["message"]
    assert httpx.post(f"{server.url}/v1/server/restart").status_code == 200, "it was asked for already"
    last_id = httpx.get(f"{server.url}/v1/logs").json()["data"][-1]["id"]
    rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]" and '"finish_reason":"length"' in rest[-2], "the answer is whole"
    response.close()
    wait_until(lambda: ready(server.url), "it does not come back")
    after = process_of(server.url)
    assert after["started"] > before["started"] and after["pid"] == server.process.pid
    assert not after["restart"]["asked"] and after["restart"]["how"] == "in_place"
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=endless_request(2), timeout=60)
    assert answer.status_code == 200
    ids = [line["id"] for line in httpx.get(f"{server.url}/v1/logs?after={last_id}").json()["data"]]
    assert all(number > last_id for number in ids)
    status, said = server.end(signal.SIGTERM)
    assert status == 0 and "Traceback" not in said and "a restart was asked for" in said


def test_a_key_that_was_made_is_the_same_afterwards(started: list[Running]) -> None:
    server = Running("--host", "0.0.0.0")
    started.append(server)
    key = server.line().split()[2]
    headers = {"Authorization": f"Bearer {key}"}

    def begun_s() -> float:
        with suppress(httpx.TransportError):
            return float(httpx.get(f"{server.url}/v1/server", headers=headers).json().get("started", 0))
        return 0

    before_s = begun_s()
    assert before_s and httpx.post(f"{server.url}/v1/server/restart", headers=headers, timeout=60).status_code == 200
    wait_until(lambda: begun_s() > before_s, "the key is another one, or it does not come back")
    assert server.end(signal.SIGTERM)[0] == 0


def test_a_supervised_server_ends_for_its_supervisor(started: list[Running]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Running("serve", "demo", "--port", str(port), environment={SUPERVISED: "1"})
    started.append(server)
    assert process_of(server.url)["restart"]["how"] == "supervisor"
    assert httpx.post(f"{server.url}/v1/server/restart", timeout=60).status_code == 200
    _, said = server.process.communicate(timeout=60)
    assert server.process.returncode == RESTART_STATUS and "Traceback" not in said


def test_a_signal_meanwhile_ends_it_for_good(started: list[Running]) -> None:
    server = Running("serve", "demo", "--shutdown-timeout", "60")
    started.append(server)
    wait_until(lambda: ready(server.url), "it is never ready")
    response, lines = begun(server.url, 12_000)
    assert httpx.post(f"{server.url}/v1/server/restart", timeout=60).status_code == 200
    wait_until(lambda: httpx.get(f"{server.url}/health/ready").status_code == 503, "it goes on to be ready")
    server.process.send_signal(signal.SIGINT)
    breaks_off(response, lines)
    _, said = server.process.communicate(timeout=30)
    assert server.process.returncode == 0 and "Traceback" not in said


def test_a_server_that_would_not_start_again_goes_on(started: list[Running], tmp_path: Path) -> None:
    models = tmp_path / "models.yaml"
    models.write_text("models:\n  - name: shapes\n    path: demo\n")
    server = Running("--models-config", str(models))
    started.append(server)
    wait_until(lambda: ready(server.url), "it is never ready")
    models.write_text("models: [")
    refused = httpx.post(f"{server.url}/v1/server/restart", timeout=60)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "cannot_restart")
    assert "models.yaml" in refused.json()["error"]["message"] and not process_of(server.url)["restart"]["asked"]
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=endless_request(1), timeout=60)
    assert answer.status_code == 200
