"""The frozen copy of the engine's state that the tabs, /health, /metrics and /v1/models read.

Replaced as a whole by the engine thread; safe in every thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from engine.types.events import Done
from engine.types.request import Sampling

Stage = Literal["waiting", "restoring", "prefill", "decode", "finished"]
State = Literal["starting", "loading", "ready", "failed", "stopped"]
ModelStage = Literal["known", "downloading", "loading", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What this machine is. memory_bytes is physical memory; blas is the library behind CPU matrix products."""

    os: str
    chip: str
    mlx_device: str
    memory_bytes: int
    num_cores: int
    blas: str
    mlx_version: str


class ModelWeights(Protocol):
    """What a model takes: num_bytes in all, adapter_bytes of them for its LoRA adapter. base: which weights the others
    are; models of one base share them. "" where it is not known: shared with nobody."""

    @property
    def num_bytes(self) -> int: ...

    @property
    def base(self) -> str: ...

    @property
    def adapter_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class ExpectedWeights:
    """What a model that is not loaded is expected to take; see ModelWeights. 0 bytes: not known yet."""

    num_bytes: int = 0
    base: str = ""
    adapter_bytes: int = 0


def added_bytes(models: Sequence[ModelWeights]) -> tuple[int, ...]:
    """What each of these takes beside those before it: weights that several share are counted for the first of them."""
    seen: set[str] = set()
    found = []
    for model in models:
        found.append(model.adapter_bytes if model.base in seen else model.num_bytes)
        seen |= {model.base} - {""}
    return tuple(found)


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A loaded model: what it is and what it can take. keeps_grids: a prompt about media whose KV is there is built
    without their pixels (engine.models.grids). reasons: it may think before it answers. template_variables: what its
    chat template reads. toy: what a model can do that is a toy, as its README says; else "". fingerprint: of its
    weights and processor settings. tested: a tiny model of its family is among this project's tests, or it is a text
    model. described_by: one of the names of the model that describes pictures and clips to it; "" where none does.
    base, adapter_bytes: see ModelWeights. embeds: it makes vectors of texts; ranks: it says how well documents answer a
    query. sampling: what applies to a request that leaves it open, of the server's settings and the model's own."""

    id: str
    path: str
    model_type: str
    dtype: str
    num_params: int
    num_bytes: int
    context_tokens: int
    vision: bool = False
    video: bool = False
    native_video: bool = False
    audio: bool = False
    images_per_prompt: int | None = None
    audios_per_prompt: int | None = None
    keeps_grids: bool = False
    reasons: bool = False
    template_variables: tuple[str, ...] = ()
    created: int = 0
    toy: str = ""
    fingerprint: str = ""
    tested: bool = True
    described_by: str = ""
    base: str = ""
    adapter_bytes: int = 0
    embeds: bool = False
    ranks: bool = False
    sampling: Sampling = field(default_factory=Sampling)

    @property
    def can_turn_reasoning_off(self) -> bool:
        """Whether its template can."""
        return not {"enable_thinking", "thinking"}.isdisjoint(self.template_variables)


@dataclass(frozen=True, slots=True)
class DescriptionProgress:
    """How many media of a request the vision model has described; model: its name."""

    model: str
    num_media: int
    num_done: int = 0


@dataclass(frozen=True, slots=True)
class ModelState:
    """One of the models that this engine may load, and how far it is. Any thread.

    name: as /v1/models has it; aliases: other names that requests may use; source: "demo", a folder or a hub id.
    stage: "known" is not in memory, and is loaded by the first request for it; "failed" was not loaded, for the reason
    that error tells. done_bytes of total_bytes are downloaded, or in memory, while it is downloading or loading
    (total_bytes 0: not known). seconds: how long the stage has lasted; of a model that is ready, how long it took to
    load. num_bytes: memory of its weights; while it is not loaded, what they are expected to take (0: not known).
    num_requests: those that use it now, num_waiting: those that wait until it is loaded. idle_s: since the last one
    ended, None while it is in use or not loaded. card: what it is, as soon as it was loaded once. parent: the name of
    the model that it is an adapter of; adapter_path: the folder of the adapter it is loaded with.
    """

    name: str
    source: str
    stage: ModelStage = "known"
    aliases: tuple[str, ...] = ()
    is_default: bool = False
    done_bytes: int = 0
    total_bytes: int = 0
    seconds: float = 0.0
    num_bytes: int = 0
    num_requests: int = 0
    num_waiting: int = 0
    idle_s: float | None = None
    error: str | None = None
    card: ModelCard | None = None
    parent: str | None = None
    adapter_path: str | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """One request the scheduler holds, as the tabs see it. model: the name of the one that answers it."""

    id: str
    stage: Stage
    prompt_tokens: int
    prefilled_tokens: int
    completion_tokens: int
    age_ms: float
    source: str
    session: str | None = None
    model: str = ""


@dataclass(frozen=True, slots=True)
class BatchState:
    """What is worked on at once, and what bounds it.

    num_rows: answers that decode, of max_rows; max_requests: prompts and answers that are worked on at once, as far as
    memory has room. kv_tokens: what their KV takes, padding included, of max_kv_tokens (None: not known).
    num_waiting_for_memory: prompts that would go on if there were more of it.
    """

    num_rows: int = 0
    max_rows: int = 0
    max_requests: int = 0
    kv_tokens: int = 0
    max_kv_tokens: int | None = None
    num_waiting_for_memory: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """One request that has ended, as the tabs list it. Nothing of what users wrote but the few words of the trace.

    tenant: the request's, see engine.access.visibility.
    spans: (start, end) token spans of the prompt, one per receipt of done.media, or () when they are not known.
    error is the code of the error that ended it, None when done says how it ended. finished_s is in seconds since 1970.
    """

    id: str
    source: str
    session: str | None
    finished_s: float
    done: Done
    spans: tuple[tuple[int, int], ...] = ()
    error: str | None = None
    tenant: str = ""


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
class Totals:
    """Counters since the engine started. cut_off: those of the finished that ended at their length limit."""

    requests: int = 0
    finished: int = 0
    cut_off: int = 0
    cancelled: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


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


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The frozen copy of the engine's state. Replaced as a whole by the engine thread; readers never lock.

    models: those that are loaded, the default one first. states: all that may be loaded, as they were configured, the
    default one first. recent: the requests that ended last, newest first. batch, cache: of all loaded models together.
    caches: of each of models, in their order.

    Memory in bytes, from MLX: active (weights, KV, features), cache (freed, kept by the allocator), peak, device (what
    MLX may fill; 0: not known yet), wired_limit (what the system may not page out; None: there is no such limit here).
    """

    state: State
    device: DeviceInfo
    models: tuple[ModelCard, ...] = ()
    states: tuple[ModelState, ...] = ()
    error: str | None = None
    running: tuple[Running, ...] = ()
    batch: BatchState = field(default_factory=BatchState)
    totals: Totals = field(default_factory=Totals)
    cache: CacheStats = field(default_factory=CacheStats)
    caches: tuple[CacheStats, ...] = ()
    recent: tuple[Record, ...] = ()
    active_bytes: int = 0
    cache_bytes: int = 0
    peak_bytes: int = 0
    device_bytes: int = 0
    wired_limit_bytes: int | None = None
    process_bytes: int = 0
    decode_tps: float = 0.0

    @property
    def model(self) -> ModelCard | None:
        """The model that serves a request which names none, loaded or not; None as long as it was never loaded."""
        default = next((state for state in self.states if state.is_default), None)
        if default is None or any(card.id == default.name for card in self.models[:1]):
            return self.models[0] if self.models else None
        return default.card

    def card_of(self, name: str | None) -> ModelCard | None:
        """The model of this name, loaded or not; None as long as it was never loaded. None is the default one."""
        state = next((state for state in self.states if state.name == name), None)
        return state.card if state else self.model
