"""Samples, cases and targets for tests of the pure parts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from engine.errors import BadRequest
from engine.measure.bench.plan import Case, Group, ScheduledQuestion, Suite
from engine.measure.bench.questions import Question
from engine.measure.bench.samples import Sample
from engine.measure.bench.targets import OnFirst, Status

CASE = Case("text", "4 words", (("words", 4),))


def sample(ttft_s: float = 0.1, decode_s: float = 1.0, tokens: int = 11, **more: Any) -> Sample:
    """An answer of `tokens` tokens: the first after ttft_s, the others evenly over decode_s."""
    gaps = (decode_s / (tokens - 1),) * (tokens - 1) if tokens > 1 else ()
    defaults: dict[str, Any] = {
        "target": "a",
        "started_s": 0.0,
        "prompt_tokens": 50,
        "cached_tokens": 0,
        "text_sha256": "",
    }
    return Sample(ttft_s=ttft_s, e2e_s=ttft_s + decode_s, itl_s=gaps, completion_tokens=tokens, **{**defaults, **more})


class RecordingTarget:
    """A target that only records its questions. The TTFT of its n-th answer is the n-th of ttfts_s, in turn."""

    model_path = ""

    def __init__(
        self, name: str, questions: list[tuple[str, str]], ttfts_s: Sequence[float] = (0.1,), in_process: bool = True
    ) -> None:
        self.name = name
        self.in_process = in_process
        self.fails = ""
        self.hangs = ""
        self.others = 0
        self._questions = questions
        self._ttfts_s = ttfts_s
        self._count = 0

    async def ask(self, question: Question, on_first: OnFirst = None) -> Sample:
        if self.fails and self.fails in question.text:
            raise BadRequest(f"{self.name} cannot.")
        if self.hangs == question.text:
            await asyncio.Event().wait()
        self._questions.append((self.name, question.text))
        ttft_s = self._ttfts_s[self._count % len(self._ttfts_s)]
        self._count += 1
        if on_first:
            on_first()
        await asyncio.sleep(0)
        return replace(sample(ttft_s), target=self.name, claim=question.claim)

    def status_nowait(self) -> Status:
        return Status(process_bytes=2**20)

    async def status(self) -> Status:
        return Status(num_requests=self._count + self.others)

    async def predict(self, question: Question) -> None:
        return None

    async def close(self) -> None:
        """Nothing is open."""


def words_suite(*cases: Case) -> Suite:
    """Each case a group: its n-th question is "<case> <n>"."""

    def group(case: Case) -> Group:
        return Group((case,), lambda number: ((ScheduledQuestion(Question(f"{case.name} {number}", 4), case),),))

    return Suite("text", "Words", "text", lambda settings: [group(case) for case in cases or (CASE,)])
