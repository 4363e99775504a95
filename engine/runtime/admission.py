"""A sequence's own state on the engine thread: made at its first turn, read when it ends. Engine thread only."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from engine.cache.prefix import Lease, PrefixCache, decode_ids
from engine.config import EngineConfig
from engine.errors import BadRequest, ContextOverflow
from engine.models import sampling
from engine.models.adapter import Features
from engine.models.batch import NO_ROW
from engine.models.registry import Loaded
from engine.prompt import build as prompt
from engine.prompt.media_first import media_first
from engine.prompt.receipts import encoded, largest, used
from engine.runtime.detokenizer import Detokenizer
from engine.runtime.scheduler import Sequence
from engine.types import CacheTrace, Delta, Done, FinishReason, Message, Part, Request, Sampling, Timing, Usage
from engine.types.media import Media
from engine.types.prompt import Prompt

log = logging.getLogger(__name__)
DEFAULT_TEMPERATURE = 0.7


@dataclass(slots=True)
class Row:
    """A sequence's own state on this thread, from its first turn to its end."""

    prompt: Prompt
    lease: Lease | None
    reuse: bool
    media_first: bool
    features: Features | None
    cache: list[Any]
    detokenizer: Detokenizer
    sampling: Sampling
    max_tokens: int
    batch_row: int = NO_ROW
    answer: list[int] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    forced_logprobs: list[float] = field(default_factory=list)
    pending: list[Delta] = field(default_factory=list)
    first_logprobs: tuple[tuple[int, float], ...] = ()


