"""The rules of replicas, autoscaling and traffic shares (KServe, inference_service_validation.go).

Which autoscaler's rules hold depends on annotations. Without a deployment mode nothing is assumed: KServe would take
the default of its installation, which a laptop does not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mlship.api import autoscaling, check_behavior, component, problems, quantity
from mlship.api.problems import Path, Problem

MODE = "serving.kserve.io/deploymentMode"
AUTOSCALER = autoscaling.AUTOSCALER
KNATIVE_CLASS = "autoscaling.knative.dev/class"
MODES = ("Standard", "Knative", "ModelMesh", "RawDeployment", "Serverless")
_MEBIBYTE = 2**20


def mode(annotations: Mapping[str, str]) -> str:
    """The deployment mode in its present name; empty when none is written."""
    written = annotations.get(MODE, "")
    return {"RawDeployment": "Standard", "Serverless": "Knative"}.get(written, written)


def check_annotations(annotations: Mapping[str, str]) -> Iterator[Problem]:
    """The annotations that choose a mode and an autoscaler, and those that say how it scales."""
    path: Path = ("metadata", "annotations")
    value = annotations.get(MODE)
    if value is not None and value not in MODES:
        reason = f"{problems.cap(value, 60)!r} is not one of {problems.one_of(MODES)}"
        yield problems.refuse((*path, MODE), reason, problems.did_you_mean(value, MODES))
    yield from autoscaling.check(annotations, path)


def check_component(part: component.Component, path: Path, annotations: Mapping[str, str]) -> Iterator[Problem]:
    """One component's replicas, limits and autoscaler."""
    yield from autoscaling.check(part.annotations or {}, (*path, "annotations"))
    yield from _replicas(part, path, {**annotations, **(part.annotations or {})})
    yield from _limits(part, path)
    yield from _logger(part, path)
    yield from _auto_scaling(part, path)
    yield from _by_autoscaler(part, path, annotations)


def _replicas(part: component.Component, path: Path, annotations: Mapping[str, str]) -> Iterator[Problem]:
    for name, alias, hint in (("min_replicas", "minReplicas", "0"), ("max_replicas", "maxReplicas", "1")):
        value = getattr(part, name)
        if value is not None and value < 0:
            yield problems.refuse((*path, alias), f"{value} is negative", f"write {hint} or more")
    if part.scale_target is not None and part.scale_target < 1:
        yield problems.refuse((*path, "scaleTarget"), f"{part.scale_target} is nothing to aim at", "write 1 or more")
    bounds = autoscaling.bounds(part, autoscaling.read(annotations))
    if bounds.most is not None and bounds.least > bounds.most > 0:
        reason = f"minReplicas {bounds.least} is more than maxReplicas {bounds.most}"
        yield problems.refuse((*path, "minReplicas"), reason, f"raise maxReplicas to {bounds.least} or leave it out")


def _auto_scaling(part: component.Component, path: Path) -> Iterator[Problem]:
    """What is wrong whichever autoscaler it is for."""
    if part.auto_scaling is not None and part.auto_scaling.behavior is not None:
        yield from check_behavior.check_behavior(part.auto_scaling.behavior, (*path, "autoScaling", "behavior"))
    for index, found in enumerate(autoscaling.queries(part)):
        block = {"Resource": found.resource, "External": found.external, "PodMetric": found.podmetric}[found.type]
        if block is not None:
            here = (*path, "autoScaling", "metrics", index, found.type.lower(), "target")
            yield from _positive(block.target, here)


def _positive(target: component.MetricTarget, path: Path) -> Iterator[Problem]:
    for name, value in (("value", target.value), ("averageValue", target.average_value)):
        if value is not None and quantity.number(value) <= 0:
            yield problems.refuse((*path, name), f"{value} is not more than 0")
    percent = target.average_utilization
    if percent is not None and percent < 1:
        yield problems.refuse((*path, "averageUtilization"), f"{percent} is not a percentage from 1 on")


def _limits(part: component.Component, path: Path) -> Iterator[Problem]:
    if part.container_concurrency is not None and part.container_concurrency < 0:
        yield problems.refuse((*path, "containerConcurrency"), f"{part.container_concurrency} is negative")
    if part.timeout is not None and part.timeout < 1:
        yield problems.refuse((*path, "timeout"), f"{part.timeout} is not a number of seconds from 1 on")
    share = part.canary_traffic_percent
    if share is not None and not 0 <= share <= 100:
        yield problems.refuse((*path, "canaryTrafficPercent"), f"{share} is not in 0 to 100")
    for name in ("max_batch_size", "max_latency", "timeout"):
        value = getattr(part.batcher, name, None)
        if value is not None and value < 1:
            alias = component.Batcher.model_fields[name].alias or name
            yield problems.refuse((*path, "batcher", alias), f"{value} is not positive")


