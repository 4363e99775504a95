"""workbench.history: the last minutes as small charts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.types import CacheStats, DeviceInfo, ModelCard, Snapshot
from workbench.history import HEIGHT, WIDTH, WINDOW_S, History, area, ceiling, sample

MB = 2**20
DEVICE = DeviceInfo("macOS", "M4", "GPU", 64 * 2**30, 16, "Accelerate", "0.32")
CARD = ModelCard("demo", "/demo", "qwen3_vl", "float32", 1, 10 * MB, 4096)
STATS = CacheStats(
    enabled=True, kv_bytes=3 * MB, snapshot_bytes=1 * MB, feature_bytes=2 * MB, tokens_saved=30, tokens_seen=40
)
NOW = Snapshot("ready", DEVICE, (CARD,), cache=STATS, active_bytes=20 * MB, cache_bytes=5 * MB)


def charts(history: History, snapshot: Snapshot, now_s: float) -> dict:
    return {chart["key"]: chart for chart in history.charts(snapshot, now_s)}


def corners(points: str) -> list[tuple[float, float]]:
    return [tuple(map(float, point.split(","))) for point in points.split()]


def test_memory_is_told_apart_and_adds_up():
    one = sample(NOW, 0.0)
    assert (one.weights, one.kv, one.features, one.rest, one.pool) == (10 * MB, 4 * MB, 2 * MB, 4 * MB, 5 * MB)
    assert one.weights + one.kv + one.features + one.rest == NOW.active_bytes
    assert sample(replace(NOW, active_bytes=1), 0.0).rest == 0


def test_the_chart_is_a_stack_from_zero_with_its_numbers():
    memory = charts(History(), NOW, 100.0)["memory"]
    assert (memory["now"], memory["top"]) == ("25 MB", "30 MB")
    named = {part["key"]: (part["name"], part["now"]) for part in memory["areas"]}
    assert named["weights"] == ("weights", "10 MB") and named["kv"][1] == "4 MB" and named["pool"][1] == "5 MB"
    tops = [corners(part["points"])[1][1] for part in memory["areas"]]
    assert tops == sorted(tops), "the tallest comes first, or it would cover the others"
    assert tops[-1] == pytest.approx(HEIGHT * (1 - 10 / 30), abs=0.1)
    assert all(corners(part["points"])[0][1] == corners(part["points"])[-1][1] == HEIGHT for part in memory["areas"])


def test_the_rates_are_those_of_the_snapshot():
    shown = charts(History(), NOW, 0.0)
    assert (shown["hits"]["now"], shown["hits"]["top"]) == ("75 %", "100 %")
    assert (shown["saved"]["now"], shown["saved"]["top"]) == ("30", "30")


def test_old_samples_leave_and_quick_ones_are_not_taken():
    history = History()
    for second in (0.0, 0.5, 1.0, 500.0):
        history.add(replace(NOW, cache=replace(STATS, tokens_saved=int(second))), second)
    assert [one.at_s for one in history._samples] == [0.0, 1.0, 500.0]
    points = corners(charts(history, NOW, 600.0)["saved"]["areas"][0]["points"])
    assert points[0][0] == pytest.approx(WIDTH * (1 - 100 / WINDOW_S), abs=0.1)
    assert points[-1] == (WIDTH, HEIGHT)


def test_a_chart_at_rest_does_not_change():
    history = History()
    for second in range(400):
        history.add(NOW, float(second))
    assert charts(history, NOW, 400.0) == charts(history, NOW, 401.0)
    busy = replace(NOW, cache=replace(STATS, tokens_saved=31))
    assert charts(history, busy, 401.0) != charts(history, NOW, 401.0)


def test_a_step_stays_a_step():
    """Corners only: what is left out lies on the line."""
    shares = [0.0] * 10 + [1.0] * 10
    points = corners(area([i * 5.0 for i in range(20)], shares))
    assert points == [(0, 60), (0, 60), (45, 60), (50, 0), (100, 0), (100, 60)]


@pytest.mark.parametrize(
    ("value", "step", "top"),
    [
        (0, 1000, 1),
        (31, 1000, 40),
        (600, 1000, 600),
        (601, 1000, 1000),
        (12_345, 1000, 15_000),
        (25 * MB, 1024, 30 * MB),
    ],
)
def test_axes_end_at_a_round_number(value, step, top):
    assert ceiling(value, step) == top
