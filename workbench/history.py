"""The last minutes of the engine, as small charts. Pure: the caller brings snapshot and time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from engine.types import Snapshot

WINDOW_S = 300.0
PERIOD_S = 0.9
"""Pages ask once a second, each for itself; what comes sooner than this after another sample says nothing new."""

WIDTH, HEIGHT = 100, 28


@dataclass(frozen=True, slots=True)
class Sample:
    """Sizes in bytes. held: KV blocks and snapshots. active: all that MLX uses. pool: what MLX keeps for reuse."""

    at_s: float
    tokens_saved: int
    held: int
    active: int
    pool: int
    running: int


@dataclass
class History:
    """Samples of the last WINDOW_S seconds, as far as a page was open. Shared by all pages."""

    _samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=int(WINDOW_S)))

    def add(self, snapshot: Snapshot, now_s: float) -> None:
        if self._samples and now_s - self._samples[-1].at_s < PERIOD_S:
            return
        cache = snapshot.cache
        held = cache.kv_bytes + cache.snapshot_bytes
        self._samples.append(
            Sample(
                at_s=now_s,
                tokens_saved=cache.tokens_saved,
                held=held,
                active=snapshot.active_bytes,
                pool=snapshot.cache_bytes,
                running=len(snapshot.running),
            )
        )

    def lines(self, *names: str, now_s: float) -> list[str]:
        """One SVG polyline per name, WIDTH by HEIGHT, all on one scale from zero; the right edge is now.

        A stretch that does not change is two points, so that a chart at rest is not sent again every second.
        """
        samples = [sample for sample in tuple(self._samples) if now_s - sample.at_s <= WINDOW_S]
        if not samples:
            return ["" for _ in names]
        columns = [[float(getattr(sample, name)) for sample in samples] for name in names]
        top = max(1.0, *(max(column) for column in columns))
        places = [WIDTH * (1 - (now_s - sample.at_s) / WINDOW_S) for sample in samples]
        return [_line(places, [HEIGHT - (HEIGHT - 2) * value / top - 1 for value in column]) for column in columns]


def _line(places: list[float], heights: list[float]) -> str:
    last = len(heights) - 1
    corners = [i for i in range(last) if i == 0 or not heights[i - 1] == heights[i] == heights[i + 1]]
    points = [(places[i] if places[i] > 1 else 0.0, heights[i]) for i in corners]
    points.append((float(WIDTH), heights[-1]))
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
