"""What users write about scaling, in the words of the scaler: bounds, metrics, and how fast. Pure and total.

Between the objects (``api``) and ``scale.decide``. Every object that passed ``api.check`` and ``api.honour`` gives a
policy that holds together; what a field means, and what holds where nothing is written, stands in docs/objects.md.
"""

from __future__ import annotations

from mlship.api import component, quantity, scaledobject
from mlship.api import service as services
from mlship.plan import scaling
from mlship.scale import policy as policies

# Knative: requests-per-second-target-default. KServe: the processor's share that its HorizontalPodAutoscaler holds.
_RPS = 200.0
_UTILIZATION = 80.0
# KServe's configmap, inferenceService.resource: what a replica asks for when nothing is written.
_REQUESTS = {"cpu": "1", "memory": "2Gi"}
_PER_CORE = 4
_UNBOUNDED = 10
_PATIENCE = 60.0


def scaling_of(
    service: services.InferenceService, effective: services.Effective, scaled: scaledobject.ScaledObject | None = None
) -> scaling.Scaling:
    """How a service is scaled.

    Args:
        service: the object, with what was written.
        effective: its resolved view. Whether it is stopped is not looked at: that stands above all scaling.
        scaled: the ScaledObject that targets it, which then has the say.
    """
    part = service.spec.predictor
    least = services.DEFAULT_REPLICAS if part.min_replicas is None else max(part.min_replicas, 0)
    asked = part.scale_metric is not None or part.scale_target is not None
    most = max(part.max_replicas or (_UNBOUNDED if asked else 0), least, 1)
    metrics, sources = _metric(part, effective) if most > least else ((), ())
    return scaling.Scaling(
        policy=policies.Policy(min_replicas=least, max_replicas=most, metrics=metrics),
        sources=sources,
        by="scaleMetric" if part.scale_metric else "minReplicas and maxReplicas",
        patience=min(float(max(effective.timeout, 1)), _PATIENCE),
    )


def _metric(
    part: component.Component, effective: services.Effective
) -> tuple[tuple[policies.Metric, ...], tuple[scaling.Source, ...]]:
    kind = policies.Kind(part.scale_metric or "concurrency")
    written = float(part.scale_target) if part.scale_target else 0.0
    if kind in (policies.Kind.CPU, policies.Kind.MEMORY):
        target = (written or _UTILIZATION) / 100
        source = scaling.Source(kind.value, scaling.Origin.PROCESSES, request=_request(kind.value, effective))
    else:
        target = written or (_RPS if kind is policies.Kind.RPS else _concurrency(part, effective))
        source = scaling.Source(kind.value, scaling.Origin.GATEWAY)
    return (policies.Metric(kind.value, kind, target),), (source,)


def _request(name: str, effective: services.Effective) -> float:
    """Cores or bytes that a replica asks for: its request, else its limit, else what KServe gives it."""
    resources = effective.resources
    found = (resources.requests or {}).get(name, (resources.limits or {}).get(name, _REQUESTS[name]))
    number = float(quantity.number(found))
    return number if number > 0 else float(quantity.number(_REQUESTS[name]))


def _concurrency(part: component.Component, effective: services.Effective) -> float:
    if part.container_concurrency:
        return float(part.container_concurrency)
    return float(_PER_CORE)
