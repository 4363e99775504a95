"""The replay check: warm = cold where the cache is right, and a first differing token where it is made wrong."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine.bounded import BoundedCache
from engine.cache import prefix
from engine.config import CacheConfig
from engine.errors import BadMedia, Conflict, ModelNotFound
from engine.runtime.replay import _MAX_KEPT, MAX_TOKENS
from engine.types import CacheStats, Message, Part, Replay, Request, Sampling
from tests.engine.drive import GREEDY, ask, chat, settled
from tests.pictures import picture

RED, BLUE = picture("red", size=(96, 96)), picture("blue", size=(96, 96))
QUESTION = "What color is the circle?"


async def hit(engine: Any, request_id: str, *pieces: Any, **more: Any) -> int:
    """Ask twice, so that the second time is served from the cache; how many tokens were."""
    await ask(engine, chat(*pieces, **more))
    return (await ask(engine, chat(*pieces, id=request_id, **more))).done.usage.cached_tokens


async def stored(engine: Any) -> CacheStats:
    """The totals once the last row's KV is kept, which comes after its answer and before the next command."""
    await engine.cache.blocks(with_text=False)
    return (await settled(engine)).cache


def replay(warm: tuple[int, ...], cold: tuple[int, ...], **more: Any) -> Replay:
    return Replay("id", warm, cold, "", "", 1.0, 1.0, 10, **{"reused_tokens": 9, **more})


@pytest.mark.parametrize(
    ("warm", "cold", "first", "verdict"),
    [
        ((1, 2, 3), (1, 2, 3), None, "equal"),
        ((1, 2, 3), (1, 5, 3), 1, "different"),
        ((1, 2), (1, 2, 3), 2, "different"),
        ((), (4,), 0, "different"),
    ],
)
def test_where_two_answers_part(warm: Any, cold: Any, first: int | None, verdict: str) -> None:
    found = replay(warm, cold)
    assert (found.equal, found.first_difference, found.verdict) == (first is None, first, verdict)


def test_a_near_tie_is_one_in_both_runs_only() -> None:
    def verdict(*margins: tuple[float, float]) -> str:
        return replay((1, 2), (1, 3), margins=margins, rounding=0.25).verdict

    assert verdict((3.0, 3.0), (0.1, 0.2)) == "near_tie"
    assert verdict((3.0, 3.0), (0.1, 0.3)) == "different", "the cold run was sure of its token"
    assert verdict((0.0, 0.0), (1.0, 0.1)) == "different", "the margins of another token say nothing"
    assert verdict((0.0, 0.0)) == "different"


def test_two_cold_runs_compare_nothing() -> None:
    assert replay((1,), (2,), reused_tokens=0).verdict == "nothing_reused"


async def test_warm_equals_cold(demo_engine: Any):
    cached = await hit(demo_engine, "lamp-1", RED, QUESTION, sampling=Sampling(temperature=1.0, seed=3), max_tokens=3)
    before = await stored(demo_engine)
    found = await demo_engine.replay("lamp-1")
    after = demo_engine.snapshot()
    assert found.verdict == "equal" and found.warm_tokens == found.cold_tokens and "red" in found.warm_text
    assert 3 < len(found.warm_tokens) <= MAX_TOKENS, "as long as it takes, greedily, whatever the request said"
    assert found.warm_text == found.cold_text and found.reused_tokens == cached > 10
    assert found.prompt_tokens == cached + 1
    assert found.warm_ttft_ms > 0 and found.cold_ttft_ms > 0
    assert len(found.margins) == len(found.warm_tokens) and all(m > 0 for pair in found.margins for m in pair)
    assert after.cache.cache_verified == before.cache_verified + 1
    assert after.cache.cache_mismatches == before.cache_mismatches
    assert after.recent[0].id == "lamp-1", "a replay is nobody's request"


async def test_looking_changes_nothing(demo_engine: Any):
    """Neither run is a query, neither stores a block or a feature; the cold one looks nothing up."""
    await hit(demo_engine, "lamp-2", BLUE, "What is in this image?")
    held = [block.key for block in await demo_engine.cache.blocks()]
    before = await stored(demo_engine)
    await demo_engine.replay("lamp-2")
    after = await stored(demo_engine)
    assert [block.key for block in await demo_engine.cache.blocks()] == held
    names = "total_queries hits tokens_seen tokens_saved image_hits stored copied_on_write features feature_misses"
    assert {n: getattr(after, n) for n in names.split()} == {n: getattr(before, n) for n in names.split()}
    assert after.blocks_in_use == 0


@pytest.mark.parametrize("family", ["qwen3_vl", "gemma3", "qwen3_5"])
async def test_a_request_without_reuse_is_computed_and_leaves_nothing(family: str, tiny_model: Any, engine_for: Any):
    engine = await engine_for(tiny_model(family), cache=CacheConfig(block_tokens=16))
    await engine.cache.clear()
    await ask(engine, chat(RED, "Warm?"))
    before = await stored(engine)
    for question in ("Warm?", "New?"):
        done = (await ask(engine, chat(RED, question, reuse=False))).done
        assert (done.usage.cached_tokens, done.trace.reason) == (0, "cold")
        assert done.trace.computed_tokens == done.usage.prompt_tokens
    after = await stored(engine)
    assert after == before


async def test_media_that_changed_are_told(demo_engine: Any, tmp_path: Path):
    path = tmp_path / "shot.png"
    RED.save(path)
    for request_id in ("lamp-3a", "lamp-3"):
        message = Message("user", (Part("image", path=str(path)), Part("text", QUESTION)))
        await ask(demo_engine, Request(messages=(message,), sampling=GREEDY, id=request_id))
    assert (await demo_engine.replay("lamp-3")).equal
    BLUE.save(path)
    with pytest.raises(Conflict, match="has changed since"):
        await demo_engine.replay("lamp-3")
    path.unlink()
    with pytest.raises(BadMedia):
        await demo_engine.replay("lamp-3")


