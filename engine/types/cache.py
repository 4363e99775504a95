"""What the cache holds, in memory and on disk, and what it has saved. Safe in every thread."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class BlockInfo:
    """One stored block of KV, as the Cache tab shows it. key: its hash in hex; parent: that of the block before it.

    tokens [start, start + num_tokens) of its prompt; text: those tokens as text, media as their placeholders; media:
    sha256 of the pictures and clips in it, media_hits: prompts that reused each of them whole since the cache was
    cleared. refs: running rows served from it. Ages in seconds. tenant: whose prompts it serves; None when that is
    forgotten, see engine.access.visibility.
    """

    key: str
    parent: str
    start: int
    num_tokens: int
    num_bytes: int
    refs: int
    hits: int
    pinned: bool
    age_s: float
    idle_s: float
    text: str = ""
    media: tuple[str, ...] = ()
    tenant: str | None = None
    media_hits: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class MediaPortion:
    """Which piece of a medium: a whole picture, or some frames of a clip (positions among its num_frames)."""

    sha256: str
    frames: tuple[int, ...] = ()
    num_frames: int = 0


@dataclass(frozen=True, slots=True)
class FeatureInfo:
    """One stored unit of vision features: what the vision tower reads as one, a picture or a pair of frames.

    media: what it is of, by the prompts that had it: several media may share a unit. hits: how often it spared a run of
    the vision tower. Ages in seconds. key, in hex, is made from pixels and tenant; tenant: see
    engine.access.visibility.
    """

    key: str
    num_bytes: int
    hits: int
    pinned: bool
    age_s: float
    idle_s: float
    media: tuple[MediaPortion, ...] = ()
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class DiskStats:
    """The cache's folder. num_bytes and files count every model's; blocks, features and row snapshots only this one's.

    hits: files read back. dropped: what was not written because the writer had too much to do, or it was too large.
    faults: files that could not be written, or were not as they were written. pending: files still being written.
    failing: the last file could not be written (a full disk, a read-only one); another attempt follows after a pause.
    """

    enabled: bool = False
    num_bytes: int = 0
    max_bytes: int = 0
    files: int = 0
    blocks: int = 0
    features: int = 0
    snapshots: int = 0
    pending: int = 0
    hits: int = 0
    writes: int = 0
    dropped: int = 0
    faults: int = 0
    evictions: int = 0
    failing: bool = False


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Prefix reuse since the start, and what is held now. Names of the counters as in /v1/cache/stats.

    image_hits, video_hits: prompts of which at least one whole picture, or clip, was reused. media_reused: pictures and
    clips that were not encoded, for their KV was there; feature_hits: pictures and pairs of frames whose features were.
    stored: blocks that were put in; shared: blocks that were there already when a row came to store the same tokens;
    copied_on_write: blocks of which a row took over only the first tokens, and went on in a copy.
    kv_layer_bytes: kv_bytes by layer. cache_verified: hits that were replayed cold and compared; cache_mismatches:
    those of them whose answers differed.
    """

    enabled: bool = False
    total_queries: int = 0
    hits: int = 0
    misses: int = 0
    tokens_saved: int = 0
    tokens_seen: int = 0
    image_hits: int = 0
    video_hits: int = 0
    blocks: int = 0
    blocks_in_use: int = 0
    blocks_pinned: int = 0
    block_tokens: int = 64
    max_blocks: int = 0
    kv_bytes: int = 0
    max_bytes: int = 0
    stored: int = 0
    shared: int = 0
    copied_on_write: int = 0
    evictions: int = 0
    snapshots: int = 0
    snapshot_bytes: int = 0
    features: int = 0
    features_pinned: int = 0
    feature_bytes: int = 0
    max_feature_bytes: int = 0
    feature_hits: int = 0
    feature_misses: int = 0
    media_reused: int = 0
    kv_layer_bytes: tuple[int, ...] = ()
    cache_verified: int = 0
    cache_mismatches: int = 0
    disk: DiskStats = field(default_factory=DiskStats)

    @property
    def encoder_runs_avoided(self) -> int:
        """Runs of the vision tower that reuse saved."""
        return self.media_reused + self.feature_hits

    @property
    def hit_rate(self) -> float:
        """Prompts that reused something over all prompts."""
        return self.hits / self.total_queries if self.total_queries else 0.0

    @property
    def token_hit_rate(self) -> float:
        """Prompt tokens reused over prompt tokens seen."""
        return self.tokens_saved / self.tokens_seen if self.tokens_seen else 0.0

    @property
    def memory_used_mb(self) -> float:
        """MiB of KV, row snapshots and vision features held in memory."""
        return (self.kv_bytes + self.snapshot_bytes + self.feature_bytes) / 1024**2
