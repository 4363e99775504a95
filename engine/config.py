"""Settings as frozen values, composed once by the commands and passed down. Nothing reads the environment later."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from engine.errors import BadRequest, Conflict, ModelNotFound
from engine.ranks.place import RankPlace
from engine.types import Coordinates, FrameSampling, RemoteServer, Sampling, SpeculationConfig

DEMO = "demo"
"""The name under which the embedded model is asked for; it is a checkpoint like any other."""

DEFAULT_MODEL = "default"
"""The name under which requests ask for whichever model is the default one."""

VisionMode = Literal["native", "proxy", "disabled"]

LEAST_ROWS = 32
"""Rows of a batch where nothing else is asked for: so many answers one request may have (n)."""


TEMPLATE_VARIABLES = re.compile(r"\{(\w+)\}")
"""What of a prompt_template is filled in, or is a mistake."""

ADAPTER_NAME = r"[A-Za-z0-9][\w.-]{0,99}"
"""What an adapter may be called: without the ":" that stands before it."""

KEY_VARIABLE = "VLLM_API_KEY"
"""The environment variable that is the key of a server where no option gives one, and of those who ask it."""

SERVER_KEY_VARIABLE = "VLLM_SERVER_KEY"
"""The environment variable that is the key for --server-url where --server-key does not give one."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class VisionProxy:
    """Another model that looks at pictures and clips for one that cannot. model: its name or alias among the configured
    models; prompt_template: what it is asked about each of them, with {question} (or {prompt}) for the user's words,
    {kind} for "picture" or "clip" and {number} for its place in the chat, from 1. Raises BadRequest for other names."""

    VARIABLES: ClassVar = ("question", "prompt", "kind", "number")

    model: str
    prompt_template: str = (
        "Describe this {kind} for somebody who cannot see it, with all that is needed to answer: {question}"
    )

    def __post_init__(self) -> None:
        for name in TEMPLATE_VARIABLES.findall(self.prompt_template):
            if name not in self.VARIABLES:
                known = ", ".join(f"{{{one}}}" for one in self.VARIABLES)
                raise BadRequest(f"there is no {{{name}}} to fill in, only {known}", param="prompt_template")


def given_folder(source: str) -> Path:
    """The path that was written, with the home folder in place of "~"; as it is where there is no such user."""
    try:
        return Path(source).expanduser()
    except RuntimeError:
        return Path(source)


def is_hub_id(source: str) -> bool:
    """Whether it is written like a hub id, "org/name", and not like a path."""
    return not source.startswith((".", "~", "/")) and _HUB_ID.fullmatch(source) is not None


