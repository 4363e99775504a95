"""Several tokens of a row in one pass: what was proposed for it is read together, and kept as far as the model says the
same. Engine thread only; knows the inside of mlx-lm's GenerationBatch.

    handed out … t  │ next, its pass has begun │ proposed c1 c2 … ck
                    └──────── one pass ────────────────────────────┘  the model's own tokens behind each of them

A token counts where those before it were right and the row, which draws behind each as ever (drawing), is sure of it:
a pass over several tokens adds in another order than a pass over one, so its logits differ in their last digits. By how
much is measured as the model is loaded; where that can make another token of what was drawn, the token is computed
again by itself. The KV of what was not kept is cut off before anything else sees it.

A row proposes while it is alone in the batch, and while that pays (Proposer).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from engine.models.adapter import Adapter
from engine.models.draft import DraftModel, RowDraft
from engine.models.drawing import Drawn, draw_behind
from engine.models.lookup import PromptLookup
from engine.models.proposer import PassCosts, ProposalSource, Proposer
from engine.models.registry import Loaded
from engine.types import SpeculationConfig

log = logging.getLogger(__name__)

_NOISE_MARGIN = 8.0
"""How many times the measured difference two logits must be apart: each may be off by it once, and what was measured
are a few tokens."""

_MOST_NOISE = 1.0
"""Beyond it is no rounding: whatever such a pass computes is not what passes over one token do."""

_CLEAR_EVERY = 512
"""Passes after which the allocator gives back what it keeps, as the batcher does after so many of its own."""

_CONTEXT, _MEASURED = 16, 5
"""As a model is loaded, so many tokens are read both ways behind so many others: some nine passes."""


class Speculation:
    """Speculation on one model. draft: what proposes, if not prompt lookup. reason: why it cannot be done there; ""
    where it can, once `measure` has run."""

    def __init__(self, adapter: Adapter, config: SpeculationConfig, draft: DraftModel | None = None) -> None:
        self.costs = PassCosts()
        self._adapter = adapter
        self._config = config
        self._draft = draft
        self._noise = 0.0
        self._num_passes = 0
        self.reason = "" if adapter.can_branch else "its KV cannot be cut back, or its rows decode one at a time"

    def measure(self, num_ids: int) -> None:
        """How far the logits of a pass over several tokens are from those of passes over one, and what such passes
        cost. num_ids: token ids that the model has."""
        if self.reason:
            return
        ids = np.linspace(0, num_ids - 1, _CONTEXT + _MEASURED).astype(int).tolist()
        try:
            self._noise = self._measured(ids[:_CONTEXT], ids[_CONTEXT:])
        except Exception:  # a family whose pass over several tokens fails goes on with one
            log.info("no pass over several tokens", exc_info=True)
            self.reason = "it cannot read several tokens in one pass behind those of a batch"
        if not self._noise <= _MOST_NOISE:  # also where it is no number
            self.reason = "a pass over several tokens gives it other logits"

    def _measured(self, context: list[int], ids: list[int]) -> float:
        row = self._adapter.make_cache()
        self._adapter.finish(context, 0, row, None)
        cache = [layer.merge([layer]) for layer in row]
        one_by_one = []
        for token in ids:
            began_s = time.perf_counter()
            logits = self._adapter(mx.array([[token]]), cache)[0, -1]
            mx.eval(logits)
            self.costs.plain(time.perf_counter() - began_s)
            one_by_one.append(logits)
        for is_warm in (False, True):
            _cut(cache, len(ids))
            began_s = time.perf_counter()
            together = self._adapter.behind(mx.array([ids]), cache)
            mx.eval(together)
            if is_warm:
                self.costs.wide(time.perf_counter() - began_s, len(ids))
        apart = mx.abs(mx.stack(one_by_one).astype(mx.float32) - together.astype(mx.float32))
        return float(np.array(apart).max())

    def proposer(self, tokens: Sequence[int]) -> Proposer:
        """Of a row with these tokens, ids below zero where there are media."""
        return Proposer(self._source(tokens), self._config.num_speculative_tokens)

    def _source(self, tokens: Sequence[int]) -> ProposalSource:
        if self._draft is not None:
            return RowDraft(self._draft, tokens, self.costs)
        return PromptLookup(tokens, self._config.prompt_lookup_min, self._config.prompt_lookup_max)

    def step(self, batch: Any, proposer: Proposer) -> list[Any]:
        """Several tokens of the one row of a GenerationBatch, as Responses of it: the one that was computed already,
        and what was proposed behind it and is right. [] where nothing is proposed; the batch is then as it was."""

        def begun() -> int:
            return int(batch._next_tokens.item())

        proposed = proposer.proposal(batch.max_tokens[0] - batch._num_tokens[0], begun)
        if not proposed:
            return []
        if begun() != proposed[0]:
            proposer.missed()
            return []
        return self._read(batch, proposer, proposed)

    def _read(self, batch: Any, proposer: Proposer, ids: list[int]) -> list[Any]:
        began_s = time.perf_counter()
        logits = self._adapter.behind(mx.array([ids]), batch.prompt_cache)
        drawn = draw_behind(logits, ids, batch.samplers[0], batch.logits_processors[0], self._slack)
        self.costs.wide(time.perf_counter() - began_s, len(ids))
        num_kept = kept(ids, drawn.said, drawn.is_sure)
        drawn.go_on_behind(num_kept)
        proposer.took(len(ids) - 1, max(0, num_kept - 1), self.costs.further)
        if 0 < num_kept < len(ids) and not drawn.is_sure[num_kept]:
            proposer.read_alone()
        self._clear_sometimes()
        return self._responses(batch, ids[:num_kept], len(ids), drawn)

    @property
    def _slack(self) -> float:
        """How much further apart two logits may be, or nearer, than a pass over several tokens has them."""
        return _NOISE_MARGIN * self._noise

    def _responses(self, batch: Any, ids: list[int], num_read: int, drawn: Drawn) -> list[Any]:
        """Set the batch, which has read num_read tokens, to where it is after these of them, and tell of them. drawn:
        what the row says behind each that was read."""
        logprobs = [batch._next_logprobs[0], *drawn.logprobs]
        responses: list[Any] = []
        finish = None
        while finish is None and len(responses) < len(ids):
            token = ids[len(responses)]
            batch._num_tokens[0] += 1
            batch.tokens[0].append(token)
            if batch._num_tokens[0] >= batch.max_tokens[0]:
                finish = "length"
            if batch._matchers[0].advance(token):
                finish = "stop"
            responses.append(batch.Response(batch.uids[0], token, logprobs[len(responses)], finish, None, None))
        num_kept = len(responses)
        _cut(batch.prompt_cache, num_read - num_kept)
        if finish:
            responses[-1].prompt_cache, responses[-1].all_tokens = batch.extract_cache(0), batch.tokens[0]
            batch.filter([])
        elif num_kept:
            batch._next_tokens, batch._next_logprobs = drawn.tokens[num_kept - 1 : num_kept], [logprobs[num_kept]]
            if batch.logits_processors[0]:  # as the batcher, which keeps no context for rows without one
                batch._token_context[0].update_and_fetch(mx.array(ids))
        return responses

    def _clear_sometimes(self) -> None:
        self._num_passes += 1
        if self._num_passes % _CLEAR_EVERY == 0:
            mx.clear_cache()


def make_speculation(config: SpeculationConfig | None, loaded: Loaded) -> Speculation | None:
    """Speculation on a model, measured there; None where it is off, or the model cannot do it, which the log says."""
    if config is None:
        return None
    speculation = Speculation(loaded.adapter, config, loaded.draft)
    speculation.measure(loaded.num_ids)
    if speculation.reason:
        log.warning("%s writes without speculation: %s", loaded.card.id, speculation.reason)
        return None
    return speculation


def kept(ids: Sequence[int], said: Sequence[int], is_sure: Sequence[bool]) -> int:
    """How many of the tokens that were read together stay: the first, which the model said before, and each behind it
    that it says there. One of them is dropped again where it is not sure of what comes behind: read by itself next, it
    tells. said: what it says behind each; is_sure: of that."""
    for at in range(len(ids)):
        if not is_sure[at]:
            return at
        if at + 1 == len(ids) or said[at] != ids[at + 1]:
            return at + 1
    return len(ids)


def _cut(cache: Sequence[Any], num_tokens: int) -> None:
    """Take the last tokens off every layer's KV."""
    for layer in cache:
        layer.trim(num_tokens)
