"""The last minutes of the engine, as small charts. Pure: the caller passes snapshot and time."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from engine.types import Json, Snapshot
from workbench.language import catalogued, number, t
from workbench.words import count, percent, size

WINDOW_S = 300.0
PERIOD_S = 0.9
"""Shortest time between two samples: every open page adds one each second."""

WIDTH, HEIGHT = 100, 60

_ROUND = (1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 400, 600)

MEMORY = ("weights", "kv", "features", "rest", "pool")
"""The kinds of MLX's memory, from the bottom of the chart to its top."""
MEMORY_NAMES = {
    "weights": catalogued("weights"),
    "kv": catalogued("kept prompts (KV)"),
    "features": catalogued("kept pictures (features)"),
    "rest": catalogued("running requests"),
    "pool": catalogued("free, kept by MLX"),
}


@dataclass(frozen=True, slots=True)
class MemorySample:
    """Sizes in bytes. kv: blocks and snapshots. rest: all else in use, such as the KV of running rows. pool: freed
    memory that MLX keeps for its next arrays. token_hit_rate: a share, since the start, as in /v1/cache/stats."""

    at_s: float
    weights: int
    kv: int
    features: int
    rest: int
    pool: int
    token_hit_rate: float
    tokens_saved: int


def sample(snapshot: Snapshot, now_s: float) -> MemorySample:
    stats = snapshot.cache
    weights = snapshot.model.num_bytes if snapshot.model else 0
    kv = stats.kv_bytes + stats.snapshot_bytes
    return MemorySample(
        at_s=now_s,
        weights=weights,
        kv=kv,
        features=stats.feature_bytes,
        rest=max(0, snapshot.active_bytes - weights - kv - stats.feature_bytes),
        pool=snapshot.cache_bytes,
        token_hit_rate=stats.token_hit_rate,
        tokens_saved=stats.tokens_saved,
    )


@dataclass
class History:
    """Samples of the last WINDOW_S seconds, while a page was open. Shared by all pages."""

    _samples: deque[MemorySample] = field(default_factory=lambda: deque(maxlen=int(WINDOW_S)))

    def add(self, snapshot: Snapshot, now_s: float) -> None:
        if self._samples and now_s - self._samples[-1].at_s < PERIOD_S:
            return
        self._samples.append(sample(snapshot, now_s))

    def charts(self, snapshot: Snapshot, now_s: float) -> list[Json]:
        """Memory by kind, hit rate and tokens saved, each from zero; the right edge is the snapshot, now.

        A constant stretch has two points, so that a chart that does not change is not sent every second.
        """
        past = [item for item in tuple(self._samples) if now_s - WINDOW_S <= item.at_s < now_s]
        samples = [*past, sample(snapshot, now_s)]
        now = samples[-1]
        stacks = [list(accumulate(getattr(item, kind) for kind in MEMORY)) for item in samples]
        top = ceiling(max(stack[-1] for stack in stacks), 1024)
        saved_top = ceiling(max(item.tokens_saved for item in samples), 1000)
        places = [WIDTH * (1 - (now_s - item.at_s) / WINDOW_S) for item in samples]
        return [
            {
                "key": "memory",
                "name": t("Memory of the model"),
                "now": size(stacks[-1][-1]),
                "top": size(top),
                "areas": [
                    {
                        "key": kind,
                        "name": t(MEMORY_NAMES[kind]),
                        "now": size(getattr(now, kind)),
                        "points": area(places, [stack[layer] / top for stack in stacks]),
                    }
                    for layer, kind in enumerate(MEMORY)
                ][::-1],  # the tallest is drawn first, the others over it
            },
            _single("hits", t("Tokens reused"), percent(now.token_hit_rate), "100 %")
            | {"areas": [{"key": "hits", "points": area(places, [item.token_hit_rate for item in samples])}]},
            _single("saved", t("Tokens saved"), number(now.tokens_saved), count(saved_top))
            | {
                "areas": [{"key": "saved", "points": area(places, [item.tokens_saved / saved_top for item in samples])}]
            },
        ]


def _single(key: str, name: str, now: str, top: str) -> Json:
    return {"key": key, "name": name, "now": now, "top": top}


def ceiling(value: float, step: int) -> float:
    """The end of an axis: the next round number of units (powers of step) from value on."""
    unit = 1.0
    while value > 600 * unit:
        unit *= step
    return next(mark * unit for mark in _ROUND if mark * unit >= value)


def area(places: Sequence[float], shares: Sequence[float]) -> str:
    """An SVG polygon in WIDTH by HEIGHT, between zero and the line through the shares (0 to 1) at these places."""
    heights = [HEIGHT * (1 - share) for share in shares]
    last = len(heights) - 1
    corners = [i for i in range(last) if i == 0 or not heights[i - 1] == heights[i] == heights[i + 1]]
    points = [(0.0 if places[i] < 1 else places[i], heights[i]) for i in corners]
    points.append((float(WIDTH), heights[-1]))
    outline = [(points[0][0], float(HEIGHT)), *points, (float(WIDTH), float(HEIGHT))]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in outline)
