"""vllm-mlx-bench end to end on the demo model."""

from __future__ import annotations

import csv
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.cli import bench
from engine.measure.bench.servers import ServerProcess


def test_the_quick_picture_suite(demo_server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON keys, four resolutions, right answers, a canary that passed."""
    file = tmp_path / "out.json"
    line = f"--base-url {demo_server.url} --quick --prompts 2 --mllm --temperature 0 --output {file}"
    assert bench(line.split()) == 0
    said = capsys.readouterr().out
    assert "TTFT" in said and "picture of 1024 × 1024" in said and "CANARY" not in said
    written = json.loads(file.read_text())
    assert {"ttft", "tpot", "canary", "machine", "settings", "load"} <= written.keys()
    assert written["ttft"]["n"] == 8 and written["ttft"]["p99"] >= written["ttft"]["median"] > 0
    assert written["canary"]["ok"] is True and written["machine"]["chip_name"] and written["versions"]["mlx"]
    assert [point["case"] for point in written["points"]] == ["224x224", "448x448", "768x768", "1024x1024"]
    for point in written["points"]:
        assert point["right"] == 1.0, point["case"]
        assert point["ttft"]["n"] == 2 and point["canary"]["ok"] and point["cached_tokens"] < point["prompt_tokens"] / 2
        assert point["labels"]["pixels"] == point["labels"]["width"] * point["labels"]["height"]


def test_csv_has_a_row_for_each_answer(demo_server: Any, tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    line = f"--base-url {demo_server.url} --suite text --prompts 3 --prompt-words 5 --max-tokens 6 --output {file}"
    assert bench(line.split()) == 0
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 3 and {row["suite"] for row in rows} == {"text"} and {row["words"] for row in rows} == {"5"}
    assert all(float(row["ttft_s"]) > 0 and int(row["completion_tokens"]) <= 6 for row in rows)


def test_two_results_side_by_side(demo_server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        line = f"--base-url {demo_server.url} --suite text --prompts 3 --prompt-words 5 --max-tokens 6"
        assert bench([*line.split(), "--output", str(tmp_path / f"{name}.json")]) == 0
    capsys.readouterr()
    assert bench(["--compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    said = capsys.readouterr().out
    assert "text: 5 words" in said and "TTFT" in said and "interval" in said


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("--base-url http://127.0.0.1:1 --suite text", "cannot be reached"),
        ("--output out.txt", "must end in .json, .csv or .parquet"),
        ("--output /nowhere/out.json", "there is no folder"),
        ("--compare /nowhere/a.json /nowhere/b.json", "There is no kept run"),
        ("--base-url http://127.0.0.1:1 --suite image --case 3x3", "There is no case 3x3. There are: 224x224"),
        ("--base-url http://127.0.0.1:1 --video-path /nowhere.mp4", "there is no file"),
        ("--base-url http://127.0.0.1:1 --vs what", "needs the model's folder"),
        ("--base-url http://127.0.0.1:1 --model . --vs what", "it must be mlx_lm, mlx_vlm, mlx_lm.server"),
        ("--suite startup --base-url http://127.0.0.1:1", "starts servers itself"),
        ("--suite peers --base-url http://127.0.0.1:1", "name them with --vs"),
        ("--vs serve --vs mlx_lm", "--vs serve is held against the engine in this process"),
        ("--vs serve --suite startup", "--vs serve is held against the engine in this process"),
        ("--vs serve --suite speculation", "none of the suites peers, speculation, startup"),
        ("--vs mlx_lm --adapter-path .", "--vs compares without an adapter"),
        ("--base-url http://127.0.0.1:1 --max-num-seqs 3 --top-k 5", "--max-num-seqs, --top-k: a server of --base-url"),
        ("--base-url http://127.0.0.1:1 --allow-private-urls", "--allow-private-urls: a server of --base-url"),
        ("--api-key sk-x", "--api-key: it is the key of --base-url"),
        ("--suite image --prompt-words 9", "--prompt-words: it is the length of --suite text's"),
        ("--mllm --prompt-words 9", "--prompt-words: it is the length of --suite text's"),
        ("--compare a.json b.json --suite image", "--suite: --compare measures nothing"),
        ("--runs --prompts 3 --max-tokens 9", "--max-tokens, --prompts: --runs measures nothing"),
    ],
)
def test_what_cannot_be_done_is_said(line: str, error: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(line.split()) == 1
    said = capsys.readouterr().err
    assert error in said and said.splitlines()[-1].startswith("error: ")


def test_the_server_against_the_engine_in_this_process(tmp_path: Path) -> None:
    """Both give the same answers; one line for each metric says what HTTP costs."""
    file = tmp_path / "out.json"
    line = f"--suite image --case 224x224 --prompts 2 --warmup 0 --max-tokens 8 --temperature 0 --output {file}"
    assert bench([*line.split(), "--vs", "serve"]) == 0
    written = json.loads(file.read_text())
    assert written["targets"] == ["engine", "serve"] and written["canary"]["ok"] is True
    assert {(one["over"], one["under"]) for one in written["compared"]} == {("serve", "engine")}
    assert {"ttft", "generation_tps"} <= {one["metric"] for one in written["compared"]}
    engine, serve = written["points"]
    texts = [[[sample["text_sha256"] for sample in samples] for samples in one["rounds"]] for one in (engine, serve)]
    assert texts[0] == texts[1]
    assert engine["prompt_tokens"] == serve["prompt_tokens"] and engine["answers"] == serve["answers"] == 2


def test_side_by_side_with_another_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The suite `peers` against a twin: every row is there, start-up is of new processes, memory is known."""
    file = tmp_path / "out.json"
    begun: list[int | None] = []
    start = ServerProcess.start

    async def noted(process: ServerProcess) -> None:
        await start(process)
        begun.append(process.pid)

    monkeypatch.setattr(ServerProcess, "start", noted)
    twin = f"{shlex.quote(sys.executable)} -m engine serve --port {{port}} --model {{model}}"
    line = f"--suite peers --prompts 1 --warmup 0 --max-tokens 8 --temperature 0 --output {file}"
    assert bench([*line.split(), "--vs", f"twin={twin}"]) == 0
    said = capsys.readouterr().out
    assert "times as good as they" in said and "error:" not in said and "CANARY" not in said
    written = json.loads(file.read_text())
    assert written["targets"] == ["workbench", "twin"] and written["canary"]["ok"] is True
    told = {(one["case"], one["metric"]) for one in written["compared"]}
    assert {metric for _, metric in told} == {"generation_tps", "ttft", "total_tps", "memory"} and len(told) == 9
    by_case = {point["case"]: point for point in written["points"] if point["target"] == "twin"}
    started = by_case["process start to first token"]
    assert started["ttft"]["median"] > by_case["one stream, text of 64 words"]["ttft"]["median"]
    assert len(set(begun)) == 4, "each of the two is a server, and a new process for its start"
    warm = by_case["a picture of 448x448, asked about again"]
    assert warm["cached_tokens"] > warm["prompt_tokens"] / 2
    streams = by_case["16 streams, every second with a picture"]
    assert streams["answers"] == 16 and streams["memory"]["median"] > 100
