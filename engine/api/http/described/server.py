"""What is this server's own: health, models, the cache, tokens."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from engine.api.http.described.openai import ReceiptSchema


class ProbeSchema(BaseModel):
    status: Literal["alive", "ready"]


class LogLineSchema(BaseModel):
    """id: grows with each line, also over a restart. created: in seconds since 1970. text: may have several lines."""

    id: int
    created: float
    level: Literal["debug", "info", "warning", "error"]
    logger: str
    text: str


class LogSchema(BaseModel):
    """level: the least that the server writes; null where it is part of another program, which has the log. num_gone:
    older lines that made room."""

    object: Literal["list"]
    data: list[LogLineSchema]
    has_more: bool
    level: Literal["debug", "info", "warning", "error"] | None
    num_gone: int


class RestartSchema(BaseModel):
    """how: null where it cannot be done, and why_not says why. asked: it is about to be. wait_seconds: how long running
    answers may go on. changes_link: a public link gets another address."""

    how: Literal["in_place", "supervisor"] | None
    obstacle: Literal["embedded", "no_program", "several_ranks"] | None
    why_not: str | None
    asked: bool
    wait_seconds: float
    changes_link: bool


class ServerProcessSchema(BaseModel):
    """started: in seconds since 1970. running: requests that have not ended."""

    pid: int
    started: float
    running: int
    restart: RestartSchema


class IndexSchema(BaseModel):
    models: str
    health: str
    documentation: str
    schema_: str = Field(alias="schema")


ModelWord = Literal["ready", "loading", "downloading", "not_loaded", "failed", "connecting", "unreachable"]
"""The last two are of models that another server answers for."""


class CapabilitiesSchema(BaseModel):
    """null: another server answers for the model, and does not tell."""

    vision: bool | None
    video: bool | None
    audio: bool | None
    embeddings: bool
    rerank: bool
    images_per_prompt: int | None
    audios_per_prompt: int | None
    tested: bool


class ProgressSchema(BaseModel):
    done_bytes: int
    total_bytes: int


class ModelSchema(BaseModel):
    """OpenAI's model object, and Anthropic's. As long as it was never loaded, its limits and capabilities are not
    there. server: the host of another server that answers for it; null is then what that one does not tell."""

    model_config = ConfigDict(protected_namespaces=())

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    type: Literal["model"]
    display_name: str
    created_at: str
    state: ModelWord
    max_model_len: int | None = 0
    model_type: str | None = ""
    dtype: str | None = ""
    num_params: int | None = 0
    server: str = ""
    capabilities: CapabilitiesSchema | None = None
    root: str = ""
    parent: str | None = None
    aliases: list[str] = []
    progress: ProgressSchema | None = None
    error: str | None = None


class ModelsSchema(BaseModel):
    object: Literal["list"]
    data: list[ModelSchema]
    has_more: bool
    first_id: str | None
    last_id: str | None


class PulledSchema(BaseModel):
    """The end of a download."""

    status: Literal["success"]


class BatchSchema(BaseModel):
    """What is worked on at once, of how much."""

    answers: int
    max_answers: int
    max_requests: int
    max_queue: int
    kv_tokens: int
    max_kv_tokens: int | None
    waiting_for_memory: int
    bounded_by: Literal["memory", "requests"] | None


class DeviceSchema(BaseModel):
    os: str
    chip: str
    cores: int
    mlx_device: str
    mlx_version: str
    blas: str


class RankMemorySchema(BaseModel):
    """Memory of one of several processes that hold a part of the model each, in bytes."""

    rank: int
    total_bytes: int
    process_bytes: int
    mlx_active_bytes: int
    mlx_cache_bytes: int
    mlx_peak_bytes: int


class MemorySchema(BaseModel):
    """In bytes; the parts sum to used_bytes. wired_limit_bytes: on a Mac, where it is set. ranks: of each process of
    several."""

    total_bytes: int
    process_bytes: int
    mlx_active_bytes: int
    mlx_cache_bytes: int
    mlx_peak_bytes: int
    used_bytes: int
    wired_limit_bytes: int | None = None
    parts: dict[str, int]
    ranks: list[RankMemorySchema] = []


class HealthModelSchema(BaseModel):
    """One of the models. seconds: how long its state lasts, or how long it took to load."""

    id: str
    state: ModelWord
    server: str = ""
    default: bool
    done_bytes: int
    total_bytes: int
    seconds: float
    requests: int
    waiting: int
    idle_seconds: float | None
    weights_bytes: int
    error: str | None


class HealthSchema(BaseModel):
    status: Literal["ok", "loading", "failed", "stopped"]
    error: str | None
    model: ModelSchema | None
    models: list[HealthModelSchema]
    running: int
    waiting: int
    batch: BatchSchema
    device: DeviceSchema
    memory: MemorySchema


class CacheBytesSchema(BaseModel):
    kv: int
    snapshots: int
    features: int


class CacheLimitsSchema(BaseModel):
    blocks: int
    bytes: int
    feature_bytes: int


class DiskSchema(BaseModel):
    enabled: bool
    num_bytes: int
    max_bytes: int
    files: int
    blocks: int
    features: int
    snapshots: int
    pending: int
    hits: int
    writes: int
    dropped: int
    faults: int
    evictions: int
    failing: bool


class CacheStatsSchema(BaseModel):
    enabled: bool
    total_queries: int
    hits: int
    misses: int
    hit_rate: float
    token_hit_rate: float
    tokens_saved: int
    tokens_seen: int
    image_hits: int
    video_hits: int
    bytes: CacheBytesSchema
    kv_layer_bytes: list[int]
    blocks: int
    blocks_in_use: int
    blocks_pinned: int
    block_tokens: int
    snapshots: int
    features: int
    features_pinned: int
    feature_hits: int
    feature_misses: int
    encoder_runs_avoided: int
    stored: int
    shared: int
    copied_on_write: int
    evictions: int
    cache_verified: int
    cache_mismatches: int
    limits: CacheLimitsSchema
    disk: DiskSchema


class EntrySchema(BaseModel):
    """Ages in seconds."""

    num_bytes: int
    hits: int
    pinned: bool
    age_s: float
    idle_s: float


class BlockSchema(EntrySchema):
    """Of what others sent, visitors get only sizes."""

    start: int
    num_tokens: int
    refs: int
    key: str = ""
    parent: str = ""
    text: str = ""
    media: list[str] = []
    media_hits: list[int] = []


class BlocksSchema(BaseModel):
    object: Literal["list"]
    data: list[BlockSchema]


class PortionSchema(BaseModel):
    sha256: str
    frames: list[int]
    num_frames: int


class FeatureSchema(EntrySchema):
    """Of what others sent, visitors get only sizes."""

    key: str = ""
    media: list[PortionSchema] = []


class FeaturesSchema(BaseModel):
    object: Literal["list"]
    data: list[FeatureSchema]


class CacheChangeSchema(BaseModel):
    key: str
    action: Literal["pin", "unpin", "drop"]
    done: bool


class ReplaySchema(BaseModel):
    """A request asked again, from the cache (warm) and computed in full (cold)."""

    request_id: str
    warm_tokens: list[int]
    cold_tokens: list[int]
    warm_text: str
    cold_text: str
    warm_ttft_ms: float
    cold_ttft_ms: float
    prompt_tokens: int
    reused_tokens: int
    margins: list[list[float]]
    rounding: float
    equal: bool
    first_difference: int | None
    verdict: Literal["equal", "near_tie", "different", "nothing_reused"]


class TokenizeSchema(BaseModel):
    """vLLM's answer; left, cached_tokens, ttft_ms and media are this server's own."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None
    left: int
    cached_tokens: int
    ttft_ms: float | None
    media: list[ReceiptSchema]


class DetokenizeSchema(BaseModel):
    prompt: str
