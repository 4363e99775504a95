"""The body of the one engine thread, which owns all MLX: take commands, admit, prefill a chunk, step the batch, emit.

Everything here runs on that thread. Commands come in through one queue, events go out through each sequence's `post`,
state goes out as one frozen Snapshot. No locks.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from queue import Empty, SimpleQueue
from typing import Any

from engine.cache.prefix import PrefixCache
from engine.config import EngineConfig
from engine.errors import Busy, EngineError, Internal, Unavailable
from engine.models import probe, sampling
from engine.models.batch import NO_ROW, Batch, NewRow, Token
from engine.models.registry import Loaded
from engine.runtime import memory
from engine.runtime.admission import Opener, Row
from engine.runtime.preflight import Preflights
from engine.runtime.scheduler import (
    CacheAction,
    CacheCommand,
    Cancel,
    Command,
    PreflightCommand,
    Scheduler,
    Sequence,
    Stop,
    Submit,
    TokenObserver,
)
from engine.runtime.stats import EngineStats
from engine.types import Delta, FinishReason, Snapshot

log = logging.getLogger(__name__)

_IDLE_S = 1.0
_TURN_TOKENS = 16
"""What a prompt's turn costs beside its tokens, in tokens: many prompts reused whole do not hold up steps for ever."""

_MAX_GAP_S = 0.05
_MAX_GAP_STEPS = 1.0
"""For an encoder running rows wait no longer than this, or as long as so many of their steps take, and one layer."""


