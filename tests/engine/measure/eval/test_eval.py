"""vllm-mlx eval gsm8k: against a scripted server that is right, wrong, busy or gone; stopped and gone on with; and on
the embedded model, whose answers are whatever they are."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from engine import cli
from engine.errors import BadRequest, Unavailable
from engine.measure.eval import gsm8k
from engine.measure.eval.run import EvalSettings, GradedAnswer, Results, evaluate, summary
from engine.measure.eval.sources import EngineSource, HttpSource

ROOT = Path(__file__).resolve().parents[4]
SETTINGS = EvalSettings("someone", "digest", 5, 64, 0.0)
SAMPLE = gsm8k.sample()


@dataclass
class Scripted:
    """A chat completions server with a list of what it answers, by question. Counts who is there at once."""

    script: dict[int, str]
    asked: Counter[int] = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    busy_once: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    delay_s: float = 0.02
    now: int = 0
    most: int = 0

    async def chat(self, request: Request) -> JSONResponse:
        body = await request.json()
        self.bodies.append(body)
        text = body["messages"][-1]["content"]
        index = next(i for i, q in enumerate(SAMPLE) if text.endswith(f"Question: {q.question}\nAnswer:"))
        self.asked[index] += 1
        if index in self.busy_once and self.asked[index] == 1:
            return JSONResponse({"error": {"message": "full"}}, status_code=429, headers={"Retry-After": "0"})
        if index in self.refused:
            return JSONResponse({"error": {"message": "too long for me"}}, status_code=400)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(self.delay_s)
        self.now -= 1
        choice = {"index": 0, "message": {"role": "assistant", "content": self.script[index]}, "finish_reason": "stop"}
        return JSONResponse({"choices": [choice], "usage": {"completion_tokens": 7}})

    async def models(self, request: Request) -> JSONResponse:
        return JSONResponse({"object": "list", "data": [{"id": "scripted"}]})

    def app(self) -> Starlette:
        return Starlette(
            routes=[Route("/v1/chat/completions", self.chat, methods=["POST"]), Route("/v1/models", self.models)]
        )


def half_right() -> dict[int, str]:
    """Even questions right, each in another way of writing it; odd ones wrong."""
    ways = ("#### {}", "That makes {} in all.", "**${}.00**")
    return {
        i: ways[i % 3].format(q.number) if i % 2 == 0 and q.number == int(q.number) else f"{q.number + 1}"
        for i, q in enumerate(SAMPLE)
    }


RIGHT = sum(i % 2 == 0 and q.number == int(q.number) for i, q in enumerate(SAMPLE))


async def run(url: str, results: Results, *, questions: int = 20, concurrency: int = 4) -> Results:
    source = HttpSource(url + "/v1")
    await source.open()
    try:
        await evaluate(source, SAMPLE[:questions], results, concurrency, lambda _: None)
    finally:
        await source.close()
    return results


async def test_right_and_wrong_are_counted(serve: Callable[..., Any]) -> None:
    server = Scripted(half_right())
    with serve(server.app()) as url:
        results = await run(url, Results(SETTINGS), concurrency=4)
    found = summary(list(results.answers.values()))
    assert found["questions"] == 20 and found["right"] == RIGHT and found["accuracy"] == RIGHT / 20
    assert found["stderr"] == pytest.approx((found["accuracy"] * (1 - found["accuracy"]) / 20) ** 0.5)
    assert found["failed"] == found["no_number"] == 0 and found["completion_tokens"] == 140
    assert 2 <= server.most <= 4, "concurrency"
    assert set(server.asked.values()) == {1}, "no question twice"
    body = server.bodies[0]
    assert body["model"] == "scripted" and body["temperature"] == 0 and body["stop"] == ["Question:"]
    assert body["messages"][0]["content"].count("Question: ") == 6 and body["max_tokens"] == 64


async def test_one_at_a_time_is_one_at_a_time(serve: Callable[..., Any]) -> None:
    server = Scripted(half_right())
    with serve(server.app()) as url:
        await run(url, Results(SETTINGS), questions=4, concurrency=1)
    assert server.most == 1


async def test_a_busy_server_is_asked_again_and_a_refusal_is_kept(serve: Callable[..., Any], tmp_path: Path) -> None:
    server = Scripted(half_right(), busy_once={0, 3}, refused={2})
    file = tmp_path / "out.json"
    with serve(server.app()) as url:
        results = await run(url, Results(SETTINGS, file))
        assert results.answers[0].is_right and server.asked[0] == server.asked[3] == 2
        assert "too long for me" in str(results.answers[2].error) and not results.answers[2].is_right
        written = json.loads(file.read_text())
        assert written["summary"]["failed"] == 1 and written["summary"]["right"] == RIGHT - 1
        server.refused.clear()
        again = Results(SETTINGS, file)
        assert again.load() == 19, "what failed is asked again"
        await run(url, again)
    assert again.answers[2].is_right and server.asked[2] == 2 and server.asked[5] == 1


async def test_a_run_goes_on_where_it_was_stopped(serve: Callable[..., Any], tmp_path: Path) -> None:
    server, file = Scripted(half_right()), tmp_path / "out.json"
    with serve(server.app()) as url:
        first = Results(SETTINGS, file)
        running = asyncio.create_task(run(url, first, concurrency=2))
        while len(first.answers) < 5:
            await asyncio.sleep(0.005)
        running.cancel()  # as Ctrl-C does
        await asyncio.gather(running, return_exceptions=True)
        kept = {answer["index"] for answer in json.loads(file.read_text())["answers"]}
        assert kept == set(first.answers) and 5 <= len(kept) < 20
        before = Counter(server.asked)
        second = Results(SETTINGS, file)
        assert second.load() == len(kept)
        await run(url, second)
    assert summary(list(second.answers.values()))["right"] == RIGHT
    assert all(server.asked[index] == before[index] for index in kept), "what is known is not asked again"
    assert not list(tmp_path.glob("*.part"))


def test_another_runs_file_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    Results(SETTINGS, file, {0: GradedAnswer(0, "2", "2", "2", True)}).save()
    before = file.read_text()
    with pytest.raises(BadRequest, match=r"max_tokens \(64, now 32\)"):
        Results(EvalSettings("someone", "digest", 5, 32, 0.0), file).load()
    file.with_name("notes.json").write_text('{"mine": 1}')
    with pytest.raises(BadRequest, match="not a result"):
        Results(SETTINGS, file.with_name("notes.json")).load()
    assert file.read_text() == before


async def test_a_server_that_is_gone_ends_the_run_and_keeps_it(serve: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    with serve(Scripted(half_right()).app()) as url:
        source = HttpSource(url + "/v1", model="x")
        await evaluate(source, SAMPLE[:3], Results(SETTINGS, file), 2, lambda _: None)
    results = Results(SETTINGS, file)
    results.load()
    with pytest.raises(Unavailable, match="cannot be reached"):
        await evaluate(source, SAMPLE, results, 2, lambda _: None)
    assert len(json.loads(file.read_text())["answers"]) == 3
    await source.close()


async def test_the_engine_and_its_port_give_the_same_answers(demo_engine: Any, demo_server: Any) -> None:
    """The same greedy questions in process and over /v1: text for text."""
    await demo_engine.ready()
    direct, served = Results(SETTINGS), Results(SETTINGS)
    await evaluate(EngineSource(demo_engine, "demo"), SAMPLE[:3], direct, 3, lambda _: None)
    await run(demo_server.url, served, questions=3, concurrency=3)
    assert direct.answers == served.answers and all(a.completion_tokens for a in direct.answers.values())


def test_the_command_on_the_embedded_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    line = ["eval", "gsm8k", "--sample", "--num-questions", "2", "--max-tokens", "8", "--output", str(out)]
    assert cli.main(line) == 0
    said, written = capsys.readouterr().out, json.loads(out.read_text())
    assert "of 2 right" in said and "standard error" in said
    assert written["settings"]["num_shots"] == 5 and len(written["answers"]) == 2
    assert all(0 < answer["completion_tokens"] <= 8 for answer in written["answers"])
    assert cli.main([*line, "--num-shots", "1"]) == 1, "another run's file"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_what_was_answered(serve: Callable[..., Any], tmp_path: Path, how: signal.Signals) -> None:
    out = tmp_path / "out.json"
    with serve(Scripted(half_right(), delay_s=0.3).app()) as url:
        line = ["eval", "gsm8k", "--sample", "--base-url", url + "/v1", "--concurrency", "1", "--output", str(out)]
        process = subprocess.Popen(
            [sys.executable, "-m", "engine", *line], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 60
        while not out.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(how)
        said, errors = process.communicate(timeout=30)
    kept = json.loads(out.read_text())
    assert process.returncode == 0 and "Traceback" not in errors, errors
    assert 1 <= len(kept["answers"]) < 20 and f"{kept['summary']['right']} of {len(kept['answers'])} right" in said


def test_wrong_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (
        ["--file", "x", "--sample"],
        ["--base-url", "http://x/v1", "--port", "1"],
        ["--num-shots", "6"],
        ["--output", str(tmp_path / "no" / "out.json")],
    ):
        with pytest.raises(SystemExit):
            cli.main(["eval", "gsm8k", *wrong])
    assert cli.main(["eval", "gsm8k", "--file", str(tmp_path / "none.jsonl")]) == 1
    assert cli.main(["eval", "gsm8k", "--sample", "--port", "9"]) == 1
    assert "cannot be reached" in capsys.readouterr().err
