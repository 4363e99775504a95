"""Every target gives true counts; libraries, servers that run and servers that are started say the same."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.errors import BadRequest, Unavailable
from engine.measure.bench import decisions
from engine.measure.bench.peers import load
from engine.measure.bench.questions import PastTurn, Question, picture, scene
from engine.measure.bench.remote import LOOPED, HttpTarget, Server, decisions_body, http_body, process_bytes
from engine.measure.bench.servers import OURS, FreshTarget, ServerTarget, our_command
from engine.measure.bench.targets import EngineTarget
from engine.measure.openai_client import OpenAIClient

READING = Question("7 river stone light window garden", 8)
SEEING = replace(READING, text="What color is the circle?", media=(picture(scene((64, 48), "a")),), expect="a")

TALKING = replace(
    READING, earlier=(PastTurn("Look.", "Yes.", (picture(scene((64, 48), "b")),)), PastTurn("And?", "No."))
)


@pytest.mark.parametrize("question", [READING, SEEING, TALKING], ids=["text", "picture", "chat"])
async def test_engine_and_http_see_the_same(demo_server: Any, question: Question) -> None:
    direct = await EngineTarget(demo_server.engine).ask(question)
    for url in (demo_server.url, f"{demo_server.url}/v1/"):
        target = HttpTarget(url)
        asked = await target.ask(question)
        assert (asked.prompt_tokens, asked.completion_tokens) == (direct.prompt_tokens, direct.completion_tokens)
        assert asked.text_sha256 == direct.text_sha256 and asked.seen == direct.seen
        assert await target.predict(question) == await EngineTarget(demo_server.engine).predict(question)
        assert await target.has_vision()
        await target.close()
    assert direct.prompt_tokens > 6 and 1 <= direct.completion_tokens <= 8 and direct.cpu_s is not None
    assert 0 < direct.ttft_s <= direct.e2e_s and len(direct.itl_s) < direct.completion_tokens


async def test_questions_at_once_and_one_after_the_other(demo_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without /v1/decisions is asked a few of them, and the rest is taken to cost as much."""
    asked = replace(SEEING, text="", predicates=decisions.questions(20), expect="")
    direct = await EngineTarget(demo_server.engine).ask(asked)
    target = HttpTarget(demo_server.url)
    remote = await target.ask(asked)
    assert remote.prompt_tokens == direct.prompt_tokens > 100 and remote.seen == direct.seen
    posted: list[str] = []
    request = OpenAIClient.request

    async def counted(self: OpenAIClient, method: str, path: str, body: Any = None) -> Any:
        posted.append(path)
        return await request(self, method, path, body)

    async def missing(self: OpenAIClient, method: str, path: str, body: Any = None) -> Any:
        return {} if path == "/v1/decisions" else await request(self, method, path, body)

    monkeypatch.setattr(OpenAIClient, "request", counted)
    monkeypatch.setattr(OpenAIClient, "optional", missing)
    whole, each = await target.ask(asked), await target.ask(replace(asked, each=True))
    await target.close()
    assert posted.count("/v1/chat/completions") == 2 * LOOPED
    assert whole.e2e_s > 4 * each.e2e_s


def test_a_picture_s_limit_goes_with_it_whatever_is_asked() -> None:
    small = replace(SEEING.media[0], max_pixels=777)
    asked = replace(SEEING, media=(small, SEEING.media[0]), predicates=("Is it red?",))
    (decided,) = decisions_body(asked, "m")["input"]
    *chatted, _ = http_body(asked, "m")["messages"][-1]["content"]
    assert decided["content"] == chatted
    assert [part["image_url"].get("max_pixels") for part in chatted] == [777, None]


async def test_a_smaller_picture_is_smaller_for_questions_too(demo_server: Any) -> None:
    large = picture(scene((640, 480), "c"))
    asked = replace(SEEING, text="", media=(replace(large, max_pixels=96 * 96),), predicates=("Is it red?",), expect="")
    target = HttpTarget(demo_server.url)
    remote, direct = await target.ask(asked), await EngineTarget(demo_server.engine).ask(asked)
    whole = await target.ask(replace(asked, media=(large,)))
    await target.close()
    assert remote.seen == direct.seen and remote.seen != whole.seen


