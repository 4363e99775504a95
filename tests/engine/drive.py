"""How the engine tests drive an engine: requests from plain parts, whole answers, and a tape of what was sampled."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from engine.types import Completion, Delta, Done, GeneratedToken, Message, Part, Request, Sampling
from tests.pictures import data_url, encode

GREEDY = Sampling(temperature=0.0)
TIMEOUT_S = 60.0
Piece = str | Image.Image | Path | bytes


def part(piece: Piece) -> Part:
    """Text, a PIL picture (sent as a data URL), the path of a clip or the bytes of a sound file."""
    if isinstance(piece, str):
        return Part("text", text=piece)
    if isinstance(piece, Path):
        return Part("video", path=str(piece))
    if isinstance(piece, bytes):
        return Part("audio", url=data_url(piece, "audio/wav"))
    return Part("image", url=data_url(encode(piece)))


def user(*pieces: Piece) -> Message:
    return Message("user", tuple(part(piece) for piece in pieces))


def chat(*pieces: Piece, max_tokens: int | None = 12, sampling: Sampling = GREEDY, **more: Any) -> Request:
    """One user message, greedy unless said otherwise."""
    return Request(messages=(user(*pieces),), max_tokens=max_tokens, sampling=sampling, **more)


@dataclass(frozen=True)
class Answer:
    text: str
    done: Done
    deltas: tuple[Delta, ...]

    @property
    def completion(self) -> Completion:
        return Completion.of(self.deltas, self.done)

    @property
    def tokens(self) -> tuple[GeneratedToken, ...]:
        """Those of the first choice."""
        return self.completion.tokens

    @property
    def token_ids(self) -> tuple[int, ...]:
        return self.completion.token_ids


async def ask(engine: Any, request: Request, delay_s: float = 0.0) -> Answer:
    """The whole answer. Checks what holds for every stream: deltas, then exactly one Done, last."""
    await asyncio.sleep(delay_s)
    events = []
    async with asyncio.timeout(TIMEOUT_S):
        async for event in engine.stream(request):
            events.append(event)
    *deltas, done = events
    assert isinstance(done, Done)
    assert all(isinstance(delta, Delta) for delta in deltas)
    assert sum(len(delta.tokens) for delta in deltas) == done.usage.completion_tokens
    return Answer("".join(delta.text for delta in deltas), done, tuple(deltas))


async def settled(engine: Any) -> Any:
    """The snapshot once no request is left; the worker publishes one at every ending."""
    async with asyncio.timeout(TIMEOUT_S):
        while engine.snapshot().running:
            await asyncio.sleep(0.01)
    return engine.snapshot()


@dataclass
class Tape:
    """Token ids by request id, as the engine thread sampled them, and the prompts they followed.

    Text alone would do for most tests, but it cannot tell two ways to the same letters apart, and a near tie can only
    be judged at a token.
    """

    prompts: dict[str, list[int]] = field(default_factory=dict)
    tokens: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
