"""A metric of the policy together with how it is measured: one pair for each thing users can scale by. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from mlship.api import quantity, scaledobject
from mlship.api import service as services
from mlship.plan import scaling
from mlship.scale import policy as policies

# KServe: DefaultCPUUtilization.
UTILIZATION = 80.0
# KServe's configmap, inferenceService.resource: what a replica asks for when nothing is written.
_REQUESTS = {"cpu": "1", "memory": "2Gi"}
QUANTILE = 0.99


@dataclasses.dataclass(frozen=True, slots=True)
class Measure:
    """A metric and its source; both have the same name."""

    metric: policies.Metric
    source: scaling.Source


def requests(kind: policies.Kind, target: float, *, utilization: float | None = None) -> Measure:
    """Concurrency or requests/s, as the gateway counts them; ``utilization`` in percent."""
    share = None if utilization is None else utilization / 100
    metric = policies.Metric(kind.value, kind, target, utilization=share)
    return Measure(metric, scaling.Source(kind.value, scaling.Origin.GATEWAY))


def latency(seconds: float) -> Measure:
    """The 99th percentile of the time that answers take."""
    name = "p99 latency"
    source = scaling.Source(name, scaling.Origin.GATEWAY, quantile=QUANTILE)
    return Measure(policies.Metric(name, policies.Kind.LATENCY, seconds), source)


def queue(depth: float) -> Measure:
    """Requests that wait in the model servers, for each replica."""
    name = "queue depth"
    source = scaling.Source(name, scaling.Origin.REPLICAS)
    return Measure(policies.Metric(name, policies.Kind.QUEUE, depth), source)


def utilization(name: str, percent: float, effective: services.Effective) -> Measure:
    """Processor or memory as a share of what a replica asks for: its request, else its limit, else KServe's default."""
    written = {**_REQUESTS, **(effective.resources.limits or {}), **(effective.resources.requests or {})}[name]
    request = float(quantity.number(written)) or float(quantity.number(_REQUESTS[name]))
    metric = policies.Metric(name, policies.Kind(name), percent / 100)
    return Measure(metric, scaling.Source(name, scaling.Origin.PROCESSES, request=request))


def amount(name: str, each: float) -> Measure:
    """Cores or bytes, for each replica."""
    metric = policies.Metric(name, policies.Kind(name), each, form=policies.Form.AVERAGE)
    return Measure(metric, scaling.Source(name, scaling.Origin.PROCESSES))


def prometheus(
    address: str,
    query: str,
    target: float,
    *,
    value: bool,
    name: str = "prometheus",
    activation: float = 0.0,
    interval: float = float(scaledobject.POLLING_SECONDS),
    options: Mapping[str, str] | None = None,
) -> Measure:
    """The answer to a query. ``value``: held at the target, rather than so much for each replica."""
    form = policies.Form.VALUE if value else policies.Form.AVERAGE
    metric = policies.Metric(name, policies.Kind.EXTERNAL, target, form=form, activation=activation)
    source = scaling.Source(
        name,
        scaling.Origin.PROMETHEUS,
        address=address,
        query=query,
        options=tuple(sorted((options or {}).items())),
        interval=interval,
    )
    return Measure(metric, source)


def scaler(found: scaledobject.Trigger, *, asker: str, interval: float) -> Measure:
    """What a scaler of KEDA's protocol says, in multiples of the target size that it names itself.

    ``asker`` is the name of the ScaledObject. The scaler is told all of the trigger's metadata, as KEDA does.
    """
    name = found.name or found.type
    form = policies.Form.VALUE if found.metric_type == "Value" else policies.Form.AVERAGE
    metric = policies.Metric(name, policies.Kind.EXTERNAL, 1.0, form=form)
    source = scaling.Source(
        name,
        scaling.Origin.SCALER,
        address=found.metadata.get("scalerAddress", ""),
        options=tuple(sorted(found.metadata.items())),
        asker=asker,
        pushes=found.type == scaledobject.PUSHING,
        interval=interval,
    )
    return Measure(metric, source)


def named(found: Iterable[Measure], *, tolerance: float = policies.TOLERANCE) -> tuple[Measure, ...]:
    """The measures with names that no two have, and the tolerance."""
    taken: set[str] = set()
    made = []
    for one in found:
        name, number = one.metric.name, 1
        while name in taken:
            number += 1
            name = f"{one.metric.name} {number}"
        taken.add(name)
        metric = dataclasses.replace(one.metric, name=name, tolerance=tolerance)
        made.append(Measure(metric, dataclasses.replace(one.source, metric=name)))
    return tuple(made)
