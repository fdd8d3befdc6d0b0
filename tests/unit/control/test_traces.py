"""Real OTLP over HTTP to a receiver that parses the protobuf."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from mlship import errors
from mlship.control import traces
from mlship.plan import coldstart, observed

START = coldstart.ColdStart(
    observed.ReplicaId(observed.ServiceKey("default", "iris"), "0a1b2c3d", 0),
    observed.How.FORKED, coldstart.Why.CALLER, 1_700_000_000.5, (("decide", 0.25), ("fork", 0.5), ("load", 1.0)),
    fetched=100, fetch_seconds=0.2,
)  # fmt: skip
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Receiver(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[tuple[str, Any]] = []

    def spans(self) -> list[Any]:
        return [
            span
            for _, request in self.got
            for one in request.resource_spans
            for scope in one.scope_spans
            for span in scope.spans
        ]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        request = trace_service_pb2.ExportTraceServiceRequest()
        request.ParseFromString(body)
        self.server.got.append((self.path, request))
        answer = trace_service_pb2.ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with Receiver() as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{made.server_port}")
        yield made
        made.shutdown()
        thread.join(10)


def sent(receiver: Receiver, start: coldstart.ColdStart) -> tuple[Any, list[Any]]:
    """The root span of a start, and the others."""
    import os

    spans = traces.opened(os.environ, version="1.2")
    assert spans is not None
    spans.export(start)
    spans.close()
    found = receiver.spans()
    (root,) = [span for span in found if span.name == "cold start"]
    return root, [span for span in found if span is not root]


def test_a_start_is_one_trace_with_a_span_for_each_phase_end_to_end(receiver: Receiver) -> None:
    root, phases = sent(receiver, START)
    assert receiver.got[0][0] == "/v1/traces"
    assert [span.name for span in phases] == ["decide", "fork", "load"]
    assert {span.trace_id for span in phases} == {root.trace_id}
    assert {span.parent_span_id for span in phases} == {root.span_id}
    assert root.parent_span_id == b""
    ends = [(span.start_time_unix_nano, span.end_time_unix_nano) for span in phases]
    begin = 1_700_000_000_500_000_000
    whole = (root.start_time_unix_nano, root.end_time_unix_nano)
    assert [round((at - begin) / 1e6) for pair in (*ends, whole) for at in pair] == [
        0, 250, 250, 750, 750, 1750, 0, 1750,
    ]  # fmt: skip
    said = {one.key: one.value for one in root.attributes}
    assert said["mlship.service"].string_value == "iris"
    assert said["mlship.fetch.bytes"].int_value == 100
    about = {one.key: one.value.string_value for one in receiver.got[0][1].resource_spans[0].resource.attributes}
    assert (about["service.name"], about["service.version"]) == ("mlship", "1.2")


def test_a_start_that_a_caller_waited_for_is_part_of_the_callers_trace(receiver: Receiver) -> None:
    import dataclasses

    root, phases = sent(receiver, dataclasses.replace(START, traceparent=f"00-{TRACE}-{SPAN}-01"))
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, SPAN)
    assert {span.trace_id.hex() for span in phases} == {TRACE}


def test_a_traceparent_that_makes_no_sense_is_none(receiver: Receiver) -> None:
    import dataclasses

    root, _ = sent(receiver, dataclasses.replace(START, traceparent="nonsense"))
    assert root.parent_span_id == b""


@pytest.mark.parametrize(
    "environ",
    [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "x", "OTEL_SDK_DISABLED": "true"}],
)
def test_without_a_receiver_there_are_no_traces(environ: dict[str, str]) -> None:
    assert traces.opened(environ, version="1") is None


def test_without_a_receiver_nothing_is_imported() -> None:
    code = (
        "import sys; from mlship.control import main, traces; traces.opened({}, version='1');"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_without_the_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    with pytest.raises(errors.SpecError, match="is not installed") as caught:
        traces.opened({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"}, version="1")
    assert "mlship[otel]" in caught.value.hint


def test_a_start_that_cannot_be_traced_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def get_tracer(self, name: str) -> Any:
            return None

    traces.Traces(Broken()).export(START)
    assert "was not traced" in caplog.text
