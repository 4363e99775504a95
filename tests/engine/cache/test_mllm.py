"""MLLMPrefixCacheManager: equal pixels share, other pixels or another order never; what comes back is what went in."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import KVCache as TextKV
from mlx_lm.models.cache import RotatingKVCache
from mlx_vlm.models.cache import KVCache as VisionKV

from engine.cache import mllm, tensors
from engine.cache.mllm import MLLMPrefixCacheManager
from engine.cache.prefix import PrefixCache
from engine.config import CacheConfig
from engine.errors import BadMedia, BadRequest
from engine.types import CacheStats
from tests.pictures import data_url, encode, picture

RED, BLUE = picture("red"), picture("blue")
WORDS = list(range(100, 130))
TEXT = "What is in this image?"


def filled(num_tokens: int, kind: Any = VisionKV, seed: int = 0) -> list[Any]:
    """A row's KV of two layers; every number in it is another one."""
    mx.random.seed(seed)
    layers = [kind(max_size=512) if kind is RotatingKVCache else kind() for _ in range(2)]
    for layer in layers:
        layer.update_and_fetch(mx.random.normal((1, 2, num_tokens, 8)), mx.random.normal((1, 2, num_tokens, 8)))
    return layers


def manager(**settings: Any) -> MLLMPrefixCacheManager:
    return MLLMPrefixCacheManager(**({"max_memory_mb": 8, "block_tokens": 8} | settings))


def stored(*images: Any, prompt: Any = WORDS, num_tokens: int = 30) -> MLLMPrefixCacheManager:
    cache = manager()
    cache.store(images, prompt, mx.ones((4, 8)), filled(num_tokens), num_tokens)
    return cache


def same(found: list[Any], wanted: list[Any], num_tokens: int) -> bool:
    """Whether these layers hold the KV of the first tokens of those, and of no more."""
    return len(found) == len(wanted) and all(
        f.offset == num_tokens
        and mx.array_equal(f.keys[..., :num_tokens, :], w.keys[..., :num_tokens, :])
        and mx.array_equal(f.values[..., :num_tokens, :], w.values[..., :num_tokens, :])
        for f, w in zip(found, wanted, strict=True)
    )


@pytest.mark.parametrize("kind", [VisionKV, TextKV])
def test_the_longest_beginning_comes_back(kind: Any) -> None:
    cache, kv = manager(), filled(30, kind)
    embeddings = [mx.ones((4, 8)), mx.zeros((4, 8))]
    cache.store([RED], WORDS, embeddings, kv, 30)
    for prompt, length in ((WORDS, 29), ([*WORDS, 1, 2], 30), ([*WORDS[:13], 7, 7, 7], 13)):
        entry, match_len = cache.fetch([RED], prompt)
        assert entry is not None and match_len == entry.num_tokens == length
        assert same(entry.kv_cache or [], kv, length) and entry.vision_embeddings is embeddings
        assert all(type(layer) is kind for layer in entry.kv_cache or [])


def test_a_text_comes_back_whole() -> None:
    cache = stored(RED, prompt=TEXT)
    entry, match_len = cache.fetch([RED], TEXT)
    assert entry is not None and match_len == 30 and same(entry.kv_cache or [], filled(30), 30)
    entry, match_len = cache.fetch([RED], TEXT + " Now.")
    assert entry is not None and (entry.kv_cache, match_len) == (None, 0), "where its tokens part is not known"


@pytest.mark.parametrize("prompt", [WORDS, TEXT])
def test_kv_that_cannot_be_cut(prompt: Any) -> None:
    cache, kv = manager(), filled(30, RotatingKVCache)
    cache.store([RED], prompt, None, copy.deepcopy(kv), 30)
    longer = prompt if isinstance(prompt, str) else [*prompt, 1]
    entry, match_len = cache.fetch([RED], longer)
    assert entry is not None and match_len == 30 and same(entry.kv_cache or [], kv, 30)
    assert cache.fetch([RED], [*WORDS[:13], 7, 7]) == (None, 0)


def test_another_question_reuses_the_picture() -> None:
    entry, match_len = stored(RED).fetch([RED], [5, 6, 7])
    assert match_len == 0 and entry is not None and entry.kv_cache is None
    assert mx.array_equal(entry.vision_embeddings, mx.ones((4, 8)))


