"""/v1/cache, usage.cache and /metrics over a real socket, on the demo model."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.api.answering.usage import trace_json
from engine.api.app import create_app
from engine.cache.prefix import PrefixCache
from engine.config import CacheConfig, EngineConfig, ServerConfig
from engine.core import Engine
from engine.types import CacheTrace, DiskStats
from tests import pictures

KEYS = (("alice", "sk-alice"),)
SIZES_ONLY = {"start", "num_tokens", "num_bytes", "refs", "hits", "pinned", "age_s", "idle_s"}


def ask(client: openai.OpenAI, question: str, *urls: str, kind: str = "image_url") -> Any:
    """The usage of a question about media."""
    media = [{"type": kind, kind: {"url": url}} for url in urls]
    messages: Any = [{"role": "user", "content": [*media, {"type": "text", "text": question}]}]
    return client.chat.completions.create(model="default", messages=messages, temperature=0, max_tokens=16).usage


def stats(http: httpx.Client) -> dict[str, Any]:
    answer = http.get("/v1/cache/stats")
    assert answer.status_code == 200
    return dict(answer.json())


def blocks(http: httpx.Client) -> list[dict[str, Any]]:
    """The stored blocks, once what the last request leaves behind is stored: that comes after its answer."""
    found: list[dict[str, Any]] = []
    for _ in range(40):
        before, found = found, http.get("/v1/cache/blocks").json()["data"]
        if found and [block["key"] for block in found] == [block["key"] for block in before]:
            return found
        time.sleep(0.05)
    return found


@pytest.fixture
def clean(http: httpx.Client) -> None:
    """An empty cache."""
    for block in http.get("/v1/cache/blocks").json()["data"]:
        http.post(f"/v1/cache/blocks/{block['key']}/unpin")
    assert http.post("/v1/cache/clear").json()["blocks"] == 0


def test_same_picture_other_question(client: openai.OpenAI, http: httpx.Client, clean: None) -> None:
    """What one answer says it reused is what the totals grow by, and the picture is among it."""
    red = pictures.picture_url("red")
    cold = ask(client, "What is in this image?", red)
    assert cold.prompt_tokens_details.cached_tokens == 0
    assert cold.cache["reason"] == "first_use" and cold.cache["computed_tokens"] == cold.prompt_tokens
    before = stats(http)
    warm = ask(client, "What color is it?", red)
    after = stats(http)

    cached = warm.prompt_tokens_details.cached_tokens
    assert warm.media[0]["tokens"] < cached < warm.prompt_tokens
    assert warm.cache["reused_tokens"] == cached
    assert warm.cache["computed_tokens"] == warm.prompt_tokens - cached
    assert (warm.cache["reason"], warm.cache["other"]) == ("diverged", " is")
    assert "color" in warm.cache["here"]
    moved = {name: after[name] - before[name] for name in before if isinstance(before[name], int) and after[name]}
    assert moved["tokens_saved"] == cached and moved["tokens_seen"] == warm.prompt_tokens
    assert (moved["total_queries"], moved["hits"], moved["image_hits"]) == (1, 1, 1)
    assert after["misses"] == before["misses"] and after["video_hits"] == before["video_hits"]
    assert {hits for block in blocks(http) for hits in block["media_hits"]} == {1}
    assert after["hit_rate"] == pytest.approx(after["hits"] / after["total_queries"])
    assert after["token_hit_rate"] == pytest.approx(after["tokens_saved"] / after["tokens_seen"])


def test_an_encoder_run_that_was_avoided_is_counted(client: openai.OpenAI, http: httpx.Client, clean: None) -> None:
    ask(client, "What is in this image?", pictures.picture_url("blue", "triangle"))
    before = stats(http)["encoder_runs_avoided"]
    ask(client, "What shape is it?", pictures.picture_url("blue", "triangle"))
    assert stats(http)["encoder_runs_avoided"] == before + 1


def test_the_log_has_a_line_for_each_request_without_its_words(
    client: openai.OpenAI, clean: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="engine.runtime.endings"):
        usage = ask(client, "Is my secret safe?", pictures.picture_url("red"))
    (line,) = [record.getMessage() for record in caplog.records if "prompt=" in record.getMessage()]
    reused = usage.prompt_tokens_details.cached_tokens
    assert f"prompt={usage.prompt_tokens} reused={reused} computed={usage.prompt_tokens - reused} " in line
    assert "media=1" in line and "secret" not in caplog.text


def test_another_picture_is_no_picture_hit(client: openai.OpenAI, http: httpx.Client, clean: None) -> None:
    ask(client, "What is in this image?", pictures.picture_url("red"))
    before = stats(http)["image_hits"]
    other = ask(client, "What is in this image?", pictures.picture_url("blue"))
    assert {hits for block in blocks(http) for hits in block["media_hits"]} == {0}
    assert stats(http)["image_hits"] == before
    assert other.cache["reused_tokens"] < other.media[0]["tokens"]


def test_a_clip_counts_as_a_clip(client: openai.OpenAI, http: httpx.Client, clip_path: Any) -> None:
    clip = pictures.data_url(clip_path.read_bytes(), "video/mp4")
    ask(client, "What happens in this video?", clip, kind="video_url")
    before = stats(http)
    ask(client, "What happens in this video?", clip, kind="video_url")
    after = stats(http)
    assert after["video_hits"] == before["video_hits"] + 1
    assert after["image_hits"] == before["image_hits"]


def test_the_stream_says_the_same(client: openai.OpenAI) -> None:
    ask(client, "Hello there!")
    messages: Any = [{"role": "user", "content": "Hello there!"}]
    stream = client.chat.completions.create(
        model="default", messages=messages, max_tokens=4, stream=True, stream_options={"include_usage": True}
    )
    usage: Any = [chunk.usage for chunk in stream if chunk.usage][-1]
    assert usage.cache["reason"] == "complete"
    assert usage.cache["reused_tokens"] == usage.prompt_tokens_details.cached_tokens == usage.prompt_tokens - 1


def test_blocks_are_listed(client: openai.OpenAI, http: httpx.Client, clean: None) -> None:
    usage = ask(client, "What is in this image?", pictures.picture_url("green", "square"))
    held = blocks(http)
    assert held and stats(http)["blocks"] == len(held)
    assert sum(block["num_bytes"] for block in held) == stats(http)["bytes"]["kv"] > 0
    assert sum(stats(http)["kv_layer_bytes"]) == stats(http)["bytes"]["kv"]
    first = held[0]
    assert first["start"] == 0 and 0 < first["num_tokens"] <= stats(http)["block_tokens"]
    assert (first["media"], first["media_hits"]) == ([usage.media[0]["sha256"]], [0])
    assert "▣" in first["text"] and "What is in this image?" in first["text"]


def test_a_pinned_block_survives_clear(client: openai.OpenAI, http: httpx.Client, clean: None) -> None:
    ask(client, "What is in this image?", pictures.picture_url("red"))
    ask(client, "What is in this image?", pictures.picture_url("blue"))
    key = blocks(http)[0]["key"]
    assert http.post(f"/v1/cache/blocks/{key}/pin").json() == {"key": key, "action": "pin", "done": True}
    assert stats(http)["blocks_pinned"] == 1
    refused = http.post(f"/v1/cache/blocks/{key}/drop")
    assert refused.status_code == 409 and refused.json()["error"]["code"] == "block_in_use"
    assert http.post("/v1/cache/clear").json()["blocks"] == 1
    assert [block["key"] for block in blocks(http)] == [key]
    assert ask(client, "What is in this image?", pictures.picture_url("red")).prompt_tokens_details.cached_tokens > 0
    http.post(f"/v1/cache/blocks/{key}/unpin")
    assert http.post(f"/v1/cache/blocks/{key}/drop").status_code == 200
    assert key not in {block["key"] for block in http.get("/v1/cache/blocks").json()["data"]}


@pytest.mark.parametrize("key", ["0" * 32, "no-hex", "%20"])
@pytest.mark.parametrize("action", ["pin", "unpin", "drop"])
def test_an_unknown_block_is_a_404(http: httpx.Client, key: str, action: str) -> None:
    answer = http.post(f"/v1/cache/blocks/{key}/{action}")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (404, "block_not_found", "key")
    assert error["type"] == "invalid_request_error" and error["message"]


def test_unknown_actions_and_methods(http: httpx.Client) -> None:
    for method, path in (("POST", f"/v1/cache/blocks/{'0' * 32}/paint"), ("GET", "/v1/cache"), ("GET", "/v1/cache/x")):
        answer = http.request(method, path)
        assert answer.status_code in (400, 404) and answer.json()["error"]["message"], path


def test_a_cache_that_is_off_says_so(engine_pool: Any, serve: Callable[..., Any]) -> None:
    engine = engine_pool.start(EngineConfig(cache=CacheConfig(enabled=False)))
    with serve(create_app(engine, ServerConfig())) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="-") as client:
        for _ in range(2):
            usage: Any = ask(client, "Hello!")
        held = httpx.get(f"{url}/v1/cache/stats").json()
    assert usage.cache["reason"] == "off" and usage.prompt_tokens_details.cached_tokens == 0
    assert (held["enabled"], held["total_queries"], held["hit_rate"], held["blocks"]) == (False, 0, 0, 0)


def test_the_disk_cache_tells_what_it_did(
    serve: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart: what the answer says came from disk, and the same numbers in the stats and the metrics."""
    monkeypatch.setattr(PrefixCache, "idle", lambda cache: None)  # nothing is written while the numbers are read
    red = pictures.picture_url("red")
    for life in (1, 2):
        engine = Engine(EngineConfig(cache=CacheConfig(disk_folder=tmp_path, block_tokens=16)))
        engine.start()
        try:
            with serve(create_app(engine, ServerConfig())) as url, httpx.Client(base_url=url) as http:
                with openai.OpenAI(base_url=f"{url}/v1", api_key="-") as client:
                    usage = ask(client, "What is in this image?", red)
                disk, metrics = stats(http)["disk"], scrape(http)
                num_bytes = sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))
        finally:
            engine.stop()
        cached = usage.prompt_tokens_details.cached_tokens
        assert usage.cache["disk_tokens"] == cached == (0 if life == 1 else usage.prompt_tokens - 1)
        assert disk["enabled"] and disk["faults"] == disk["dropped"] == 0
        assert disk["num_bytes"] == metrics["prefix_cache_disk_bytes"] == num_bytes
        assert disk["files"] == metrics["prefix_cache_disk_files"]
        assert disk["hits"] == metrics["prefix_cache_disk_hits_total"]
        assert disk["writes"] == metrics["prefix_cache_disk_writes_total"]
    assert disk["hits"] == 2 == disk["blocks"] - 1, "two blocks of the prompt; the third holds the answer"
    assert disk["files"] == disk["blocks"] + disk["features"] == 4


