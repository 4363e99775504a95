"""The frozen copy of the engine's state that the tabs, /health, /metrics and /v1/models read.

Replaced as a whole by the engine thread; safe in every thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from engine.types.cache import CacheStats
from engine.types.events import Done
from engine.types.models import ModelCard, ModelState

Stage = Literal["waiting", "restoring", "prefill", "decode", "finished"]
State = Literal["starting", "loading", "ready", "failed", "stopped"]


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
class RankMemory:
    """What one of several processes of a model has in use, in bytes, as it has told last (engine.ranks). total_bytes:
    memory of its machine."""

    rank: int
    active_bytes: int
    cache_bytes: int
    peak_bytes: int
    process_bytes: int
    total_bytes: int


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
class Totals:
    """Counters since the engine started. cut_off: those of the finished that ended at their length limit.
    proposed_tokens: by speculation for the finished; accepted_tokens: of these, those in their answers."""

    requests: int = 0
    finished: int = 0
    cut_off: int = 0
    cancelled: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    proposed_tokens: int = 0
    accepted_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The frozen copy of the engine's state. Replaced as a whole by the engine thread; readers never lock.

    models: those that are loaded, the default one first. states: all that may be loaded, as they were configured, the
    default one first. recent: the requests that ended last, newest first. batch, cache: of all loaded models together.
    caches: of each of models, in their order.

    Memory in bytes, from MLX: active (weights, KV, features), cache (freed, kept by the allocator), peak, device (what
    MLX may fill; 0: not known yet), wired_limit (what the system may not page out; None: there is no such limit here).
    ranks: the same of each other process that holds a part of the model, where there are several.
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
    ranks: tuple[RankMemory, ...] = ()

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