def ways(tmp_path: Path, name: str) -> Any:
    """The red picture in another coat."""
    (tmp_path / "a.png").write_bytes(encode(RED))
    (tmp_path / "b.bmp").write_bytes(encode(RED, "BMP"))
    return {
        "path": tmp_path / "a.png",
        "path as text": str(tmp_path / "a.png"),
        "another format": str(tmp_path / "b.bmp"),
        "data URL": data_url(encode(RED)),
        "PIL": RED.copy(),
        "array": np.array(RED),
        "with alpha": RED.convert("RGBA"),
    }[name]


WAYS = ["path", "path as text", "another format", "data URL", "PIL", "array", "with alpha"]


@pytest.mark.parametrize("name", WAYS)
def test_equal_pixels_share(name: str, tmp_path: Path) -> None:
    entry, match_len = stored(RED).fetch([ways(tmp_path, name)], WORDS)
    assert entry is not None and match_len == 29


def others() -> dict[str, Any]:
    one_pixel = RED.copy()
    one_pixel.putpixel((3, 3), (1, 2, 3))
    return {"one pixel": [one_pixel], "another": [BLUE], "none": [], "twice": [RED, RED], "one more": [RED, BLUE]}


def miss(cache: MLLMPrefixCacheManager, images: Any) -> None:
    assert cache.fetch(images, WORDS) == (None, 0), "a wrong-picture hit"


@pytest.mark.parametrize("name", list(others()))
def test_other_pictures_miss(name: str) -> None:
    miss(stored(RED), others()[name])


def test_the_order_of_pictures_counts() -> None:
    cache = stored(RED, BLUE)
    miss(cache, [BLUE, RED])
    assert cache.fetch([RED, BLUE], WORDS)[1] == 29


def test_a_file_with_new_content_is_another_picture(tmp_path: Path) -> None:
    path = tmp_path / "shot.png"
    RED.save(path)
    cache = stored(path)
    BLUE.save(path)
    miss(cache, [path])
    RED.save(path)
    assert cache.fetch([path], WORDS)[1] == 29


def test_sabotage_names_instead_of_pixels_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mllm, "content_sha256", lambda pixels: "same")
    with pytest.raises(AssertionError, match="wrong-picture"):
        test_a_file_with_new_content_is_another_picture(tmp_path)
    with pytest.raises(AssertionError, match="wrong-picture"):
        test_other_pictures_miss("one pixel")


def test_sabotage_sorted_pictures_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mllm, "_tenant", lambda pictures: " ".join(sorted(picture.sha256 for picture in pictures)))
    with pytest.raises(AssertionError, match="wrong-picture"):
        test_the_order_of_pictures_counts()


@pytest.mark.parametrize("prompt", [WORDS, TEXT])
def test_what_is_fetched_is_the_callers_to_write(prompt: Any) -> None:
    cache = stored(RED, prompt=prompt)
    for _ in range(2):
        entry, match_len = cache.fetch([RED], prompt)
        assert entry is not None and entry.kv_cache is not None
        assert same(entry.kv_cache, filled(30), match_len)
        for layer in entry.kv_cache:
            layer.update_and_fetch(mx.ones((1, 2, 3, 8)), mx.ones((1, 2, 3, 8)))
            layer.keys[...] = 0


@pytest.mark.parametrize("kind", [VisionKV, RotatingKVCache])
def test_memory_is_bounded(kind: Any) -> None:
    """One entry is 64 KiB of KV and as much of embeddings: eight fit, and the last stay."""
    cache = manager(max_memory_mb=0.5)
    for i in range(40):
        image, kv = picture("red", size=(32 + i, 32)), filled(128, kind, seed=i)
        cache.store([image], [i, *range(200, 327)], mx.ones((1024, 16)), kv, 128)
        assert 0 < cache.memory_used_mb <= 0.5
    assert cache.get_stats()["evictions"] > 0
    entry, match_len = cache.fetch([picture("red", size=(71, 32))], [39, *range(200, 327), 1])
    assert entry is not None and match_len == 128 and entry.vision_embeddings is not None
    assert cache.fetch([picture("red", size=(32, 32))], [0, *range(200, 327), 1])[1] == 0
    cache.clear()
    assert cache.memory_used_mb == 0.0