async def test_status(demo_server: Any) -> None:
    direct, remote = await EngineTarget(demo_server.engine).status(), await HttpTarget(demo_server.url).status()
    assert (remote.mlx_peak_bytes, remote.kv_bytes) == (direct.mlx_peak_bytes, direct.kv_bytes)
    assert direct.process_bytes and direct.num_requests is not None and direct.num_others == 0
    assert process_bytes(None) is None and process_bytes(2**30) is None


@pytest.mark.parametrize(("peer", "question"), [("mlx_lm", READING), ("mlx_vlm", replace(SEEING, expect=""))])
async def test_the_libraries_by_themselves_say_the_same(demo_engine: Any, peer: str, question: Question) -> None:
    card = await demo_engine.ready()
    ours, theirs = await EngineTarget(demo_engine).ask(question), await load(peer, card.path).ask(question)
    assert (ours.prompt_tokens, ours.text_sha256) == (theirs.prompt_tokens, theirs.text_sha256)


async def test_what_cannot_be_measured_is_said(demo_server: Any) -> None:
    with pytest.raises(BadRequest, match="cannot see"):
        await load("mlx_lm", str((await demo_server.engine.ready()).path)).ask(SEEING)
    with pytest.raises(BadRequest, match="single questions"):
        await load("mlx_lm", str((await demo_server.engine.ready()).path)).ask(TALKING)
    with pytest.raises(BadRequest, match="answered 400"):
        await HttpTarget(demo_server.url).ask(replace(READING, max_tokens=10**7))
    with pytest.raises(Unavailable, match="cannot be reached"):
        await HttpTarget("http://127.0.0.1:1").ask(READING)


async def test_a_server_as_a_child() -> None:
    """Started, asked, its memory known by its process, and gone afterwards."""
    target = await ServerTarget.open(OURS, our_command(["--model", "demo"]), "")
    try:
        sample = await target.ask(READING)
        pid = target.pid
        assert sample.completion_tokens >= 1 and sample.target == OURS and process_bytes(pid)
    finally:
        await target.close()
    assert process_bytes(pid) is None


async def test_a_server_that_runs_cannot_be_started() -> None:
    with pytest.raises(BadRequest, match="runs already"):
        await HttpTarget("http://127.0.0.1:1").ask(replace(READING, fresh=True))


async def test_start_up_is_counted() -> None:
    """From the start of the process: longer than Python and MLX take to be imported, and the server is gone."""
    target = FreshTarget(OURS, our_command(["--model", "demo"]), "")
    started_s = time.perf_counter()
    sample = await target.ask(READING)
    assert 0.3 < sample.ttft_s <= sample.e2e_s <= time.perf_counter() - started_s
    assert sample.started_s == pytest.approx(started_s, abs=0.5)


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (f"{sys.executable} -c 'raise SystemExit(\"no {{port}}\")'", r"ended \(1\): no \d+"),
        ("/nowhere/server --port {port}", "cannot be started"),
    ],
)
async def test_a_server_that_does_not_start_is_said(command: str, error: str) -> None:
    with pytest.raises(Unavailable, match=error):
        await ServerTarget.open("peer", command, "")
    with pytest.raises(BadRequest, match="is not a command"):
        await ServerTarget.open("peer", "serve {host} {port}", "")


def test_ctrl_c_keeps_what_was_measured(demo_server: Any, tmp_path: Path) -> None:
    """SIGINT after the second of a thousand answers: the table is printed and the file written."""
    file = tmp_path / "out.json"
    line = f"--base-url {demo_server.url} --suite text --warmup 0 --prompts 1000 --max-tokens 4 --output {file}"
    command = [sys.executable, "-c", "import sys; from engine.cli import bench; sys.exit(bench())", *line.split()]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stderr
    seen = ""
    while " 3 of 1000" not in seen:
        piece = running.stderr.read(1)
        assert piece, seen
        seen += piece
    running.send_signal(signal.SIGINT)
    said, errors = running.communicate(timeout=30)
    assert running.returncode == 0 and "stopped" in errors
    assert "TTFT" in said and "stopped before the end" in said
    written = json.loads(file.read_text())
    assert written["stopped"] is True and written["points"][0]["answers"] >= 2


def test_a_server_is_described() -> None:
    assert HttpTarget("http://localhost:9/v1/").name == "localhost:9"
    assert HttpTarget("http://localhost:9", Server(name="peer")).name == "peer"
