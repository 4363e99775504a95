"""Several tokens of each row in one pass: what was proposed for it is read together, and kept as far as the model says
the same. Engine thread only; knows the inside of mlx-lm's GenerationBatch.

    handed out … t  │ next, its pass has begun │ proposed c1 c2 … ck      row 0
    handed out … t  │ next                     │ proposed c1 · ·  · ·     row 1, for which less was proposed
    handed out … t  │ next                     │ ·  · ·  · ·  · · · ·     row 2, for which nothing was
                    └──────── one pass ────────────────────────────┘  the model's own tokens behind each of them

A token counts where those before it were right and the row, which draws behind each as ever (drawing), is sure of it:
a pass over several tokens adds in another order than a pass over one, so its logits differ in their last digits. By how
much is measured as the model is loaded; where that can make another token of what was drawn, the token is computed
again by a pass over one token of each row. The end of each row's KV is set behind what was kept (engine.cache.ragged)
before anything else sees it.

A row proposes while that pays (Proposer), and a pass is as wide as pays for all rows (pass_costs).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from engine.cache import tensors
from engine.grammar.mask import AnswerMask
from engine.models.adapter import Adapter
from engine.models.draft import DraftModel, RowDraft
from engine.models.drawing import draw_behind
from engine.models.form_lookup import FormLookup
from engine.models.head import max_places
from engine.models.lookup import PromptLookup
from engine.models.pass_costs import PassCosts, num_worth_it
from engine.models.proposer import ProposalSource, Proposer
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

_CONTEXTS, _MEASURED = (16, 9), 5
"""As a model is loaded, so many tokens are read both ways behind so many others, of two rows: some twenty passes."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What one row says behind the tokens that it read in a pass. tokens: (places,); logprobs: (vocabulary,) that each
    was chosen from; num_kept: how many of those that were read stay; is_sure: whether the next is known to be right or
    wrong."""

    tokens: mx.array
    logprobs: list[mx.array]
    num_kept: int = 1
    is_sure: bool = True


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
        self._max_places = 0
        self._reads_alone = False
        self.reason = "" if adapter.can_branch else "its KV cannot be cut back, or its rows decode one at a time"

    def measure(self, num_ids: int) -> None:
        """How far the logits of a pass over several tokens are from those of passes over one, and what such passes
        cost. num_ids: token ids that the model has."""
        if self.reason:
            return
        self._max_places = max_places(num_ids)
        ids = np.linspace(0, num_ids - 1, max(_CONTEXTS) + _MEASURED).astype(int).tolist()
        try:
            self._noise = self._measured(ids[: max(_CONTEXTS)], ids[max(_CONTEXTS) :])
        except Exception:  # a family whose pass over several tokens fails goes on with one
            log.info("no pass over several tokens", exc_info=True)
            self.reason = "it cannot read several tokens in one pass behind those of a batch"
        if not self._noise <= _MOST_NOISE:  # also where it is no number
            self.reason = "a pass over several tokens gives it other logits"

    def _measured(self, context: list[int], ids: list[int]) -> float:
        """Rows of two lengths, each by itself and then together. In a batch the shorter one must not see what is behind
        its end, so it matters nothing that the second of two equal passes finds something else there."""
        rows = [self._row(context[:num]) for num in _CONTEXTS]
        alone = [self._one_by_one(row, ids) for row in rows]
        self._together(rows[0], ids)
        began_s = time.perf_counter()
        noise = _apart(alone[0], self._together(rows[0], ids))
        self.costs.wide(time.perf_counter() - began_s, len(ids), 1)
        batch = [layers[0].merge(layers) for layers in zip(*rows, strict=True)]
        steps = []
        for _ in range(2):
            steps.append(self._adapter(mx.array([ids[:1]] * len(rows)), batch)[:, -1])
            mx.eval(steps)
            tensors.trim_rows(batch, [1] * len(rows))
            noise_of_rows = _apart(mx.concatenate(alone), self._together(batch, ids))
        if _apart(steps[0], steps[1]) > noise:
            return math.inf
        return max(noise, noise_of_rows, _apart(steps[0], mx.stack([logits[0] for logits in alone])))

    def _row(self, context: list[int]) -> list[Any]:
        row = self._adapter.make_cache()
        self._adapter.finish(context, 0, row, None)
        return tensors.ragged(row)

    def _one_by_one(self, row: list[Any], ids: list[int]) -> mx.array:
        """Logits (tokens, vocabulary) behind each of these ids; the row is then as it was."""
        found = []
        for token in ids:
            began_s = time.perf_counter()
            found.append(self._adapter(mx.array([[token]]), row)[0, -1])
            mx.eval(found)
            self.costs.plain(time.perf_counter() - began_s, 1)
        tensors.trim_rows(row, [len(ids)])
        return mx.stack(found)

    def _together(self, batch: list[Any], ids: list[int]) -> mx.array:
        """The same of each row, (rows × tokens, vocabulary), in one pass."""
        num_rows = len(batch[0].lengths)
        logits = self._adapter.behind(mx.array([ids] * num_rows), range(num_rows * len(ids)), batch)
        mx.eval(logits)
        tensors.trim_rows(batch, [len(ids)] * num_rows)
        return logits

    def proposer(self, tokens: Sequence[int], mask: AnswerMask | None = None) -> Proposer:
        """Of a row with these tokens, ids below zero where there are media. mask: of a row that has one."""
        source = self._source(tokens)
        return Proposer(FormLookup(mask, source) if mask else source, self._config.num_speculative_tokens)

    def _source(self, tokens: Sequence[int]) -> ProposalSource:
        if self._draft is not None:
            return RowDraft(self._draft, tokens, self.costs)
        return PromptLookup(tokens, self._config.prompt_lookup_min, self._config.prompt_lookup_max)

    def step(self, batch: Any, proposers: MutableMapping[int, Proposer]) -> list[Any]:
        """One token of every row of a GenerationBatch, which was computed already, and of each what was proposed behind
        it and is right: Responses of the batch, by row. [] where no pass over several tokens is worth it; the batch is
        then as it was. proposers: of its rows that propose, by uid."""
        if self._draft is not None:
            self._draft.may_read = True
        if self._reads_alone or not self.costs.is_known(len(batch.uids)):
            self._reads_alone = False
            return []
        proposed = self._proposed(batch, proposers)
        if not proposed:
            return []
        by_row = [(len(ids) - 1, proposers[batch.uids[row]].chance) for row, ids in proposed.items()]
        num_rows = len(batch.uids)
        cost = num_rows * self.costs.further(num_rows)
        num_further = num_worth_it(by_row, cost, self._max_places - num_rows)
        if not num_further:
            self.costs.was_too_dear(num_rows)
            for row, ids in proposed.items():
                proposers[batch.uids[row]].was_right((len(ids) - 1) * self.costs.to_propose(num_rows))
            return []
        return self._read(batch, {row: ids[: 1 + num_further] for row, ids in proposed.items()}, proposers)

    def _proposed(self, batch: Any, proposers: MutableMapping[int, Proposer]) -> dict[int, list[int]]:
        """By place in the batch: the token that has begun, and what is proposed behind it."""
        begun: list[int] = []

        def token_of(row: int) -> int:
            if not begun:
                begun.extend(batch._next_tokens.tolist())  # waits for the pass
            return begun[row]

        found: dict[int, list[int]] = {}
        for row, uid in enumerate(batch.uids):
            if (proposer := proposers.get(uid)) is not None:
                num_left = batch.max_tokens[row] - batch._num_tokens[row]
                try:
                    found[row] = proposer.proposal(num_left, partial(token_of, row))
                except Exception:  # the rows need no proposals
                    log.exception("a row goes on without speculation")
                    proposers.pop(uid).close()
        right = {row: ids for row, ids in found.items() if ids and ids[0] == token_of(row)}
        for row, ids in found.items():
            if ids and row not in right:
                proposers[batch.uids[row]].missed()
        return right

    def _read(self, batch: Any, proposed: dict[int, list[int]], proposers: Mapping[int, Proposer]) -> list[Any]:
        began_s = time.perf_counter()
        reads = [proposed.get(row, [token]) for row, token in enumerate(batch._next_tokens.tolist())]
        said = self._said(batch, reads)
        width, num_rows = max(map(len, reads)), len(reads)
        self.costs.wide(time.perf_counter() - began_s, width, num_rows)
        share = num_rows * self.costs.further(num_rows) * (width - 1) / sum(len(ids) - 1 for ids in reads)
        share += self.costs.to_propose(num_rows)
        for row, ids in proposed.items():
            num_kept = said[row].num_kept
            proposers[batch.uids[row]].took(len(ids) - 1, max(0, num_kept - 1), share)
        self._clear_sometimes()
        reads = [ids[: row.num_kept] for ids, row in zip(reads, said, strict=True)]
        # Where nothing is kept, the plain step comes at once.
        self._reads_alone = any(reads) and not all(row.is_sure for row in said)
        if not any(reads):
            self.costs.did_other_work()
        return self._responses(batch, reads, width, said)

    def _said(self, batch: Any, reads: Sequence[list[int]]) -> list[_Said]:
        """What every row says behind the tokens that it reads in one pass."""
        width = max(map(len, reads))
        ids = mx.array([[*row, *[0] * (width - len(row))] for row in reads])
        places = [row * width + place for row, ids in enumerate(reads) for place in range(len(ids))]
        logits = self._adapter.behind(ids, places, batch.prompt_cache)
        ends = np.cumsum([len(row) for row in reads]).tolist()
        by_row = [logits[end - len(row) : end] for row, end in zip(reads, ends, strict=True)]
        # Those that draw once first: a mask is made while the pass runs.
        once = {row: _drawn_once(batch, row, ids[0], by_row[row]) for row, ids in enumerate(reads) if len(ids) == 1}
        mx.async_eval([(said.tokens, said.logprobs) for said in once.values()])
        return [once.get(row) or self._drawn(batch, row, ids, by_row[row]) for row, ids in enumerate(reads)]

    def _drawn(self, batch: Any, row: int, ids: Sequence[int], logits: mx.array) -> _Said:
        """Of a row that proposed."""
        drawn = draw_behind(logits, ids, batch.samplers[row], batch.logits_processors[row], self._slack)
        num_kept = kept(ids, drawn.said, drawn.is_sure)
        drawn.go_on_behind(num_kept)
        if num_kept and batch.logits_processors[row]:  # as the batcher, which keeps no context for rows without one
            batch._token_context[row].update_and_fetch(mx.array(list(ids[:num_kept])))
        is_right = num_kept == 0 or (num_kept < len(ids) and drawn.said[num_kept - 1] == ids[num_kept])
        return _Said(drawn.tokens, drawn.logprobs, num_kept, not is_right or drawn.is_sure[num_kept])

    @property
    def _slack(self) -> float:
        """How much further apart two logits may be, or nearer, than a pass over several tokens has them."""
        return _NOISE_MARGIN * self._noise

    def _responses(self, batch: Any, reads: Sequence[list[int]], num_read: int, said: Sequence[_Said]) -> list[Any]:
        """Set the batch, which has read num_read tokens of each row, to where it is after these of them, and tell of
        them."""
        logprobs = [[first, *row.logprobs] for first, row in zip(batch._next_logprobs, said, strict=True)]
        runs = [_run(batch, row, ids, logprobs[row]) for row, ids in enumerate(reads)]
        tensors.trim_rows(batch.prompt_cache, [num_read - len(run) for run in runs])
        next_tokens, going_on = [], []
        for row, run in enumerate(runs):
            end = len(run)
            next_tokens.append(said[row].tokens[end - 1 : end] if run else batch._next_tokens[row : row + 1])
            batch._next_logprobs[row] = logprobs[row][end]
            if run and run[-1].finish_reason:
                run[-1].prompt_cache, run[-1].all_tokens = batch.extract_cache(row), batch.tokens[row]
            else:
                going_on.append(row)
        batch._next_tokens = mx.concatenate(next_tokens)
        if len(going_on) < len(runs):
            batch.filter(going_on)
        return [response for run in runs for response in run]

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


def _drawn_once(batch: Any, row: int, token: int, logits: mx.array) -> _Said:
    """What a row says behind one token, (1, vocabulary), as the batcher draws; nothing evaluated."""
    if processors := batch.logits_processors[row]:
        context = batch._token_context[row].update_and_fetch(mx.array([token]))
        for process in processors:
            logits = process(context, logits)
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    return _Said(batch.samplers[row](logprobs), [logprobs[0]])


def _run(batch: Any, row: int, ids: Sequence[int], logprobs: Sequence[mx.array]) -> list[Any]:
    """Hand out these tokens of a row, up to the one that ends it: Responses."""
    responses: list[Any] = []
    finish = None
    while finish is None and len(responses) < len(ids):
        token = ids[len(responses)]
        batch._num_tokens[row] += 1
        batch.tokens[row].append(token)
        if batch._num_tokens[row] >= batch.max_tokens[row]:
            finish = "length"
        if batch._matchers[row].advance(token):
            finish = "stop"
        responses.append(batch.Response(batch.uids[row], token, logprobs[len(responses)], finish, None, None))
    return responses


def _apart(logits: mx.array, others: mx.array) -> float:
    """How far apart two are at most; any dtype, evaluated."""
    return float(np.array(mx.abs(logits.astype(mx.float32) - others.astype(mx.float32)).max()))
