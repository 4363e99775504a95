"""The feature store: whose each unit is, what is pinned stays, and the bound of bytes holds whatever is pinned."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.cache.features import FeatureStore
from engine.config import CacheConfig, EngineConfig, ModelSpec
from engine.core import Engine
from engine.types import FeatureInfo, FrameSampling, MediaPortion
from tests.engine.drive import ask, chat, settled
from tests.pictures import numbered_frames, picture, write_clip

RED, BLUE = picture("red"), picture("blue")


def filled(max_bytes: int, *names: bytes, num_bytes: int = 10) -> FeatureStore:
    store = FeatureStore(max_bytes)
    for name in names:
        store.put(name, name.decode(), num_bytes)
    return store


def names(store: FeatureStore) -> str:
    return "".join(sorted(payload for _, payload in store))


def test_what_is_pinned_stays_and_others_go_in_its_place() -> None:
    store = filled(30, b"a", b"b", b"c")
    assert store.pin(b"a", pinned=True) and not store.pin(b"x", pinned=True)
    store.put(b"d", "d", 10)
    assert names(store) == "acd" and (store.num_bytes, store.num_pinned, store.evictions) == (30, 1, 1)
    store.pin(b"a", pinned=False)
    for name in (b"e", b"f", b"g"):
        store.put(name, name.decode(), 10)
    assert names(store) == "efg", "the twin: unpinned it goes like the rest"


def test_which_share_of_a_medium_is_held_is_no_use_of_it() -> None:
    """By tenant, by content, and of payloads that are alike: the same picture at another size has others."""
    store = FeatureStore(100)
    with store.tenant_scope("me"):
        for key in (b"a", b"b"):
            store.put(key, key.decode(), 10)
        store.attribute([b"a", b"b", b"c", b"d"], "clip", 8)
        store.attribute([b"a"], "picture")
    before = store.infos(), store.hits, store.misses
    always = lambda payload: True  # noqa: E731
    assert store.share_held("clip", "me", always) == 0.5
    assert store.share_held("clip", "me", lambda payload: payload == "b") == 0.25
    assert store.share_held("picture", "me", always) == 1.0
    assert store.share_held("picture", "you", always) == store.share_held("other", "me", always) == 0.0
    assert [unit.hits for unit in store.infos()] == [unit.hits for unit in before[0]]
    assert (store.hits, store.misses) == before[1:]


def test_where_all_is_pinned_what_is_new_is_not_kept_and_nothing_else_goes() -> None:
    store = filled(30, b"a", b"b", b"c")
    for name in (b"a", b"b"):
        store.pin(name, pinned=True)
    gone: list[bytes] = []
    store.evicted = lambda key, payload: gone.append(key)
    store.put(b"d", "d", 20)
    assert names(store) == "abc" and gone == [], "no room could have been made, so none was"
    store.put(b"e", "e", 10)
    assert names(store) == "abe" and gone == [b"c"]
    store.pin(b"e", pinned=True)
    store.put(b"f", "f", 1)
    assert names(store) == "abe" and store.num_bytes == 30
    assert store.get(b"f") is None


class Disk:
    """A source with one unit, that notes what was requested."""

    def __init__(self) -> None:
        self.requested: list[bytes] = []

    def request(self, keys: Sequence[bytes]) -> None:
        self.requested += keys

    def fetch(self, key: bytes) -> tuple[str, int] | None:
        return ("from disk", 10) if key == b"d" else None


def test_only_what_memory_has_not_is_requested_from_disk_and_once() -> None:
    store = filled(30, b"a")
    store.source = disk = Disk()
    store.request([b"d", b"a", b"x", b"d"])
    with store.tenant_scope("", reuse=False):
        store.request([b"y"])
    assert disk.requested == [b"d", b"x"]


def test_what_comes_from_disk_is_used_even_where_it_cannot_be_kept() -> None:
    store = filled(10, b"a")
    store.pin(b"a", pinned=True)
    store.source = Disk()
    assert (store.get(b"d"), store.get(b"x")) == ("from disk", None)
    assert names(store) == "a" and (store.hits, store.misses) == (1, 1)


def test_drop_and_clear_leave_what_is_pinned() -> None:
    store = filled(30, b"a", b"b", b"c")
    store.pin(b"a", pinned=True)
    assert (store.drop(b"a"), store.drop(b"b"), store.drop(b"b")) == (False, True, False)
    assert store.num_bytes == 20
    store.clear()
    assert names(store) == "a" and store.num_bytes == 10


@pytest.mark.parametrize("broken", [False, True])
def test_sizes_add_up_after_anything(broken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 random operations. Twin: a pin whose bytes are not counted lets the store grow over its bound, or loop."""
    if broken:
        monkeypatch.setattr(FeatureStore, "drop", lambda self, key: self._held.pop(key, None) is not None)
    draw = random.Random(4)
    store = FeatureStore(100)
    sound = True
    for _ in range(1000):
        key = bytes([draw.randrange(20)])
        action = draw.choice(["put", "put", "get", "pin", "unpin", "drop"])
        if action == "put":
            store.put(key, "x", draw.randrange(1, 30))
        elif action in ("pin", "unpin"):
            store.pin(key, pinned=action == "pin")
        else:
            getattr(store, action)(key)
        held = store.infos()
        pinned = sum(unit.num_bytes for unit in held if unit.pinned)
        sound &= store.num_bytes == sum(unit.num_bytes for unit in held) <= 100 and store._pinned_bytes == pinned
        if broken and not sound:
            break
    assert sound is not broken


