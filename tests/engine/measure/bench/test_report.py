"""What the command prints of a run: what was measured where, its sums, and goals only where they are meant."""

from __future__ import annotations

from dataclasses import replace

from engine.measure.bench.plan import BenchSettings, Case, Fact
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
    assert said.startswith("model: tiny (qwen3, 3 MiB of weights, 01234567)\nmachine: M4, 10 cores, 8 GPU cores, 16 GB")
    assert "versions: mlx 1.2" in said
    assert "machine:" not in table(run()), "of a server elsewhere nothing is known"


def test_the_sums_and_the_throughputs() -> None:
    assert (
        "sum of a: 4 answers in 3.50 s; 200 prompt tokens (0 cached), 44 answer tokens; output throughput 12.6 tok/s, "
        "total throughput (prompt and answer) 69.7 tok/s"
    ) in table(run())


def test_the_summary_has_the_average_the_fastest_and_the_slowest() -> None:
    lines = table(run()).splitlines()
    head = next(i for i, line in enumerate(lines) if "fastest" in line)
    assert lines[head + 1].split()[-6:] == ["312", "250", "500", "7.67", "8.00", "6.67"]


def test_goals_are_told_in_the_suite_of_peers_only() -> None:
    assert "goal" not in table(run()) and "2" in table(run())
    said = table(run(suites=("concurrency", "peers")))
    assert "MISSED, goal at least 15" in said and "MISSED, goal at most 2" in said
