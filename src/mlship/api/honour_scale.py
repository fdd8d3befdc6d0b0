"""What this version cannot do of what is written about scaling, and what is written in vain. Part of ``honour``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlship.api import autoscaling, check_scaled, component, fields, honour_tables, problems, quantity, scaledobject
from mlship.api.problems import Path, Problem

_TARGETS = "an InferenceService, or the Deployment that KServe makes of it: NAME-predictor"
_WORKS = "prometheus, cpu, memory, cron, external and external-push work"
_VERIFIED = "certificates are always verified"
NO_LIMIT = ("a limit of requests is kept by mlship's own model server only",
            "limit them in the program itself, and write scaleTarget for the scaler")  # fmt: skip
NO_QUEUE = (
    "only mlship's own model server tells how many wait in it",
    "scale by concurrency, which the gateway counts",
)


def judge_component(part: component.Component, path: Path, annotations: Mapping[str, str]) -> Iterator[Problem]:
    """Metrics and bounds of a component; ``annotations`` are those of its service."""
    written = autoscaling.read({**annotations, **(part.annotations or {})})
    for index, found in enumerate(autoscaling.queries(part)):
        yield from _metric(found, (*path, "autoScaling", "metrics", index))
    if part.auto_scaling is not None and part.auto_scaling.behavior is not None:
        yield from _tolerance(part.auto_scaling.behavior, (*path, "autoScaling", "behavior"))
    yield from _metric_type(part, written, path)
    yield from _bounds(part, written, path)
    places = {key: _annotation(key) for key in annotations}
    places |= {key: (*path, "annotations", key) for key in part.annotations or {}}
    for key, where in places.items():
        reason = _vain(key, part, written)
        if reason:
            yield problems.notice(where, f"has no effect: {reason}")


def _annotation(key: str) -> Path:
    return ("metadata", "annotations", key)


def _vain(key: str, part: component.Component, written: autoscaling.Written) -> str:
    """Why an annotation that is honoured says nothing here; empty when it does."""
    field, alias = _OVERRIDDEN.get(key, ("", ""))
    if field and getattr(part, field) is not None:
        return f"{alias} is written, and holds"
    if autoscaling.fixed(written) and key in autoscaling.DECIDING:
        return f"autoscalerClass is {written.autoscaler}, so minReplicas replicas run"
    name = autoscaling.metric(part, written)
    if key in autoscaling.keys("hpa_utilization") and (name not in ("cpu", "memory") or part.scale_target is not None):
        return "it is for the metrics cpu and memory without a scaleTarget"
    if key in autoscaling.keys("utilization") and name in ("cpu", "memory"):
        return "it is for the metrics concurrency and rps"
    return ""


_OVERRIDDEN = {
    **dict.fromkeys(autoscaling.keys("least"), ("min_replicas", "minReplicas")),
    **dict.fromkeys(autoscaling.keys("most"), ("max_replicas", "maxReplicas")),
    **dict.fromkeys(autoscaling.keys("metric"), ("scale_metric", "scaleMetric")),
    **dict.fromkeys(autoscaling.keys("target"), ("scale_target", "scaleTarget")),
}


def _metric(found: component.MetricSpec, path: Path) -> Iterator[Problem]:
    if found.type == "PodMetric":
        reason = "metrics that replicas push to OpenTelemetry are not collected by this version"
        yield problems.refuse((*path, "type"), reason, "use External with prometheus, scaleMetric, or an annotation")
    elif found.type == "Resource" and found.resource is not None and found.resource.target.type == "Value":
        hint = "write Utilization or AverageValue"
        yield problems.refuse((*path, "resource", "target", "type"), "a resource has no total to hold", hint)
    elif found.type == "External" and found.external is not None:
        yield from _external(found.external, (*path, "external"))


def _external(found: component.ExternalMetric, path: Path) -> Iterator[Problem]:
    asked = found.metric
    if asked.backend == "graphite":
        hint = "use prometheus"
        yield problems.refuse((*path, "metric", "backend"), "graphite is not asked by this version", hint)
    for name, value in (("serverAddress", asked.server_address), ("query", asked.query)):
        if not value:
            yield problems.refuse((*path, "metric", name), "there is nothing to ask without it", "write it")
    if asked.server_address and not asked.server_address.startswith(("http://", "https://")):
        hint = "write for example http://prometheus:9090"
        yield problems.refuse((*path, "metric", "serverAddress"), "is not the address of a server", hint)
    if found.target.value is None and found.target.average_value is None:
        yield problems.refuse((*path, "target", "value"), "there is nothing to hold the answer at", "write it")
    if found.target.type == "Utilization":
        hint = "write AverageValue or Value"
        yield problems.refuse((*path, "target", "type"), "an answer is no share of a resource", hint)
    if found.authentication_ref is not None:
        yield problems.refuse((*path, "authenticationRef"), *honour_tables.NO_LOGIN)


def _tolerance(behavior: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    up, down = ((behavior.get(name) or {}).get("tolerance") for name in ("scaleUp", "scaleDown"))
    if up is None and down is None:
        return
    if up is None or down is None or quantity.number(up) != quantity.number(down):
        hint = "write the same in scaleUp and scaleDown"
        yield problems.refuse(path, "there is one tolerance for both directions in this version", hint)


def _metric_type(part: component.Component, written: autoscaling.Written, path: Path) -> Iterator[Problem]:
    kind = part.scale_metric_type
    if kind is None:
        return
    name = autoscaling.metric(part, written) or ("cpu" if autoscaling.kubernetes(part, written) else "concurrency")
    allowed = ("Utilization", "AverageValue") if name in ("cpu", "memory") else ("AverageValue",)
    if kind not in allowed:
        reason = f"{name} is not scaled by {kind}"
        yield problems.refuse((*path, "scaleMetricType"), reason, f"write {problems.one_of(allowed)}, or remove it")


def _bounds(part: component.Component, written: autoscaling.Written, path: Path) -> Iterator[Problem]:
    if autoscaling.fixed(written):
        for field in ("max_replicas", "scale_metric", "scale_target", "auto_scaling"):
            if getattr(part, field) is not None:
                reason = f"has no effect: autoscalerClass is {written.autoscaler}, so minReplicas replicas run"
                yield problems.notice((*path, component.Component.model_fields[field].alias or field), reason)
        return
    bounds = autoscaling.bounds(part, written)
    if bounds.most is not None or not autoscaling.asks(part, written):
        return
    most = max(autoscaling.unbounded(part, written), bounds.least, 1)
    many = "1 replica runs" if most == 1 else f"{most} replicas run"
    yield problems.notice((*path, "maxReplicas"), f"is not written: at most {many}", "write how many may run")


def judge_own_program(part: component.Component, path: Path, annotations: Mapping[str, str]) -> Iterator[Problem]:
    """What only mlship's model server does, wanted of another program."""
    if part.container_concurrency:
        yield problems.refuse((*path, "containerConcurrency"), *NO_LIMIT)
    for where, found in ((_annotation(""), annotations), ((*path, "annotations", ""), part.annotations or {})):
        if autoscaling.SCALE_QUEUE in found:
            yield problems.refuse((*where[:-1], autoscaling.SCALE_QUEUE), *NO_QUEUE)