def test_a_unit_of_several_media_says_so_for_each_and_the_oldest_are_forgotten() -> None:
    store = filled(100, b"a", b"b", b"c")
    store.attribute([b"a", b"b"], "clip", 4)
    store.attribute([b"b", b"a", b"b"], "longer", 6)
    store.attribute([b"b"], "picture")
    held = {unit.key: unit.media for unit in store.infos()}
    assert held[b"a".hex()] == (MediaPortion("clip", (0, 1), 4), MediaPortion("longer", (2, 3), 6))
    assert held[b"b".hex()] == (
        MediaPortion("clip", (2, 3), 4),
        MediaPortion("longer", (0, 1, 4, 5), 6),
        MediaPortion("picture"),
    )
    for number in range(40):
        store.attribute([b"c"], f"{number}")
    assert [portion.sha256 for portion in store.infos()[2].media] == [f"{number}" for number in range(8, 40)]


def of(units: list[FeatureInfo], sha256: str) -> list[int]:
    """The frames of a clip whose features are held."""
    return sorted(
        frame for unit in units for portion in unit.media if portion.sha256 == sha256 for frame in portion.frames
    )


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl"])
async def test_units_know_their_picture_and_their_frames(
    family: str, tiny_model: Any, engine_for: Any, clip_path: Path
) -> None:
    """Whatever the order in which media were sent: the encoder reads pictures first."""
    engine = await engine_for(tiny_model(family), cache=CacheConfig(block_tokens=20))
    done = (await ask(engine, chat(clip_path, RED, "Hm?", BLUE, tenant="units"))).done
    clip, red, blue = (receipt.sha256 for receipt in done.media)
    before = [unit for unit in await engine.cache.features() if unit.tenant == "units"]
    num_frames = len(done.media[0].frames)
    assert of(before, clip) == list(range(num_frames))
    by_medium = {unit.media[0].sha256: unit for unit in before if not unit.media[0].frames}
    assert set(by_medium) == {red, blue} and len(before) == 2 + num_frames // 2
    assert sum(unit.num_bytes for unit in await engine.cache.features()) == (await settled(engine)).cache.feature_bytes

    dropped = next(unit for unit in before if unit.media[0].frames[:1] == (2,))
    assert await engine.cache.change_features("drop", dropped.key)
    assert not await engine.cache.change_features("drop", dropped.key)
    assert not await engine.cache.change_features("pin", "no hex")
    again = (await ask(engine, chat(picture("green"), clip_path, RED, tenant="units"))).done
    uses = [(receipt.features.hits, receipt.features.misses) for receipt in again.media]
    assert uses == [(0, 1), (num_frames // 2 - 1, 1), (1, 0)]
    after = [unit for unit in await engine.cache.features() if unit.tenant == "units"]
    assert of(after, clip) == list(range(num_frames))
    assert {unit.key: unit.hits for unit in after}[by_medium[red].key] == 1


async def test_a_pinned_picture_outlives_others(tiny_model: Any, engine_for: Any) -> None:
    engine = await engine_for(tiny_model("qwen3_vl"), cache=CacheConfig(enabled=False, max_feature_bytes=20_000))
    await engine.cache.clear()
    await ask(engine, chat(RED, "Hm?", max_tokens=2))
    (red,) = await engine.cache.features()
    assert await engine.cache.change_features("pin", red.key)
    for colour in ("green", "blue", "black", "orange"):
        await ask(engine, chat(picture(colour), "Hm?", max_tokens=2))
    stats = (await settled(engine)).cache
    assert stats.features_pinned == 1 and stats.features < 5 and stats.feature_bytes <= stats.max_feature_bytes
    assert red.key in [unit.key for unit in await engine.cache.features()]
    assert (await ask(engine, chat(RED, "Hm?", max_tokens=2))).done.media[0].features.hits == 1
    assert not await engine.cache.change_features("drop", red.key)
    assert await engine.cache.change_features("unpin", red.key) and await engine.cache.change_features("drop", red.key)


async def test_a_clip_at_another_rate_encodes_only_pairs_of_frames_that_are_new(
    tiny_model: Any, engine_for: Any, tmp_path: Path
) -> None:
    """The encoder reads two frames as one, so a pair is known where the same two are neighbours again. At half the rate
    each frame has another neighbour: nothing is known, and the receipt says so. Nor where the processor brings the
    frames of a clip to another size, since all of them together have one budget of pixels: these are small enough."""
    clip = write_clip(tmp_path / "long.mp4", numbered_frames(12, (64, 64)), fps=4.0)
    engine = await engine_for(tiny_model("qwen3_vl"), cache=CacheConfig(enabled=False, max_feature_bytes=1 << 28))
    await engine.cache.clear()

    async def uses(**sampling: Any) -> tuple[int, int]:
        request = chat(clip, "Hm?", max_tokens=2, frames=FrameSampling(**sampling))
        (receipt,) = (await ask(engine, request)).done.media
        return receipt.features.hits, receipt.features.misses

    assert await uses(fps=4.0, max_frames=12) == (0, 6)
    assert await uses(fps=4.0, max_frames=12) == (6, 0)
    assert await uses(indices=(0, 1, 6, 7, 10, 11)) == (3, 0), "pairs that were neighbours before"
    assert await uses(indices=(0, 1, 7, 8)) == (1, 1), "frames 7 and 8 never were"
    assert await uses(fps=2.0, max_frames=12) == (0, 3)
    shared = [unit for unit in await engine.cache.features() if len(unit.media) > 1]
    assert len(shared) == 3, "pairs that several samplings share know each of them"


async def test_a_dropped_unit_is_gone_from_disk_too(tiny_model: Any, tmp_path: Path) -> None:
    """Twin: one that is not dropped is found again, and belongs to its picture again."""
    config = EngineConfig(
        model=ModelSpec(str(tiny_model("qwen3_vl"))), cache=CacheConfig(enabled=False, disk_folder=tmp_path)
    )
    sha256: dict[str, str] = {}
    for life in (1, 2):
        engine = Engine(config)
        engine.start()
        try:
            await engine.ready()
            found = {}
            for name, still in (("red", RED), ("blue", BLUE)):
                (receipt,) = (await ask(engine, chat(still, "Hm?", max_tokens=2))).done.media
                sha256[name], found[name] = receipt.sha256, receipt.features.hits
            held = {unit.media[0].sha256: unit for unit in await engine.cache.features()}
            if life == 1:
                async with asyncio.timeout(20):
                    while engine.snapshot().cache.disk.features < 2:  # written while it is idle
                        await asyncio.sleep(0.05)
                assert await engine.cache.change_features("drop", held[sha256["red"]].key)
        finally:
            engine.stop()
    assert found == {"red": 0, "blue": 1}
    assert set(held) == set(sha256.values())
