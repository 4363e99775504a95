"""Requests to an OpenTelemetry collector, where OTEL_EXPORTER_OTLP_ENDPOINT names one. Needs the extra `otel`.

The SDK has its own settings (OTEL_SERVICE_NAME, OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER …), a thread that
sends, and a bounded queue in front of it, from which the oldest spans fall out: no request waits for a collector.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from engine.config import LogLimits
from engine.errors import BadRequest
from engine.request_log.record import LoggedRequest
from engine.request_log.redact import Redactor
from engine.request_log.spans import request_span, stage_spans
from engine.version import version

log = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_END_S = 3.0
"""A server that ends sends what is left for so long: a collector that hangs must not keep it."""

_QUIET_S = 600.0
"""Between two lines of the log about spans that do not arrive."""


def span_export(limits: LogLimits, environ: Mapping[str, str] = os.environ) -> SpanExport | None:
    """What the environment asks for; None where it names no collector, or, with a warning, one that cannot be sent to:
    the variable is meant for every program of a machine, and none need fail for it."""
    endpoint = next((environ[name] for name in ENDPOINTS if environ.get(name)), "")
    if not endpoint:
        return None
    try:
        _check(endpoint, limits, environ)
        return SpanExport(Redactor().address(endpoint))
    except (BadRequest, ValueError) as error:
        log.warning("No spans are sent: %s", error)
    except ImportError:
        log.warning(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but what sends spans (the extra `otel`) is not installed: "
            "pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http, or unset the variable."
        )
    return None


def _check(endpoint: str, limits: LogLimits, environ: Mapping[str, str]) -> None:
    if not limits.num_requests:
        raise BadRequest("they are made of the request log, and --request-log is 0.")
    if not endpoint.lower().startswith(("http://", "https://")):
        raise BadRequest("OTEL_EXPORTER_OTLP_ENDPOINT must begin with http:// or https://.")
    protocol = next((environ[name] for name in _PROTOCOLS if environ.get(name)), "http/protobuf")
    if protocol != "http/protobuf":
        raise BadRequest(f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}; only http/protobuf (port 4318) is spoken here.")


class SpanExport:
    """Makes the SDK's thread. where: the collector, for people to read. Raises ImportError without the extra."""

    def __init__(self, where: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        _tell_seldom(where)
        own = Resource.create({"service.name": "vllm-mlx", "service.version": version()})
        self._provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer: Any = self._provider.get_tracer("vllm-mlx", version())
        self._closing: threading.Thread | None = None

    def send(self, record: LoggedRequest, redactor: Redactor) -> None:
        """Queue the spans of a request that has ended. Never waits, and never fails the request."""
        try:
            self._send(record, redactor)
        except Exception:
            log.exception("%s could not be made into spans", record.id)

    def _send(self, record: LoggedRequest, redactor: Redactor) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        clock = record.clock
        accepted_ns = time.time_ns() - int(1e9 * (clock.now() - clock.accepted_s))
        caller = TraceContextTextMapPropagator().extract({"traceparent": record.request.traceparent})
        whole = request_span(record, redactor, accepted_ns)
        kind = SpanKind.SERVER if record.request.dialect else SpanKind.INTERNAL
        span = self._tracer.start_span(whole.name, caller, kind, whole.attributes, start_time=whole.start_ns)
        if whole.error:
            span.set_status(Status(StatusCode.ERROR))
        inside = set_span_in_context(span)
        for stage in stage_spans(record, accepted_ns):
            child = self._tracer.start_span(stage.name, inside, attributes=stage.attributes, start_time=stage.start_ns)
            child.end(stage.end_ns)
        span.end(whole.end_ns)

    def close(self) -> None:
        """Send what is left, and end the thread. Waits for it, but not for ever."""
        if self._closing is None:
            self._closing = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
            self._closing.start()
            self._closing.join(_END_S)


def _tell_seldom(where: str) -> None:
    """What the SDK says of failures goes to the log of this project, once in a while and without secrets."""
    told = logging.getLogger("opentelemetry")
    told.propagate = False
    for handler in (*told.handlers,):
        told.removeHandler(handler)
    told.addHandler(Failures(where))


class Failures(logging.Handler):
    """where: the collector. clock: in seconds."""

    def __init__(self, where: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._where = where
        self._clock = clock
        self._told_s = float("-inf")

    def emit(self, record: logging.LogRecord) -> None:
        if self._clock() - self._told_s >= _QUIET_S:
            self._told_s = self._clock()
            said = Redactor().text(record.getMessage())
            log.warning("Spans do not reach %s, requests go on; told again in 10 minutes: %s", self._where, said)
