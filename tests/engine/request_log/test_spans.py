"""Requests as spans, as a collector reads them: names, times and parents are right, and nothing in them is a secret."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from engine.api.app import create_app
from engine.config import EngineConfig, LogLimits, MediaLimits, ModelSpec, ServerConfig
from engine.core import Engine
from engine.errors import BadMedia
from engine.request_log import otlp, spans
from engine.request_log.log import RequestLog
from engine.request_log.otlp import Failures, SpanExport, span_export
from engine.request_log.record import LoggedRequest
from engine.request_log.redact import Redactor
from engine.types import Part, Request, StageClock
from tests import pictures
from tests.engine.request_log.collector import Collector, attributes
from tests.engine.request_log.test_log import asking, run

PLANTED = "sk-planted-0123456789abcdef"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that the environment names."""
    with Collector() as made:
        names(made.url, monkeypatch)
        yield made


def names(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")


def exporting() -> SpanExport:
    made = span_export(LogLimits())
    assert made is not None
    return made


@pytest.fixture
def traced(demo_engine: Any, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The demo engine, whose requests go to the collector."""
    export = exporting()
    monkeypatch.setattr(demo_engine.requests, "_spans", export)
    yield demo_engine
    export.close()


async def test_a_request_is_a_span_with_one_of_each_stage_below_it(traced: Any, collector: Collector) -> None:
    picture = Part("image", url=pictures.picture_url("green"), param="image")
    began_ns = time.time_ns()
    completion = await traced.complete(asking("Which colour does a span have?", picture, id="spans-1"))
    whole, stages = collector.trace("spans-1")
    told, usage = attributes(whole.attributes), completion.done.usage
    assert whole.name == "chat demo" and not whole.parent_span_id and began_ns - 1e6 < whole.start_time_unix_nano
    assert told["gen_ai.operation.name"] == "chat" and told["gen_ai.provider.name"] == "mlx"
    assert told["gen_ai.request.model"] == told["gen_ai.response.model"] == "demo"
    assert told["gen_ai.request.max_tokens"] == 8 and told["gen_ai.request.temperature"] == 0.0
    assert told["gen_ai.usage.input_tokens"] == usage.prompt_tokens
    assert told["gen_ai.usage.output_tokens"] == usage.completion_tokens
    assert told.get("gen_ai.usage.cache_read.input_tokens", 0) == usage.cached_tokens
    assert told["gen_ai.usage.image.input_tokens"] == completion.done.media[0].tokens
    assert told["gen_ai.response.finish_reasons"] == [completion.done.finish_reason]
    assert told["gen_ai.response.time_to_first_chunk"] == pytest.approx(completion.done.timing.ttft_ms / 1e3, rel=0.02)
    assert {"media", "queue", "encode", "prefill", "decode"} <= {stage.name for stage in stages}
    fill_the_time(whole, stages)
    assert collector.paths[0] == "/v1/traces" and collector.resources()[0]["service.name"] == "vllm-mlx"


def fill_the_time(whole: Any, stages: list[Any]) -> None:
    """Stages touch, and the first and the last end where the request does."""
    ends = [whole.start_time_unix_nano, *(stage.end_time_unix_nano for stage in stages)]
    starts = [*(stage.start_time_unix_nano for stage in stages), whole.end_time_unix_nano]
    gaps_ms = [abs(end - start) / 1e6 for end, start in zip(ends, starts, strict=True)]
    assert max(gaps_ms) < 1, f"between stages is time of none: {gaps_ms}"


async def test_sabotage_a_stage_without_a_span_leaves_a_gap(
    traced: Any, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = StageClock.spans
    monkeypatch.setattr(StageClock, "spans", lambda self: tuple(s for s in real(self) if s.step != "decode"))
    await traced.complete(asking("What is a gap?", id="spans-2"))
    with pytest.raises(AssertionError, match="between stages is time of none"):
        fill_the_time(*collector.trace("spans-2"))


def test_turns_of_others_are_within_the_stage_that_they_interrupt() -> None:
    now = iter(range(100))
    clock = StageClock(accepted_s=0.0)
    for step in ("queue", "prefill", "turns", "prefill", "turns", "decode"):
        clock.enter(step, float(next(now)) + 1)  # type: ignore[arg-type]
    clock.end(9.0)
    record = LoggedRequest("r", Request(id="r"), clock)
    found = spans.stage_spans(record, accepted_ns=0)
    assert [span.name for span in found] == ["model", "queue", "prefill", "turns", "decode"]
    assert found[2].start_ns == 2e9 and found[2].end_ns == 5e9
    assert found[2].attributes == {"vllm_mlx.waited_ms": 1000.0}


@pytest.fixture
def ask(traced: Any, serve: Callable[..., Any]) -> Iterator[Callable[..., httpx.Response]]:
    """Asks the demo model over HTTP, with the planted key."""
    with serve(create_app(traced, ServerConfig(api_keys=(("me", PLANTED),)))) as url:

        def post(path: str, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
            headers = {"Authorization": f"Bearer {PLANTED}", **(headers or {})}
            return httpx.post(url + path, json={"model": "default", **body}, headers=headers, timeout=60)

        yield post


def test_the_callers_span_is_the_parent(ask: Callable[..., httpx.Response], collector: Collector) -> None:
    messages = [{"role": "user", "content": "Whose child am I?"}]
    answer = ask("/v1/chat/completions", {"traceparent": CALLER}, messages=messages, max_tokens=2)
    whole, stages = collector.trace(answer.json()["id"])
    assert whole.trace_id.hex() == CALLER.split("-")[1] and whole.parent_span_id.hex() == CALLER.split("-")[2]
    assert whole.kind == 2 and attributes(whole.attributes)["vllm_mlx.route"] == "chat.completions"  # 2: SERVER
    assert {stage.trace_id for stage in stages} == {whole.trace_id}
    answer = ask("/v1/completions", {"traceparent": "nonsense"}, prompt="Once", max_tokens=2)
    whole, _ = collector.trace(answer.json()["id"])
    assert not whole.parent_span_id and whole.name == "text_completion demo"


def test_an_error_has_its_type_and_no_secret_is_in_any_span(
    ask: Callable[..., httpx.Response], collector: Collector
) -> None:
    url = f"http://user:{PLANTED}@127.0.0.1:1/a.png?token={PLANTED}"
    remote = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "SECRET-CONTENT"}]
    failed = ask("/v1/chat/completions", messages=[{"role": "user", "content": remote}], stop=[PLANTED], user=PLANTED)
    refused = ask("/v1/chat/completions", messages="SECRET-CONTENT", stop=PLANTED)
    ask("/v1/chat/completions", model=PLANTED, messages=[{"role": "user", "content": "SECRET-CONTENT"}])
    said = ask("/v1/chat/completions", messages=[{"role": "user", "content": "SECRET-CONTENT"}], max_tokens=2)
    for answer in (failed, refused):
        whole, _ = collector.trace(answer.headers["x-request-id"])
        assert attributes(whole.attributes)["error.type"] == answer.json()["error"]["code"] and whole.status.code == 2
        assert whole.status.message == ""
    collector.trace(said.json()["id"])
    no_secret_in(collector)


def no_secret_in(collector: Collector) -> None:
    sent = b"".join(collector.bodies)
    found = [word for word in (PLANTED, "SECRET-CONTENT", "token=") if word.encode() in sent]
    assert not found, f"a span tells {found}"


def test_sabotage_without_the_redactor_a_key_is_told(
    ask: Callable[..., httpx.Response], collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Redactor, "json", lambda self, value: value)
    log = RequestLog(LogLimits(), MediaLimits(), export := exporting())
    run(log, Request(id="planted", model=PLANTED), BadMedia("it is wrong"))
    export.close()
    with pytest.raises(AssertionError, match="a span tells"):
        no_secret_in(collector)


def test_the_engine_reads_the_variable_and_imports_nothing_without_it(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(EngineConfig(model=ModelSpec("demo")))
    run(engine.requests, Request(id="by the engine", prompt="hi"))
    engine.stop()
    assert collector.trace("by the engine")[0].name == "text_completion"
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
    code = (
        "import sys; from engine.config import EngineConfig, ModelSpec; from engine.core import Engine; "
        "Engine(EngineConfig(model=ModelSpec('demo'))); "
        "assert not [name for name in sys.modules if name.startswith('opentelemetry.sdk')]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("environ", "limits", "said"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"}, LogLimits(), "must begin with http"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, LogLimits(), "only http/protobuf"),
        ({}, LogLimits(0), "--request-log is 0"),
    ],
)
def test_what_cannot_be_sent_to_is_said(
    environ: dict[str, str], limits: LogLimits, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    given = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1", **environ}
    assert span_export(limits, given) is None and said in caplog.text


def test_a_missing_extra_is_said_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert span_export(LogLimits(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1"}) is None
    assert "pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http" in caplog.text


def test_a_collector_that_refuses_is_told_of_once_and_costs_no_request(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Collector(status=400) as collector:
        names(f"http://user:{PLANTED}@{collector.url[7:]}", monkeypatch)
        log = RequestLog(LogLimits(), MediaLimits(), exporting())
        with caplog.at_level(logging.WARNING):
            for number in range(3):
                run(log, Request(id=f"r{number}"))
                count = len(collector.bodies)
                while len(collector.bodies) == count:
                    time.sleep(0.01)
            log.close()
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("engine")]
    assert len(lines) == 1 and "requests go on" in lines[0] and PLANTED not in caplog.text
    assert not logging.getLogger("opentelemetry").propagate, "the SDK's own lines are not held back"


def test_no_handler_of_others_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever wrote the SDK's lines before, several of it too, wrote them with their secrets."""
    told = logging.getLogger("opentelemetry")
    monkeypatch.setattr(told, "handlers", [logging.NullHandler() for _ in range(3)])
    otlp._tell_seldom("http://collector")
    assert [type(handler) for handler in told.handlers] == [Failures]


def test_failures_are_told_again_after_a_while(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    handler = Failures("http://collector", clock=lambda: now[0])
    for now[0] in (0.0, 1.0, 599.0, 601.0):
        handler.emit(logging.LogRecord("opentelemetry", logging.ERROR, "", 1, "refused at %s", (now[0],), None))
    assert [record.getMessage().rsplit(" ", 1)[1] for record in caplog.records] == ["0.0", "601.0"]


def test_a_collector_that_hangs_holds_up_neither_requests_nor_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    with Collector(hang=answer) as collector:
        names(collector.url, monkeypatch)
        log = RequestLog(LogLimits(5000), MediaLimits(), exporting())
        began = time.perf_counter()
        for number in range(1000):
            run(log, Request(id=f"r{number}"))
        assert (time.perf_counter() - began) < 5, "requests wait for the collector"
        began = time.perf_counter()
        log.close()
        assert time.perf_counter() - began < 5, "the end waits for the collector"
        answer.set()
