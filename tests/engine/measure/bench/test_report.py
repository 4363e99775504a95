"""What the command prints of a run: what was measured where, its sums, and goals only where they are meant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.measure.bench import compare
from engine.measure.bench.plan import BenchSettings, Case, Fact, Group, case_words, select_groups
from engine.measure.bench.report import table
from engine.measure.bench.result import Comparison, Point, Result
from engine.measure.bench.stats import Ratio
from tests.engine.measure.bench.builders import sample

MACHINE = {
    "chip_name": "M4", "num_cores": 10, "gpu_cores": 8, "total_memory_gb": 16.0, "mlx_device": "GPU", "os": "macOS 26",
}  # fmt: skip
MODEL = {"name": "tiny", "model_type": "qwen3", "hash": "0123456789abcdef", "num_bytes": 3 * 2**20}


def run(**more: object) -> Result:
    """Two rounds of two answers at once: 50 prompt and 11 answer tokens each, over 2 s and 1.5 s."""
    one, two = sample(0.5, 1.5), sample(0.25, 1.25)
    points = (Point(Case("concurrency", "2 streams"), "a", ((one, two), (two, two))),)
    goal = Comparison("first token: cold / warm", "ttft", "a", "cold", "warm", Ratio(2.0, None, None, 1), goal=15.0)
    fact = Fact("chunks waited", 3.0, "chunks", 2.0, at_most=True)
    result = Result(
        ("concurrency",), "2026-01-01", BenchSettings(), ("a",), points=points, compared=(goal,), facts=(("a", fact),)
    )
    return replace(result, **more)  # type: ignore[arg-type]


def test_it_says_which_model_on_which_machine() -> None:
    said = table(run(machine=MACHINE, model=MODEL, versions={"mlx": "1.2"}))
    assert said.startswith(
        "model: tiny (qwen3, 3 MiB of weights, 01234567)\nmachine: M4, 10 cores, 8 GPU cores, 16 GiB,"
    )
    assert "versions: mlx 1.2" in said
    assert "cores, 15.6 GiB," in table(run(machine=MACHINE | {"gpu_cores": None, "total_memory_gb": 15.6}))
    assert "machine:" not in table(run()), "of a server elsewhere nothing is known"


def test_the_sums_and_the_throughputs() -> None:
    assert (
        "sum of a: 4 answers in 3.50 s; 200 prompt tokens (0 cached), 44 answer tokens; output throughput 12.6 tok/s, "
        "total throughput (prompt and answer) 69.7 tok/s"
    ) in table(run())


def test_a_picture_is_told_as_one_and_kept_runs_are_compared_by_its_name() -> None:
    """A run of before, and its table, are those of now: what is stored is "224x224"."""
    point = Point(Case("image", "224x224"), "a", ((sample(0.5), sample(0.25)),), errors=("It broke.",))
    result = run(points=(point,))
    said = table(result)
    assert "picture of 224 × 224" in said and "224x224" not in said
    assert "error: picture of 224 × 224 of a: It broke." in said
    kept = result.json()
    assert [one["case"] for one in kept["points"]] == ["224x224"]
    assert "image: picture of 224 × 224  TTFT" in compare.table(kept, kept)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("1920x1080", "picture of 1920 × 1080"),
        ("miss, picture of 448x448", "miss, picture of 448 × 448"),
        ("448x448 picture, cold", "448 × 448 picture, cold"),
        ("4 frames @ 1 fps", "4 frames @ 1 fps"),
        ("exact repeat", "exact repeat"),
        ("", ""),
    ],
)
def test_a_cases_words(name: str, words: str) -> None:
    assert case_words(name) == words
    group = Group((Case("image", name),), lambda number: ())
    assert select_groups([group], [words]) == select_groups([group], [name]) == [group], "--case takes both"


def test_the_summary_has_the_average_the_fastest_and_the_slowest() -> None:
    lines = table(run()).splitlines()
    head = next(i for i, line in enumerate(lines) if "fastest" in line)
    assert lines[head + 1].split()[-6:] == ["312", "250", "500", "7.67", "8.00", "6.67"]


def test_goals_are_told_in_the_suite_of_peers_only() -> None:
    assert "goal" not in table(run()) and "2" in table(run())
    said = table(run(suites=("concurrency", "peers")))
    assert "MISSED, goal at least 15" in said and "MISSED, goal at most 2" in said
