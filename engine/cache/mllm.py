"""The prefix cache for a program that runs its own generation loop, under the names that the field knows it by.

    from mlx_vlm.models.cache import make_prompt_cache
    cache = MLLMPrefixCacheManager()

    entry, match_len = cache.fetch(["cat.jpg"], prompt)
    kv = entry.kv_cache if match_len else make_prompt_cache(model.language_model)
    ...                             # compute prompt[match_len:] into kv, with entry.vision_embeddings if there are any
    cache.store(["cat.jpg"], prompt, vision_embeddings, kv, num_tokens=len(prompt))

    stats = cache.get_stats()       # stats.hit_rate, stats.tokens_saved, stats.memory_used_mb; or stats["hits"]

It is the engine's own store (engine.cache.prefix): blocks for plain KV, row snapshots for sliding windows and
state-space layers, features beside them. One for each model; used by one thread, the one that runs the model.

Pictures are told apart by their decoded pixels and their order, never by file name: [A, B] is not [B, A], a file with
new content is another picture, and equal pixels are the same one as a path, a URL, a PIL image or an array.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engine.cache import tensors
from engine.cache.prefix import PrefixCache
from engine.config import CacheConfig, MediaLimits
from engine.errors import BadRequest
from engine.media.image import to_rgb
from engine.media.medium import content_sha256
from engine.media.read_medium import load_media
from engine.types import FrameSampling, Part, Request
from engine.types.media import Media
from engine.types.prompt import PlacedMedia, Prompt, Span, media_id

Picture = str | Path | Image.Image | np.ndarray[Any, Any]
"""A path, a URL (http, https, data), a PIL image, or uint8 RGB (height, width, 3)."""

DEFAULT_MB = 512.0
_KV_SHARE = 0.75
_STATS = (
    "total_queries",
    "hits",
    "misses",
    "tokens_saved",
    "image_hits",
    "feature_hits",
    "feature_misses",
    "evictions",
    "blocks",
    "snapshots",
    "features",
    "memory_used_mb",
)


@dataclass(frozen=True, slots=True)
class MLLMPrefixCacheEntry:
    """What is stored for a prompt. kv_cache: the layers of one row, a copy of the caller's own, with the KV of the
    prompt's first num_tokens tokens; None when only the pictures are known. vision_embeddings: those given, not a copy.
    """

    kv_cache: list[Any] | None
    num_tokens: int
    vision_embeddings: Any


class MLLMPrefixCacheStats(dict[str, Any]):
    """Counters by name, as a mapping and as attributes.

    >>> stats = MLLMPrefixCacheStats(hits=3)
    >>> stats.hits, stats["hits"], hasattr(stats, "other")
    (3, 3, False)
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no counter {name!r}") from None


