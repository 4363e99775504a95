"""Computes the rows of Scoring, a pass at a time. Engine thread only."""

from __future__ import annotations

import time

from engine.cache import tensors
from engine.models import sampling
from engine.models.adapter import Adapter
from engine.models.branching import score
from engine.runtime.decisions.scoring import Scoring
from engine.runtime.memory_use.memory import padded_tokens
from engine.runtime.scheduler import Scheduler
from engine.runtime.sequence import SCORED_ROWS, Sequence


class Scorer:
    """Scores the options of the questions that a sequence asks."""

    def __init__(self, adapter: Adapter, scheduler: Scheduler) -> None:
        self._adapter = adapter
        self._scheduler = scheduler

    def begin(self, sequence: Sequence) -> None:
        """Compute the rest of the shared prompt, and what is read behind it."""
        scoring = sequence.scoring
        assert scoring is not None
        ids, start, reads = sequence.prompt.ids, sequence.num_prefilled, scoring.prompt_reads
        if reads:
            logits = self._adapter.finish(ids, start, sequence.cache, sequence.embeddings)
            scoring.add(reads, sampling.chosen_logprobs(logits, [read.branch.tokens for read in reads]), 0)
        else:
            self._adapter.prefill(ids, (start, len(ids)), sequence.cache, sequence.embeddings)
        self._scheduler.prefilled(sequence, len(ids))
        sequence.embeddings = None  # dozens of MB for a clip, and nobody reads them again

    def turn(self, sequence: Sequence, num_tokens: int) -> bool:
        """One pass over the next rows, of at most num_tokens. True with the last, which ends the sequence's choice."""
        scoring = sequence.scoring
        assert scoring is not None
        if not scoring.is_done:
            self._pass(sequence, scoring, num_tokens)
        if scoring.is_done:
            sequence.first_token_s = time.perf_counter()
            sequence.choices[0].finish_reason = "stop"
        return scoring.is_done

    def _pass(self, sequence: Sequence, scoring: Scoring, num_tokens: int) -> None:
        rows = scoring.next_rows(num_tokens, self._max_kv_tokens(sequence), sequence.num_prompt)
        logits = score(self._adapter, [row.stem for row in rows], sequence.cache, sequence.num_prompt)
        reads = [read for row in rows for read in row.reads]
        scoring.add(reads, sampling.chosen_logprobs(logits, [read.branch.tokens for read in reads]), len(rows))
        self._scheduler.scored(scoring.size_of(rows))

    @staticmethod
    def _max_kv_tokens(sequence: Sequence) -> int:
        """What the rows of a pass may take, padded: that for which the sequence has memory. Plain KV is only there for
        one layer at a time."""
        granted = padded_tokens([sequence.num_prompt] * SCORED_ROWS)
        return granted * len(sequence.cache) if tensors.is_plain(sequence.cache) else granted
