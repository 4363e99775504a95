"""What the engine thread can be told: frozen values through one queue. Pure Python.

A command that is answered carries a Future; the thread sets it, unless nobody waits for it any more.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from engine.errors import EngineError
from engine.runtime.sequence import Choice, Sequence
from engine.types import BlockInfo, FeatureInfo, Preflight, Request, StageClock
from engine.types.media import Media
from engine.types.prompt import Prompt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engine.runtime.loading.slots import LoadedModel, ModelSlot


@dataclass(frozen=True, slots=True)
class Submit:
    """A request that waits for its turn from now on."""

    sequence: Sequence


@dataclass(frozen=True, slots=True)
class Cancel:
    """Its reader is gone. Ignored for a sequence that has ended."""

    sequence: Sequence


@dataclass(frozen=True, slots=True)
class Stop:
    """End the thread; what it still holds ends with an error."""


@dataclass(frozen=True, slots=True)
class Wake:
    """Look again at what is waited for: a download has ended, or somebody has stopped to use a model or to wait."""


@dataclass(frozen=True, slots=True)
class UseModel:
    """Load a model if need be, and count one more use of it: who is answered ends that use."""

    slot: ModelSlot
    reply: Future[LoadedModel]


@dataclass(frozen=True, slots=True)
class LoadModel:
    """Load a model now, if there is room for it without waiting for others to end."""

    slot: ModelSlot
    reply: Future[None]


@dataclass(frozen=True, slots=True)
class UnloadModel:
    """Take a model out of memory. Refused while it is in use."""

    slot: ModelSlot
    reply: Future[None]


@dataclass(frozen=True, slots=True)
class PreflightCommand:
    """Say what a request would cost (engine.runtime.estimates.preflight), without pictures.

    prompt: of a long text, built ahead (engine.prompt.text)."""

    request: Request
    media: tuple[Media, ...]
    reply: Future[Preflight]
    prompt: Prompt | None = None


@dataclass(frozen=True, slots=True)
class ReadCommand:
    """Read texts (token ids, none of them empty) for a model's vectors or scores -> (texts, width) in float32.

    clock: of the request.
    """

    texts: tuple[tuple[int, ...], ...]
    model: str | None
    reply: Future[NDArray[np.float32]]
    clock: StageClock


@dataclass(frozen=True, slots=True)
class ListBlocks:
    """Every stored block, oldest first. with_text costs the thread time, block by block."""

    with_text: bool
    reply: Future[list[BlockInfo]]


@dataclass(frozen=True, slots=True)
class GetBlock:
    """One block with its text; None when there is none of this key."""

    key: bytes
    reply: Future[BlockInfo | None]


@dataclass(frozen=True, slots=True)
class ListFeatures:
    """Every stored unit of vision features, least recently used first."""

    reply: Future[list[FeatureInfo]]


@dataclass(frozen=True, slots=True)
class ClearCache:
    """Forget every block, row snapshot and unit of features that no running request uses and nobody pinned, in memory
    and on disk, and the known grids of media."""

    reply: Future[None]


@dataclass(frozen=True, slots=True)
class CountReplay:
    """A hit of a model was computed again and compared; mismatch: the answers differed."""

    model: str | None
    mismatch: bool
    reply: Future[None]


ChangeAction = Literal["pin", "unpin", "drop"]


@dataclass(frozen=True, slots=True)
class ChangeBlock:
    """Pin a block and all before it, unpin it, or drop it and all after it. False when there is no such block, or one
    that is to be dropped is held."""

    action: ChangeAction
    key: bytes
    reply: Future[bool]


@dataclass(frozen=True, slots=True)
class ChangeFeatures:
    """Pin, unpin or drop a unit of vision features. False when there is none, or one to be dropped is pinned."""

    action: ChangeAction
    key: bytes
    reply: Future[bool]


CacheCommand = ListBlocks | GetBlock | ListFeatures | ClearCache | CountReplay | ChangeBlock | ChangeFeatures
ModelCommand = UseModel | LoadModel | UnloadModel
Answered = CacheCommand | PreflightCommand | ReadCommand | ModelCommand
Command = Submit | Cancel | Stop | Wake | Answered

TokenObserver = Callable[[Any, Choice, Any], None]
"""Called on the engine thread at every token, before its reader gets it: (Loaded, choice, models.batch.Token). For the
self-test; it must not raise."""


def refuse(command: Command, error: EngineError) -> None:
    """Answer a command that nobody will carry out. Nothing for those that are not answered."""
    if isinstance(command, Submit):
        command.sequence.post(error)
    elif isinstance(command, Cancel | Stop | Wake) or command.reply.done():
        return
    elif command.reply.set_running_or_notify_cancel():
        command.reply.set_exception(error)
