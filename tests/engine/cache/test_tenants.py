"""Two tenants never share, neither KV nor snapshots nor vision features; one tenant shares with itself."""

from __future__ import annotations

from typing import Any

import pytest

from engine.cache.blocks import BlockPool
from engine.cache.features import FeatureStore
from engine.config import CacheConfig
from engine.types import CacheStats
from tests.engine.drive import ask, chat, settled
from tests.pictures import picture

RED = picture("red")
QUESTION = "What is in this image?"


async def grown(engine: Any, tenant: str) -> tuple[int, CacheStats, CacheStats]:
    """Cached tokens of the question asked by a tenant, and the totals before and after."""
    before = (await settled(engine)).cache
    answer = await ask(engine, chat(RED, QUESTION, tenant=tenant, max_tokens=3))
    return answer.done.usage.cached_tokens, before, (await settled(engine)).cache


async def strangers_share_nothing(engine: Any, word: str) -> None:
    await grown(engine, f"{word} alice")
    cached, before, after = await grown(engine, f"{word} bob")
    assert cached == 0, "another tenant's prompt was reused"
    assert after.misses == before.misses + 1
    assert (after.hits, after.tokens_saved, after.image_hits) == (before.hits, before.tokens_saved, before.image_hits)
    assert after.feature_hits == before.feature_hits, "another tenant's picture was known"


@pytest.mark.parametrize("family", ["qwen3_vl", "idefics3", "gemma3", "qwen3_5"])
async def test_two_tenants_never_share(family: str, tiny_model: Any, engine_for: Any):
    engine = await engine_for(tiny_model(family), cache=CacheConfig(block_tokens=16))
    await strangers_share_nothing(engine, "a")


async def test_one_tenant_shares_with_itself(tiny_model: Any, engine_for: Any):
    engine = await engine_for(tiny_model("qwen3_vl"), cache=CacheConfig(block_tokens=16))
    await grown(engine, "salted")
    cached, before, after = await grown(engine, "salted")
    assert cached > 10
    assert (after.hits, after.tokens_saved) == (before.hits + 1, before.tokens_saved + cached)


async def test_a_tenant_is_told_nothing_of_another_by_the_trace(tiny_model: Any, engine_for: Any):
    engine = await engine_for(tiny_model("qwen3_vl"), cache=CacheConfig(block_tokens=16))
    await ask(engine, chat(RED, "My name is Alice.", tenant="trace alice"))
    trace = (await ask(engine, chat(RED, "My name is Bob.", tenant="trace bob"))).done.trace
    assert (trace.reason, trace.other) == ("first_use", "")


async def test_blocks_know_whose_they_are(tiny_model: Any, engine_for: Any):
    engine = await engine_for(tiny_model("qwen3_vl"), cache=CacheConfig(block_tokens=16))
    await engine.cache.clear()
    await ask(engine, chat(RED, QUESTION, tenant="mine"))
    found = await engine.cache.blocks()
    assert len(found) > 2 and {block.tenant for block in found} == {"mine"}
    assert (await engine.cache.block(found[-1].key)).tenant == "mine"
    assert engine.snapshot().recent[0].tenant == "mine"


@pytest.mark.parametrize("family", ["qwen3_vl", "gemma3"])
async def test_sabotage_one_root_for_all_is_seen(
    family: str, tiny_model: Any, engine_for: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(BlockPool, "root", staticmethod(lambda scope: b"everybody's"))
    engine = await engine_for(tiny_model(family), cache=CacheConfig(block_tokens=16))
    with pytest.raises(AssertionError, match="prompt was reused"):
        await strangers_share_nothing(engine, "root")


async def test_sabotage_features_by_pixels_alone_are_seen(
    tiny_model: Any, engine_for: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(FeatureStore, "_own", lambda self, key: key)
    engine = await engine_for(tiny_model("qwen3_vl"), cache=CacheConfig(block_tokens=16))
    with pytest.raises(AssertionError, match="picture was known"):
        await strangers_share_nothing(engine, "features")
