"""Replay: a request that was served from the cache is asked again, warm and cold, and the tokens are compared.

    remember ──> the last requests with a hit ──> replay: warm (looks the prompt up) ─┬─> Replay
                                                      cold (computes all of it)  ─┘

Neither run is listed, counted as a query of the cache, or stored. Both count as requests, and the warm run counts as a
use of the blocks it reads. Any event loop; no MLX.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from engine.bounded import BoundedCache
from engine.errors import Conflict, EngineError, ModelNotFound
from engine.types import Completion, Done, Replay, Request, Sampling, Snapshot

log = logging.getLogger(__name__)

MAX_TOKENS = 64
"""Longest answer of a replay: a wrong prefix shows in the first tokens."""

_MAX_KEPT = 16
_MAX_KEPT_BYTES = 64 * 1024**2
_BUSY_S = 0.2
_ROUNDING = {"float32": 0.002}
_COARSE_ROUNDING = 0.25
"""Log-probability by which the best tokens of two right computations may change places. A prompt that is computed in
other chunks is summed in another order; in 16 bits the last bits of the logits then differ by a few rounding steps."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A request as it came in (its media are fetched again), the sha256 of its media and its length in tokens."""

    request: Request
    contents: tuple[str, ...]
    prompt_tokens: int
    num_bytes: int


class Replayer:
    """Remembers the last requests with a hit and replays them: one by name, or a share of all when nothing else runs.

    complete and snapshot are the engine's; report is told of each comparison, True for a mismatch. share of hits: 0 to
    1.
    """

    def __init__(
        self,
        complete: Callable[[Request], Awaitable[Completion]],
        snapshot: Callable[[], Snapshot],
        report: Callable[[Request, bool], Awaitable[None]],
        share: float = 0.0,
    ) -> None:
        self._complete = complete
        self._snapshot = snapshot
        self._report = report
        self._share = share
        self._share_owed = 0.0
        self._kept: BoundedCache[str, _Kept] = BoundedCache(_MAX_KEPT, _MAX_KEPT_BYTES, lambda kept: kept.num_bytes)
        self._waiting: deque[str] = deque(maxlen=_MAX_KEPT)
        self._task: asyncio.Task[None] | None = None

    def remember(self, request: Request, done: Done) -> None:
        """A request has ended. Remember it if it was served from the cache; its share is replayed when all is quiet."""
        if not done.usage.cached_tokens or request.source == "replay":
            return
        kept = _Kept(request, _contents(done), done.usage.prompt_tokens, _num_bytes(request))
        self._kept.put(request.id, kept)
        self._share_owed += self._share
        if self._share_owed >= 1.0:
            self._share_owed -= 1.0
            self._waiting.append(request.id)
            if self._task is None or self._task.done():
                self._task = asyncio.get_running_loop().create_task(self._replay_waiting())

    def forget(self) -> None:
        """Keep no request: none of the last ones can be replayed any more."""
        self._kept.clear()
        self._waiting.clear()

    async def replay(self, request_id: str) -> Replay:
        """See Engine.replay."""
        kept = self._kept.get(request_id)
        if kept is None:
            raise ModelNotFound(
                f"Request {request_id!r} cannot be replayed: only the last {_MAX_KEPT} that were served from the cache "
                "are kept.",
                code="request_not_found",
                param="request_id",
            )
        card = self._snapshot().card_of(kept.request.model)
        context = card.context_tokens if card else kept.prompt_tokens + MAX_TOKENS
        request = as_replay(kept.request, max(1, min(MAX_TOKENS, context - kept.prompt_tokens)))
        warm = await self._run(request, kept)
        cold = await self._run(replace(request, reuse=False), kept)
        found = Replay(
            request_id=request_id,
            warm_tokens=warm.token_ids,
            cold_tokens=cold.token_ids,
            warm_text=warm.text,
            cold_text=cold.text,
            warm_ttft_ms=warm.done.timing.ttft_ms,
            cold_ttft_ms=cold.done.timing.ttft_ms,
            prompt_tokens=cold.done.usage.prompt_tokens,
            reused_tokens=warm.done.usage.cached_tokens,
            margins=tuple(zip(_margins(warm), _margins(cold), strict=False)),
            rounding=_ROUNDING.get(card.dtype if card else "", _COARSE_ROUNDING),
        )
        await self._log_and_count(request, found)
        return found

    async def _run(self, request: Request, kept: _Kept) -> Completion:
        """One run. Raises Conflict when a medium is not what it was."""
        completion = await self._complete(request)
        if _contents(completion.done) != kept.contents:
            raise Conflict(
                "A picture or clip of this request has changed since: the same file or address now holds something "
                "else, so the answers would not be about the same.",
                code="media_changed",
            )
        return completion

    async def _log_and_count(self, request: Request, found: Replay) -> None:
        if found.verdict == "nothing_reused":
            return
        if found.verdict == "different":
            log.error(
                "%s: the cache changed the answer: warm and cold differ at token %s (%d prompt tokens were reused)",
                found.request_id, found.first_difference, found.reused_tokens,
            )  # fmt: skip
        else:
            log.info("%s replayed: warm and cold are %s", found.request_id, found.verdict)
        await self._report(request, found.verdict == "different")

    async def _replay_waiting(self) -> None:
        """Replay what waits, one at a time, whenever no other request runs."""
        while self._waiting:
            if self._snapshot().running:
                await asyncio.sleep(_BUSY_S)
                continue
            request_id = self._waiting.popleft()
            try:
                await self.replay(request_id)
            except EngineError as e:
                log.info("%s could not be replayed: %s", request_id, e.message)


def as_replay(request: Request, max_tokens: int) -> Request:
    """The same prompt, greedy, to this length, as nobody's request: the cache neither counts nor stores it."""
    choice = request.tool_choice
    return replace(
        request,
        id="",
        source="replay",
        sampling=Sampling(temperature=0.0),
        max_tokens=max_tokens,
        min_tokens=0,
        ignore_eos=False,
        stop=(),
        stop_token_ids=(),
        bad_words=(),
        grammar=None,
        n=1,
        tool_choice=replace(choice, mode="auto" if choice.mode == "required" else choice.mode),
        reasoning=replace(request.reasoning, max_tokens=None),
        logprobs=2,
    )


def _margins(completion: Completion) -> list[float]:
    """For each token, by how much the likeliest one's log-probability was above the second best one's."""
    return [token.top[0][1] - token.top[1][1] for token in completion.tokens if len(token.top) > 1]


def _contents(done: Done) -> tuple[str, ...]:
    return tuple(receipt.sha256 for receipt in done.media)


def _num_bytes(request: Request) -> int:
    """What keeping a request costs, roughly: its texts and data URLs."""
    parts = [part for message in request.messages for part in message.parts]
    return sum(len(part.text) + len(part.url or "") for part in parts) + len(request.prompt or ())