def test_without_a_folder_there_is_no_disk_cache(http: httpx.Client) -> None:
    assert stats(http)["disk"] == asdict(DiskStats()) and not stats(http)["disk"]["enabled"]


@pytest.fixture(scope="module")
def keyed(demo_engine: Any, serve: Callable[..., Any]) -> Iterator[str]:
    with serve(create_app(demo_engine, ServerConfig(host="0.0.0.0", api_keys=KEYS))) as url:
        yield url


@pytest.fixture(scope="module")
def space(demo_engine: Any, serve: Callable[..., Any]) -> Iterator[str]:
    with serve(create_app(demo_engine, ServerConfig(host="0.0.0.0", open_access=True))) as url:
        yield url


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/cache/stats"),
        ("GET", "/v1/cache/blocks"),
        ("POST", "/v1/cache/clear"),
        ("POST", f"/v1/cache/blocks/{'0' * 32}/pin"),
        ("GET", "/v1/cache/features"),
        ("POST", f"/v1/cache/features/{'0' * 32}/pin"),
        ("GET", "/metrics"),
    ],
)
def test_with_keys_everything_asks_for_one(keyed: str, method: str, path: str) -> None:
    assert httpx.request(method, keyed + path).status_code == 401
    answer = httpx.request(method, keyed + path, headers={"Authorization": "Bearer sk-alice"})
    assert answer.status_code == (404 if path.endswith("pin") else 200)


