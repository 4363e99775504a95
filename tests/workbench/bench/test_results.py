"""What the Benchmark tab says in words: the result's numbers, in three figures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.measure.bench.result import Canary, Check, Point
from engine.measure.bench.stats import Ratio
from engine.measure.bench.store import StoredRun
from tests.engine.measure.bench.builders import CASE, sample
from workbench.bench import results
from workbench.bench.charts import charts
from workbench.bench.live import DisplayedRun, row_of
from workbench.bench.results import digits, ratio_table, roofline, tables
from workbench.language import speaking


@pytest.mark.parametrize(
    ("value", "said"), [(0.01234, "0.0123"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (12345, "12,345")]
)
def test_three_figures(value, said):
    assert digits(value) == said


def test_every_cell_is_the_number_of_the_json():
    checks = Canary((Check("seen", True, "16 tokens"), Check("blank", False, "the same")))
    point = Point(
        CASE, "a", ((sample(0.1), sample(0.3)),), canary=checks, noise=("noisy: ttft",), errors=("It broke.",)
    )
    found = point.json()
    (table,) = tables([DisplayedRun("", "this run", (row_of(point),), ())])
    (row,) = table["rows"]
    said = dict(zip(table["heads"], row["cells"], strict=True))
    assert said["TTFT ms"] == f"{digits(found['ttft']['median'])} ({digits(found['ttft']['p95'])})"
    assert said["TPOT ms"] == digits(found["tpot"]["median"]) and said["E2E ms"] == digits(found["e2e"]["median"])
    assert said["decode tok/s"] == digits(found["generation_tps"]["median"])
    assert said["prompt tokens (cached)"] == f"{found['prompt_tokens'] // 2} ({found['cached_tokens'] // 2})"
    assert said["output tokens"] == str(found["completion_tokens"] // 2) == "11"
    assert said["answers"] == "2" and "output tok/s" not in said and "target" not in said
    assert row["marks"] == {"canary": "false", "noise": True, "running": False}
    assert [one["lamp"] for one in row["more"]] == ["good", "false", "noise", "false"]
    assert row["more"][-1]["words"] == "It broke."


def test_a_picture_is_told_as_one_wherever_its_case_is_read():
    """In the table, the comparison and the charts; what a run is kept and compared by stays "224x224"."""
    point = Point(replace(CASE, suite="image", name="224x224", labels=(("pixels", 224 * 224),)), "a", ((sample(0.1),),))
    row = row_of(point)
    assert row["case"] == "224x224"
    ratio = ("image: 224x224", "ttft", Ratio(0.5, 0.4, 0.6, 5))
    for language, words in (("en", "picture of 224 × 224"), ("de", "Bild mit 224 × 224")):
        with speaking(language):
            (table,) = tables([DisplayedRun("", "this run", (row,), ())])
            assert table["rows"][0]["cells"][0] == words
            assert ratio_table([ratio])["rows"][0]["case"] == words
            assert charts([DisplayedRun("", "this run", (row,), ())])[0]["series"][0]["points"][0][2] == words


def test_the_machine_is_told_in_the_readers_numbers():
    found = {
        "chip_name": "M4", "num_cores": 10, "gpu_cores": 8, "total_memory_gb": 15.6, "memory_bandwidth_gbs": 68.3,
        "bandwidth_source": "Apple's number", "mlx_device": "GPU", "os": "macOS 26",
    }  # fmt: skip
    assert results.machine({"machine": found})[2:5] == ["16 GB", "8 GPU cores", "68.3 GB/s (Apple's number)"]
    with speaking("de"):
        told = results.machine({"machine": found | {"total_memory_gb": 7.75}})
    assert (told[2], told[4]) == ("7,8 GB", "68,3 GB/s (Apple's number)")


def test_a_ratio_is_better_worse_or_neither():
    found = [
        ("image: a", "ttft", Ratio(0.5, 0.4, 0.6, 5)),
        ("image: a", "total_tps", Ratio(0.5, 0.4, 0.6, 5)),
        ("image: b", "ttft", Ratio(1.1, 0.9, 1.3, 5)),
        ("image: b", "total_tps", Ratio(1.5, None, None, 1)),
    ]
    table = ratio_table(found)
    assert table["heads"] == ["case", "TTFT", "output tok/s"] and [row["case"] for row in table["rows"]] == ["a", "b"]
    assert [[cell["verdict"] for cell in row["cells"]] for row in table["rows"]] == [
        ["better", "worse"],
        ["even", "even"],
    ]
    assert table["rows"][0]["cells"][0] == {"value": "0.5", "interval": "0.4 to 0.6", "verdict": "better"}
    wide = ratio_table([("image: a", "ttft", Ratio(2.0, 1e-9, 1e9, 2))])
    assert wide["rows"][0]["cells"][0]["interval"] == "too few rounds to tell"


def test_the_roofline_says_the_limit_before_and_the_share_after():
    facts = {"machine": {"memory_bandwidth_gbs": 100.0}, "model": {"bytes_per_token": 10**9}}
    assert "at most 100 tok/s" in roofline(facts, {})["words"]
    measured = {"decode_tps": 40.0, "bytes_per_token": 10**9, "bandwidth_gbs": 100.0, "limit_tps": 100.0, "share": 0.4}
    assert roofline(facts, measured)["number"] == "40 %" and roofline(facts, measured)["share"] == 0.4
    assert roofline({"machine": {"memory_bandwidth_gbs": None}}, {}) == {}


def test_time_left_is_not_more_exact_than_it_is():
    assert [results.remaining_words(s) for s in (None, 2, 17, 200)] == [
        "",
        "a few seconds left",
        "about 15 s left",
        "about 3 min left",
    ]


def test_a_kept_run_in_the_list():
    one = StoredRun("before", "2026-01-02T03:04:05+00:00", ("image",), ("engine",), "demo", "M4", 4, True, True)
    assert results.entry(one) == "2026-01-02 03:04 · image · demo · M4 · stopped early"
