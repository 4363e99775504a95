"""The body of the one engine thread, which owns all MLX: take commands, admit, prefill a chunk, step the batch, emit.

Everything here runs on that thread. Commands come in through one queue, events go out through each sequence's `post`,
state goes out as one frozen Snapshot. No locks.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import groupby
from queue import Empty, SimpleQueue
from typing import Any

import mlx.core as mx

from engine import device, prompt, sampling
from engine.cache.prefix import Lease, PrefixCache, words
from engine.config import EngineConfig
from engine.detokenize import Detokenizer
from engine.errors import Busy, ContextOverflow, EngineError, Internal
from engine.models.adapter import Features
from engine.models.batch import Batch, Decode, Token
from engine.models.registry import Loaded
from engine.order import media_first
from engine.scheduler import CacheCommand, Cancel, Command, Scheduler, Sequence, Stop, Submit
from engine.spans import Prompt
from engine.types import (
    CacheTrace,
    Delta,
    Done,
    FinishReason,
    Record,
    Request,
    Running,
    Sampling,
    Snapshot,
    Timing,
    Totals,
    Usage,
)

log = logging.getLogger(__name__)

DEFAULT_TEMPERATURE = 0.7
_PUBLISH_S = 0.1
_IDLE_S = 1.0
_RATE_WINDOW_S = 3.0
_MAX_RECORDS = 50


@dataclass(slots=True)
class Row:
    """A sequence's own state on this thread, from its first turn to its end."""

    prompt: Prompt
    lease: Lease | None
    media_first: bool
    features: Features | None
    cache: list[Any]
    detokenizer: Detokenizer
    sampling: Sampling
    max_tokens: int
    batch_row: int = -1
    answer: list[int] = field(default_factory=list)
    pending: list[Delta] = field(default_factory=list)


