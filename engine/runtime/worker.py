"""One model's turn on the engine thread: execute what the scheduler plans, hand tokens out, end requests.

Everything here runs on the engine thread.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Any

from engine.cache import tensors
from engine.cache.prefix import PrefixCache
from engine.config import EngineConfig
from engine.errors import EngineError, Internal, NotShared, PixelsMissing, caused
from engine.models import sampling
from engine.models.batch import Batch, NewRow, Token
from engine.models.drawing import can_draw_ahead
from engine.models.registry import Loaded
from engine.models.speculation import make_speculation
from engine.models.text_reader import TextReader
from engine.runtime.admission import Admission
from engine.runtime.cache_commands import carry_out
from engine.runtime.commands import CacheCommand, Cancel, PreflightCommand, ReadCommand, Submit, TokenObserver
from engine.runtime.decisions.scorer import Scorer
from engine.runtime.endings import FAILED_ANSWER, Endings
from engine.runtime.estimates.expectation import Expectations
from engine.runtime.estimates.preflight import Preflights
from engine.runtime.loading.warm_up import WarmUp
from engine.runtime.memory_use.memory import MemoryBudget
from engine.runtime.memory_use.request_memory import RequestMemory
from engine.runtime.output import answer
from engine.runtime.output.prompt_logprobs import read_with_logprobs
from engine.runtime.rows import Rows
from engine.runtime.scheduler import DecodeStep, OpenPrompt, PrefillChunk, RestorePrompt, Scheduler, ScoreRows
from engine.runtime.sequence import Choice, Sequence
from engine.runtime.stats import EngineStats
from engine.runtime.text_readings import TextReadings

log = logging.getLogger(__name__)

_MAX_GAP_S = 0.05
_MAX_GAP_STEPS = 1.0
"""While a vision or audio tower runs, rows that decode get a step once their last one is _MAX_GAP_S ago, or
_MAX_GAP_STEPS steps' time if that is longer. Looked at after each layer."""

_FAILED_PROMPT = "The model failed on this prompt; the server's log has the cause."
_FAILED_STEP = "The model failed while answering; the server's log has the cause."


