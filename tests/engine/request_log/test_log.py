"""The log on a real engine: what is kept of each request, how much, and for how long."""

from __future__ import annotations

import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from engine.access.visibility import Caller
from engine.config import LogLimits, MediaLimits
from engine.errors import BadMedia, EngineError
from engine.request_log import form
from engine.request_log.log import RequestLog
from engine.types import Message, Part, Request, Sampling, StageClock
from tests import pictures
from tests.waiting import wait_until

ME = Caller()


def asking(text: str, *media: Part, **more: Any) -> Request:
    parts = (*media, Part("text", text=text))
    return Request(messages=(Message("user", parts),), max_tokens=8, sampling=Sampling(temperature=0.0), **more)


def picture(url: str | None = None, **more: Any) -> Part:
    return Part("image", url=url or pictures.picture_url(), param="messages[0].content[0]", **more)


async def test_a_request_is_kept_with_all_that_is_known_of_it(demo_engine: Any) -> None:
    completion = await demo_engine.complete(asking("What is it?", picture(), id="kept-1", logprobs=2))
    record = demo_engine.requests.find("kept-1")
    whole = await demo_engine.logged(record, ME)
    assert whole["status"] == "finished" and whole["model"] == "demo" and whole["source"] == "api"
    assert whole["answer"][0]["text"] == completion.text and whole["parameters"]["temperature"] == 0.0
    tokens = whole["answer"][0]["tokens"]
    assert [token["id"] for token in tokens] == list(completion.token_ids) and len(tokens[0]["top"]) == 2
    assert tokens[0]["text"] and tokens[0]["logprob"] == pytest.approx(completion.tokens[0].logprob, abs=1e-4)
    assert whole["usage"]["prompt_tokens"] == completion.done.usage.prompt_tokens
    assert whole["receipts"][0]["sha256"] == completion.done.media[0].sha256
    medium = whole["messages"][0]["content"][0]
    assert medium["media"]["media_type"] == "image/png" and "url" not in medium
    assert pictures.picture_url()[30:90] not in json.dumps(whole)


async def test_the_first_tokens_parts_sum_to_its_time(demo_engine: Any) -> None:
    completion = await demo_engine.complete(asking("Where does the time go?", picture(pictures.picture_url("blue"))))
    record = max(demo_engine.requests.records(), key=lambda record: record.changed)
    whole = await demo_engine.logged(record, ME)
    sums_to_the_measured_time(whole, completion.done.timing.ttft_ms)
    total_ms = pytest.approx(completion.done.timing.total_ms, abs=0.01)
    assert whole["total_ms"] == total_ms and sum(span["ms"] for span in whole["stages"]) == total_ms
    assert {"media", "queue", "prompt", "encode", "prefill"} <= {part["stage"] for part in whole["first_token"]}


def sums_to_the_measured_time(whole: Any, ttft_ms: float) -> None:
    parts = whole["first_token"]
    assert all(part["ms"] >= 0 for part in parts)
    assert sum(part["ms"] for part in parts) == pytest.approx(ttft_ms, rel=0.02), "the parts are not the whole"
    assert sum(part["share"] for part in parts) == pytest.approx(1, abs=0.001)


