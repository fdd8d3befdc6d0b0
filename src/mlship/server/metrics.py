"""Prometheus metrics of the model server, in a registry of their own.

Labels are few: the model's name (only names this server knows, never what a caller wrote), the protocol, the code.
A request's trace id goes along as an exemplar, which the OpenMetrics form shows. Queues are read when scraped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import prometheus_client
from prometheus_client import core, exposition, registry

UNKNOWN_MODEL = ""
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LOAD_SECONDS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)
_BYTES = (256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864, 268435456)

# name, requests waiting, executions running
Queue = tuple[str, int, int]


class _Queues(registry.Collector):
    def __init__(self, read: Callable[[], Iterable[Queue]]) -> None:
        self._read = read

    def collect(self) -> Iterator[core.Metric]:
        depth = core.GaugeMetricFamily("mlship_queue_depth", "Requests waiting for a worker.", labels=["model"])
        running = core.GaugeMetricFamily("mlship_inferences_running", "Executions under way.", labels=["model"])
        for name, waiting, under_way in self._read():
            depth.add_metric([name], waiting)
            running.add_metric([name], under_way)
        yield depth
        yield running


class Metrics:
    """All metrics of one server.

    Args:
        queues: reads the queues when scraped, one element a model.
    """

    def __init__(self, queues: Callable[[], Iterable[Queue]] = tuple) -> None:
        self._registry = prometheus_client.CollectorRegistry()
        keys = ("model", "protocol")
        self._requests = prometheus_client.Counter(
            "mlship_requests", "Inference requests answered.", (*keys, "code"), registry=self._registry
        )
        self._latency = prometheus_client.Histogram(
            "mlship_request_duration_seconds",
            "Time from a request's head to its answer.",
            keys,
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._sizes = prometheus_client.Histogram(
            "mlship_request_bytes", "Size of request bodies.", keys, buckets=_BYTES, registry=self._registry
        )
        self._answer_sizes = prometheus_client.Histogram(
            "mlship_response_bytes", "Size of response bodies.", keys, buckets=_BYTES, registry=self._registry
        )
        self._in_flight = prometheus_client.Gauge(
            "mlship_requests_in_flight", "Inference requests not answered yet.", ("protocol",), registry=self._registry
        )
        self._inference = prometheus_client.Histogram(
            "mlship_inference_duration_seconds",
            "Time inside the model.",
            ("model",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._batches = prometheus_client.Histogram(
            "mlship_batch_requests",
            "Requests that one execution answered.",
            ("model",),
            buckets=_BATCH,
            registry=self._registry,
        )
        self._batch_rows = prometheus_client.Histogram(
            "mlship_batch_rows", "Rows of one execution.", ("model",), buckets=_BATCH, registry=self._registry
        )
        self._rows = prometheus_client.Counter(
            "mlship_inference_rows", "Rows the model has answered.", ("model",), registry=self._registry
        )
        self._shed = prometheus_client.Counter(
            "mlship_requests_shed", "Requests refused because the queue was full.", ("model",), registry=self._registry
        )
        self._expired = prometheus_client.Counter(
            "mlship_requests_expired",
            "Requests whose time was over before the answer.",
            ("model",),
            registry=self._registry,
        )
        self._load = prometheus_client.Histogram(
            "mlship_model_load_duration_seconds",
            "Time to load a model and warm it up.",
            ("model", "ok"),
            buckets=_LOAD_SECONDS,
            registry=self._registry,
        )
        self._compiled = prometheus_client.Gauge(
            "mlship_model_compiled",
            "1 when the model's compiled form answers, 0 when the original does.",
            ("model",),
            registry=self._registry,
        )
        self._registry.register(_Queues(queues))
        # Children once looked up: prometheus_client takes a lock and makes text of the labels each time. The labels
        # are few by design, so these stay as many as the series themselves.
        self._under_way: dict[str, prometheus_client.Gauge] = {}
        self._codes: dict[tuple[str, str, str], prometheus_client.Counter] = {}
        self._answers: dict[tuple[str, str], tuple[prometheus_client.Histogram, ...]] = {}
        self._models: dict[str, tuple[prometheus_client.Histogram, ...]] = {}
        self._given: dict[str, prometheus_client.Counter] = {}

    def begun(self, protocol: str) -> None:
        """An inference request has arrived."""
        gauge = self._under_way.get(protocol)
        if gauge is None:
            gauge = self._under_way[protocol] = self._in_flight.labels(protocol)
        gauge.inc()

    def answered(
        self, *, model: str, protocol: str, code: str, seconds: float, received: int, sent: int, trace_id: str
    ) -> None:
        """It has been answered; ``model`` is ``UNKNOWN_MODEL`` unless this server has it."""
        exemplar = {"trace_id": trace_id} if trace_id else None
        self._under_way[protocol].dec()
        counter = self._codes.get((model, protocol, code))
        if counter is None:
            counter = self._codes[model, protocol, code] = self._requests.labels(model, protocol, code)
        counter.inc(exemplar=exemplar)
        observed = self._answers.get((model, protocol))
        if observed is None:
            families = (self._latency, self._sizes, self._answer_sizes)
            observed = self._answers[model, protocol] = tuple(family.labels(model, protocol) for family in families)
        latency, sizes, answer_sizes = observed
        latency.observe(seconds, exemplar=exemplar)
        sizes.observe(received)
        answer_sizes.observe(sent)

    def executed(self, name: str, seconds: float, *, requests: int, rows: int) -> None:
        """The model has answered, one request or several that were joined (``repository.Observer``)."""
        found = self._models.get(name)
        if found is None:
            families = (self._inference, self._batches, self._batch_rows)
            found = self._models[name] = tuple(family.labels(name) for family in families)
        inference, batches, batch_rows = found
        inference.observe(seconds)
        batches.observe(requests)
        batch_rows.observe(rows)

    def inferred(self, name: str, *, rows: int) -> None:
        """A request has its answer."""
        counter = self._given.get(name)
        if counter is None:
            counter = self._given[name] = self._rows.labels(name)
        counter.inc(rows)

    def shed(self, name: str) -> None:
        """A request found the queue full."""
        self._shed.labels(name).inc()

    def expired(self, name: str) -> None:
        """A request's time was over."""
        self._expired.labels(name).inc()

    def loaded(self, name: str, seconds: float, *, ok: bool) -> None:
        """A load has ended (``repository.Observer``)."""
        self._load.labels(name, str(ok).lower()).observe(seconds)

    def compiled(self, name: str, used: bool) -> None:
        """It is settled who answers for now (``repository.Observer``)."""
        self._compiled.labels(name).set(used)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type, in the form that ``accept`` asks for."""
        encode, content_type = exposition.choose_encoder(accept)
        return encode(self._registry), content_type