class MLLMPrefixCacheManager:
    """KV and vision embeddings by pictures and prompt, least recently used first to go. See the module's docstring.

    >>> cache = MLLMPrefixCacheManager()
    >>> cache.fetch([], [1, 2, 3])
    (None, 0)
    >>> cache.get_stats().misses
    1

    max_memory_mb: MiB for all of it; a quarter is the vision embeddings'. limits: what reading a picture may cost.
    """

    def __init__(
        self, max_memory_mb: float = DEFAULT_MB, block_tokens: int = 64, limits: MediaLimits | None = None
    ) -> None:
        if not max_memory_mb > 0:
            raise BadRequest(f"max_memory_mb must be more than 0, not {max_memory_mb}.", param="max_memory_mb")
        self.max_memory_mb = max_memory_mb
        max_kv_bytes = int(max_memory_mb * _KV_SHARE * 1024**2)
        bounds = CacheConfig(
            block_tokens=block_tokens,
            max_blocks=1 << 31,
            max_snapshots=1 << 31,
            max_bytes=max_kv_bytes,
            max_feature_bytes=int(max_memory_mb * 1024**2) - max_kv_bytes,
        )
        self._cache = PrefixCache(bounds, scope="mllm")
        self._limits = limits or MediaLimits()
        self._layers: list[type] = []
        self._is_cut = False

    def store(
        self,
        images: Sequence[Picture],
        prompt: str | Sequence[int],
        vision_embeddings: Any,
        kv_cache: Sequence[Any],
        num_tokens: int,
    ) -> None:
        """Keep a copy of a row's KV, and of its pictures' embeddings (an array, a list of arrays, or None).

        prompt: its token ids, of which kv_cache holds the first num_tokens; then other prompts share what they begin
        with, token by token. Or a text, which is only reused whole, since its tokens are not known here.
        KV that cannot be cut (sliding windows, state-space layers) serves prompts that go on behind all of it.
        Raises BadRequest, and BadMedia for a picture that cannot be read.
        """
        layers = [type(layer) for layer in kv_cache]
        if self._layers and layers != self._layers:
            raise BadRequest("kv_cache is of another model than the KV stored before.", param="kv_cache")
        held = tensors.num_tokens(kv_cache) if tensors.is_plain(kv_cache) else num_tokens
        if not 0 < num_tokens <= held or (not isinstance(prompt, str) and num_tokens > len(prompt)):
            raise BadRequest(f"num_tokens {num_tokens} is more than prompt or kv_cache have.", param="num_tokens")
        pictures = self._pictures(images)
        ids = _whole(prompt, num_tokens) if isinstance(prompt, str) else list(prompt[:num_tokens])
        self._layers, self._is_cut = layers, tensors.is_plain(kv_cache)
        self._cache.store(self._cache.lease(_tenant(pictures)), ids, kv_cache)
        if vision_embeddings is not None and pictures:
            self._cache.features.put(_key(pictures), vision_embeddings, _num_bytes(vision_embeddings))

    def fetch(self, images: Sequence[Picture], prompt: str | Sequence[int]) -> tuple[MLLMPrefixCacheEntry | None, int]:
        """What is stored for these pictures and the longest beginning of this prompt, and that beginning's tokens.

        Of token ids never the last one, which is computed to get logits; a text is reused with all its tokens, so take
        its last one back (mlx_lm.models.cache.trim_prompt_cache). (None, 0) when nothing is known; (entry, 0) when only
        the pictures are. The entry's KV is a copy, for the caller to go on writing into.
        """
        pictures = self._pictures(images)
        ids = _whole(prompt, self._most_tokens() + 1) if isinstance(prompt, str) else list(prompt)
        kv_cache: list[Any] = [layer() for layer in self._layers] if self._is_cut else []
        query = Prompt(ids, ids, tuple(_at_first_token(picture) for picture in pictures))
        lease = self._cache.begin(query, kv_cache, Request(tenant=_tenant(pictures)))
        num_tokens = lease.match.num_tokens if lease else 0
        if lease:
            self._cache.end(lease)
        embeddings = self._cache.features.get(_key(pictures)) if pictures else None
        if not num_tokens and embeddings is None:
            return None, 0
        return MLLMPrefixCacheEntry(kv_cache if num_tokens else None, num_tokens, embeddings), num_tokens

    def get_stats(self) -> MLLMPrefixCacheStats:
        """Counters since the start and what is held. A query is one fetch, a hit one that found KV."""
        stats = self._cache.get_stats()
        return MLLMPrefixCacheStats({name: stats[name] for name in _STATS} | {"hit_rate": self.hit_rate})

    @property
    def hit_rate(self) -> float:
        """Hits over queries. Not over tokens, as the engine's: how many a text has is not known before it is found."""
        counters = self._cache.pool.counters
        return counters.hits / counters.queries if counters.queries else 0.0

    @property
    def tokens_saved(self) -> int:
        return self._cache.tokens_saved

    @property
    def memory_used_mb(self) -> float:
        """MiB held; never more than max_memory_mb."""
        return self._cache.memory_used_mb

    def clear(self) -> None:
        """Forget everything; the counters go on."""
        self._cache.clear()

    def _most_tokens(self) -> int:
        """No stored prompt is longer."""
        pool = self._cache.pool
        return len(pool) * pool.block_tokens if self._is_cut else self._cache.snapshots.most_tokens

    def _pictures(self, images: Sequence[Picture]) -> tuple[Media, ...]:
        """The facts of each, in order."""
        pixels = [self._decode(image, f"images[{i}]") for i, image in enumerate(images)]
        return tuple(Media("image", p, content_sha256(p), 0, (p.shape[1], p.shape[0])).without_pixels() for p in pixels)

    def _decode(self, image: Picture, param: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise BadRequest(f"{param}: an array must be uint8 RGB, (height, width, 3).", param=param)
            return image
        part = Part("image", param=param)
        if isinstance(image, Image.Image):
            return to_rgb(part, image)
        is_url = isinstance(image, str) and image.startswith(("http://", "https://", "data:"))
        named = Part("image", url=str(image), param=param) if is_url else Part("image", path=str(image), param=param)
        return load_media(named, self._limits, FrameSampling()).pixels


def _tenant(pictures: Sequence[Media]) -> str:
    """The pictures, in their order, are part of the root: chains of two sets of pictures never meet."""
    return " ".join(picture.sha256 for picture in pictures)


def _at_first_token(picture: Media) -> PlacedMedia:
    """A picture as far as it is known here: with the prompt's first token, all of it is reused."""
    return PlacedMedia(Part("image"), picture, placeholder=-1, tokens=1, seen_px=picture.decoded_px, span=Span(0, 1))


def _key(pictures: Sequence[Media]) -> bytes:
    return hashlib.blake2b(_tenant(pictures).encode(), digest_size=16).digest()


def _whole(text: str, num_tokens: int) -> list[int]:
    """Stands for a text of which only the number of tokens is known: one id, as for a medium's content."""
    return [media_id(f"text {text}")] * num_tokens


def _num_bytes(embeddings: Any) -> int:
    if isinstance(embeddings, list | tuple):
        return sum(map(_num_bytes, embeddings))
    if not hasattr(embeddings, "nbytes"):
        raise BadRequest("vision_embeddings must be an array, a list of arrays or None.", param="vision_embeddings")
    return int(embeddings.nbytes)