def test_features_by_picture(client: openai.OpenAI, http: httpx.Client, clean: None, space: str) -> None:
    """Each unit says which picture it is of; it is pinned, kept, dropped; a visitor gets its sizes."""
    (sha256,) = [receipt["sha256"] for receipt in ask(client, "Hm?", pictures.picture_url("red")).media]
    (unit,) = http.get("/v1/cache/features").json()["data"]
    assert unit["media"] == [{"sha256": sha256, "frames": [], "num_frames": 0}]
    held = stats(http)
    assert unit["num_bytes"] == held["bytes"]["features"] <= held["limits"]["feature_bytes"]
    path = f"/v1/cache/features/{unit['key']}"
    assert http.post(f"{path}/pin").json() == {"key": unit["key"], "action": "pin", "done": True}
    assert stats(http)["features_pinned"] == 1
    assert http.post(f"{path}/drop").status_code == 409
    assert http.post("/v1/cache/clear").json()["features"] == 1
    (shown,) = httpx.get(f"{space}/v1/cache/features").json()["data"]
    assert set(shown) == {"num_bytes", "hits", "pinned", "age_s", "idle_s"}
    refused = httpx.post(f"{space}{path}/unpin")
    assert refused.status_code == 403 and refused.json()["error"]["code"] == "operator_only"
    assert http.post(f"{path}/unpin").status_code == http.post(f"{path}/drop").status_code == 200
    assert http.get("/v1/cache/features").json()["data"] == []
    gone = http.post(f"{path}/pin")
    assert gone.status_code == 404 and gone.json()["error"]["code"] == "features_not_found"