def _logger(part: component.Component, path: Path) -> Iterator[Problem]:
    storage = part.logger.storage if part.logger else None
    if storage is None:
        return
    missing = [name for name in ("path", "parameters", "key") if getattr(storage, name) is None]
    if missing:
        reason = f"needs path, parameters and key together; {problems.one_of(missing)} is missing"
        yield problems.refuse((*path, "logger", "storage"), reason)


def _by_autoscaler(part: component.Component, path: Path, annotations: Mapping[str, str]) -> Iterator[Problem]:
    written = mode(annotations)
    chosen = annotations.get(AUTOSCALER)
    if written == "Standard" and chosen == "keda":
        yield from _keda(part, path)
    elif (written == "Standard" and chosen == "hpa") or annotations.get(KNATIVE_CLASS, "").startswith("hpa."):
        yield from _hpa(part, path)
    elif written == "Knative":
        yield from _kpa(part, path)


def _hpa(part: component.Component, path: Path) -> Iterator[Problem]:
    metric = part.scale_metric or "cpu"
    if metric not in ("cpu", "memory"):
        hint = "write cpu or memory, or use deploymentMode Knative"
        yield problems.refuse((*path, "scaleMetric"), f"the hpa autoscaler knows no {metric}", hint)
    target = part.scale_target
    if target is not None and metric == "cpu" and target > 100:
        yield problems.refuse((*path, "scaleTarget"), f"{target} is not a percentage in 1 to 100")
    for index, found in enumerate(autoscaling.queries(part)):
        here = (*path, "autoScaling", "metrics", index)
        if found.type != "Resource":
            hint = f"set the annotation {AUTOSCALER} to keda"
            yield problems.refuse((*here, "type"), f"the hpa autoscaler takes no {found.type} metrics", hint)
        else:
            yield from _has(found, here)


def _kpa(part: component.Component, path: Path) -> Iterator[Problem]:
    if part.deployment_strategy is not None:
        reason = "deploymentStrategy needs deploymentMode Standard"
        yield problems.refuse((*path, "deploymentStrategy"), reason, "remove it, or change the annotation")
    if part.scale_metric in ("cpu", "memory"):
        reason = f"Knative's autoscaler knows no {part.scale_metric}"
        yield problems.refuse((*path, "scaleMetric"), reason, "write concurrency or rps")


def _keda(part: component.Component, path: Path) -> Iterator[Problem]:
    if part.scale_metric is not None:
        reason = "scaleMetric is not for the keda autoscaler"
        yield problems.refuse((*path, "scaleMetric"), reason, "describe it in autoScaling.metrics")
    for index, found in enumerate(autoscaling.queries(part)):
        here = (*path, "autoScaling", "metrics", index)
        missing = tuple(_has(found, here))
        yield from missing
        if missing:
            continue
        if found.resource is not None and found.type == "Resource":
            yield from _keda_resource(found.resource, (*here, "resource"))
        source = {"External": found.external, "PodMetric": found.podmetric}.get(found.type)
        if source is not None:
            inner = (*here, found.type.lower())
            if not source.metric.query:
                yield problems.refuse((*inner, "metric", "query"), "the query is missing")
            if source.target.value is None:
                yield problems.refuse((*inner, "target", "value"), "the value is missing")
            yield from _target(source.target, (*inner, "target"))


def _keda_resource(resource: component.ResourceMetric, path: Path) -> Iterator[Problem]:
    target = resource.target
    allowed = ("Utilization",) if resource.name == "cpu" else ("AverageValue", "Utilization")
    if target.type not in allowed:
        shown = target.type or "nothing"
        yield problems.refuse(
            (*path, "target", "type"), f"for {resource.name} it is {problems.one_of(allowed)}, got {shown}"
        )
    elif resource.name == "memory" and quantity.number(target.average_value or _MEBIBYTE) < _MEBIBYTE:
        yield problems.refuse((*path, "target", "averageValue"), f"{target.average_value} is less than 1Mi")
    yield from _target(target, (*path, "target"))


def _target(target: component.MetricTarget, path: Path) -> Iterator[Problem]:
    wanted = {
        "Utilization": ("averageUtilization", target.average_utilization),
        "AverageValue": ("averageValue", target.average_value),
        "Value": ("value", target.value),
    }
    if target.type is None:
        return
    name, value = wanted[target.type]
    if value is None:
        yield problems.refuse((*path, name), f"is missing for type {target.type}")
    percent = target.average_utilization
    if target.type == "Utilization" and percent is not None and percent > 100:
        yield problems.refuse((*path, name), f"{percent} is not a percentage in 1 to 100")


def _has(found: component.MetricSpec, path: Path) -> Iterator[Problem]:
    name = found.type.lower()
    if getattr(found, name) is None:
        yield problems.refuse((*path, name), f"is missing for type {found.type}")