class Worker:
    """Runs one loaded model until Stop."""

    def __init__(
        self,
        config: EngineConfig,
        loaded: Loaded,
        inbox: SimpleQueue[Command],
        publish: Callable[[Snapshot], None],
        watch: TokenObserver | None = None,
    ) -> None:
        self._config = config
        self._watch = watch
        self._loaded = loaded
        self._inbox = inbox
        self._max_rows = 1 if loaded.family.serial else config.completion_batch_size
        budget = self._memory()
        stored = config.cache.within(budget.stored_bytes)
        self._scheduler = Scheduler(
            max_num_seqs=config.max_num_seqs,
            max_queue=config.max_queue,
            chunk_tokens=config.prefill_chunk_tokens,
            prefill_batch_size=config.prefill_batch_size,
            completion_batch_size=self._max_rows,
            max_row_tokens=budget.row_tokens,
        )
        self._prefix = PrefixCache(stored, scope=loaded.fingerprint)
        loaded.adapter.interleave(lambda: len(self._batch) > 0, self._step_in_between)
        if config.cache.features:
            loaded.adapter.cache_vision_features(self._prefix.features)
        self._batch = self._new_batch()
        self._by_row: dict[int, Sequence] = {}
        self._opener = Opener(config, loaded, self._prefix)
        self._preflights = Preflights(config, loaded, self._prefix)
        self._tally = EngineStats(loaded.card, publish)
        self._stepped_s = self._step_s = 0.0
        self._since_step = 0
        self._opener.warm_up()

    def run(self) -> None:
        """Serve until Stop comes. Sequences still held then end with an error."""
        self._show(force=True)
        try:
            while self._take_commands():
                if sequence := self._scheduler.admit():
                    log.debug("%s admitted", sequence.id)
                if not self._prefill_turn() or self._step_is_due():
                    self._decode_step()
                self._preflights.turn()
                self._show()
        finally:
            for sequence in list(self._scheduler):
                self._fail(sequence, Unavailable("The server is shutting down."))
            self._preflights.close(Unavailable("The server is shutting down."))
            self._batch.close()
            self._prefix.close()

    def _show(self, force: bool = False) -> None:
        """Publish a snapshot, at most ten times a second unless forced."""
        self._tally.show(self._scheduler, self._prefix, force)

    # commands

    def _take_commands(self) -> bool:
        """Handle what has come in; wait for something when there is no work. False on Stop."""
        while True:
            try:
                idle = not len(self._scheduler) and not len(self._preflights)
                command = self._inbox.get(timeout=_IDLE_S) if idle else self._inbox.get_nowait()
            except Empty:
                if not idle:
                    return True
                self._prefix.idle()
                self._show(force=True)
                continue
            if isinstance(command, Stop):
                return False
            if isinstance(command, Submit):
                self._submit(command.sequence)
            elif isinstance(command, Cancel):
                self._cancel(command.request_id)
            elif isinstance(command, PreflightCommand):
                self._preflights.add(command)
            elif command.reply.set_running_or_notify_cancel():
                self._cache_command(command)

    def _submit(self, sequence: Sequence) -> None:
        self._tally.count(requests=1)
        try:
            self._scheduler.submit(sequence)
        except Busy as e:
            self._tally.count(failed=1)
            sequence.post(e)

    def _cancel(self, request_id: str) -> None:
        sequence = self._scheduler.find(request_id)
        if sequence is None:
            return
        self._forget(sequence)
        self._tally.count(cancelled=1)
        done = self._opener.done(sequence, "cancelled")
        self._tally.record(sequence, done)
        self._show(force=True)
        sequence.post(done)

    def _cache_command(self, command: CacheCommand) -> None:
        try:
            done = self._on_cache(command)
        except Exception:
            log.exception("the cache failed on %r", command.action)
            command.reply.set_exception(Internal("The cache could not do that; the server's log has the cause."))
        else:
            command.reply.set_result(done)

    def _on_cache(self, command: CacheCommand) -> Any:
        if command.action in ("blocks", "sizes"):
            return self._prefix.blocks(self._opener.decode if command.action == "blocks" else None)
        if command.action == "block":
            return self._prefix.block(command.key, self._opener.decode)
        if command.action == "features":
            return self._prefix.features.infos()
        prefix, key = self._prefix, command.key
        actions: dict[CacheAction, Callable[[], bool | None]] = {
            "clear": prefix.clear,
            "pin": lambda: prefix.pin_block(key, True),
            "unpin": lambda: prefix.pin_block(key, False),
            "drop": lambda: prefix.drop_block(key),
            "pin_features": lambda: prefix.pin_features(key, True),
            "unpin_features": lambda: prefix.pin_features(key, False),
            "drop_features": lambda: prefix.drop_features(key),
            "verified": lambda: prefix.count_replay(mismatch=False),
            "mismatch": lambda: prefix.count_replay(mismatch=True),
        }
        done = actions[command.action]()
        if command.action == "clear":
            self._loaded.grids.clear()
        self._show(force=True)  # before the answer: who gets it looks at the snapshot next
        return done

    # prefill

    def _prefill_turn(self) -> bool:
        """Prompt work for the sequence whose turn it is: open it, if that is to be done, and compute one chunk, or what
        is left of one since the last step. False when there was none."""
        turn = self._scheduler.next_prefill()
        if turn is None or (self._loaded.family.whole_prompt and self._scheduler.is_full):
            return False
        sequence, num_tokens = turn
        if len(self._batch):
            num_tokens -= self._since_step
        self._since_step += _TURN_TOKENS
        try:
            if sequence.row is None:
                sequence.row = self._opener.open(sequence)
                if not self._scheduler.grant(sequence):
                    log.info("%s waits for memory: %d prompt tokens", sequence.id, sequence.num_prompt)
                    return False
            self._prefill(sequence, num_tokens)
        except EngineError as e:
            self._fail(sequence, e)
        except Exception:
            log.exception("%s failed in prefill", sequence.id)
            self._fail(sequence, Internal("The model failed on this prompt; the server's log has the cause."))
        return True

    def _prefill(self, sequence: Sequence, num_tokens: int) -> None:
        """A chunk of the prompt; the last one gives the first token, too, so it waits for room in the batch."""
        row: Row = sequence.row
        start, end = sequence.num_prefilled, sequence.num_prompt
        if not self._loaded.family.whole_prompt:
            end = min(start + num_tokens, end - 1 if self._scheduler.is_full else end)
        stops = [stop for stop in (row.lease and row.lease.stops) or () if start < stop <= end]
        end = min([end, *stops])
        if start < end < sequence.num_prompt:
            self._loaded.adapter.prefill(row.prompt.ids, (start, end), row.cache, row.features)
            sequence.num_prefilled = end
        if end in stops:
            self._keep(row, row.prompt.cache_ids[:end], row.cache)
            if end == sequence.num_prompt - 1 and not self._scheduler.is_full:
                end = sequence.num_prompt
        if end == sequence.num_prompt:
            self._join(sequence)
        self._since_step += end - start

    def _join(self, sequence: Sequence) -> None:
        """The rest of the prompt, and the first token."""
        row: Row = sequence.row
        logits = self._loaded.adapter.finish(row.prompt.ids, sequence.num_prefilled, row.cache, row.features)
        sequence.num_prefilled = sequence.num_prompt
        token = self._batch.add(
            NewRow(
                prompt=row.prompt.ids,
                cache=row.cache,
                logits=logits,
                sampler=sampling.make_sampler(row.sampling, sequence.request.forced),
                max_tokens=row.max_tokens,
                processors=self._processors(sequence),
            )
        )
        row.batch_row = token.row
        if token.row != NO_ROW:
            self._by_row[token.row] = sequence
        self._scheduler.ready(sequence)
        self._hand_out([(sequence, token)])
        # Dozens of MB for a clip, and read for the last time: the self-test looks at them at the first token.
        row.features, row.prompt = None, replace(row.prompt, inputs={})

    def _processors(self, sequence: Sequence) -> list[sampling.LogitsProcessor]:
        found = sampling.make_processors(sequence.row.sampling)
        if sequence.request.min_tokens:
            found.append(sampling.MinTokensProcessor(sequence.request.min_tokens, self._loaded.stop_ids))
        return found

    # decode

    def _step_is_due(self) -> bool:
        """Short prompts are read two or three between two steps: fewer steps with few rows, and they join together."""
        return self._since_step >= self._config.prefill_chunk_tokens // 2

    def _step_in_between(self) -> None:
        """Called between two layers of an encoder run."""
        if time.perf_counter() - self._stepped_s > max(_MAX_GAP_S, _MAX_GAP_STEPS * self._step_s):
            self._decode_step()

    def _decode_step(self) -> None:
        self._since_step = 0
        if not len(self._batch):
            return
        began_s = time.perf_counter()
        try:
            tokens = self._batch.step()
        except Exception:
            log.exception("a decode step failed; its rows are dropped")
            for sequence in list(self._by_row.values()):
                self._fail(sequence, Internal("The model failed while answering; the server's log has the cause."))
            self._batch.close()
            self._batch = self._new_batch()
            return
        self._stepped_s = time.perf_counter()
        self._step_s = self._stepped_s - began_s
        self._hand_out([(self._by_row[token.row], token) for token in tokens])

    def _hand_out(self, tokens: list[tuple[Sequence, Token]]) -> None:
        """Each token to its reader."""
        self._tally.stepped(len(tokens))
        for sequence, token in tokens:
            try:
                self._emit(sequence, token)
            except Exception:
                log.exception("%s failed while answering", sequence.id)
                self._fail(sequence, Internal("The server failed on this answer; its log has the cause."))

    def _emit(self, sequence: Sequence, token: Token) -> None:
        row: Row = sequence.row
        if self._watch is not None:
            self._watch(self._loaded, sequence, token)
        row.answer.append(token.token)
        sequence.num_generated += 1
        if sequence.request.source == "replay":
            row.margins.append(sampling.margin(token.logprobs))
        if sequence.request.forced:
            row.forced_logprobs.append(float(token.logprobs[token.token].item()))
        if sequence.num_generated == 1:
            sequence.first_token_s = time.perf_counter()
            row.first_logprobs = sampling.likeliest(token.logprobs, sequence.request.first_logprobs)
        deltas = row.detokenizer.add(token.token) if token.finish != "stop" else []
        finish: FinishReason | None = "stop" if row.detokenizer.stopped else None
        if finish is None and token.finish is not None:
            deltas += row.detokenizer.finish()
            finish = "stop" if token.finish == "stop" or row.detokenizer.stopped else "length"
        self._post(sequence, deltas, at_once=finish is not None)
        is_first, ids = sequence.num_generated == 1, row.prompt.cache_ids
        if is_first and row.lease and row.lease.stops is None:
            # Not before: what is kept for later prompts must not hold up this one's first token.
            self._keep(row, ids, row.cache)
        row.cache = []
        if finish is not None:
            kv = token.kv if token.kv is not None else self._batch.remove(row.batch_row)
            self._finish(sequence, finish)
            if not is_first:  # the model has not read that one
                self._keep(row, ids + row.answer, kv)
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
        self._tally.count(
            finished=1,
            cut_off=int(reason == "length"),
            prompt_tokens=sequence.num_prompt,
            completion_tokens=sequence.num_generated,
        )
        done = self._opener.done(sequence, reason)
        self._tally.record(sequence, done)
        # Before the reader learns that it is over: what it looks up next must have counted it.
        self._show(force=True)
        log.info(
            "%s %s prompt=%d reused=%d computed=%d completion=%d media=%d ttft_ms=%.0f total_ms=%.0f",
            sequence.id, reason, sequence.num_prompt, sequence.num_cached, sequence.num_prompt - sequence.num_cached,
            sequence.num_generated, len(done.media),
            done.timing.ttft_ms, done.timing.total_ms,
        )  # fmt: skip
        sequence.post(done)

    def _fail(self, sequence: Sequence, error: EngineError) -> None:
        self._forget(sequence)
        self._tally.count(failed=1)
        self._tally.record(sequence, self._opener.done(sequence, "cancelled"), error.code)
        log.info("%s failed: %s", sequence.id, error.code)
        self._show(force=True)
        sequence.post(error)

    def _forget(self, sequence: Sequence) -> None:
        """Take a sequence out of the queues and the batch."""
        row: Row | None = sequence.row
        if row is not None and row.batch_row != NO_ROW:
            self._batch.remove(row.batch_row)
            self._by_row.pop(row.batch_row, None)
        if row is not None and row.lease is not None:
            self._prefix.end(row.lease)
        self._scheduler.remove(sequence)

    # state

    def _memory(self) -> memory.MemoryBudget:
        """How the memory beside the weights is shared; said in the log where it is less than was asked for."""
        cache, model_bytes = self._config.cache, self._loaded.card.num_bytes
        asked = cache.total_bytes
        token_bytes = probe.token_bytes(self._loaded.adapter)
        budget = memory.share(probe.device_bytes(), self._config.memory_utilization, model_bytes, asked, token_bytes)
        if budget.stored_bytes < asked:
            log.warning(
                "memory is short: %d MiB for stored KV and features instead of %d",
                budget.stored_bytes >> 20,
                asked >> 20,
            )
        return budget

    def _new_batch(self) -> Batch:
        return Batch(self._loaded.adapter, self._loaded.stop_ids, self._max_rows)
