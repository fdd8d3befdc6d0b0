"""Prometheus metrics of the model server, in a registry of their own.

Labels are few: the model's name (only names this server knows, never what a caller wrote), the protocol, the code.
A request's trace id goes along as an exemplar, which the OpenMetrics form shows. Queues are read when scraped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import prometheus_client
from prometheus_client import core, exposition, registry

from mlship.server import tally

UNKNOWN_MODEL = ""
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LOAD_SECONDS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)
_BYTES = (256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864, 268435456)

# name, requests waiting, executions running
Queue = tuple[str, int, int]


class _Collected(registry.Collector):
    def __init__(self, read: Callable[[], Iterable[core.Metric]]) -> None:
        self._read = read

    def collect(self) -> Iterator[core.Metric]:
        yield from self._read()


class Metrics:
    """All metrics of one server. All methods belong to the event loop's thread.

    Args:
        queues: reads the queues when scraped, one element a model.
        pool: reads what there is to say of models that are loaded on use.
        knows: whether this server still has a model; nothing is kept of the others.
    """

    def __init__(
        self,
        queues: Callable[[], Iterable[Queue]] = tuple,
        *,
        pool: Callable[[], Iterable[core.Metric]] = tuple,
        knows: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._registry = prometheus_client.CollectorRegistry()
        self._queues = queues
        self._pool = pool
        self._knows = knows
        keys = ("model", "protocol")
        self._requests = tally.Counters("mlship_requests", "Inference requests answered.", (*keys, "code"))
        self._latency = tally.Histograms(
            "mlship_request_duration_seconds", "Time from a request's head to its answer.", keys, bounds=_SECONDS
        )
        self._sizes = tally.Histograms("mlship_request_bytes", "Size of request bodies.", keys, bounds=_BYTES)
        self._answer_sizes = tally.Histograms("mlship_response_bytes", "Size of response bodies.", keys, bounds=_BYTES)
        self._inference = tally.Histograms(
            "mlship_inference_duration_seconds", "Time inside the model.", ("model",), bounds=_SECONDS
        )
        self._batches = tally.Histograms(
            "mlship_batch_requests", "Requests that one execution answered.", ("model",), bounds=_BATCH
        )
        self._batch_rows = tally.Histograms("mlship_batch_rows", "Rows of one execution.", ("model",), bounds=_BATCH)
        self._rows = tally.Counters("mlship_inference_rows", "Rows the model has answered.", ("model",))
        self._shed = tally.Counters("mlship_requests_shed", "Requests refused because the queue was full.", ("model",))
        self._expired = tally.Counters(
            "mlship_requests_expired", "Requests whose time was over before the answer.", ("model",)
        )
        # Kept small like all the others: there may be thousands of models.
        self._load = tally.Histograms(
            "mlship_model_load_duration_seconds",
            "Time to load a model and warm it up.",
            ("model", "ok"),
            bounds=_LOAD_SECONDS,
        )
        self._compiled: dict[str, bool] = {}
        self._under_way: dict[str, int] = {}
        # What one answered request fills, by its labels.
        self._answers: dict[
            tuple[str, str, str], tuple[tally.Counter, tally.Histogram, tally.Histogram, tally.Histogram]
        ] = {}
        self._registry.register(_Collected(self._collect))

    def _collect(self) -> Iterator[core.Metric]:
        counters = (self._requests, self._rows, self._shed, self._expired)
        histograms = (
            self._latency,
            self._sizes,
            self._answer_sizes,
            self._inference,
            self._batches,
            self._batch_rows,
            self._load,
        )
        for family in (*counters, *histograms):
            family.keep(self._is_wanted)
            yield family.family()
        self._answers = {labels: kept for labels, kept in self._answers.items() if self._is_wanted(labels[0])}
        self._compiled = {name: used for name, used in self._compiled.items() if self._is_wanted(name)}
        depth = core.GaugeMetricFamily("mlship_queue_depth", "Requests waiting for a worker.", labels=["model"])
        running = core.GaugeMetricFamily("mlship_inferences_running", "Executions under way.", labels=["model"])
        for name, waiting, under_way in self._queues():
            depth.add_metric([name], waiting)
            running.add_metric([name], under_way)
        inside = core.GaugeMetricFamily(
            "mlship_requests_in_flight", "Inference requests not answered yet.", labels=["protocol"]
        )
        for protocol, number in self._under_way.items():
            inside.add_metric([protocol], number)
        compiled = core.GaugeMetricFamily(
            "mlship_model_compiled",
            "1 when the model's compiled form answers, 0 when the original does.",
            labels=["model"],
        )
        for name, used in self._compiled.items():
            compiled.add_metric([name], used)
        yield from (depth, running, inside, compiled)
        yield from self._pool()

    def _is_wanted(self, model: str) -> bool:
        return model == UNKNOWN_MODEL or self._knows(model)

    def begun(self, protocol: str) -> None:
        """An inference request has arrived."""
        self._under_way[protocol] = self._under_way.get(protocol, 0) + 1

    def answered(
        self, *, model: str, protocol: str, code: str, seconds: float, received: int, sent: int, trace_id: str
    ) -> None:
        """It has been answered; ``model`` is ``UNKNOWN_MODEL`` unless this server has it."""
        self._under_way[protocol] -= 1
        found = self._answers.get((model, protocol, code))
        if found is None:
            found = self._answers[model, protocol, code] = (
                self._requests.of(model, protocol, code),
                self._latency.of(model, protocol),
                self._sizes.of(model, protocol),
                self._answer_sizes.of(model, protocol),
            )
        counter, latency, sizes, answer_sizes = found
        counter.add(1.0, trace_id)
        latency.observe(seconds, trace_id)
        sizes.observe(received)
        answer_sizes.observe(sent)

    def executed(self, name: str, seconds: float, *, requests: int, rows: int) -> None:
        """The model has answered, one request or several that were joined (``repository.Observer``)."""
        self._inference.of(name).observe(seconds)
        self._batches.of(name).observe(requests)
        self._batch_rows.of(name).observe(rows)

    def inferred(self, name: str, *, rows: int) -> None:
        """A request has its answer."""
        self._rows.of(name).add(rows)

    def shed(self, name: str) -> None:
        """A request found the queue full."""
        self._shed.of(name).add()

    def expired(self, name: str) -> None:
        """A request's time was over."""
        self._expired.of(name).add()

    def loaded(self, name: str, seconds: float, *, ok: bool) -> None:
        """A load has ended (``repository.Observer``)."""
        self._load.of(name, str(ok).lower()).observe(seconds)

    def compiled(self, name: str, used: bool) -> None:
        """It is settled who answers for now (``repository.Observer``)."""
        self._compiled[name] = used

    def render(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type, in the form that ``accept`` asks for."""
        encode, content_type = exposition.choose_encoder(accept)
        return encode(self._registry), content_type
