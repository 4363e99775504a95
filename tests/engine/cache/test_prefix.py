"""Warm = cold: what the prefix cache reuses never changes an answer, and it reuses what it says it does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine.cache import tensors
from engine.cache.prefix import PrefixCache
from engine.cache.snapshots import SnapshotStore
from engine.config import CacheConfig
from engine.types import Message, Part, Request
from tests.engine.drive import GREEDY, TIMEOUT_S, Answer, Piece, ask, chat, settled, user
from tests.families import BRIEF, FAMILIES
from tests.pictures import picture

SNAPSHOTS = ["gemma3", "gemma4", "qwen3_5", "lfm2_vl"]
WHOLE = ["paligemma"]  # reads its prompt in both directions, so no beginning of it stands alone
BLOCKS = [name for name in FAMILIES if name not in SNAPSHOTS + WHOLE]
RED, BLUE = picture("red"), picture("blue", "square", (120, 72))
WARM = CacheConfig(block_tokens=16)
COLD = CacheConfig(enabled=False)
# Evicts all the time: a few blocks for all the prompts below. Read in odd chunks.
TIGHT = CacheConfig(block_tokens=8, max_blocks=6)
ODD = 7
LONG = "word " * 600


def conversation(*turns: tuple[str, tuple[Piece, ...]]) -> Request:
    messages = tuple(
        user(*pieces) if role == "user" else Message("assistant", (Part("text", str(pieces[0])),))
        for role, pieces in turns
    )
    return Request(messages=messages, max_tokens=6, sampling=GREEDY)


def requests(family: str, clip: Path) -> list[Request]:
    """Prompts that share what prompts share in practice, in an order in which each can profit from those before."""
    if not FAMILIES[family].vision:
        rules = "You are a careful assistant. Answer in one short sentence and never guess. " * 3
        return [chat(rules + q, max_tokens=6) for q in ("What is MLX?", "What is a block?", "What is MLX?")]
    out = [
        chat(RED, "What is in this image?", max_tokens=6),
        chat(RED, "What color is the circle?", max_tokens=6),
        chat(RED, "What is in this image?", max_tokens=6),
        chat(BLUE, "What is in this image?", max_tokens=6),
        conversation(("user", (RED, "What is in this image?")), ("assistant", ("A shape.",)), ("user", ("Where?",))),
        conversation(("user", (RED, "What is it?")), ("assistant", ("A shape.",)), ("user", (BLUE, "And this?"))),
        chat(RED, BLUE, "Compare.", max_tokens=6),
        chat(BLUE, RED, "Compare.", max_tokens=6),
    ]
    if family.startswith("qwen"):
        out += [
            chat(clip, "What happens?", max_tokens=6),
            conversation(
                ("user", (clip, "What happens?")), ("assistant", ("It moves.",)), ("user", (RED, "And this?"))
            ),
        ]
    if family in BRIEF:
        out = [out[i] for i in (0, 1, 2, 5, 7)]
    most = FAMILIES[family].max_images
    return out if most is None else [request for request in out if num_images(request) <= most]


def num_images(request: Request) -> int:
    return sum(part.kind == "image" for message in request.messages for part in message.parts)


async def answers(engine: Any, wanted: list[Request]) -> list[Answer]:
    return [await ask(engine, request) for request in wanted]


def texts(found: list[Answer]) -> list[str]:
    return [answer.text for answer in found]


@pytest.mark.parametrize("family", BLOCKS)
async def test_warm_equals_cold(family: str, tiny_model: Any, engine_for: Any, clip_path: Path):
    wanted = requests(family, clip_path)
    folder = tiny_model(family)
    cold = await answers(await engine_for(folder, cache=COLD), wanted)
    warm_engine = await engine_for(folder, cache=WARM)
    warm = await answers(warm_engine, wanted)
    tight_engine = await engine_for(folder, cache=TIGHT, prefill_chunk_tokens=ODD)
    tight = await answers(tight_engine, wanted)
    mixed = await asyncio.gather(*(ask(tight_engine, request) for request in reversed(wanted)))
    assert texts(warm) == texts(cold)
    assert texts(tight) == texts(cold)
    assert texts(mixed[::-1]) == texts(cold)
    assert all(answer.done.usage.cached_tokens == 0 for answer in cold)
    assert warm[1].done.usage.cached_tokens > 10, "another question reuses what stands before it"
    assert warm[2].done.usage.cached_tokens == warm[2].done.usage.prompt_tokens - 1, "a repeat computes one token"
    assert any(answer.done.usage.cached_tokens for answer in tight), "in odd chunks nothing was reused"
    assert (await settled(tight_engine)).cache.evictions > 0


@pytest.mark.parametrize("family", SNAPSHOTS)
async def test_warm_equals_cold_from_snapshots(family: str, tiny_model: Any, engine_for: Any, clip_path: Path):
    """Sliding windows and state-space layers: reuse from the end of the last picture, of the prompt, of the turn."""
    wanted = requests(family, clip_path)
    folder = tiny_model(family)
    cold = await answers(await engine_for(folder, cache=COLD), wanted)
    engine = await engine_for(folder, cache=WARM)
    warm = await answers(engine, wanted)
    odd = await answers(await engine_for(folder, cache=WARM, prefill_chunk_tokens=ODD), wanted)
    tight_engine = await engine_for(folder, cache=CacheConfig(max_snapshots=2))
    tight = await answers(tight_engine, wanted)
    mixed = await asyncio.gather(*(ask(tight_engine, request) for request in reversed(wanted)))
    assert texts(warm) == texts(cold)
    assert texts(odd) == texts(cold)
    assert texts(tight) == texts(cold)
    assert texts(mixed[::-1]) == texts(cold)
    assert warm[2].done.usage.cached_tokens == warm[2].done.usage.prompt_tokens - 1
    assert warm[1].done.usage.cached_tokens >= warm[1].done.media[0].tokens, "the picture's KV is reused"
    assert (await settled(tight_engine)).cache.evictions > 0


@pytest.mark.parametrize("family", ["qwen3_vl", "llava", "llama", "gemma3"])
async def test_sabotage_other_kv_is_another_answer(
    family: str, tiny_model: Any, engine_for: Any, clip_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The comparison above sees it when what is reused is not what was stored."""
    join, find = tensors.join, SnapshotStore.find

    def spoil(layers: list[Any]) -> None:
        for layer in layers:
            if getattr(layer, "values", None) is not None:
                layer.values = -layer.values

    def joined(parts: Any, cache: list[Any]) -> None:
        join(parts, cache)
        spoil(cache)

    def found(self: Any, root: bytes, ids: Any) -> Any:
        layers, *rest = find(self, root, ids)
        spoil(layers)
        return layers, *rest

    wanted = requests(family, clip_path)[:3]
    folder = tiny_model(family)
    cold = await answers(await engine_for(folder, cache=COLD), wanted)
    monkeypatch.setattr(tensors, "join", joined)
    monkeypatch.setattr(SnapshotStore, "find", found)
    warm = await answers(await engine_for(folder, cache=CacheConfig(block_tokens=17)), wanted)
    assert texts(warm[:1]) == texts(cold[:1]) and texts(warm[1:]) != texts(cold[1:])


