"""What users write about scaling, in the words of the scaler: bounds, metrics, and how fast. Pure and total.

Between the objects (``api``) and ``scale.decide``. Every object that passed ``api.check`` gives a policy that holds
together; what a field means, and what holds where nothing is written, stands in docs/objects.md, and why in
docs/decisions/0021-what-users-write-about-scaling.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from mlship.api import autoscaling, component, quantity, scaledobject
from mlship.api import service as services
from mlship.plan import measures, program, scaling, speed, triggers
from mlship.scale import policy as policies

# Knative: requests-per-second-target-default.
_RPS = 200.0
# Requests inside a replica for each of its threads: one that runs and three that wait for it.
_PER_THREAD = 4
# KServe's, for a batcher that does not say.
_BATCH = 32
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
    part, written = service.spec.predictor, autoscaling.read(effective.annotations)
    if scaled is not None:
        made = triggers.scaling_of(scaled, effective)
    elif autoscaling.fixed(written):
        made = _fixed(part, written)
    else:
        made = _by_service(part, written, effective)
    return dataclasses.replace(
        made,
        patience=written.hold or min(float(max(effective.timeout, 1)), _PATIENCE),
        places=written.places or made.places,
    )


def _fixed(part: component.Component, written: autoscaling.Written) -> scaling.Scaling:
    """Nobody decides: minReplicas run, also none, until somebody changes it."""
    least = autoscaling.bounds(part, written).least
    return scaling.Scaling(
        policies.Policy(min_replicas=least, max_replicas=max(least, 1)),
        by=f"autoscalerClass {written.autoscaler}",
        paused=least,
    )


def _by_service(
    part: component.Component, written: autoscaling.Written, effective: services.Effective
) -> scaling.Scaling:
    bounds = autoscaling.bounds(part, written)
    most = max(bounds.most or autoscaling.unbounded(part, written), bounds.least, 1)
    behavior = part.auto_scaling.behavior if part.auto_scaling else None
    found: tuple[measures.Measure, ...] = ()
    if most > bounds.least:
        found = measures.named(_measures(part, written, effective), tolerance=speed.tolerance(behavior))
    kubernetes = autoscaling.kubernetes(part, written)
    only_asked = bool(found) and all(one.source.origin is scaling.Origin.PROMETHEUS for one in found)
    policy = policies.Policy(
        min_replicas=bounds.least,
        max_replicas=most,
        metrics=tuple(one.metric for one in found),
        initial=1 if written.initial is None else written.initial,
        activation=written.activation or 1,
        stable=written.window or 60.0,
        panic_share=(written.panic_window or 10.0) / 100,
        panic_threshold=(written.panic_threshold or 200.0) / 100,
        delay=written.delay or 0.0,
        cooldown=_cooldown(written),
        interval=float(scaledobject.POLLING_SECONDS) if only_asked else 1.0,
        behavior=speed.of(behavior, policies.KUBERNETES if kubernetes else policies.Behavior()),
        down_rate=speed.UNLIMITED if kubernetes else 2.0,
    )
    return scaling.Scaling(policy, tuple(one.source for one in found), by=_by(part, written))


def _cooldown(written: autoscaling.Written) -> float:
    if written.retention is not None:
        return written.retention
    return float(scaledobject.COOLDOWN_SECONDS) if written.autoscaler == "keda" else 0.0


def _by(part: component.Component, written: autoscaling.Written) -> str:
    """What says by what it is scaled, else what bounds it."""
    said = {
        "autoScaling.metrics": autoscaling.queries(part),
        "scaleMetric": part.scale_metric,
        "scaleTarget": part.scale_target,
        f"the annotation {autoscaling.KNATIVE}metric": written.metric,
        f"the annotation {autoscaling.KNATIVE}target": written.target,
        f"the annotation {autoscaling.SCALE_LATENCY}": written.latency,
        f"the annotation {autoscaling.SCALE_QUEUE}": written.queue,
        "maxReplicas": part.max_replicas,
        "minReplicas": part.min_replicas,
        f"the annotation {autoscaling.KNATIVE}max-scale": written.most,
        f"the annotation {autoscaling.KNATIVE}min-scale": written.least,
    }
    return next((name for name, value in said.items() if value), "minReplicas")


def _measures(
    part: component.Component, written: autoscaling.Written, effective: services.Effective
) -> Iterator[measures.Measure]:
    """All that is asked for; without anything, concurrency, or the processor where Kubernetes' scaler is meant."""
    kubernetes = autoscaling.kubernetes(part, written)
    targets = part.scale_target is not None or written.target is not None
    chosen = autoscaling.metric(part, written)
    if chosen is None and (targets or not autoscaling.asks(part, written)):
        chosen = "cpu" if kubernetes and written.autoscaler != "keda" else "concurrency"
    if chosen is not None:
        yield _chosen(chosen, part, written, effective)
    for query in autoscaling.queries(part):
        yield from _query(query, effective)
    if written.latency is not None:
        yield measures.latency(written.latency)
    if written.queue is not None:
        yield measures.queue(written.queue)


def _chosen(
    name: str, part: component.Component, written: autoscaling.Written, effective: services.Effective
) -> measures.Measure:
    target = float(part.scale_target) if part.scale_target else written.target
    if name in ("cpu", "memory"):
        return _resource(name, target, part, written, effective)
    if name == "rps":
        return measures.requests(policies.Kind.RPS, target or _RPS, utilization=written.utilization)
    target = target or _concurrency(effective)
    if part.container_concurrency:
        # Knative's rule: of a soft and a hard limit, the smaller one is aimed at.
        hard = float(part.container_concurrency)
        target = min(target, hard) if part.scale_target or written.target else hard
    return measures.requests(policies.Kind.CONCURRENCY, target, utilization=written.utilization)


def _resource(
    name: str,
    target: float | None,
    part: component.Component,
    written: autoscaling.Written,
    effective: services.Effective,
) -> measures.Measure:
    if target is not None and part.scale_metric_type == "AverageValue":
        return measures.amount(name, target)
    if target is not None and name == "memory" and written.knative == autoscaling.HPA_CLASS:
        # Knative's hpa class counts memory in MiB.
        return measures.amount(name, target * 2**20)
    percent = target or written.hpa_utilization or measures.UTILIZATION
    return measures.utilization(name, float(percent), effective)


def _concurrency(effective: services.Effective) -> float:
    """What a replica may have inside at once, when nobody says: a batch, or what its threads keep up with."""
    if effective.batcher is not None:
        return float(effective.batcher.max_batch_size or _BATCH)
    return float(_PER_THREAD * max(program.cores(effective.resources), 1))


def _query(found: component.MetricSpec, effective: services.Effective) -> Iterator[measures.Measure]:
    if found.type == "Resource" and found.resource is not None:
        target = found.resource.target
        if target.average_value is not None and target.type != "Utilization":
            yield measures.amount(found.resource.name, _positive(target.average_value))
        else:
            percent = target.average_utilization or measures.UTILIZATION
            yield measures.utilization(found.resource.name, float(percent), effective)
    if found.type == "External" and found.external is not None:
        asked, target = found.external.metric, found.external.target
        value = target.value if target.value is not None else target.average_value
        options = {"namespace": asked.namespace} if asked.namespace else {}
        yield measures.prometheus(
            asked.server_address or "",
            asked.query or "",
            _positive(value if value is not None else 1),
            value=target.type == "Value",
            options=options,
        )


def _positive(written: int | str) -> float:
    """A quantity that ``check`` knows to be more than 0; what it has not seen counts as 1."""
    found = float(quantity.number(written))
    return found if found > 0 else 1.0