def judge_scaled_object(found: scaledobject.ScaledObject) -> Iterator[Problem]:
    """What is refused and noticed of a ScaledObject that passed ``check``."""
    spec = found.spec
    if not found.target:
        ref = spec.scale_target_ref
        shown = problems.cap(f"{ref.kind or 'Deployment'} {ref.name}", 80)
        reason = f"{shown} is nothing that is scaled here: it is {_TARGETS}"
        yield problems.refuse(("spec", "scaleTargetRef"), reason, "write kind: InferenceService and its name")
    yield from _tables(spec, ("spec",))
    yield from _tables(spec.scale_target_ref, ("spec", "scaleTargetRef"))
    if spec.max_replica_count is None:
        reason = f"is not written: at most {scaledobject.MAX_REPLICAS} replicas run"
        yield problems.notice(("spec", "maxReplicaCount"), reason, "write how many may run")
    if spec.advanced is not None:
        yield from _advanced(spec.advanced)
    if spec.fallback is not None and spec.fallback.behavior in ("currentReplicasIfLower", "scalingModifiers"):
        where: Path = ("spec", "fallback", "behavior")
        reason = f"{spec.fallback.behavior} is not done by this version"
        yield problems.refuse(where, reason, "write static, currentReplicas or currentReplicasIfHigher")
    for index, trigger in enumerate(spec.triggers):
        yield from _trigger(trigger, ("spec", "triggers", index))
    if found.status:
        yield problems.notice(("status",), "is written by mlship; what is given here is not used")