@pytest.mark.parametrize("family", ["qwen3_vl", "idefics3", "gemma3", "qwen3_5"])
async def test_warm_rows_in_a_mixed_batch_equal_cold_ones_alone(family: str, tiny_model: Any, engine_for: Any):
    wanted = requests(family, Path())[:8]
    folder = tiny_model(family)
    alone = await answers(await engine_for(folder, cache=COLD), wanted)
    engine = await engine_for(folder, cache=CacheConfig(block_tokens=12))
    await answers(engine, wanted[:4])
    together = await asyncio.gather(*(ask(engine, r, delay_s=0.03 * i) for i, r in enumerate(wanted)))
    assert texts(list(together)) == texts(alone)


async def cancel_at_every_stage(engine: Any) -> None:
    """Close streams that wait, whose prompt is computed, and that are answered: all of them are served from blocks."""
    await ask(engine, chat(RED, "What is in this image?"))
    for num_events in (0, 1, 3):
        stream = engine.stream(chat(RED, "What is in this image?", LONG if not num_events else "", max_tokens=400))
        task = asyncio.ensure_future(anext(stream))
        async with asyncio.timeout(TIMEOUT_S):
            while not engine.snapshot().running and not task.done():
                await asyncio.sleep(0.002)
        for _ in range(num_events):
            await task
            task = asyncio.ensure_future(anext(stream))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await stream.aclose()
    await engine.cache.blocks(with_text=False)  # commands are taken in order: the last cancel has been by then
    assert (await settled(engine)).cache.blocks_in_use == 0, "blocks are still held"


async def test_cancelled_requests_leave_no_references(tiny_model: Any, engine_for: Any):
    engine = await engine_for(tiny_model("qwen3_vl"), cache=CacheConfig(block_tokens=20), prefill_chunk_tokens=16)
    before = (await settled(engine)).totals.cancelled
    await cancel_at_every_stage(engine)
    assert (await settled(engine)).totals.cancelled == before + 3


