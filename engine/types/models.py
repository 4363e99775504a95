"""The models that an engine may load: what each is, how far it is, and what it takes. Safe in every thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from engine.types.request import Sampling

ModelStage = Literal["known", "downloading", "loading", "ready", "failed"]


class ModelWeights(Protocol):
    """What a model takes: num_bytes in all, adapter_bytes of them for its LoRA adapter and its draft model. base: which
    weights the others are; models of one base share them. "" where it is not known: shared with nobody."""

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
    """A loaded model: what it is and what it can take. why_deaf: why it takes no sound, where its family does, else "".
    keeps_grids: a prompt about media whose KV is there is built
    without their pixels (engine.models.grids). reasons: it may think before it answers. template_variables: what its
    chat template reads. toy: what a model can do that is a toy, as its README says; else "". fingerprint: of its
    weights and processor settings. tested: a tiny model of its family is among this project's tests, or it is a text
    model. described_by: one of the names of the model that describes pictures and clips to it; "" where none does.
    base, adapter_bytes: see ModelWeights. embeds: it makes vectors of texts; ranks: it says how well documents answer a
    query. sampling: what applies to a request that leaves it open, of the server's settings and the model's own.

    server: the host of another server that answers for it; "" for a model in this process. Of such a model only what
    that server tells is known: "" and 0 stand for what it does not. takes_known: False where it does not tell which
    media it takes; then pictures are offered, and what it refuses is an error of the request."""

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
    why_deaf: str = ""
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
    server: str = ""
    takes_known: bool = True

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

    server: the host of another server that answers for it, else ""; such a model is "ready" while that can be reached,
    "failed" while it cannot, and "known" before anybody has looked. It is never loaded.
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
    server: str = ""