async def test_sabotage_a_lost_stage_is_seen(demo_engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = form.first_token
    monkeypatch.setattr(form, "first_token", lambda record: [p for p in real(record) if p.step != "prefill"])
    completion = await demo_engine.complete(asking("What does a lost stage do to the sum?"))
    record = max(demo_engine.requests.records(), key=lambda record: record.changed)
    whole = await demo_engine.logged(record, ME)
    with pytest.raises(AssertionError, match="the parts are not the whole"):
        sums_to_the_measured_time(whole, completion.done.timing.ttft_ms)


async def test_an_error_is_kept_with_its_cause(demo_engine: Any) -> None:
    with pytest.raises(BadMedia):
        await demo_engine.complete(asking("?", picture("data:image/png;base64,AAAA!"), id="failed-1"))
    whole = await demo_engine.logged(demo_engine.requests.find("failed-1"), ME)
    assert whole["status"] == "failed" and whole["failure"]["code"] == "invalid_media"
    assert whole["failure"]["param"] == "messages[0].content[0]" and "Error" in whole["failure"]["causes"][0]
    guest = await demo_engine.logged(demo_engine.requests.find("failed-1"), Caller("me", operator=False))
    assert guest["failure"]["causes"] == []


async def test_one_that_is_given_up_is_cancelled_with_what_it_had_said(demo_engine: Any) -> None:
    async with aclosing(demo_engine.stream(asking("Count.", id="gone-1", ignore_eos=True))) as events:
        first = await anext(events)
        running = demo_engine.requests.find("gone-1")
        assert running.status == "running" and running.answer()[0].text == first.text
    whole = await demo_engine.logged(demo_engine.requests.find("gone-1"), ME)
    assert whole["status"] == "cancelled" and whole["completion_tokens"] >= 1


async def test_ids_that_repeat_are_told_apart(demo_engine: Any) -> None:
    for text in ("One?", "Two?"):
        await demo_engine.complete(asking(text, id="twice"))
    one, two = (demo_engine.requests.find(id) for id in ("twice", "twice.2"))
    assert one.request.messages != two.request.messages


async def test_a_replay_is_in_no_list(demo_engine: Any) -> None:
    await demo_engine.complete(asking("Is a replay listed?", source="replay", id="replay-1"))
    assert not demo_engine.requests.has("replay-1")


def log_of(num_requests: int = 3, **limits: Any) -> RequestLog:
    return RequestLog(LogLimits(num_requests, **limits), MediaLimits())


def run(log: RequestLog, request: Request, error: EngineError | None = None) -> None:
    try:
        with log.open(request, StageClock()):
            if error is not None:
                raise error
    except EngineError:
        pass


def test_the_last_n_are_kept_and_what_runs_beside_them() -> None:
    log = log_of()
    with log.open(Request(id="runs"), StageClock()):
        for number in range(5):
            run(log, Request(id=f"r{number}"))
        assert {record.id for record in log.records()} == {"runs", "r2", "r3", "r4"}
    assert {record.id for record in log.records()} == {"runs", "r3", "r4"}


def test_nothing_is_kept_where_it_is_off() -> None:
    log = log_of(0)
    run(log, Request(id="r"))
    assert log.records() == [] and not log.is_on


def test_it_is_bounded_in_bytes_and_large_media_leave_their_request() -> None:
    log = log_of(100, max_bytes=4 * 1024**2)
    run(log, asking("large", picture("data:image/png;base64," + "A" * 3_000_000), id="large"))
    record = log.find("large")
    assert record.is_cut and record.num_bytes < 100_000 and log.content(record, record.request.media_parts[0]) is None
    for number in range(100):
        run(log, asking("x" * 50_000, id=f"long{number}"))
    kept = log.records()
    assert sum(record.num_bytes for record in kept) < 4 * 1024**2 and 5 < len(kept) < 100
    assert kept[0].id == "long99"


def test_the_file_has_a_line_for_each_and_the_media_by_hash(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "requests.jsonl"
    log = log_of(file=path)
    log.hide(("own-secret-key",))
    part = picture("https://user:pw@h/a.png?signature=own-signature")
    request = asking("my own-secret-key and sk-abcdefghijklmnopqrstu", part, picture(), id="written")
    with log.open(request, StageClock()):
        log.fetched(request, part, b"\x89PNG\r\n\x1a\nfetched")
    run(log, Request(id="bad", prompt="hi"), BadMedia("it is wrong"))
    log.close()
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert first["id"] == "written" and second["failure"]["message"] == "it is wrong"
    media = {file.name for file in (tmp_path / "logs" / "requests.jsonl.media").iterdir()}
    assert {part["media"]["sha256"] for part in first["messages"][0]["content"] if "media" in part} == media
    assert len(media) == 2
    text = path.read_text()
    assert not [secret for secret in ("own-secret-key", "sk-abc", "pw@", "own-signature") if secret in text]
    assert path.stat().st_mode & 0o077 == 0


def test_the_file_is_rotated_and_media_without_a_line_go(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    log = log_of(file=path, max_file_bytes=6000, num_files=2)
    for number in range(12):
        run(log, asking("x" * 500, picture(pictures.picture_url(size=(10 + number, 10))), id=f"r{number}"))
    log.close()
    files = sorted(tmp_path.glob("requests.jsonl*"))
    assert [file.name for file in files] == ["requests.jsonl", "requests.jsonl.1", "requests.jsonl.media"]
    lines = [json.loads(line) for file in reversed(files[:2]) for line in file.read_text().splitlines()]
    assert lines[-1]["id"] == "r11" and len(lines) < 12
    named = {part["media"]["sha256"] for line in lines for part in line["messages"][0]["content"] if "media" in part}
    assert named == {file.name for file in files[2].iterdir()}


def test_a_disk_that_fails_costs_no_request(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = log_of(file=tmp_path / "file" / "below.jsonl")
    run(log, Request(id="r"))
    wait_until(lambda: not log._running)
    assert log.find("r").has_ended
    log.close()