async def test_sabotage_rows_that_keep_their_blocks_are_seen(
    tiny_model: Any, engine_for: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(PrefixCache, "end", lambda self, lease: None)
    engine = await engine_for(tiny_model("qwen3_vl"), cache=CacheConfig(block_tokens=23))
    with pytest.raises(AssertionError, match="still held"):
        await cancel_at_every_stage(engine)


async def test_a_request_profits_from_one_that_still_runs(tiny_model: Any, engine_for: Any):
    engine = await engine_for(tiny_model("qwen3_vl"), cache=CacheConfig(block_tokens=24))
    running = engine.stream(chat(BLUE, "Tell me everything about it.", max_tokens=300))
    await anext(running)
    other = await ask(engine, chat(BLUE, "Tell me everything about it."))
    await running.aclose()
    assert other.done.usage.cached_tokens == other.done.usage.prompt_tokens - 1


async def test_the_trace_says_why(tiny_model: Any, engine_for: Any):
    engine = await engine_for(tiny_model("qwen3_vl"), cache=CacheConfig(block_tokens=28))
    first = (await ask(engine, chat(RED, "What is in this image?"))).done.trace
    other = (await ask(engine, chat(RED, "What colour is it?"))).done.trace
    swapped = (await ask(engine, chat(BLUE, "What is in this image?"))).done.trace
    assert (first.reason, first.reused_tokens) == ("first_use", 0)
    assert other.reason == "diverged" and other.before.endswith("What") and "colour" in other.here
    assert " is" in other.other
    assert (swapped.reason, swapped.other) == ("diverged", "<other media>")
    for trace in (first, other, swapped):
        assert trace.reused_tokens + trace.computed_tokens > 20


async def test_pictures_in_a_reused_prefix_are_not_encoded_again(tiny_model: Any, engine_for: Any, monkeypatch: Any):
    from engine.models.adapter import Adapter

    shown: list[int] = []
    embed_once = Adapter._embed_once

    def counting(self: Any, ids: Any, inputs: Any, first: int) -> Any:
        shown.append(len(inputs["image_grid_thw"]))
        return embed_once(self, ids, inputs, first)

    engine = await engine_for(tiny_model("qwen3_vl"), cache=CacheConfig(block_tokens=36))
    monkeypatch.setattr(Adapter, "_embed_once", counting)
    await ask(engine, chat(RED, "One."))
    await ask(engine, chat(RED, "Two."))
    await ask(engine, chat(RED, BLUE, "Both."))
    assert shown == [1, 1], "the first picture once, the second alone"


class Towers:
    """Counts what the encoder itself is given: patches per call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from engine.models.vision_tower import CachedVisionTower

        self.calls: list[int] = []
        encode = CachedVisionTower._encode

        def counting(tower: Any, units: Any, options: Any) -> Any:
            self.calls.append(len(units))
            return encode(tower, units, options)

        monkeypatch.setattr(CachedVisionTower, "_encode", counting)


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl", "qwen2_vl", "qwen3_5"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
async def test_features_are_kept_by_picture_and_by_pair_of_frames(
    family: str, dtype: str, tiny_model: Any, engine_for: Any, clip_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With no KV to reuse, the encoder still sees each picture and each pair of frames once."""
    only_features = CacheConfig(enabled=False, max_feature_bytes=1 << 28)
    engine = await engine_for(tiny_model(family, dtype), cache=only_features)
    towers = Towers(monkeypatch)
    wanted = [
        chat(RED, "One."),
        chat("Text before the picture.", RED, "Again."),
        chat(BLUE, RED, "Both."),
        chat(RED, RED, "Twice."),
        chat(clip_path, "A clip."),
        chat("And the clip again.", clip_path),
        chat(clip_path, RED, "Clip and picture."),
    ]
    warm = await answers(engine, wanted)
    assert towers.calls == [1, 1, 2], "the red picture, the blue one, the two pairs of frames"
    if dtype == "float32":
        plain = await engine_for(tiny_model(family, dtype), cache=CacheConfig(enabled=False, features=False))
        assert texts(warm) == texts(await answers(plain, wanted))
    stats = (await settled(engine)).cache
    assert stats.feature_misses == 4 and stats.features == 4 and stats.feature_hits > 4


async def test_features_are_bounded_by_bytes(tiny_model: Any, engine_for: Any):
    engine = await engine_for(tiny_model("qwen3_vl"), cache=CacheConfig(enabled=False, max_feature_bytes=20_000))
    for colour in ("red", "green", "blue", "black"):
        await ask(engine, chat(picture(colour), "Hm?", max_tokens=2))
    stats = (await settled(engine)).cache
    assert 0 < stats.feature_bytes <= 20_000 and stats.features < 4


async def test_frames_are_encoded_in_calls_of_a_bounded_size(
    tiny_model: Any, engine_for: Any, clip_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from engine.models import vision_tower as tower

    monkeypatch.setattr(tower, "MAX_PATCHES", 1)
    engine = await engine_for(tiny_model("qwen3_vl"), cache=CacheConfig(enabled=False, max_feature_bytes=1 << 27))
    towers = Towers(monkeypatch)
    small = await ask(engine, chat(clip_path, "What happens?"))
    assert towers.calls == [1, 1]
    whole = await ask(await engine_for(tiny_model("qwen3_vl"), cache=COLD), chat(clip_path, "What happens?"))
    assert small.text == whole.text