def _own_name(source: str) -> str:
    folder = given_folder(source)
    if source != DEMO and folder.is_dir():
        return folder.resolve().name
    return source if is_hub_id(source) else folder.name or source


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which model: `source` is "demo", a local folder or a hub id ("org/name"); `name` is what it is to be called;
    aliases are other names for it.

    served_name: what /v1/models says: the given name, else "demo" or the hub id as asked for, else the folder's own
    name. Worked out once, so that a folder may be moved or unmounted while its model serves.

    max_bytes: most memory for its weights and KV. bits: its weights are quantized to so many as they are loaded; dtype:
    else they become this type. max_seqs, max_model_len, prefill_chunk_tokens, idle_unload_s: for this model, what
    EngineConfig says for all. preload: loaded at the start; None: the default model is, and no other.
    vision: "disabled" refuses media, "proxy" lets another model look at them (vision_proxy).
    adapter_path: folder of a LoRA adapter that it is loaded with. parent: the name of the model that this one is an
    adapter of, whose weights it shares; None for a model of its own. draft_model: folder or hub id of its draft model
    (SpeculationConfig); its adapters have none.
    server: another server answers for it, and nothing of it is loaded here; source is then that server's URL.
    """

    source: str = DEMO
    name: str | None = None
    revision: str | None = None
    text_only: bool = False
    trust_remote_code: bool = False
    aliases: tuple[str, ...] = ()
    max_bytes: int | None = None
    bits: int | None = None
    dtype: str | None = None
    max_seqs: int | None = None
    max_model_len: int | None = None
    prefill_chunk_tokens: int | None = None
    idle_unload_s: float | None = None
    preload: bool | None = None
    vision: VisionMode = "native"
    vision_proxy: VisionProxy | None = None
    adapter_path: str | None = None
    parent: str | None = None
    draft_model: str | None = None
    server: RemoteServer | None = None
    served_name: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "served_name", self.name or self._own_name())

    def _own_name(self) -> str:
        if self.server is not None:
            return self.server.model or self.server.host
        return _own_name(self.source)

    @classmethod
    def remote(cls, server: RemoteServer, name: str | None = None, **more: Any) -> ModelSpec:
        """A model of another server."""
        return cls(source=server.url, name=name, server=server, **more)

    @property
    def names(self) -> tuple[str, ...]:
        """All names that requests may ask for it by."""
        own = (self.served_name, self.name, *self.aliases, None if self.parent else self.source)
        return tuple(dict.fromkeys(name for name in own if name is not None))

    def with_adapter(self, name: str, folder: str, *, short: bool = False) -> ModelSpec:
        """This model with a LoRA adapter, as one more model of the name "model:adapter"; short: the adapter's name
        alone is one of its names, too."""
        aliases = [f"{alias}:{name}" for alias in self.aliases] + [name] * short
        return replace(
            self,
            name=f"{self.served_name}:{name}",
            aliases=tuple(aliases),
            adapter_path=folder,
            parent=self.served_name,
            draft_model=None,
            preload=None,
        )


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """What one medium and one request may cost, checked before the cost is paid.

    fetch_timeout_s, decode_timeout_s: of one medium, from the moment its work begins. queue_timeout_s: how long it may
    wait for that moment, before 429.
    decode_memory_bytes: address space of the process that decodes clips. max_request_bytes: all media of a request.
    max_pages: of one document.
    max_waiting: media of all requests that may wait to be fetched and decoded, before 429.
    media_root: folder under which API requests may name local files; None refuses all of them.
    allow_private_urls: fetch from private, loopback and link-local addresses too.
    allowed_media_domains: the only hosts that media are fetched from, redirects included; () allows all.
    """

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 64_000_000
    max_seconds: float = 4 * 3600.0
    max_sound_s: float = 1800.0
    max_frames: int = 768
    max_pages: int = 100
    max_images: int | None = None
    max_videos: int | None = None
    max_audios: int | None = None
    fetch_timeout_s: float = 20.0
    decode_timeout_s: float = 60.0
    queue_timeout_s: float = 120.0
    decode_memory_bytes: int = 6 * 1024**3
    max_request_bytes: int = 512 * 1024 * 1024
    max_waiting: int = 1024
    media_root: Path | None = None
    allow_private_urls: bool = False
    allowed_media_domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LogLimits:
    """What is kept of requests (engine.request_log): the last num_requests, in at most max_bytes of memory; 0 requests:
    nothing. file: where each that has ended is written, too; at max_file_bytes it becomes FILE.1, and so on up to
    num_files."""

    num_requests: int = 200
    max_bytes: int = 128 * 1024**2
    file: Path | None = None
    max_file_bytes: int = 64 * 1024**2
    num_files: int = 5


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """What prefix reuse may hold, bounded by count and by bytes: KV in blocks of block_tokens tokens, and whole-row
    row snapshots for the families whose KV cannot be cut; vision features of pictures and of pairs of frames. With a
    disk_folder, what memory has no room for goes there, and is found again after a restart. verify_share of the hits
    are replayed cold when nothing else runs (engine.runtime.replay)."""

    enabled: bool = True
    block_tokens: int = 64
    max_blocks: int = 1000
    max_snapshots: int = 100
    max_bytes: int = 4 * 1024**3
    features: bool = True
    max_feature_bytes: int = 512 * 1024**2
    disk_folder: Path | None = None
    max_disk_bytes: int = 16 * 1024**3
    verify_share: float = 0.0

    @property
    def total_bytes(self) -> int:
        """Stored KV and vision features together: a family is kept in blocks or in row snapshots, never in both."""
        return self.max_bytes + self.max_feature_bytes

    def within(self, num_bytes: int) -> CacheConfig:
        """The same, with KV and features cut alike where both together are allowed no more than num_bytes."""
        share = min(1.0, num_bytes / max(1, self.total_bytes))
        kv, features = int(self.max_bytes * share), int(self.max_feature_bytes * share)
        return replace(self, max_bytes=kv, max_feature_bytes=features)


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Everything an Engine needs.

    model: the default one, which serves requests that name none; more_models: others, each loaded by the first request
    for it. At most max_loaded_models are in memory (None: as many as fit), with weights and KV of at most
    max_models_bytes (None: memory_utilization of the device's); who was used longest ago makes room. idle_unload_s: a
    model that nobody has used for so long leaves memory (None: it stays).
    models_folders: where the operator keeps models, beside the hub's cache (engine.inventory).
    max_tokens: default completion length, clamped to the context. max_model_len: lowers the model's own context.
    prefill_chunk_tokens: prompt tokens computed between two decode steps while other requests run.
    max_num_seqs: requests worked on at once, prompts and answers together, as far as memory has room for them. Of
    these, prefill_batch_size prompts take turns, and completion_batch_size answers decode together (None: all of them;
    see max_rows). max_queue: requests that may wait beyond that before 429, those whose media are still being read
    included. max_waiting_media_bytes: media of all requests that have not begun to answer, before 429: decoded, or as
    they are sent to another server. Each model of another server has places of its own (engine.runtime.intake.tickets).
    request_timeout_s: from the arrival of a request to its last token; None is no limit.
    memory_utilization: share of the device's memory that weights, stored and running KV may fill together.
    wired_limit_bytes: how much of MLX's memory macOS may not page out (None: none of it is kept from that).
    media_first: a question before its picture is read after it (engine.prompt.media_first).
    stream_interval: tokens of an answer that are handed out together.
    speculation: how answers are written several tokens at a time; None: each token has a pass of its own. A draft model
    is the default model's.
    coordinates: of answers, where a request says nothing of them (Request.coordinates).
    ranks: this process among several that hold a part of the model each; None: it holds all of it.
    """

    model: ModelSpec = field(default_factory=ModelSpec)
    more_models: tuple[ModelSpec, ...] = ()
    max_loaded_models: int | None = None
    max_models_bytes: int | None = None
    idle_unload_s: float | None = None
    models_folders: tuple[Path, ...] = ()
    media: MediaLimits = field(default_factory=MediaLimits)
    cache: CacheConfig = field(default_factory=CacheConfig)
    request_log: LogLimits = field(default_factory=LogLimits)
    sampling: Sampling = field(default_factory=Sampling)
    frames: FrameSampling = field(default_factory=FrameSampling)
    max_tokens: int = 2048
    max_model_len: int | None = None
    prefill_chunk_tokens: int = 512
    max_num_seqs: int = 32
    memory_utilization: float = 0.9
    wired_limit_bytes: int | None = None
    prefill_batch_size: int = 8
    completion_batch_size: int | None = None
    stream_interval: int = 1
    speculation: SpeculationConfig | None = None
    media_first: bool = True
    coordinates: Coordinates = "model"
    max_queue: int = 256
    max_waiting_media_bytes: int = 2 * 1024**3
    request_timeout_s: float | None = None
    ranks: RankPlace | None = None

    def __post_init__(self) -> None:
        """Raise BadRequest where two models have one name, or one of them that which the default one has, and for what
        several processes cannot serve together."""
        if self.ranks is not None:
            self.ranks.check(self.models, self.cache.disk_folder)
        owners: dict[str, int] = {}
        for i, spec in enumerate(self.models):
            for name in (spec.served_name, *spec.aliases):
                if owners.setdefault(name, i) != i or (name == DEFAULT_MODEL and self.more_models):
                    raise BadRequest(f"Two models are called {name!r}: give one of them another name.", param="model")

    @property
    def models(self) -> tuple[ModelSpec, ...]:
        """All that may be loaded, the default one first."""
        return (self.model, *self.more_models)

    def find(self, name: str | None) -> ModelSpec:
        """The model of this name, alias or source; the default one for None and "default". Raises ModelNotFound."""
        if name in (None, DEFAULT_MODEL):
            return self.model
        for spec in self.models:
            if name == spec.served_name:
                return spec
        for spec in self.models:
            if name in spec.names:
                return spec
        known = ", ".join(repr(spec.served_name) for spec in self.models)
        why = "is unknown" if self.more_models else "is not loaded"
        raise ModelNotFound(f"The model {name!r} {why}; this server has {known}.", param="model")

    def with_model(self, spec: ModelSpec) -> EngineConfig:
        """With one more model; itself where its source is among them. Raises Conflict for a name that is taken."""
        if any(one.source == spec.source for one in self.models):
            return self
        if taken := {spec.served_name} & {name for one in self.models for name in one.names}:
            why = f"Another model has the name {taken.pop()!r} already."
            raise Conflict(why, code="name_taken", param="model")
        return replace(self, more_models=(*self.more_models, spec))

    def of(self, spec: ModelSpec) -> EngineConfig:
        """The configuration as this one of its models alone has it."""
        return replace(
            self,
            model=spec,
            more_models=(),
            max_num_seqs=spec.max_seqs or self.max_num_seqs,
            max_model_len=spec.max_model_len or self.max_model_len,
            prefill_chunk_tokens=spec.prefill_chunk_tokens or self.prefill_chunk_tokens,
            idle_unload_s=self.idle_unload_s if spec.idle_unload_s is None else spec.idle_unload_s,
            speculation=self._speculation_of(spec),
        )

    def _speculation_of(self, spec: ModelSpec) -> SpeculationConfig | None:
        """A draft model fits the vocabulary of one model."""
        if spec.draft_model is not None:
            return SpeculationConfig("draft_model", model=spec.draft_model)
        has_own = self.speculation is not None and self.speculation.model is not None
        return None if has_own and spec != self.model else self.speculation

    @property
    def max_rows(self) -> int:
        """Answers decoded together. A request may ask for several, also where requests are taken one at a time."""
        return self.completion_batch_size or max(self.max_num_seqs, LEAST_ROWS)

    @property
    def max_at_once(self) -> int:
        """Requests worked on at once: beyond the answers that decode, no more prompts are read than take turns."""
        return min(self.max_num_seqs, self.max_rows + self.prefill_batch_size)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """How the port is opened. api_keys maps a name to its secret; empty means no key is asked for; of several, the
    first is the operator's (engine.access.visibility).

    open_access: the stated exception (a public Space): no key and no login even though not on loopback.
    allowed_hosts: names under which a loopback server is reached besides its own, e.g. through a reverse proxy.
    allowed_origins: web pages of other origins that may use the routes; "*" is any (engine.api.http.origins).
    requests_per_minute: of each key, before 429; None is no limit.
    max_upload_bytes: of one body; max_uploads_bytes: of all that are being read or answered. upload_stall_s: how long a
    body may stall. max_connections: None is half of the files that the process may open. keep_alive_s: how long a
    connection may wait for its next request.
    shutdown_s: how long running answers may go on once the server is asked to stop.
    exit_on_failure: end the process when the engine has ended for good.
    public_link: a link leads others to the page, though the port is on loopback. data_folder: where conversations,
    files and batches are kept; None: conversations in memory only, files and batches not at all.
    max_stored_files, max_stored_bytes: of the files that each key keeps on /v1/files. max_batch_requests: of one batch.
    unwatched_s: how long an answer goes on that no page looks at.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[tuple[str, str], ...] = ()
    root_path: str = ""
    max_upload_bytes: int = 256 * 1024 * 1024
    max_uploads_bytes: int = 1024 * 1024 * 1024
    upload_stall_s: float = 20.0
    max_connections: int | None = None
    keep_alive_s: float = 75.0
    shutdown_s: float = 20.0
    requests_per_minute: int | None = None
    exit_on_failure: bool = False
    open_access: bool = False
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    public_link: bool = False
    data_folder: Path | None = None
    max_stored_files: int = 1000
    max_stored_bytes: int = 8 * 1024**3
    max_batch_requests: int = 50_000
    unwatched_s: float = 900.0

    @property
    def on_loopback(self) -> bool:
        """True when only this machine can connect. A name other than localhost counts as reachable by others."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False
