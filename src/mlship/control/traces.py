"""Cold starts as traces: one trace for each, a span for each phase. The one door to OpenTelemetry.

On only when a standard variable names where traces go (``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`` or
``OTEL_EXPORTER_OTLP_ENDPOINT``); the SDK reads the others of its variables itself. The packages are the extra ``otel``,
and are imported only then. A start that a caller waited for is part of the caller's own trace, when the gate knows it.
Spans are made when the start is over, with the times it was made of, and sent by the SDK's own thread.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from mlship import errors
from mlship.plan import coldstart

log = logging.getLogger("mlship.traces")

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_LAST_SECONDS = 5.0


class Traces:
    """Sends starts to an OTLP receiver."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("mlship.control")

    def export(self, start: coldstart.ColdStart) -> None:
        """Hand a start to the SDK, which sends it later; never waits and never raises."""
        from opentelemetry import trace

        try:
            begin = start.wished_at
            root = self._tracer.start_span(
                "cold start", context=_parent(start.traceparent), start_time=_nanoseconds(begin),
                kind=trace.SpanKind.INTERNAL, attributes=_attributes(start),
            )  # fmt: skip
            inside = trace.set_span_in_context(root)
            for name, seconds in start.phases:
                span = self._tracer.start_span(name, context=inside, start_time=_nanoseconds(begin))
                begin += seconds
                span.end(end_time=_nanoseconds(begin))
            root.end(end_time=_nanoseconds(start.wished_at + start.seconds))
        except Exception:
            # A story about a start must not disturb those who start.
            log.exception("a start of %s was not traced", start.replica)

    def close(self) -> None:
        """Send what is left, for at most some seconds. Blocking."""
        if not self._provider.force_flush(int(_LAST_SECONDS * 1000)):
            log.warning("some traces were not sent")
        self._provider.shutdown()


def opened(environ: Mapping[str, str], *, version: str) -> Traces | None:
    """What sends traces where ``environ`` says; None when it says nothing. Raises SpecError without the packages."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(environ.get(name) for name in _ENDPOINTS):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http import trace_exporter
        from opentelemetry.sdk import resources
        from opentelemetry.sdk import trace as sdk
        from opentelemetry.sdk.trace import export
    except ImportError as error:
        raise errors.SpecError(
            f"{' or '.join(_ENDPOINTS)} is set, and {error.name or 'OpenTelemetry'} is not installed.",
            hint="Install it: pip install 'mlship[otel]'. Or unset the variable.",
        ) from error
    about = {"service.version": version}
    if not environ.get("OTEL_SERVICE_NAME"):
        about["service.name"] = "mlship"
    # Ended in our own order, not when the interpreter ends.
    provider = sdk.TracerProvider(resource=resources.Resource.create(about), shutdown_on_exit=False)
    provider.add_span_processor(export.BatchSpanProcessor(trace_exporter.OTLPSpanExporter()))
    log.info("cold starts are traced to %s", next(environ[name] for name in _ENDPOINTS if environ.get(name)))
    return Traces(provider)


def _parent(traceparent: str) -> Any:
    """The caller's span; a context of its own, so a new trace, when there is none or it makes no sense (W3C)."""
    from opentelemetry import context
    from opentelemetry.trace.propagation import tracecontext

    carrier = {"traceparent": traceparent} if traceparent else {}
    return tracecontext.TraceContextTextMapPropagator().extract(carrier, context=context.Context())


def _attributes(start: coldstart.ColdStart) -> dict[str, str | int | float]:
    service = start.replica.service
    found: dict[str, str | int | float] = {
        "mlship.namespace": service.namespace,
        "mlship.service": service.name,
        "mlship.revision": start.replica.revision,
        "mlship.replica": start.replica.ordinal,
        "mlship.start.how": start.how.value,
        "mlship.start.why": start.why.value,
    }
    if start.fetched:
        found |= {"mlship.fetch.bytes": start.fetched, "mlship.fetch.seconds": start.fetch_seconds}
    return found


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
