"""A run as a data frame and as Parquet: the numbers of its JSON, and the JSON again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from engine.cli import bench
from engine.errors import BadRequest
from engine.measure.bench import files
from engine.measure.bench.plan import BenchSettings, Case
from engine.measure.bench.result import Point, Result
from engine.measure.bench.run import Run
from engine.measure.bench.samples import SeenMedia
from engine.measure.bench.store import Store
from tests.engine.measure.bench.builders import RecordingTarget, sample, words_suite


def told() -> Result:
    """Two cases with different labels, a round that failed, and values that are not known."""
    seen = (SeenMedia("image", 64, (224, 224)),)
    whole = replace(sample(0.125, right=True, process_bytes=2**33 + 1), seen=seen, logprobs=((7, -0.5),))
    bare = sample(0.25, tokens=1, cached_tokens=None)
    points = (
        Point(Case("image", "a", (("pixels", 50176),)), "a", ((whole,), (), (bare,))),
        Point(Case("text", "b", (("words", 4),)), "a", ((bare, bare),), noise=("loud",)),
    )
    return Result(("image", "text"), "2026-01-01T00:00:00+00:00", BenchSettings(prompts=3), ("a",), points=points)


def plain(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(result.json()))
    return found


def test_a_frame_has_a_row_for_each_answer() -> None:
    frame = told().to_frame()
    assert list(frame["case"]) == ["a", "a", "b", "b"] and list(frame["round"]) == [0, 2, 0, 0]
    assert list(frame["ttft_s"]) == [0.125, 0.25, 0.25, 0.25]
    assert frame["process_bytes"][0] == 2**33 + 1 and frame["cached_tokens"].isna().tolist() == [
        False,
        True,
        True,
        True,
    ]
    assert frame["right"][0] and pd.isna(frame["right"][1]) and pd.isna(frame["tpot_s"][1])
    assert list(frame["noisy"]) == [False, False, True, True] and frame["words"].tolist()[2:] == [4, 4]
    per_case = frame.groupby("case")["ttft_s"].median() * 1e3
    assert per_case.to_dict() == {point["case"]: point["ttft"]["median"] for point in plain(told())["points"]}


def test_parquet_gives_the_run_back(tmp_path: Path) -> None:
    file = tmp_path / "run.parquet"
    files.write(told(), file)
    assert files.read(file) == plain(told())
    other = plain(told())
    other["points"][0]["rounds"][0][0]["ttft_s"] = 9.0
    assert files.read(file) != other, "the twin: another answer is another run"
    notebook = pd.read_parquet(file)
    assert list(notebook["ttft_s"]) == list(told().to_frame()["ttft_s"])


async def test_the_command_compares_parquet_with_a_kept_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    for name, ttft_s in (("a", 0.1), ("b", 0.2)):
        run = Run([words_suite()], [RecordingTarget("a", [], (ttft_s,))], BenchSettings(prompts=3, warmup=0))
        async for _ in run.events():
            pass
        files.write(run.result(), tmp_path / f"{name}.parquet")
        Store().save(name, run.result())
    assert bench(["--compare", "a", "b"]) == 0
    kept = capsys.readouterr().out
    assert bench(["--compare", str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]) == 0
    assert capsys.readouterr().out == kept and "2.000" in kept


def test_what_is_no_run_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("no Parquet")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    for name in ("text.parquet", "other.parquet"):
        with pytest.raises(BadRequest, match="is not Parquet that vllm-mlx-bench wrote"):
            files.read(tmp_path / name)
    newer = tmp_path / "newer.json"
    newer.write_text(json.dumps({**plain(told()), "format": 2}))
    with pytest.raises(BadRequest, match="has the format 2; this version reads format 1"):
        files.read(newer)
    older = plain(told())
    del older["format"]
    newer.write_text(json.dumps(older))
    assert files.read(newer) == older, "files from before there were formats"