def test_a_key_holder_sees_the_text(client: openai.OpenAI, http: httpx.Client, keyed: str) -> None:
    ask(client, "Hello!")
    assert blocks(http)
    held = httpx.get(f"{keyed}/v1/cache/blocks", headers={"Authorization": "Bearer sk-alice"}).json()["data"]
    assert any("Hello!" in block["text"] for block in held)


def test_a_visitor_sees_sizes_only(client: openai.OpenAI, http: httpx.Client, space: str) -> None:
    """No text, no hashes by which a guess could be checked, no word of another's prompt, and nothing to change."""
    ask(client, "What is in this image?", pictures.picture_url("red"))
    held = blocks(http)
    shown = httpx.get(f"{space}/v1/cache/blocks").json()["data"]
    assert len(shown) == len(held)
    assert all(set(block) == SIZES_ONLY for block in shown)
    for path in ("clear", f"blocks/{held[0]['key']}/drop", f"blocks/{held[0]['key']}/pin"):
        refused = httpx.post(f"{space}/v1/cache/{path}")
        assert refused.status_code == 403 and refused.json()["error"]["code"] == "operator_only"
    assert len(blocks(http)) == len(held)
    with openai.OpenAI(base_url=f"{space}/v1", api_key="-") as visitor:
        cache = ask(visitor, "What shape is it, then?", pictures.picture_url("red")).cache
    assert cache["reason"] == "diverged" and cache["other"] == "" and cache["here"]