def test_shared_beginnings_are_stored_once() -> None:
    cache = manager()
    cache.store([RED], WORDS, None, filled(30), 30)
    once = cache.memory_used_mb
    cache.store([RED], [*WORDS[:24], 1, 2, 3, 4, 5, 6], None, filled(30), 30)
    assert once < cache.memory_used_mb < 1.5 * once


def test_statistics() -> None:
    cache = stored(RED)
    assert (cache.hit_rate, cache.tokens_saved) == (0.0, 0)
    cache.fetch([RED], WORDS)
    cache.fetch([BLUE], WORDS)
    cache.fetch([RED], [*WORDS[:8], 1])
    said = cache.get_stats()
    assert {n: said[n] for n in ("total_queries", "hits", "misses", "image_hits", "tokens_saved")} == {
        "total_queries": 3, "hits": 2, "misses": 1, "image_hits": 2, "tokens_saved": 37,
    }  # fmt: skip
    assert (said["feature_hits"], said["feature_misses"]) == (2, 1)
    assert said["hit_rate"] == cache.hit_rate == 2 / 3 and cache.tokens_saved == 37
    assert said["memory_used_mb"] == cache.memory_used_mb == (2 * 2 * 30 * 2 * 8 * 4 + 4 * 8 * 4) / 1024**2


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"num_tokens": 31}, "num_tokens"),
        ({"num_tokens": 0}, "num_tokens"),
        ({"prompt": WORDS[:29]}, "num_tokens"),
        ({"kv_cache": filled(30, TextKV)}, "kv_cache"),
        ({"vision_embeddings": "features"}, "vision_embeddings"),
        ({"images": [np.zeros((4, 4))]}, "images[0]"),
        ({"images": [np.zeros((4, 4, 4), np.uint8)]}, "images[0]"),
    ],
)
def test_what_cannot_be_stored_is_named(change: Any, param: str) -> None:
    cache = stored(RED)
    good = {"images": [RED], "prompt": WORDS, "vision_embeddings": None, "kv_cache": filled(30), "num_tokens": 30}
    with pytest.raises(BadRequest) as caught:
        cache.store(**(good | change))
    assert caught.value.param == param and param in caught.value.message


def test_a_picture_that_is_not_there() -> None:
    with pytest.raises(BadMedia, match=r"images\[1\]"):
        manager().fetch([RED, "/no/such/file.png"], WORDS)
    with pytest.raises(BadRequest, match="max_memory_mb"):
        manager(max_memory_mb=0)


def test_the_engines_own_cache_says_the_same_of_itself() -> None:
    """get_stats, hit_rate, tokens_saved and memory_used_mb of PrefixCache are those of its CacheStats."""
    cache = PrefixCache(CacheConfig(block_tokens=8), scope="model")
    cache.store(cache.lease(), WORDS, filled(30))
    stats, said = cache.stats(), cache.get_stats()
    assert isinstance(stats, CacheStats)
    assert said["blocks"] == stats.blocks == 4 and said["hit_rate"] == cache.hit_rate == stats.hit_rate
    assert said["tokens_saved"] == cache.tokens_saved == stats.tokens_saved
    assert said["memory_used_mb"] == cache.memory_used_mb == stats.kv_bytes / 1024**2 > 0


def test_tokens_are_those_that_were_computed_not_those_there_is_room_for() -> None:
    assert filled(5)[0].keys.shape[2] == 256 and tensors.num_tokens(filled(5)) == 5


def test_the_size_may_be_left_out_and_counters_are_attributes_too() -> None:
    cache = MLLMPrefixCacheManager()
    assert mllm.DEFAULT_MB == 512 and cache.max_memory_mb == 512
    cache.fetch([], WORDS)
    stats = cache.get_stats()
    assert (stats.hit_rate, stats.tokens_saved, stats.memory_used_mb) == (0.0, 0, 0.0)
    assert stats.total_queries == stats["total_queries"] == 1 and dict(stats) == stats
    with pytest.raises(AttributeError, match="no counter 'speed'"):
        _ = stats.speed
