"""The control plane's own figures, in Prometheus form at ``GET /metrics``.

One object with a registry of its own, made in ``main`` and handed to whoever counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import prometheus_client
from prometheus_client import core, registry

from mlship.plan import observed
from mlship.scale import memory

_START_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_RATE_BUCKETS = tuple(10.0**power for power in range(4, 11))
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counters and gauges of the loop and the API."""

    def __init__(self) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        self.reconciles = prometheus_client.Counter(
            "mlship_reconcile", "Reconciliations by result.", ["result"], registry=self.registry
        )
        self.reconcile_seconds = prometheus_client.Histogram(
            "mlship_reconcile_duration_seconds", "Seconds of one reconciliation.", buckets=_BUCKETS,
            registry=self.registry,
        )  # fmt: skip
        self.actions = prometheus_client.Counter(
            "mlship_actions", "Actions begun, by kind.", ["action"], registry=self.registry
        )
        self.publications = prometheus_client.Counter(
            "mlship_gateway_publications", "Route tables published, by result.", ["result"], registry=self.registry
        )
        self.requests = prometheus_client.Counter(
            "mlship_api_requests", "Requests to the control API.", ["method", "code"], registry=self.registry
        )
        self.request_seconds = prometheus_client.Histogram(
            "mlship_api_request_duration_seconds", "Seconds to the start of the answer, by method.", ["method"],
            buckets=_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.queue_depth = prometheus_client.Gauge(
            "mlship_queue_depth", "Services that wait for a worker.", registry=self.registry
        )
        self.decisions = prometheus_client.Counter(
            "mlship_scaling_decisions", "Times the scaler was asked, by what became of the number.", ["direction"],
            registry=self.registry,
        )  # fmt: skip
        self.cold_starts = prometheus_client.Counter(
            "mlship_cold_starts", "Starts of replicas, by how they were made and who wished for them.", ["how", "why"],
            registry=self.registry,
        )  # fmt: skip
        self.cold_start_seconds = prometheus_client.Histogram(
            "mlship_cold_start_seconds", "Seconds of a start from the wish to the answer, by phase; total: all of it.",
            ["phase"], buckets=_START_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.fetch_rate = prometheus_client.Histogram(
            "mlship_fetch_bytes_per_second", "Bytes per second of the fetches that ended well.", buckets=_RATE_BUCKETS,
            registry=self.registry,
        )  # fmt: skip
        self.objects = prometheus_client.Gauge(
            "mlship_objects", "Stored objects by kind.", ["kind"], registry=self.registry
        )

    def observe(self, seen: Callable[[], Iterable[observed.Observed]]) -> None:
        """Have the facts of all services counted at every scrape: replicas, restarts and fetched bytes."""
        self.registry.register(_Facts(seen))

    def observe_scaling(self, sizes: Callable[[], Iterable[Scale]]) -> None:
        """Have the numbers of every service that is scaled shown at every scrape."""
        self.registry.register(_Scales(sizes))

    def scaled(self, before: memory.Memory | None, after: memory.Memory | None) -> None:
        """Count a decision of the scaler, which leaves ``after``; None: it was not asked."""
        if after is None:
            return
        by = 0 if before is None else after.replicas - before.replicas
        self.decisions.labels("none" if by == 0 else ("up" if by > 0 else "down")).inc()

    def text(self) -> bytes:
        """The exposition, format 0.0.4."""
        return prometheus_client.generate_latest(self.registry)


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """How many replicas a service that is scaled shall have and has; ``panic``: its load jumped lately."""

    service: observed.ServiceKey
    wanted: int
    ready: int
    panic: bool
    waiting: int


class _Scales(registry.Collector):
    def __init__(self, sizes: Callable[[], Iterable[Scale]]) -> None:
        self._sizes = sizes

    def collect(self) -> Iterable[core.Metric]:
        labels = ["namespace", "name"]
        wanted = core.GaugeMetricFamily("mlship_service_replicas_wanted", "Replicas that shall run.", labels=labels)
        ready = core.GaugeMetricFamily("mlship_service_replicas_ready", "Replicas that answer.", labels=labels)
        panic = core.GaugeMetricFamily("mlship_service_panic", "1 while a jump of the load counts.", labels=labels)
        waiting = core.GaugeMetricFamily("mlship_service_waiting", "Callers held at the gate.", labels=labels)
        for size in self._sizes():
            where = [size.service.namespace, size.service.name]
            wanted.add_metric(where, size.wanted)
            ready.add_metric(where, size.ready)
            panic.add_metric(where, int(size.panic))
            waiting.add_metric(where, size.waiting)
        yield from (wanted, ready, panic, waiting)


class _Facts(registry.Collector):
    def __init__(self, seen: Callable[[], Iterable[observed.Observed]]) -> None:
        self._seen = seen

    def collect(self) -> Iterable[core.Metric]:
        phases = dict.fromkeys(observed.Phase, 0)
        restarts = ready = fetched = 0
        for facts in self._seen():
            for replica in facts.replicas:
                phases[replica.phase] += 1
                restarts += replica.restarts
                ready += replica.ready
            fetched += facts.artifact.done if facts.artifact else 0
        by_phase = core.GaugeMetricFamily("mlship_replicas", "Replicas by phase.", labels=["phase"])
        for phase, count in phases.items():
            by_phase.add_metric([phase.value], count)
        yield by_phase
        yield core.GaugeMetricFamily("mlship_replicas_ready", "Replicas that answer.", value=ready)
        yield core.GaugeMetricFamily(
            "mlship_replica_restarts", "Restarts of the replicas that are there.", value=restarts
        )
        yield core.GaugeMetricFamily("mlship_fetched_bytes", "Bytes fetched of the artifacts in use.", value=fetched)
