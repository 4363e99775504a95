"""GET /metrics: the snapshot in Prometheus' text format, read at each request. vLLM's names where it has one.

https://docs.vllm.ai/en/latest/design/metrics.html. As there, prefix cache queries and hits count prompt tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from engine.api.http.guard import guarded_route
from engine.config import ServerConfig
from engine.core import Engine
from engine.types import Snapshot


def metrics_router(engine: Engine, config: ServerConfig) -> APIRouter:
    """GET /metrics. Numbers only, nothing that users sent; requires the key where one is set."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SnapshotCollector(engine.snapshot))
    router = APIRouter(route_class=guarded_route(config))

    @router.get("/metrics", summary="Counters for Prometheus", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return router


class SnapshotCollector:
    """A collector of prometheus_client: turns the latest snapshot into metrics at each scrape."""

    def __init__(self, read: Callable[[], Snapshot]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        snapshot = self._read()
        yield from _requests(snapshot)
        yield from _prefix_cache(snapshot)
        yield from _disk_cache(snapshot)
        yield from _memory(snapshot)


def _requests(snapshot: Snapshot) -> Iterator[Metric]:
    waiting = sum(request.stage == "waiting" for request in snapshot.running)
    totals = snapshot.totals
    yield _gauge(
        snapshot, "vllm:num_requests_running", "Requests in prefill or decode", len(snapshot.running) - waiting
    )
    yield _gauge(snapshot, "vllm:num_requests_waiting", "Requests in the queue", waiting)
    yield _counter(snapshot, "vllm:prompt_tokens", "Prompt tokens of finished requests", totals.prompt_tokens)
    yield _counter(snapshot, "vllm:generation_tokens", "Tokens generated", totals.completion_tokens)
    proposed, accepted = totals.proposed_tokens, totals.accepted_tokens
    yield _counter(snapshot, "vllm:spec_decode_num_draft_tokens", "Tokens proposed by speculation", proposed)
    yield _counter(snapshot, "vllm:spec_decode_num_accepted_tokens", "Of these, those in the answers", accepted)
    ended = {
        "stop": totals.finished - totals.cut_off,
        "length": totals.cut_off,
        "abort": totals.cancelled,
        "error": totals.failed,
    }
    family = CounterMetricFamily(
        "vllm:request_success", "Requests that ended, by reason", labels=["model_name", "finished_reason"]
    )
    for reason, count in ended.items():
        family.add_metric([_model(snapshot), reason], count)
    yield family


def _prefix_cache(snapshot: Snapshot) -> Iterator[Metric]:
    cache = snapshot.cache
    used = cache.blocks / cache.max_blocks if cache.max_blocks else 0.0
    yield _gauge(snapshot, "vllm:kv_cache_usage_perc", "Blocks held over blocks allowed; 1 is full", used)
    yield _counter(snapshot, "vllm:prefix_cache_queries", "Prompt tokens looked up", cache.tokens_seen)
    yield _counter(snapshot, "vllm:prefix_cache_hits", "Prompt tokens reused", cache.tokens_saved)
    yield _counter(snapshot, "prefix_cache_image_hits", "Prompts with a reused picture", cache.image_hits)
    yield _counter(snapshot, "prefix_cache_video_hits", "Prompts with a reused clip", cache.video_hits)
    yield _counter(snapshot, "prefix_cache_evictions", "Blocks and snapshots evicted", cache.evictions)
    yield _counter(snapshot, "prefix_cache_verified", "Hits that were replayed cold", cache.cache_verified)
    yield _counter(snapshot, "prefix_cache_mismatches", "Of these, answers that differed", cache.cache_mismatches)
    yield _gauge(snapshot, "prefix_cache_blocks", "Blocks held", cache.blocks)
    yield _gauge(snapshot, "prefix_cache_bytes", "Bytes held", cache.kv_bytes + cache.snapshot_bytes)


def _disk_cache(snapshot: Snapshot) -> Iterator[Metric]:
    disk = snapshot.cache.disk
    yield _gauge(snapshot, "prefix_cache_disk_bytes", "Bytes in the cache's folder", disk.num_bytes)
    yield _gauge(snapshot, "prefix_cache_disk_files", "Files in the cache's folder", disk.files)
    yield _counter(snapshot, "prefix_cache_disk_hits", "Files read back", disk.hits)
    yield _counter(snapshot, "prefix_cache_disk_writes", "Files written", disk.writes)
    yield _counter(snapshot, "prefix_cache_disk_evictions", "Files deleted to make room", disk.evictions)
    yield _counter(snapshot, "prefix_cache_disk_dropped", "Evicted and not written: busy writer", disk.dropped)
    yield _counter(snapshot, "prefix_cache_disk_faults", "Files damaged, or that could not be written", disk.faults)


def _memory(snapshot: Snapshot) -> Iterator[Metric]:
    yield _gauge(snapshot, "mlx_active_memory_bytes", "MLX memory in use: weights, KV, arrays", snapshot.active_bytes)
    yield _gauge(snapshot, "mlx_cache_memory_bytes", "MLX memory kept for reuse", snapshot.cache_bytes)
    yield _gauge(snapshot, "mlx_peak_memory_bytes", "Most MLX memory in use so far", snapshot.peak_bytes)
    yield _gauge(snapshot, "process_resident_memory_bytes", "Resident memory", snapshot.process_bytes)


def _model(snapshot: Snapshot) -> str:
    return snapshot.model.id if snapshot.model else ""


def _gauge(snapshot: Snapshot, name: str, help_text: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=["model_name"])
    family.add_metric([_model(snapshot)], value)
    return family


def _counter(snapshot: Snapshot, name: str, help_text: str, value: float) -> Metric:
    family = CounterMetricFamily(name, help_text, labels=["model_name"])
    family.add_metric([_model(snapshot)], value)
    return family
