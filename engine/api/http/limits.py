"""How many requests each key may send in a minute. Event loop only."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from engine.errors import Busy

MINUTE_S = 60.0


@dataclass
class Bucket:
    """What one key has left: num_requests at the time read_s (seconds of the clock)."""

    num_requests: float
    read_s: float


class RateLimits:
    """A bucket for each key, which fills evenly within a minute. https://en.wikipedia.org/wiki/Token_bucket

    per_minute: None is no limit. clock: seconds, monotonic. Keys are known by their names, "" where none is asked for,
    so that there are never more buckets than keys.
    """

    def __init__(self, per_minute: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}

    def take(self, name: str) -> None:
        """Count a request of this key. Raises Busy with the seconds until there is room for one."""
        if self.per_minute is None:
            return
        bucket = self._bucket(name)
        if bucket.num_requests < 1:
            wait_s = math.ceil((1 - bucket.num_requests) * MINUTE_S / self.per_minute)
            why = f"This key may send {self.per_minute} requests per minute (--rate-limit). Try again in {wait_s} s."
            raise Busy(why, retry_after_s=wait_s, code="rate_limit_exceeded")
        bucket.num_requests -= 1

    def headers(self, name: str) -> dict[str, str]:
        """What is left, under the names that OpenAI uses."""
        if self.per_minute is None:
            return {}
        left = max(0, int(self._bucket(name).num_requests))
        return {
            "X-RateLimit-Limit-Requests": str(self.per_minute),
            "X-RateLimit-Remaining-Requests": str(left),
        }

    def _bucket(self, name: str) -> Bucket:
        """The key's bucket as it is now."""
        now, most = self._clock(), float(self.per_minute or 0)
        bucket = self._buckets.setdefault(name, Bucket(most, now))
        bucket.num_requests = min(most, bucket.num_requests + (now - bucket.read_s) * most / MINUTE_S)
        bucket.read_s = now
        return bucket