def test_trace_json_hides_the_other_only() -> None:
    trace = CacheTrace(4, 6, "diverged", "up to", "mine", "yours")
    assert trace_json(trace, operator=False) == {**trace_json(trace), "other": ""}
    assert trace_json(trace)["other"] == "yours"


def test_a_hit_is_replayed(client: openai.OpenAI, http: httpx.Client) -> None:
    """What the route says is what the engine says, and both counters move with it."""
    messages: Any = [{"role": "user", "content": "Replay this!"}]
    for _ in range(2):
        answer = client.chat.completions.create(model="default", messages=messages, max_tokens=8)
    before = stats(http), scrape(http)
    said = http.post(f"/v1/cache/replay/{answer.id}").json()
    after = stats(http), scrape(http)
    assert (said["verdict"], said["equal"], said["first_difference"]) == ("equal", True, None)
    assert said["warm_tokens"] == said["cold_tokens"] != [] and said["warm_text"] == said["cold_text"]
    usage: Any = answer.usage
    assert said["reused_tokens"] == usage.prompt_tokens_details.cached_tokens > 0
    assert after[0]["cache_verified"] == before[0]["cache_verified"] + 1
    assert after[0]["cache_mismatches"] == before[0]["cache_mismatches"]
    for name in ("verified", "mismatches"):
        assert after[1][f"prefix_cache_{name}_total"] == after[0][f"cache_{name}"]


def test_what_cannot_be_replayed(http: httpx.Client, space: str) -> None:
    answer = http.post("/v1/cache/replay/chatcmpl-none")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (404, "request_not_found", "request_id")
    refused = httpx.post(f"{space}/v1/cache/replay/chatcmpl-none")
    assert refused.status_code == 403 and refused.json()["error"]["code"] == "operator_only"


def scrape(http: httpx.Client) -> dict[str, float]:
    """Sample name (with finished_reason) -> value."""
    answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        sample.name + sample.labels.get("finished_reason", ""): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_metrics_move_with_a_request(client: openai.OpenAI, http: httpx.Client) -> None:
    before = scrape(http)
    usage = ask(client, "What is in this image?", pictures.picture_url("red"))
    blocks(http)
    after = scrape(http)
    expected = {
        "vllm:prompt_tokens_total": usage.prompt_tokens,
        "vllm:generation_tokens_total": usage.completion_tokens,
        "vllm:prefix_cache_queries_total": usage.prompt_tokens,
        "vllm:prefix_cache_hits_total": usage.prompt_tokens_details.cached_tokens,
        "vllm:request_success_totalstop": 1,
        "vllm:request_success_totallength": 0,
        "vllm:request_success_totalabort": 0,
    }
    assert {name: after[name] - before[name] for name in expected} == expected
    assert after["vllm:num_requests_running"] == after["vllm:num_requests_waiting"] == 0
    held = stats(http)
    assert after["vllm:kv_cache_usage_perc"] == held["blocks"] / held["limits"]["blocks"]
    assert after["prefix_cache_bytes"] == held["bytes"]["kv"]
    assert after["mlx_active_memory_bytes"] > 0 and after["process_resident_memory_bytes"] > 0


def test_a_length_limit_is_counted_as_one(client: openai.OpenAI, http: httpx.Client) -> None:
    before = scrape(http)
    messages: Any = [{"role": "user", "content": "Hello!"}]
    client.chat.completions.create(model="default", messages=messages, max_tokens=1)
    after = scrape(http)
    assert after["vllm:request_success_totallength"] == before["vllm:request_success_totallength"] + 1
    assert after["vllm:request_success_totalstop"] == before["vllm:request_success_totalstop"]


def test_two_servers_have_registries_of_their_own(keyed: str, http: httpx.Client) -> None:
    names = set(scrape(http))
    with httpx.Client(base_url=keyed, headers={"Authorization": "Bearer sk-alice"}) as other:
        assert set(scrape(other)) == names
