"""The nouns of the engine, as frozen values. Pure Python: no MLX, no numpy, safe in every thread.

Request ── Message ── Part            what goes in
Delta*, Done                          the only two events that come out; exactly one Done, last
Usage, Timing, MediaReceipt           what Done carries
Snapshot, ModelCard, DeviceInfo       the frozen picture of the engine that the tabs, /health and /v1/models read
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]
Kind = Literal["text", "image", "video", "audio"]
Detail = Literal["auto", "low", "high"]
Channel = Literal["text", "reasoning"]
FinishReason = Literal["stop", "length", "cancelled"]
Stage = Literal["waiting", "prefill", "decode", "finished"]
State = Literal["starting", "loading", "ready", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class Part:
    """A reference inside a message; never pixels.

    kind "text" carries `text`. A medium carries exactly one of:
      url    a `data:` or `http(s):` URL, as the client sent it
      path   a file that this process may read: the caller has checked it (upload folder, --media-root)
      parts  a clip sent as a list of pictures: its frames, in order, each a part of kind "image"
    detail and max_pixels say how large the model shall see a picture at most (engine.sizing); frames how this clip is
    sampled, where that differs from the request's.
    param names the part in the client's own terms, e.g. "messages[0].content[1]", for error messages.
    """

    kind: Kind
    text: str = ""
    url: str | None = None
    path: str | None = None
    parts: tuple[Part, ...] = ()
    detail: Detail = "auto"
    max_pixels: int | None = None
    frames: FrameSampling | None = None
    param: str = "messages"


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. None means: the server's default, else the model's generation config.

    temperature 0 is greedy. seed gives the request its own random key: same seed, same tokens, in any batch.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class FrameSampling:
    """Which frames of a clip the model gets. Times in seconds of the clip; None means the default.

    max_pixels: of all frames together; the smaller of it and the model's own budget counts. list_fps: the rate at which
    a list of frames was taken. indices: these frames of the source, ascending, whatever the other fields would choose.
    """

    fps: float | None = None
    max_frames: int | None = None
    min_frames: int | None = None
    start_s: float | None = None
    end_s: float | None = None
    max_pixels: int | None = None
    list_fps: float | None = None
    indices: tuple[int, ...] | None = None

    def over(self, default: FrameSampling) -> FrameSampling:
        """These settings; where they say nothing, the default's."""
        said = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return replace(default, **{name: value for name, value in said.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Request:
    """One generation. Either `messages` (chat) or `prompt` (raw text or token ids, for /v1/completions).

    max_tokens None means: the server's default, clamped to what is left of the context. An explicit number that does
    not fit is an error, never clamped in silence.
    min_tokens: the answer may not end before so many. first_logprobs: how many of the first token's log-probabilities,
    the likeliest first, come with Done. forced: token ids of an answer that is given whatever the model would say; Done
    then tells how likely each was (Engine.likelihood).
    source says who asks ("chat", "api", "bench"), for the tabs; session is an opaque owner id. A "replay"
    (engine.replay) is neither listed nor counted as a query, stores nothing, and tells the margins of its tokens.
    tenant: prompts of two tenants never share cached work, nor can one feel by the time taken what the other sent; see
    engine.privacy. reuse False computes everything: nothing is looked up and nothing kept (KV, snapshots, features).
    """

    messages: tuple[Message, ...] = ()
    prompt: str | tuple[int, ...] | None = None
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    frames: FrameSampling = field(default_factory=FrameSampling)
    template_kwargs: tuple[tuple[str, Any], ...] = ()
    first_logprobs: int = 0
    forced: tuple[int, ...] = ()
    id: str = ""
    source: str = "api"
    session: str | None = None
    tenant: str = ""
    reuse: bool = True


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of answer text. Valid UTF-8; no special tokens, no part of a stop string. num_tokens it took."""

    text: str
    channel: Channel = "text"
    num_tokens: int = 1


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds on the engine's clock, from the moment the request was accepted.

    ttft_ms is time to first token (queue + media + prefill), tpot_ms the mean time per output token after the first.
    """

    media_ms: float = 0.0
    queue_ms: float = 0.0
    prefill_ms: float = 0.0
    ttft_ms: float = 0.0
    decode_ms: float = 0.0
    total_ms: float = 0.0
    completion_tokens: int = 0
    prompt_tokens: int = 0

    @property
    def tpot_ms(self) -> float:
        return self.decode_ms / (self.completion_tokens - 1) if self.completion_tokens > 1 else 0.0

    @property
    def decode_tps(self) -> float:
        """Generation tokens per second after the first token; 0 when there was only one."""
        return 1000.0 / self.tpot_ms if self.tpot_ms > 0 else 0.0

    @property
    def prefill_tps(self) -> float:
        return self.prompt_tokens * 1000.0 / self.prefill_ms if self.prefill_ms > 0 else 0.0


@dataclass(frozen=True, slots=True)
class MediaReceipt:
    """What happened to one medium. Sizes are (width, height) in pixels. sha256 is over the decoded pixels.

    frames is one (index in the source, time in seconds) per frame that went in; empty for a picture.
    features: what of it came from the feature cache; None for families whose features are not kept, and before it is
    encoded. resize_ms is the processor's share (all media of a prompt are processed together, by pixels), next to
    nothing where its KV was there and no pixels were needed; encode_ms the vision tower's (by tokens).
    duration_s: of a clip, as it came, and of a sound; sizes of a sound are (0, 0).
    """

    kind: Kind
    num_bytes: int
    decoded_px: tuple[int, int]
    seen_px: tuple[int, int]
    tokens: int
    sha256: str
    frames: tuple[tuple[int, float], ...] = ()
    duration_s: float = 0.0
    fetch_ms: float = 0.0
    decode_ms: float = 0.0
    resize_ms: float = 0.0
    encode_ms: float = 0.0
    features: FeatureUse | None = None

    @property
    def frame_tokens(self) -> float:
        """Tokens that one frame of a clip costs (a pair shares its own); all tokens of a picture."""
        return self.tokens / max(1, len(self.frames))


@dataclass(frozen=True, slots=True)
class FeatureUse:
    """Pictures, or pairs of frames of a clip, whose features were in the cache (hits) or had to be encoded (misses).

    Both are 0 when the medium's KV was reused, so that no features were needed.
    """

    hits: int = 0
    misses: int = 0


@dataclass(frozen=True, slots=True)
class Preflight:
    """What a request would cost, before it is sent. Nothing is prefilled, encoded, stored or counted for it.

    tokens: the prompt's token ids, placeholders expanded. left: context tokens left for an answer; negative when the
    prompt does not fit. cached_tokens: how many the prefix cache would reuse right now. ttft_ms: time to first token
    that this engine's own measured rates promise, without queue, fetch and decode; None until it has measured some.
    pictures: per medium, a PNG of every frame (or of the picture) at the size the model sees; () unless asked for.
    """

    tokens: tuple[int, ...]
    context_tokens: int
    media: tuple[MediaReceipt, ...] = ()
    cached_tokens: int = 0
    ttft_ms: float | None = None
    pictures: tuple[tuple[bytes, ...], ...] = ()

    @property
    def left(self) -> int:
        return self.context_tokens - len(self.tokens)


@dataclass(frozen=True, slots=True)
class CacheTrace:
    """What happened to one prompt's tokens: [0, reused) were not computed, the rest was. Of these, the last disk_tokens
    came from the cache's folder, those before them from memory.

    media_first: a question was moved behind its media, so that another question can reuse them.
    reason says why the first computed token was not reused: "first_use", "diverged" (before, other: the text that both
    share last, and what the stored prompts go on with instead), "evicted" (evicted_s seconds ago), "inside_media",
    "complete" (only what must be computed was), "between_snapshots" (this family is stored as snapshots, and the
    prompts part ways between two), "not_cacheable" (this prompt's media carry no key), "off" (no cache in this server),
    "cold" (the request asked for it: Request.reuse).
    """

    reused_tokens: int
    computed_tokens: int
    reason: str
    before: str = ""
    here: str = ""
    other: str = ""
    evicted_s: float = 0.0
    media_first: bool = False
    disk_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """The last event of every stream that does not raise. first_logprobs: (token id, log-probability), see Request.
    token_ids: the answer's tokens, a stop token included. margins: of a replay, for each token by how much its
    log-probability was above the second best one's. forced_logprobs: of a forced answer, the log-probability of each
    of its tokens.
    """

    finish_reason: FinishReason
    usage: Usage
    timing: Timing
    media: tuple[MediaReceipt, ...] = ()
    trace: CacheTrace | None = None
    first_logprobs: tuple[tuple[int, float], ...] = ()
    token_ids: tuple[int, ...] = ()
    margins: tuple[float, ...] = ()
    forced_logprobs: tuple[float, ...] = ()


Event = Delta | Done


@dataclass(frozen=True, slots=True)
class Replay:
    """A request asked again twice, greedily: warm, with what the cache holds for it, and cold, computed in full.

    warm_tokens, cold_tokens: token ids of both answers; *_text and *_ttft_ms (time to first token) belong to them.
    reused_tokens: prompt tokens that the warm run was served from the cache.
    margins: (warm, cold) for each token, by how much its log-probability was above the second best one's; rounding: at
    or below this, right computations may disagree about the best (a prompt computed in other chunks is summed in
    another order).
    """

    request_id: str
    warm_tokens: tuple[int, ...]
    cold_tokens: tuple[int, ...]
    warm_text: str
    cold_text: str
    warm_ttft_ms: float
    cold_ttft_ms: float
    prompt_tokens: int
    reused_tokens: int
    margins: tuple[tuple[float, float], ...] = ()
    rounding: float = 0.0

    @property
    def equal(self) -> bool:
        return self.warm_tokens == self.cold_tokens

    @property
    def first_difference(self) -> int | None:
        """Index of the first token that differs, or that only one answer has; None when they are equal."""
        if self.equal:
            return None
        pairs = zip(self.warm_tokens, self.cold_tokens, strict=False)
        shorter = min(len(self.warm_tokens), len(self.cold_tokens))
        return next((i for i, (warm, cold) in enumerate(pairs) if warm != cold), shorter)

    @property
    def verdict(self) -> Literal["equal", "near_tie", "different", "nothing_reused"]:
        """near_tie: they part at a token where both runs found two as likely, within rounding. nothing_reused: what
        was reused has been evicted since, so both runs were cold."""
        if not self.reused_tokens:
            return "nothing_reused"
        at = self.first_difference
        if at is None:
            return "equal"
        is_tie = at < len(self.margins) and max(self.margins[at]) <= self.rounding
        return "near_tie" if is_tie else "different"


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


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A loaded model: what it is and what it can take."""

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
    created: int = 0


@dataclass(frozen=True, slots=True)
class Running:
    """One request the scheduler holds, as the tabs see it."""

    id: str
    stage: Stage
    prompt_tokens: int
    prefilled_tokens: int
    completion_tokens: int
    age_ms: float
    source: str
    session: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One request that has ended, as the tabs list it. Nothing of what users wrote but the few words of the trace.

    done comes without its token_ids. tenant: the request's, see engine.privacy.
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
    forgotten, see engine.privacy.
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
class Portion:
    """What of a medium is meant: all of a picture, or some frames of a clip, by their place among its num_frames."""

    sha256: str
    frames: tuple[int, ...] = ()
    num_frames: int = 0


@dataclass(frozen=True, slots=True)
class FeatureInfo:
    """One stored unit of vision features: what the encoder reads as one, a picture or a pair of frames.

    media: what it is of, by the prompts that had it: several media may share a unit. hits: how often it spared a run of
    the encoder. Ages in seconds. key, in hex, is made from pixels and tenant; tenant: see engine.privacy.
    """

    key: str
    num_bytes: int
    hits: int
    pinned: bool
    age_s: float
    idle_s: float
    media: tuple[Portion, ...] = ()
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
    """The cache's folder. num_bytes and files count every model's; blocks, features and snapshots only this one's.

    hits: files read back. dropped: what was not written because the writer had too much to do, or it was too large.
    faults: files that could not be written, or were not as they were written. pending: files still being written.
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


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Prefix reuse since the start, and what is held now. Names of the counters as in /v1/cache/stats.

    image_hits, video_hits: prompts of which at least one whole picture, or clip, was reused. media_reused: pictures and
    clips that were not encoded, for their KV was there; feature_hits: pictures and pairs of frames whose features were.
    kv_layer_bytes: kv_bytes by layer. cache_verified: hits that
    were replayed cold and compared; cache_mismatches: those of them whose answers differed.
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
        """Vision encoder runs that reuse saved."""
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
        """MiB of KV, snapshots and vision features held in memory."""
        return (self.kv_bytes + self.snapshot_bytes + self.feature_bytes) / 1024**2


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The frozen picture of the engine. Replaced as a whole by the engine thread; readers never lock.

    recent: the requests that ended last, newest first.

    Memory in bytes, from MLX: active (weights, KV, features), cache (freed, kept by the allocator), peak.
    """

    state: State
    device: DeviceInfo
    model: ModelCard | None = None
    error: str | None = None
    running: tuple[Running, ...] = ()
    totals: Totals = field(default_factory=Totals)
    cache: CacheStats = field(default_factory=CacheStats)
    recent: tuple[Record, ...] = ()
    active_bytes: int = 0
    cache_bytes: int = 0
    peak_bytes: int = 0
    process_bytes: int = 0
    decode_tps: float = 0.0