async def test_what_was_evicted_is_not_called_equal(demo_engine: Any):
    await hit(demo_engine, "lamp-4", RED, "Evicted?")
    for block in await demo_engine.cache.blocks(with_text=False):
        await demo_engine.cache.change_block("drop", block.key)
    verified = (await stored(demo_engine)).cache_verified
    found = await demo_engine.replay("lamp-4")
    assert (found.verdict, found.reused_tokens) == ("nothing_reused", 0)
    assert (await stored(demo_engine)).cache_verified == verified


async def test_only_the_last_hits_are_kept(demo_engine: Any):
    await ask(demo_engine, chat("Never asked before, so not a hit?", id="lamp-miss", tenant="lamp", max_tokens=1))
    for i in range(_MAX_KEPT + 1):
        await ask(demo_engine, chat("Hello?", id=f"lamp-kept-{i}", tenant="kept", max_tokens=1))
        await ask(demo_engine, chat("Hello?", id=f"lamp-kept-{i}", tenant="kept", max_tokens=1))
    for gone in ("lamp-miss", "lamp-kept-0", "no such"):
        with pytest.raises(ModelNotFound, match="cannot be replayed"):
            await demo_engine.replay(gone)
    assert (await demo_engine.replay("lamp-kept-1")).equal


async def test_clearing_the_cache_forgets_what_could_be_replayed(demo_engine: Any):
    await hit(demo_engine, "lamp-cleared", "Cleared?", max_tokens=1)
    assert (await demo_engine.replay("lamp-cleared")).equal
    await demo_engine.cache.clear()
    with pytest.raises(ModelNotFound, match="lamp-cleared"):
        await demo_engine.replay("lamp-cleared")


async def test_what_is_kept_is_bounded_by_bytes(demo_engine: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(demo_engine._replayer, "_kept", BoundedCache(_MAX_KEPT, 2000, lambda kept: kept.num_bytes))
    for i in range(3):
        await hit(demo_engine, f"lamp-bytes-{i}", "word " * 150, max_tokens=1)
    with pytest.raises(ModelNotFound):
        await demo_engine.replay("lamp-bytes-0")
    assert (await demo_engine.replay("lamp-bytes-2")).equal


async def test_sabotage_corrupted_kv_is_seen(demo_engine: Any, monkeypatch: pytest.MonkeyPatch):
    join = prefix.tensors.join

    def corrupted(parts: Any, cache: Any) -> None:
        join(parts, cache)
        for layer in cache[:-1]:
            layer.values = -2 * layer.values

    await hit(demo_engine, "lamp-5", RED, QUESTION)
    before = await stored(demo_engine)
    monkeypatch.setattr(prefix.tensors, "join", corrupted)
    found = await demo_engine.replay("lamp-5")
    after = await stored(demo_engine)
    at = found.first_difference
    assert found.verdict == "different" and at is not None
    assert found.warm_tokens[:at] == found.cold_tokens[:at] and found.warm_tokens[at] != found.cold_tokens[at]
    assert "red" in found.cold_text and found.warm_text != found.cold_text
    assert after.cache_verified == before.cache_verified + 1
    assert after.cache_mismatches == before.cache_mismatches + 1


async def test_sabotage_another_pictures_kv_is_seen(engine_for: Any, monkeypatch: pytest.MonkeyPatch):
    """The wrong-picture hit of a cache that keys prompts by their text."""
    monkeypatch.setattr("engine.prompt.cache_ids.media_id", lambda content: -1)
    engine = await engine_for("demo", cache=CacheConfig(block_tokens=8))
    await ask(engine, chat(RED, QUESTION))
    await ask(engine, chat(BLUE, QUESTION, id="lamp-6"))
    found = await engine.replay("lamp-6")
    assert found.verdict == "different" and "red" in found.warm_text and "blue" in found.cold_text


async def verified(engine: Any, count: int) -> Any:
    async with asyncio.timeout(30):
        while engine.snapshot().cache.cache_verified < count:
            await asyncio.sleep(0.02)
    return engine.snapshot().cache


async def test_a_share_of_the_hits_is_verified_when_all_is_quiet(engine_for: Any, monkeypatch: pytest.MonkeyPatch):
    engine = await engine_for("demo", cache=CacheConfig(verify_share=0.5))
    for _ in range(5):  # one miss, then four hits
        await ask(engine, chat(RED, QUESTION))
    assert (await verified(engine, 2)).cache_mismatches == 0
    await asyncio.sleep(0.3)
    assert (await stored(engine)).cache_verified == 2, "half of four"

    join = prefix.tensors.join
    monkeypatch.setattr(prefix.tensors, "join", lambda parts, cache: (join(parts, cache), _spoil(cache)))
    for _ in range(2):
        await ask(engine, chat(RED, QUESTION))
    assert (await verified(engine, 3)).cache_mismatches == 1


def _spoil(cache: Any) -> None:
    """Once, or twice where what it spoilt was stored and is joined again: never right."""
    for layer in cache[:-1]:
        layer.values = -2 * layer.values


async def test_nothing_is_verified_unless_asked_for(demo_engine: Any):
    before = (await stored(demo_engine)).cache_verified
    await hit(demo_engine, "lamp-7", RED, "Unasked?")
    await asyncio.sleep(0.3)
    assert (await stored(demo_engine)).cache_verified == before
