"""A stand-in for an OpenTelemetry collector: a server on loopback that reads what OTLP sends over HTTP."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.waiting import wait_until


class Collector:
    """with Collector() as collector: ... status: what it answers. hang: it answers only once this is set."""

    def __init__(self, status: int = 200, hang: threading.Event | None = None) -> None:
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.paths.append(self.path)
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if hang is not None:
                    hang.wait(30)
                collector.bodies.append(body)
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing on stderr."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Collector:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def resources(self) -> list[dict[str, Any]]:
        """Attributes of whoever sent."""
        return [attributes(group.resource.attributes) for group in self._groups()]

    def spans(self) -> list[Any]:
        """Every span that came, as protobuf."""
        return [span for group in self._groups() for scope in group.scope_spans for span in scope.spans]

    def trace(self, response_id: str) -> tuple[Any, list[Any]]:
        """The span of a request, once it is here, and those of its stages in their order."""
        wait_until(lambda: self._of(response_id) is not None)
        whole = self._of(response_id)
        below = [span for span in self.spans() if span.parent_span_id == whole.span_id]
        return whole, sorted(below, key=lambda span: span.start_time_unix_nano)

    def _of(self, response_id: str) -> Any:
        found = (s for s in self.spans() if attributes(s.attributes).get("gen_ai.response.id") == response_id)
        return next(found, None)

    def _groups(self) -> list[Any]:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        return [g for body in list(self.bodies) for g in ExportTraceServiceRequest.FromString(body).resource_spans]


def attributes(pairs: Any) -> dict[str, Any]:
    """OTLP's key-value pairs as a dict."""
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    name = value.WhichOneof("value")
    return [_value(one) for one in value.array_value.values] if name == "array_value" else getattr(value, name)