def _tables(part: fields.Spec, path: Path) -> Iterator[Problem]:
    """What the tables say of the fields of a part."""
    name = type(part).__name__
    for field, (reason, hint) in honour_tables.SCALED_REFUSED.get(name, {}).items():
        if getattr(part, field) is not None:
            yield problems.refuse((*path, type(part).model_fields[field].alias or field), reason, hint)
    for field, reason in honour_tables.SCALED_NOTICED.get(name, {}).items():
        if getattr(part, field) is not None:
            yield problems.notice((*path, type(part).model_fields[field].alias or field), reason)


def _advanced(found: scaledobject.Advanced) -> Iterator[Problem]:
    yield from _tables(found, ("spec", "advanced"))
    config = found.horizontal_pod_autoscaler_config
    if config is not None:
        path: Path = ("spec", "advanced", "horizontalPodAutoscalerConfig")
        yield from _tables(config, path)
        if config.behavior is not None:
            yield from _tolerance(config.behavior, (*path, "behavior"))


def _trigger(trigger: scaledobject.Trigger, path: Path) -> Iterator[Problem]:
    if trigger.type not in check_scaled.REQUIRED:
        close = problems.did_you_mean(trigger.type, check_scaled.REQUIRED)
        reason = f"the trigger {problems.cap(trigger.type, 60)} is not done by this version"
        yield problems.refuse((*path, "type"), reason, f"{close} {_WORKS}".strip())
        return
    yield from _tables(trigger, path)
    told, here = trigger.metadata, (*path, "metadata")
    if trigger.type == "prometheus":
        yield from _prometheus(told, here)
    if trigger.type in ("cpu", "memory") and "containerName" in told:
        yield problems.notice((*here, "containerName"), "has no effect: a replica is one process with its children")
    if trigger.type in scaledobject.SCALERS:
        yield from _scaler(told, here)


def _scaler(told: Mapping[str, str], path: Path) -> Iterator[Problem]:
    if told.get("unsafeSsl", "false").lower() == "true":
        yield problems.refuse((*path, "unsafeSsl"), _VERIFIED, "remove it, or remove enableTLS")
    for name in told:
        if name.endswith("FromEnv"):
            reason = "triggers take no values from variables here"
            yield problems.refuse((*path, name), reason, f"write the value itself as {name.removesuffix('FromEnv')}")


def _prometheus(told: Mapping[str, str], path: Path) -> Iterator[Problem]:
    if told.get("unsafeSsl", "false").lower() == "true":
        yield problems.refuse((*path, "unsafeSsl"), _VERIFIED, "remove it, or use http://")
    if "authModes" in told:
        yield problems.refuse((*path, "authModes"), *honour_tables.NO_LOGIN)
    if "cortexOrgID" in told:
        reason = "KEDA removed it"
        yield problems.refuse((*path, "cortexOrgID"), reason, "write customHeaders: X-Scope-OrgID=VALUE")
    if "metricName" in told:
        yield problems.notice((*path, "metricName"), "has no effect: a trigger has a name of its own")