class Worker:
    """One loaded model, its prefix cache, its batch and the requests for it."""

    def __init__(
        self,
        config: EngineConfig,
        loaded: Loaded,
        budget: MemoryBudget,
        stats: EngineStats,
        observer: TokenObserver | None = None,
    ) -> None:
        self._config = config
        self._observer = observer
        self._loaded = loaded
        max_rows = 1 if loaded.family.serial else config.max_rows
        self._scheduler = Scheduler(
            max_num_seqs=config.max_num_seqs,
            chunk_tokens=config.prefill_chunk_tokens,
            prefill_batch_size=config.prefill_batch_size,
            completion_batch_size=max_rows,
            max_row_tokens=budget.row_tokens,
        )
        self._prefix = PrefixCache(config.cache.within(budget.stored_bytes), scope=loaded.fingerprint)
        self._warm_up = WarmUp()
        num_layers = loaded.adapter.interleave(lambda: self._warm_up.is_on or len(self._rows) > 0, self._between_layers)
        self._prefix.interleave(self._step_in_between)
        if config.cache.features:
            loaded.adapter.cache_vision_features(self._prefix.features)
        self._speculation = make_speculation(config.speculation, loaded)
        self._rows = Rows(
            lambda: Batch(loaded.adapter, max_rows, config.wired_limit_bytes, self._speculation),
            lambda sequence: self._endings.fail(sequence, Internal(_FAILED_STEP)),
        )
        stats.keep_peak()
        memory = RequestMemory(budget.model, self._warm_up.run(loaded, self._prefix.features, num_layers))
        self._admission = Admission(config, loaded, self._prefix, memory)
        self._scorer = Scorer(loaded.adapter, self._scheduler)
        self._expectations = Expectations(self._scheduler)
        self._preflights = Preflights(config, loaded, self._prefix, self._expectations, memory)
        self._readings = TextReadings(
            TextReader(loaded.adapter, loaded.modules, loaded.num_ids), self._scheduler, stats
        )
        self._stats = stats
        self._endings = Endings(
            scheduler=self._scheduler,
            rows=self._rows,
            prefix=self._prefix,
            expectations=self._expectations,
            stats=stats,
            decode=loaded.decode,
            cache_enabled=config.cache.enabled,
        )
        stats.add(loaded.card, self._scheduler, self._prefix)
        self._stepped_s = self._step_s = 0.0

    @property
    def is_idle(self) -> bool:
        return not (len(self._scheduler) or len(self._preflights) or len(self._readings))

    def turn(self) -> bool:
        """One step of the plan, one preflight, and a share of the texts that are read. A failure fails the requests it
        was about and no others. False when there was nothing to do: nobody is here, or all wait for the disk."""
        if sequence := self._scheduler.admit():
            log.debug("%s admitted", sequence.id)
        step = self._scheduler.plan()
        if isinstance(step, DecodeStep):
            self._decode_step()
        elif step is not None:
            self._prompt_step(step)
        has_preflight = self._preflights.turn()
        has_read = self._readings.turn()
        self.show()
        return step is not None or has_preflight or has_read

    def idle(self) -> None:
        """Nothing to do: use the moment. Returns within some 20 ms."""
        self._prefix.idle()
        self.show(force=True)

    def show(self, force: bool = False) -> None:
        """Publish a snapshot, at most ten times a second unless forced."""
        self._stats.show(force)

    def grant(self, budget: MemoryBudget) -> None:
        """Its share of memory from now on: other models have come, or gone. What it has in use beyond that, it keeps
        until it ends."""
        self._scheduler.max_row_tokens = budget.row_tokens
        self._prefix.limit(self._config.cache.within(budget.stored_bytes))

    def recover(self) -> None:
        """After a turn that failed in an unforeseen place: nothing it may have left half done is used again. Everyone
        who had a part in it gets an error; who only waits goes on waiting."""
        self._rows.drop()
        for sequence in [*self._scheduler.decoding, *self._scheduler.prefilling]:
            self._endings.fail(sequence, Internal(_FAILED_STEP))
        self._scheduler.stepped()

    def close(self, error: EngineError) -> None:
        """End everything that is still held with this error, and let go of memory and files."""
        for sequence in list(self._scheduler):
            self._endings.fail(sequence, error)
        self._preflights.close(error)
        self._readings.close(error)
        self._rows.close()
        self._prefix.close()
        self._loaded.adapter.close()

    # -- commands

    def handle(self, command: Submit | Cancel | PreflightCommand | ReadCommand) -> None:
        """Carry out a command."""
        match command:
            case Submit(sequence=sequence):
                self._stats.count(requests=1)
                self._expectations.begin(sequence)
                self._scheduler.submit(sequence)
            case Cancel(sequence=sequence):
                self._endings.cancel(sequence)
            case PreflightCommand():
                self._preflights.add(command)
            case ReadCommand():
                self._readings.add(command)

    def carry_out(self, command: CacheCommand) -> Any:
        """What a command to the cache is answered by this model's."""
        return carry_out(command, self._prefix, self._loaded)

    # -- prompts

    def _prompt_step(self, step: OpenPrompt | RestorePrompt | PrefillChunk | ScoreRows) -> None:
        """Prompt work for one sequence: open or restore it where need be, and compute one chunk, or some questions."""
        sequence = step.sequence
        self._scheduler.took_turn()
        try:
            if isinstance(step, ScoreRows):
                self._score(step)
            elif chunk := step if isinstance(step, PrefillChunk) else self._open(step):
                self._prefill(chunk)
        except (PixelsMissing, NotShared) as error:  # the request comes again, in another way, and is counted then
            self._endings.forget(sequence)
            self._stats.count(requests=-1)
            sequence.post(error)
        except EngineError as error:
            self._endings.fail(sequence, error)
        except Exception as error:
            log.exception("%s failed in prefill", sequence.id)
            self._endings.fail(sequence, caused(Internal(_FAILED_PROMPT), error))
        finally:
            if sequence.stage == "prefill":
                sequence.clock.enter("turns")

    def _open(self, step: OpenPrompt | RestorePrompt) -> PrefillChunk | None:
        """Its first chunk; None where it has to wait for memory, or more of it comes from disk."""
        sequence = step.sequence
        if isinstance(step, OpenPrompt):
            self._admission.prepare(sequence)
            if sequence.restore is not None:
                sequence.clock.enter("restore")
                self._scheduler.restoring(sequence)
                return None
        elif sequence.restore is not None:
            is_last = sequence.restore.turn()
            self._scheduler.restored(sequence, is_last)
            if not is_last:
                return None
        self._admission.open(sequence)
        chunk = self._scheduler.chunk(sequence, step.num_tokens)
        if chunk is None:
            log.info("%s waits for room: %d prompt tokens", sequence.id, sequence.num_prompt)
        return chunk

    def _prefill(self, chunk: PrefillChunk) -> None:
        """A chunk of the prompt; the last one gives the first token, too, so it waits for room in the batch."""
        sequence = chunk.sequence
        sequence.clock.enter("prefill")
        if chunk.start < chunk.end < sequence.num_prompt:
            span = (chunk.start, chunk.end)
            if sequence.request.prompt_logprobs is None:
                with self._expectations.chunk(sequence, chunk.end):
                    self._loaded.adapter.prefill(sequence.prompt.ids, span, sequence.cache, sequence.embeddings)
            else:
                read_with_logprobs(self._loaded, sequence, span)
            self._scheduler.prefilled(sequence, chunk.end)
        if chunk.keep:
            self._store(sequence, sequence.prompt.cache_ids[: chunk.end], sequence.cache)
        if chunk.join:
            self._join(sequence) if sequence.scoring is None else self._scorer.begin(sequence)

    def _score(self, step: ScoreRows) -> None:
        """Some rows of its questions. The last ones end it; not before are its blocks stored, as for an answer."""
        sequence = step.sequence
        sequence.clock.enter("score")
        if self._scorer.turn(sequence, step.num_tokens):
            self._endings.finish(sequence)
            if sequence.lease and sequence.lease.is_in_blocks:
                self._store(sequence, sequence.prompt.cache_ids, sequence.cache)

    def _join(self, sequence: Sequence) -> None:
        """The rest of the prompt and the first token of every choice; then they are rows of the batch."""
        start = sequence.num_prefilled
        if sequence.request.prompt_logprobs is None:
            with self._expectations.chunk(sequence, sequence.num_prompt):
                logits = self._loaded.adapter.finish(sequence.prompt.ids, start, sequence.cache, sequence.embeddings)
        else:
            logits = read_with_logprobs(self._loaded, sequence, (start, sequence.num_prompt))
        self._scheduler.prefilled(sequence, sequence.num_prompt)
        if not sequence.max_tokens:
            sequence.first_token_s = time.perf_counter()
            sequence.clock.enter("decode", sequence.first_token_s)
            for choice in sequence.choices:
                answer.end_unwritten(choice)
            self._endings.finish(sequence)
            return
        rows = [(choice, self._add(choice, logits)) for choice in sequence.choices]
        self._scheduler.joined(sequence)
        self._hand_out(rows)
        # Dozens of MB for a clip, and nobody reads them again: the self-test looks at them at the first token.
        sequence.embeddings, sequence.cache = None, []
        sequence.prompt = replace(sequence.prompt, inputs={})

    def _add(self, choice: Choice, logits: Any) -> Token:
        """A choice's first token; unless it is its last, the choice is a row from now on."""
        sequence = choice.sequence
        request, is_last = sequence.request, choice is sequence.choices[-1]
        sampler = sampling.make_sampler(sequence.sampling, request.forced, choice.index)
        processors = sampling.make_processors(sequence.sampling)
        if choice.mask is not None:  # behind the others: what it forbids, nothing brings back
            processors.append(choice.mask)
            sampler = choice.mask.watch(sampler)
        if self._speculation is not None and can_draw_ahead(sampler, processors):
            choice.proposer = self._speculation.proposer(sequence.prompt.cache_ids, choice.mask)
        return self._rows.add(
            choice,
            NewRow(
                prompt=sequence.prompt.ids,
                cache=sequence.cache if is_last else tensors.fork(sequence.cache),
                logits=logits,
                sampler=sampler,
                max_tokens=sequence.max_tokens,
                stop_ids=sequence.stop_ids,
                processors=processors,
                proposer=choice.proposer,
            ),
        )

    # -- decoding

    def _between_layers(self) -> None:
        if self._warm_up.is_on:
            self._warm_up.between_layers()
        else:
            self._step_in_between()

    def _step_in_between(self) -> None:
        """Take a decode step if the last one is too long ago. Called between two layers of a vision or audio tower and
        while features are read from disk."""
        if time.perf_counter() - self._stepped_s > max(_MAX_GAP_S, _MAX_GAP_STEPS * self._step_s):
            self._decode_step()

    def _decode_step(self) -> None:
        """A token for every row, or several for those that propose. Where that fails, the rows end with an error and a
        new batch takes their place."""
        self._scheduler.stepped()
        if not len(self._rows):
            return
        began_s = time.perf_counter()
        tokens = self._rows.step()
        self._stepped_s = time.perf_counter()
        self._step_s = self._expectations.step_s = self._stepped_s - began_s
        self._hand_out(tokens)

    def _hand_out(self, tokens: list[tuple[Choice, Token]]) -> None:
        """Each token to its reader."""
        for choice, token in tokens:
            try:
                self._emit(choice, token)
            except Exception as error:
                log.exception("%s failed while answering", choice.sequence.id)
                self._endings.fail(choice.sequence, caused(Internal(FAILED_ANSWER), error))
        self._stats.stepped(len(tokens))

    def _emit(self, choice: Choice, token: Token) -> None:
        sequence = choice.sequence
        if sequence.stage == "finished" or choice.finish_reason:
            return  # another choice of it has failed just now, or an earlier token of this step was its last
        if choice.mask is not None and choice.mask.error and token.finish != "stop":
            self._endings.fail(sequence, choice.mask.error)
            return
        if self._observer is not None:
            self._observer(self._loaded, choice, token)
        is_first = not choice.token_ids
        if not sequence.first_token_s:
            sequence.first_token_s = time.perf_counter()
            sequence.clock.enter("decode", sequence.first_token_s)
            self._expectations.first_token(sequence)
        answer.write(choice, token, self._config.stream_interval)
        ids = sequence.prompt.cache_ids
        if is_first and choice.index == 0 and sequence.lease and sequence.lease.is_in_blocks:
            # Not before: what is kept for later prompts must not hold up this one's first token.
            self._store(sequence, ids, sequence.cache)
        if choice.finish_reason is None:
            return
        kv = self._rows.leave(choice, token.kv)
        if all(other.finish_reason for other in sequence.choices):
            self._endings.finish(sequence)
        if not is_first and kv:  # the model has not read that one; a row lost with its batch has none
            self._store(sequence, ids + choice.token_ids, kv)
        self.show(force=True)

    def _store(self, sequence: Sequence, cache_ids: list[int], kv: list[Any]) -> None:
        """Keep a row's KV for later prompts; kv holds at least the KV of these tokens."""
        if sequence.lease is not None:
            self._prefix.store(sequence.lease, cache_ids, kv)
