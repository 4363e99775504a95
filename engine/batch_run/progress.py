"""How far a run is, on one line that grows old in place; and what came of it, in words. Pure but for the stream."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from engine.batch_run.coco import COCO, left_out
from engine.batch_run.row_warnings import warnings_of
from engine.types import Json

SHOWN_S = 0.2
LOGGED_S = 10.0
"""Between two lines where nobody looks: in a file each one stays."""


class Pace:
    """How long the rows of one session take. left: rows that it has to ask; those of earlier sessions say nothing about
    its pace. clock: seconds, monotonic."""

    def __init__(self, left: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.left = left
        self._new = 0
        self._clock = clock
        self._began_s = clock()

    def note(self) -> None:
        """One more is done."""
        self.left -= 1
        self._new += 1

    @property
    def left_s(self) -> float | None:
        """Seconds until all are done, at the pace so far; None before the first one."""
        return (self._clock() - self._began_s) / self._new * self.left if self._new else None


class RunProgress:
    """total: rows of the run; done: those answered in an earlier session. clock: seconds, monotonic."""

    def __init__(self, total: int, done: int, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._done = done
        self._pace = Pace(total - done, clock)
        self._stream = stream
        self._clock = clock
        self._told_s: float | None = None
        self._failed = self._warned = 0

    def note(self, record: Json) -> None:
        """One more row is done."""
        self._done += 1
        self._pace.note()
        self._failed += record.get("error") is not None
        self._warned += bool(warnings_of(record))
        is_seen, now_s = self._stream.isatty(), self._clock()
        if self._told_s is not None and now_s - self._told_s < (SHOWN_S if is_seen else LOGGED_S):
            return
        self._told_s = now_s
        self._tell("\r" if is_seen else "", "\033[K" if is_seen else "\n")

    def end(self) -> None:
        """The last line stays."""
        if self._told_s is not None:
            is_seen = self._stream.isatty()
            self._tell("\r" if is_seen else "", "\033[K\n" if is_seen else "\n")

    def line(self) -> str:
        """For example "12 of 60 rows · 1 failed · 2 with warnings · about 3 min left"."""
        said = [f"{self._done:,} of {self._total:,} rows"]
        said += [f"{self._failed:,} failed"] if self._failed else []
        said += [f"{self._warned:,} with warnings"] if self._warned else []
        if self._pace.left and (left_s := self._pace.left_s) is not None:
            said.append(f"about {_duration(left_s)} left")
        return " · ".join(said)

    def _tell(self, before: str, after: str) -> None:
        self._stream.write(before + self.line() + after)
        self._stream.flush()


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def summary(records: Sequence[Json], total: int, output: Path, num_captions: int | None) -> str:
    """What came of a run: answers, failures with their reasons, warnings by kind, tokens."""
    failed = [record for record in records if record["error"]]
    lines = [f"{len(records) - len(failed):,} of {total:,} rows are answered, in {output}"]
    if output.name.lower().endswith(COCO) and (missing := str(left_out(records))):
        lines.append(f"COCO has no place for {missing}; .jsonl has everything")
    if num_captions is not None:
        without = len(records) - len(failed) - num_captions
        more = f"; {without:,} answers have no file of their own" if without else ""
        lines.append(f"{num_captions:,} captions are written{more}")
    if failed:
        lines.append(f"{len(failed):,} failed; the same command asks for them again:")
        lines += [f"  {record['key']}: {record['error']['message']}" for record in failed[:10]]
        lines += [f"  and {len(failed) - 10:,} more"] if len(failed) > 10 else []
    counts = Counter(warning for record in records for warning in record["warnings"])
    if counts:
        lines.append(f"{sum(bool(record['warnings']) for record in records):,} have warnings:")
        lines += [f"  {number:,} × {warning}" for warning, number in counts.most_common()]
    read = sum(record.get("prompt_tokens", 0) for record in records)
    reused = sum(record.get("cached_tokens", 0) for record in records)
    written = sum(record.get("completion_tokens", 0) for record in records)
    lines.append(f"{read:,} prompt tokens, {reused:,} of them from the cache; {written:,} tokens of answers")
    return "\n".join(lines)
