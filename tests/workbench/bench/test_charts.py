"""Charts hold the result's own numbers, marked as the result marks them."""

from __future__ import annotations

from typing import Any

from workbench.bench.charts import MAX_MOMENTS, charts, moments, spans
from workbench.bench.live import DisplayedRun


def row(case: str, ttft: float, suite: str = "image", target: str = "engine", **more: Any) -> dict[str, Any]:
    return {
        "suite": suite,
        "case": case,
        "labels": {},
        "target": target,
        "ttft": {"median": ttft},
        "generation_tps": {"median": 2 * ttft},
        "total_tps": {"median": 3 * ttft},
        "canary": {"ok": True},
        "noise": [],
        "running": False,
        "each": {"ttft": [ttft, ttft + 1], "generation_tps": [ttft]},
        **more,
    }


def load(at_s: float, others: int = 0, **more: Any) -> dict[str, Any]:
    held = {"process_bytes": 10, "mlx_active_bytes": 5, "mlx_cache_bytes": None, "cpu_percent": at_s}
    return {"at_s": at_s, "others": others, **held, **more}


def shown(*rows: dict[str, Any], name: str = "run", loads: Any = ()) -> DisplayedRun:
    return DisplayedRun(name, name, rows, tuple(loads))


def by_key(runs: list[DisplayedRun]) -> dict[str, Any]:
    return {chart["key"]: chart for chart in charts(runs)}


def test_pictures_lie_at_their_pixels() -> None:
    small, large = row("10x10", 7.25, labels={"pixels": 100}), row("1000x1000", 9.5, labels={"pixels": 10**6})
    found = by_key([shown(small, large)])
    assert found["image-ttft"]["series"][0]["points"] == [
        [0.0001, 7.25, "picture of 10 × 10", ""],
        [1.0, 9.5, "picture of 1000 × 1000", ""],
    ]
    assert [point[1] for point in found["image-generation_tps"]["series"][0]["points"]] == [14.5, 19.0]


def test_a_mark_says_the_worst() -> None:
    label = {"labels": {"frames": 4}, "suite": "video"}
    rows = [
        row("a", 1, **label),
        row("b", 1, **label, noise=["noisy"]),
        row("c", 1, **label, running=True),
        row("d", 1, **label, noise=["noisy"], canary={"ok": False}),
    ]
    points = by_key([shown(*rows)])["video-ttft"]["series"][0]["points"]
    assert [mark for *_, mark in points] == ["", "noisy", "running", "false"]


def test_streams_have_their_throughput_and_what_has_no_number_of_streams_is_no_point() -> None:
    rows = [row("4 streams", 2, "concurrency", labels={"streams": 4}), row("beside", 9, "concurrency")]
    found = by_key([shown(*rows)])
    assert set(found) == {"concurrency-ttft", "concurrency-total_tps"}
    assert found["concurrency-total_tps"]["series"][0]["points"] == [[4, 6, "4 streams", ""]]


def test_one_case_is_drawn_answer_by_answer_and_cases_without_a_number_as_bars() -> None:
    found = by_key([shown(row("64 words", 3, "text"), row("cold", 8, "cache"))])
    assert [point[:2] for point in found["text-ttft"]["series"][0]["points"]] == [[1, 3], [2, 4]]
    assert found["cache-ttft"]["kind"] == "bars" and found["cache-ttft"]["series"][0]["points"][0][:2] == ["cold", 8]


def test_runs_lie_over_each_other_and_targets_beside() -> None:
    label = {"labels": {"pixels": 100}}
    runs = [
        shown(row("a", 1, **label), name="x"),
        shown(row("a", 2, **label), row("a", 3, target="peer", **label), name="y"),
    ]
    series = by_key(runs)["image-ttft"]["series"]
    assert [(one["name"], one["points"][0][1]) for one in series] == [("x", 1), ("y: engine", 2), ("y: peer", 3)]
    assert len({one["place"] for one in series}) == 3


def test_of_many_moments_the_peaks_are_kept() -> None:
    loads = [load(float(i), process_bytes=1000 if i == 777 else 1) for i in range(3000)]
    found = moments(loads, "process_bytes")
    assert len(found) <= MAX_MOMENTS and [777.0, 1000, "", ""] in found
    assert moments(loads[:3], "mlx_cache_bytes") == []
    assert [at_s for at_s, *_ in moments(loads[:3], "cpu_percent")] == [1.0, 2.0]


def test_others_are_marked_in_time() -> None:
    loads = [load(at, others) for at, others in ((0.0, 0), (0.5, 1), (1.0, 2), (1.5, 0), (2.0, 1))]
    assert spans(loads) == [[0.0, 1.0], [1.5, 2.0]] and spans(loads[:1]) == []
    found = by_key([shown(row("a", 1, labels={"pixels": 1}), loads=loads)])
    assert found["memory"]["bands"] == found["cpu"]["bands"] == spans(loads)
    assert [one["key"] for one in found["memory"]["series"]] == ["process_bytes", "mlx_active_bytes"]
    both = by_key([shown(name="x", loads=loads), shown(name="y", loads=loads)])
    assert [one["name"] for one in both["memory"]["series"]] == ["x", "y"] and not both["memory"]["bands"]


def test_nothing_is_drawn_of_nothing() -> None:
    assert charts([]) == []