class Worker:
    """Runs one loaded model until Stop."""

    def __init__(
        self, config: EngineConfig, loaded: Loaded, inbox: SimpleQueue[Command], publish: Callable[[Snapshot], None]
    ) -> None:
        self._config = config
        self._loaded = loaded
        self._inbox = inbox
        self._publish = publish
        self._scheduler = Scheduler(
            max_num_seqs=config.max_num_seqs,
            max_queue=config.max_queue,
            chunk_tokens=config.prefill_chunk_tokens,
            prefill_batch_size=config.prefill_batch_size,
            completion_batch_size=config.completion_batch_size,
        )
        self._prefix = PrefixCache(config.cache, scope=loaded.fingerprint)
        if config.cache.features:
            loaded.adapter.remember(self._prefix.features)
        self._batch = self._new_batch()
        self._by_row: dict[int, Sequence] = {}
        self._totals = Totals()
        self._records: deque[Record] = deque(maxlen=_MAX_RECORDS)
        self._recent: deque[tuple[float, int]] = deque()
        self._published_s = 0.0

    def run(self) -> None:
        """Serve until Stop comes. Sequences still held then end with an error."""
        self._show(force=True)
        try:
            while self._take_commands():
                if sequence := self._scheduler.admit():
                    log.debug("%s admitted", sequence.id)
                self._prefill_turn()
                self._decode_step()
                self._show()
        finally:
            for sequence in list(self._scheduler):
                self._fail(sequence, Internal("The server is shutting down."))
            self._batch.close()

    # commands

    def _take_commands(self) -> bool:
        """Handle what has come in; wait for something when there is no work. False on Stop."""
        while True:
            try:
                idle = not len(self._scheduler)
                command = self._inbox.get(timeout=_IDLE_S) if idle else self._inbox.get_nowait()
            except Empty:
                if len(self._scheduler):
                    return True
                self._show(force=True)
                continue
            if isinstance(command, Stop):
                return False
            if isinstance(command, Submit):
                self._submit(command.sequence)
            elif isinstance(command, Cancel):
                self._cancel(command.request_id)
            else:
                self._cache_command(command)

    def _submit(self, sequence: Sequence) -> None:
        self._count(requests=1)
        try:
            self._scheduler.submit(sequence)
        except Busy as e:
            self._count(failed=1)
            sequence.post(e)

    def _cancel(self, request_id: str) -> None:
        sequence = self._scheduler.find(request_id)
        if sequence is None:
            return
        self._forget(sequence)
        self._count(cancelled=1)
        done = self._done(sequence, "cancelled")
        self._record(sequence, done)
        self._show(force=True)
        sequence.post(done)

    def _cache_command(self, command: CacheCommand) -> None:
        if command.action in ("blocks", "sizes"):
            command.reply.set_result(self._prefix.blocks(self._words if command.action == "blocks" else None))
        elif command.action == "block":
            command.reply.set_result(self._prefix.block(command.key, self._words))
        else:
            command.reply.set_result(self._prefix.apply(command.action, command.key))
            self._show(force=True)

    # prefill

    def _prefill_turn(self) -> None:
        """One unit of prompt work for the sequence whose turn it is: open it, or compute one chunk."""
        turn = self._scheduler.next_prefill()
        if turn is None:
            return
        sequence, num_tokens = turn
        try:
            if sequence.row is None:
                sequence.row = self._open(sequence)
            else:
                self._prefill(sequence, num_tokens)
            if sequence.num_prefilled >= sequence.num_prompt - 1:
                self._join(sequence)
        except EngineError as e:
            self._fail(sequence, e)
        except Exception:
            log.exception("%s failed in prefill", sequence.id)
            self._fail(sequence, Internal("The model failed on this prompt; the server's log has the cause."))

    def _open(self, sequence: Sequence) -> Row:
        """Template, processor, limits, vision tower: everything up to the first chunk."""
        request, loaded = sequence.request, self._loaded
        sequence.started_s = time.perf_counter()
        if self._config.media_first:
            request = media_first(request)
        built = prompt.build(loaded, request, sequence.media)
        sequence.media = ()
        sequence.num_prompt = len(built.ids)
        max_tokens = self._max_tokens(len(built.ids), request.max_tokens)
        chosen = sampling.resolve(
            request.sampling, self._config.sampling, loaded.sampling, Sampling(temperature=DEFAULT_TEMPERATURE)
        )
        cache = loaded.adapter.make_cache()
        lease = self._prefix.begin(built, cache)
        sequence.num_prefilled = sequence.num_cached = lease.match.num_tokens if lease else 0
        return Row(
            prompt=built,
            lease=lease,
            media_first=request is not sequence.request,
            features=loaded.adapter.embed(built, cache, sequence.num_prefilled),
            cache=cache,
            detokenizer=self._detokenizer(built, request),
            sampling=chosen,
            max_tokens=max_tokens,
        )

    def _detokenizer(self, built: Prompt, request: Request) -> Detokenizer:
        loaded = self._loaded
        # A raw completion goes on from its prompt, so its first word keeps the space before it.
        before = built.ids[-1] if request.prompt is not None else None
        return Detokenizer(loaded.tokenizer, loaded.special_ids, request.stop, built.starts_in_reasoning, before)

    def _max_tokens(self, num_prompt: int, asked: int | None) -> int:
        """The completion's limit. A default is clamped to the context, an explicit number that does not fit refused."""
        context = self._loaded.card.context_tokens
        left = context - num_prompt
        if left < 1:
            raise ContextOverflow(
                f"The prompt has {num_prompt} tokens; this model's context is {context}.", param="messages"
            )
        if asked is not None and asked > left:
            raise ContextOverflow(
                f"max_tokens {asked} does not fit: the prompt has {num_prompt} tokens and the context is {context}, "
                f"so at most {left} are left.",
                param="max_tokens",
            )
        return min(asked or self._config.max_tokens, left)

    def _prefill(self, sequence: Sequence, num_tokens: int) -> None:
        row: Row = sequence.row
        start = sequence.num_prefilled
        # The last token is fed by the batch as its first step.
        end = min(start + num_tokens, sequence.num_prompt - 1)
        stops = [stop for stop in (row.lease.stops if row.lease else ()) if start < stop < end]
        end = min([end, *stops])
        self._loaded.adapter.prefill(row.prompt.ids, (start, end), row.cache, row.features)
        sequence.num_prefilled = end
        if row.lease and end in row.lease.stops:
            self._keep(row, row.prompt.cache_ids[:end], row.cache)

    def _join(self, sequence: Sequence) -> None:
        row: Row = sequence.row
        row.batch_row = self._batch.add(
            Decode(
                prompt=row.prompt.ids,
                cache=row.cache,
                sampler=sampling.make_sampler(row.sampling),
                max_tokens=row.max_tokens,
                processors=sampling.make_processors(row.sampling),
            )
        )
        row.features = None
        self._by_row[row.batch_row] = sequence
        self._scheduler.ready(sequence)

    # decode

    def _decode_step(self) -> None:
        if not len(self._batch):
            return
        try:
            tokens = self._batch.step()
        except Exception:
            log.exception("a decode step failed; its rows are dropped")
            for sequence in list(self._by_row.values()):
                self._fail(sequence, Internal("The model failed while answering; the server's log has the cause."))
            self._batch.close()
            self._batch = self._new_batch()
            return
        self._recent.append((time.perf_counter(), len(tokens)))
        for token in tokens:
            sequence = self._by_row[token.row]
            try:
                self._emit(sequence, token)
            except Exception:
                log.exception("%s failed while answering", sequence.id)
                self._fail(sequence, Internal("The server failed on this answer; its log has the cause."))

    def _emit(self, sequence: Sequence, token: Token) -> None:
        row: Row = sequence.row
        row.answer.append(token.token)
        sequence.num_generated += 1
        if sequence.num_generated == 1:
            sequence.first_token_s = time.perf_counter()
        deltas = row.detokenizer.add(token.token) if token.finish != "stop" else []
        finish: FinishReason | None = "stop" if row.detokenizer.stopped else None
        if finish is None and token.finish is not None:
            deltas += row.detokenizer.finish()
            finish = "stop" if token.finish == "stop" or row.detokenizer.stopped else "length"
        self._post(sequence, deltas, at_once=finish is not None)
        if sequence.num_generated == 1:
            # Not before: what is kept for later prompts must not hold up this one's first token.
            self._keep(row, row.prompt.cache_ids[:-1], row.cache)
            row.cache = []
        if finish is not None:
            kv = token.kv if token.kv is not None else self._batch.remove(row.batch_row)
            self._finish(sequence, finish)
            self._keep(row, row.prompt.cache_ids + row.answer, kv)
            self._show(force=True)

    def _post(self, sequence: Sequence, deltas: list[Delta], at_once: bool) -> None:
        """Hand text out, every stream_interval tokens together; the first token never waits."""
        row: Row = sequence.row
        row.pending += deltas
        if not at_once and sequence.num_generated > 1 and sequence.num_generated % self._config.stream_interval:
            return
        for channel, run in groupby(row.pending, key=lambda delta: delta.channel):
            pieces = list(run)
            sequence.post(Delta("".join(d.text for d in pieces), channel, sum(d.num_tokens for d in pieces)))
        row.pending = []

    def _keep(self, row: Row, cache_ids: list[int], kv: list[Any]) -> None:
        """Store a row's KV for later prompts; kv holds at least the KV of these tokens."""
        if row.lease is not None:
            self._prefix.store(row.lease, cache_ids, kv)

    # endings

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        self._forget(sequence)
        self._count(
            finished=1,
            cut_off=int(reason == "length"),
            prompt_tokens=sequence.num_prompt,
            completion_tokens=sequence.num_generated,
        )
        done = self._done(sequence, reason)
        self._record(sequence, done)
        # Before the reader learns that it is over: what it looks up next must have counted it.
        self._show(force=True)
        sequence.post(done)
        log.info(
            "%s %s prompt=%d completion=%d media=%d ttft_ms=%.0f total_ms=%.0f",
            sequence.id, reason, sequence.num_prompt, sequence.num_generated, len(done.media),
            done.timing.ttft_ms, done.timing.total_ms,
        )  # fmt: skip

    def _fail(self, sequence: Sequence, error: EngineError) -> None:
        self._forget(sequence)
        self._count(failed=1)
        self._record(sequence, self._done(sequence, "cancelled"), error.code)
        log.info("%s failed: %s", sequence.id, error.code)
        self._show(force=True)
        sequence.post(error)

    def _forget(self, sequence: Sequence) -> None:
        """Take a sequence out of the queues and the batch."""
        row: Row | None = sequence.row
        if row is not None and row.batch_row >= 0:
            self._batch.remove(row.batch_row)
            self._by_row.pop(row.batch_row, None)
        if row is not None and row.lease is not None:
            self._prefix.end(row.lease)
        self._scheduler.remove(sequence)

    def _done(self, sequence: Sequence, reason: FinishReason) -> Done:
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
        )

    def _record(self, sequence: Sequence, done: Done, error: str | None = None) -> None:
        """Add to the list of ended requests."""
        row: Row | None = sequence.row
        spans = tuple((span.start, span.end) for span in row.prompt.spans) if row else ()
        request = sequence.request
        self._records.appendleft(Record(sequence.id, request.source, request.session, time.time(), done, spans, error))

    def _trace(self, row: Row) -> CacheTrace:
        """Why the first computed token of the prompt was not reused, with the text on both sides."""
        if row.lease is None:
            reason = "not_cacheable" if self._config.cache.enabled else "off"
            return CacheTrace(0, len(row.prompt.ids), reason, media_first=row.media_first)
        match = row.lease.match
        at, other, ids = match.num_tokens, match.miss.other, row.prompt.cache_ids
        return CacheTrace(
            reused_tokens=at,
            computed_tokens=len(row.prompt.ids) - at,
            reason=match.miss.reason,
            before=words(ids[max(0, at - 8) : at], self._words),
            here=words(ids[at : at + 8], self._words),
            other="" if other is None else "<other media>" if other < 0 else self._words([other]),
            evicted_s=match.miss.evicted_s,
            media_first=row.media_first,
        )

    def _words(self, ids: Iterable[int]) -> str:
        return str(self._loaded.tokenizer.decode(list(ids)))

    # state

    def _new_batch(self) -> Batch:
        rows = 1 if self._loaded.family.serial else self._config.completion_batch_size
        return Batch(self._loaded.adapter, self._loaded.stop_ids, rows)

    def _count(self, **more: int) -> None:
        self._totals = replace(self._totals, **{name: getattr(self._totals, name) + n for name, n in more.items()})

    def _decode_tps(self, now: float) -> float:
        """Tokens per second over the last seconds, all rows together."""
        while self._recent and self._recent[0][0] < now - _RATE_WINDOW_S:
            self._recent.popleft()
        span = now - self._recent[0][0] if self._recent else 0.0
        return sum(n for _, n in self._recent) / span if span > 0.2 else 0.0

    def _show(self, force: bool = False) -> None:
        """Publish a snapshot, at most ten times a second unless forced."""
        now = time.perf_counter()
        if not force and now - self._published_s < _PUBLISH_S:
            return
        self._published_s = now
        self._publish(
            Snapshot(
                state="ready",
                device=device.describe(),
                model=self._loaded.card,
                running=tuple(_running(sequence, now) for sequence in self._scheduler),
                totals=self._totals,
                cache=self._prefix.stats(),
                recent=tuple(self._records),
                active_bytes=mx.get_active_memory(),
                cache_bytes=mx.get_cache_memory(),
                peak_bytes=mx.get_peak_memory(),
                process_bytes=device.process_bytes(),
                decode_tps=self._decode_tps(now),
            )
        )


def _running(sequence: Sequence, now: float) -> Running:
    return Running(
        id=sequence.id,
        stage=sequence.stage,
        prompt_tokens=sequence.num_prompt,
        prefilled_tokens=sequence.num_prefilled,
        completion_tokens=sequence.num_generated,
        age_ms=(now - sequence.accepted_s) * 1e3,
        source=sequence.request.source,
        session=sequence.request.session,
    )
