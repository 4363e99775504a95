"""POST /v1/models/pull over a real socket, from the stand-in hub; the engine behind it is not even started."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.api.app import create_app
from engine.config import EngineConfig, ServerConfig
from engine.core import Engine
from engine.hub.shelf import Shelf
from engine.inventory.inventory import Inventory
from tests.engine.inventory.folders import write_model
from tests.hub import Faults, StandInHub
from tests.waiting import wait_until

NAME = "org/small"
BYTES = 8 * 1024**2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("remote") / "small", shard_bytes=BYTES)


@pytest.fixture
def hub(model: Path) -> Iterator[StandInHub]:
    with StandInHub({NAME: model}) as opened:
        yield opened


@pytest.fixture
def engine(hub: StandInHub, tmp_path: Path) -> Iterator[Engine]:
    made = Engine(EngineConfig())
    made.shelf = Shelf(Inventory([], tmp_path / "cache"), hub.url)
    yield made
    made.stop()


@pytest.fixture
def http(engine: Engine, serve: Any) -> Iterator[httpx.Client]:
    with serve(create_app(engine, ServerConfig())) as url, httpx.Client(base_url=url, timeout=60) as made:
        yield made


def test_progress_in_the_lines_of_ollama(http: httpx.Client, hub: StandInHub) -> None:
    held = threading.Event()
    hub.faults = Faults(held={"model.safetensors": held})
    lines: list[dict[str, Any]] = []
    with http.stream("POST", "/v1/models/pull", json={"model": NAME}) as response:
        assert response.headers["content-type"] == "application/x-ndjson"
        for line in response.iter_lines():
            lines.append(json.loads(line))
            if lines[-1].get("file") == "model.safetensors":
                held.set()
    assert lines[-1] == {"status": "success"}
    assert all(line["status"].startswith(("pulling ", "verifying ")) for line in lines[:-1])
    moving = [line for line in lines if "completed" in line]
    assert "pulling model.safetensors" in [line["status"] for line in moving]
    assert all(0 <= line["completed"] <= line["total"] for line in moving)
    assert all({"status", "digest", "total", "completed", "bytes_per_s", "left_s"} <= line.keys() for line in moving)


def test_the_end_alone(http: httpx.Client) -> None:
    response = http.post("/v1/models/pull", json={"model": NAME, "stream": False})
    assert (response.status_code, response.json()) == (200, {"status": "success"})


def test_what_went_wrong_is_the_last_line(http: httpx.Client, hub: StandInHub) -> None:
    hub.faults.gated.add(NAME)
    lines = http.post("/v1/models/pull", json={"model": NAME}).text.splitlines()
    last = json.loads(lines[-1])
    assert last["code"] == "gated_model" and "gated" in last["error"]
    whole = http.post("/v1/models/pull", json={"model": NAME, "stream": False})
    assert (whole.status_code, whole.json()["error"]["code"]) == (503, "gated_model")


def test_another_revision_waits_for_the_one_on_its_way(http: httpx.Client, hub: StandInHub, engine: Engine) -> None:
    held = threading.Event()
    hub.faults = Faults(held={"model.safetensors": held})
    with http.stream("POST", "/v1/models/pull", json={"model": NAME}) as response:
        lines = response.iter_lines()
        next(lines)
        other = http.post("/v1/models/pull", json={"model": NAME, "revision": "v2", "stream": False})
        assert (other.status_code, other.json()["error"]["code"]) == (409, "download_running"), other.text
        assert other.json()["error"]["param"] == "revision"
        held.set()
        with http.stream("POST", "/v1/models/pull", json={"model": NAME, "revision": "main"}) as same:
            assert same.status_code == 200
            assert [json.loads(line) for line in same.iter_lines()][-1] == {"status": "success"}
        assert [json.loads(line) for line in lines][-1] == {"status": "success"}


@pytest.mark.parametrize("body", [{}, {"model": "not a name"}, {"model": "../../etc"}, {"model": 3}])
def test_what_is_no_name_of_a_model(http: httpx.Client, hub: StandInHub, body: dict[str, Any]) -> None:
    assert http.post("/v1/models/pull", json=body).status_code == 400
    assert hub.requests == []


def test_who_goes_away_pauses_it_and_the_next_goes_on(http: httpx.Client, hub: StandInHub, engine: Engine) -> None:
    held = threading.Event()
    hub.faults = Faults(held={"model.safetensors": held})
    with http.stream("POST", "/v1/models/pull", json={"model": NAME}) as response:
        for line in response.iter_lines():
            if json.loads(line).get("completed", 0) > BYTES // 4:
                break
    held.set()
    wait_until(lambda: engine.shelf.download(NAME).stage == "paused", "it is not paused")
    wait_until(lambda: hub.is_quiet, "the hub still sends")
    before = hub.sent_bytes["model.safetensors"]
    assert http.post("/v1/models/pull", json={"model": NAME, "stream": False}).json() == {"status": "success"}
    assert hub.sent_bytes["model.safetensors"] - before < BYTES, "it began anew"


def test_whoever_follows_a_download_keeps_it_going(http: httpx.Client, hub: StandInHub, engine: Engine) -> None:
    """Also when the one who began it goes away: as a client does that asks again after its time ran out."""
    held = threading.Event()
    hub.faults = Faults(held={"model.safetensors": held})
    with ExitStack() as second:
        with http.stream("POST", "/v1/models/pull", json={"model": NAME}) as first:
            beginning = first.iter_lines()  # closing it would close the connection
            next(beginning)
            following = second.enter_context(http.stream("POST", "/v1/models/pull", json={"model": NAME}))
            lines = following.iter_lines()
            next(lines)
        held.set()
        assert [json.loads(line) for line in lines][-1] == {"status": "success"}
    assert engine.shelf.download(NAME).stage == "done"


@pytest.mark.parametrize(
    ("config", "key", "status"),
    [
        (ServerConfig(api_keys=(("op", "a"), ("other", "b"))), "b", 403),
        (ServerConfig(api_keys=(("op", "a"), ("other", "b"))), "a", 200),
        (ServerConfig(api_keys=(("op", "a"),), public_link=True), "a", 403),
        (ServerConfig(api_keys=(("op", "a"), ("other", "b")), public_link=True), "a", 200),
        (ServerConfig(open_access=True), "", 403),
        (ServerConfig(api_keys=(("op", "a"),)), "", 401),
    ],
)
def test_who_may(engine: Engine, hub: StandInHub, serve: Any, config: ServerConfig, key: str, status: int) -> None:
    """Whoever may download may load and unload, and nobody else."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with serve(create_app(engine, config)) as url, httpx.Client(base_url=url, headers=headers, timeout=60) as http:
        response = http.post("/v1/models/pull", json={"model": NAME})
        others = [http.post(f"/v1/models/{verb}", json={"model": "unknown"}) for verb in ("load", "unload")]
    assert response.status_code == status
    assert [other.status_code for other in others] == [404 if status == 200 else status] * 2
    assert bool(hub.requests) == (status == 200)