class Opener:
    """Turns a sequence whose turn has come into a row: template, processor, limits, prefix, vision tower."""

    def __init__(self, config: EngineConfig, loaded: Loaded, prefix: PrefixCache) -> None:
        self._config = config
        self._loaded = loaded
        self._prefix = prefix

    def warm_up(self) -> None:
        """Read one small picture, so that the first user waits neither for imports nor for kernels. Nothing is kept."""
        if not self._loaded.card.vision:
            return
        medium = Media("image", np.zeros((64, 64, 3), np.uint8), sha256="", num_bytes=0, decoded_px=(64, 64))
        request = Request(messages=(Message("user", (Part("image"), Part("text", text="?"))),), reuse=False)
        try:
            built = prompt.build(self._loaded, request, (medium,))
            with self._prefix.features.tenant_scope("", False):
                self._loaded.adapter.embed(built, self._loaded.adapter.make_cache())
        except Exception:  # a family that takes no such picture says so to the first who sends one
            log.info("no warm-up with a picture", exc_info=True)

    def open(self, sequence: Sequence) -> Row:
        """Everything up to the first chunk. Raises EngineError when the request cannot be served."""
        request, loaded = sequence.request, self._loaded
        sequence.started_s = time.perf_counter()
        if self._config.media_first:
            request = media_first(request)
        self._check_bias(request)
        media, sequence.media = sequence.media, ()
        built = prompt.build(loaded, request, media, need_pixels=False)
        sequence.num_prompt = len(built.ids)
        max_tokens = self._max_tokens(built, request)
        cache = loaded.adapter.make_cache()
        restore = self._prefix.restoring(built, cache, request)
        while restore is not None and not restore.turn():
            time.sleep(0.001)
        lease = self._prefix.begin(built, cache, request, restore)
        sequence.num_prefilled = sequence.num_cached = lease.match.num_tokens if lease else 0
        try:
            if built.lacks_pixels(sequence.num_prefilled):
                whole = prompt.build(loaded, request, media)
                assert whole.ids == built.ids, "a medium had another grid before"
                built = whole
            if lease and loaded.family.packed:
                loaded.grids.note(request.tenant, built)
            media = ()  # the tower needs the memory
            with self._prefix.features.tenant_scope(request.tenant, request.reuse):
                features = loaded.adapter.embed(built, cache, sequence.num_prefilled)
                encoding = features.encoding if features else None
                for receipt, use in zip(built.receipts, used(built, sequence.num_prefilled, encoding), strict=True):
                    self._prefix.features.attribute(use.keys, receipt.sha256, len(receipt.frames))
        except BaseException:
            if lease:
                self._prefix.end(lease)
            raise
        return Row(
            prompt=replace(built, receipts=encoded(built, sequence.num_prefilled, encoding)),
            lease=lease,
            reuse=request.reuse,
            media_first=request is not sequence.request,
            features=features,
            cache=cache,
            detokenizer=self._detokenizer(built, request),
            sampling=sampling.resolve(
                request.sampling, self._config.sampling, loaded.sampling, Sampling(temperature=DEFAULT_TEMPERATURE)
            ),
            max_tokens=max_tokens,
        )

    def _detokenizer(self, built: Prompt, request: Request) -> Detokenizer:
        loaded = self._loaded
        # A raw completion goes on from its prompt, so its first word keeps the space before it.
        before = built.ids[-1] if request.prompt is not None else None
        return Detokenizer(loaded.tokenizer, loaded.special_ids, request.stop, built.starts_in_reasoning, before)

    def _check_bias(self, request: Request) -> None:
        wrong = [i for i, _ in request.sampling.logit_bias if not 0 <= i < self._loaded.num_ids]
        if wrong:
            raise BadRequest(
                f"logit_bias: token id {wrong[0]} is outside the vocabulary, 0 to {self._loaded.num_ids - 1}.",
                param="logit_bias",
            )

    def _max_tokens(self, built: Prompt, request: Request) -> int:
        """The completion's limit. A default is clamped to the context, an explicit number that does not fit refused."""
        context, num_prompt, asked = self._loaded.card.context_tokens, len(built.ids), request.max_tokens
        left = context - num_prompt
        if left < 1:
            over = f"{num_prompt - context + 1} too many for an answer of one token"
            raise ContextOverflow(
                f"The prompt has {num_prompt} tokens, {over}; this model's context is {context}."
                + largest(built.receipts, request.media_parts),
                param="messages",
            )
        if asked is not None and asked > left:
            raise ContextOverflow(
                f"max_tokens {asked} does not fit: the prompt has {num_prompt} tokens and the context is {context}, "
                f"so at most {left} are left.",
                param="max_tokens",
            )
        return min(asked or self._config.max_tokens, left)

    def done(self, sequence: Sequence, reason: FinishReason) -> Done:
        """The last event of a sequence, at whatever stage it ends."""
        now = time.perf_counter()
        started = sequence.started_s or now
        first = sequence.first_token_s or now
        row: Row | None = sequence.row
        timing = Timing(
            media_ms=(sequence.submitted_s - sequence.accepted_s) * 1e3,
            queue_ms=(started - sequence.submitted_s) * 1e3,
            prefill_ms=(first - started) * 1e3,
            ttft_ms=(first - sequence.accepted_s) * 1e3,
            decode_ms=(now - first) * 1e3,
            total_ms=(now - sequence.accepted_s) * 1e3,
            completion_tokens=sequence.num_generated,
            prompt_tokens=sequence.num_prompt,
        )
        return Done(
            reason,
            Usage(sequence.num_prompt, sequence.num_generated, sequence.num_cached),
            timing,
            row.prompt.receipts if row else (),
            self._trace(row) if row else None,
            row.first_logprobs if row else (),
            tuple(row.answer) if row else (),
            tuple(row.margins) if row else (),
            tuple(row.forced_logprobs) if row else (),
        )

    def _trace(self, row: Row) -> CacheTrace:
        """Why the first computed token of the prompt was not reused, with the text on both sides."""
        if row.lease is None:
            enabled = self._config.cache.enabled
            reason = "off" if not enabled else "not_cacheable" if row.reuse else "cold"
            return CacheTrace(0, len(row.prompt.ids), reason, media_first=row.media_first)
        match = row.lease.match
        at, other, ids = match.num_tokens, match.miss.other, row.prompt.cache_ids
        return CacheTrace(
            reused_tokens=at,
            computed_tokens=len(row.prompt.ids) - at,
            reason=match.miss.reason,
            before=decode_ids(ids[max(0, at - 8) : at], self.decode),
            here=decode_ids(ids[at : at + 8], self.decode),
            other="" if other is None else "<other media>" if other < 0 else self.decode([other]),
            evicted_s=match.miss.evicted_s,
            media_first=row.media_first,
            disk_tokens=row.lease.disk_tokens,
        )

    def decode(self, ids: Iterable[int]) -> str:
        """Plain token ids as text."""
        return str(self._loaded.tokenizer.decode(list(ids)))
