"""The rules of ScaledObject: bounds, and what each trigger's metadata must hold (KEDA's webhook and scalers).

A trigger of a type that is not done here is left to ``honour``: it is valid, and refused with what works instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping

from mlship import errors
from mlship.api import check_behavior, check_container, crontab, fields, problems, quantity, scaledobject
from mlship.api.problems import Path, Problem

_TRUE_FALSE = ("true", "false")
_ADDRESS = re.compile(r"[A-Za-z0-9._\[\]:-]+:[0-9]{1,5}", re.ASCII)
# Python reads more as a number than Go does: 1_0, blanks around it.
_NUMBER = re.compile(r"[0-9.eE+-]{1,40}", re.ASCII)
_MOST = 10**6
# What a trigger's metadata must hold, and what else it may; None: whatever its scaler takes.
REQUIRED = {
    "prometheus": ("serverAddress", "query", "threshold"),
    "cpu": ("value",),
    "memory": ("value",),
    "cron": ("timezone", "start", "end", "desiredReplicas"),
    "external": ("scalerAddress",),
    "external-push": ("scalerAddress",),
}
OPTIONAL: Mapping[str, tuple[str, ...] | None] = {
    "prometheus": (
        "activationThreshold",
        "namespace",
        "customHeaders",
        "ignoreNullValues",
        "queryParameters",
        "timeout",
        "metricName",
        "unsafeSsl",
        "authModes",
        "cortexOrgID",
    ),
    "cpu": ("type", "containerName"),
    "memory": ("type", "containerName"),
    "cron": (),
    "external": None,
    "external-push": None,
}


def check_scaled_object(found: scaledobject.ScaledObject) -> Iterator[Problem]:
    """Every broken rule of a ScaledObject."""
    spec = found.spec
    yield from _annotations(found.annotations)
    yield from _bounds(spec)
    config = spec.advanced.horizontal_pod_autoscaler_config if spec.advanced else None
    if config is not None and config.behavior is not None:
        path: Path = ("spec", "advanced", "horizontalPodAutoscalerConfig", "behavior")
        yield from check_behavior.check_behavior(config.behavior, path)
    names = [trigger.name or f"\0{index}" for index, trigger in enumerate(spec.triggers)]
    yield from check_container.doubles(names, ("spec", "triggers"), "name", "trigger name")
    for index, trigger in enumerate(spec.triggers):
        yield from _trigger(trigger, ("spec", "triggers", index))


def _annotations(annotations: Mapping[str, str]) -> Iterator[Problem]:
    path: Path = ("metadata", "annotations")
    for key in (scaledobject.PAUSED, scaledobject.PAUSED_IN, scaledobject.PAUSED_OUT):
        if key in annotations and annotations[key].lower() not in _TRUE_FALSE:
            yield problems.refuse((*path, key), f'{problems.cap(annotations[key], 40)!r} is not "true" or "false"')
    if scaledobject.PAUSED_REPLICAS in annotations:
        text = annotations[scaledobject.PAUSED_REPLICAS]
        if not _whole(text):
            reason = f"{problems.cap(text, 40)!r} is not a number of replicas"
            yield problems.refuse((*path, scaledobject.PAUSED_REPLICAS), reason, 'write for example "2"')


def _bounds(spec: scaledobject.ScaledObjectSpec) -> Iterator[Problem]:
    least = scaledobject.MIN_REPLICAS if spec.min_replica_count is None else spec.min_replica_count
    most = scaledobject.MAX_REPLICAS if spec.max_replica_count is None else spec.max_replica_count
    if least > most:
        reason = f"minReplicaCount {least} is more than maxReplicaCount {most}"
        yield problems.refuse(("spec", "minReplicaCount"), reason, f"raise maxReplicaCount to {least}")
    idle = spec.idle_replica_count
    if idle is not None and idle >= least:
        reason = f"idleReplicaCount {idle} is not less than minReplicaCount {least}"
        hint = "remove it: minReplicaCount is what is left" if idle == least else "lower it, or raise minReplicaCount"
        yield problems.refuse(("spec", "idleReplicaCount"), reason, hint)


def _trigger(trigger: scaledobject.Trigger, path: Path) -> Iterator[Problem]:
    if trigger.type not in REQUIRED:
        return
    told, here = trigger.metadata, (*path, "metadata")
    required, optional = REQUIRED[trigger.type], OPTIONAL[trigger.type]
    for name in required:
        if not told.get(name):
            close = problems.nearest(name, [one for one in told if one not in required])
            hint = f"{close} is written {name}" if close and not told.get(name) else ""
            yield problems.refuse((*here, name), "required field is missing", hint)
    for name in told if optional is not None else ():
        known = (*required, *(optional or ()))
        if name not in known:
            hint = problems.did_you_mean(name, known) or f"known here: {', '.join(sorted(known))}"
            yield problems.refuse((*here, name), f"is no setting of the trigger {trigger.type}", hint)
    yield from _metric_type(trigger, path)
    for name, check in _VALUES.get(trigger.type, {}).items():
        if told.get(name) and (reason := check(told[name])):
            yield problems.refuse((*here, name), reason)
    if trigger.type == "cron":
        yield from _cron(told, here)
    if trigger.type in ("cpu", "memory"):
        yield from _resource(trigger, here)


def _metric_type(trigger: scaledobject.Trigger, path: Path) -> Iterator[Problem]:
    kind = trigger.metric_type
    if trigger.type in ("cpu", "memory"):
        found, allowed = scaledobject.metric_type(trigger), ("Utilization", "AverageValue")
        if found not in allowed:
            reason = f"{problems.cap(kind, 40)!r} is not one of {problems.one_of(allowed)}" if kind else "is missing"
            yield problems.refuse((*path, "metricType"), reason, f"write {problems.one_of(allowed)}")
    elif kind is not None and kind not in ("AverageValue", "Value"):
        hint = "Utilization is for the triggers cpu and memory" if kind == "Utilization" else ""
        reason = f"{problems.cap(kind, 40)!r} is not one of AverageValue or Value"
        yield problems.refuse((*path, "metricType"), reason, hint)


def _resource(trigger: scaledobject.Trigger, path: Path) -> Iterator[Problem]:
    text = trigger.metadata.get("value", "")
    if not text:
        return
    try:
        value = float(quantity.number(text[: fields.MAX_QUANTITY]))
    except errors.SpecError as error:
        yield problems.refuse((*path, "value"), *problems.said(error))
        return
    if scaledobject.metric_type(trigger) == "Utilization" and not (_whole(text) and value >= 1):
        yield problems.refuse((*path, "value"), f"{problems.cap(text, 40)!r} is not a percentage from 1 on")
    elif not 0 < value < math.inf:
        yield problems.refuse((*path, "value"), f"{problems.cap(text, 40)!r} is not more than 0")


def _cron(told: Mapping[str, str], path: Path) -> Iterator[Problem]:
    for name in ("start", "end", "timezone"):
        if told.get(name):
            try:
                crontab.zone(told[name]) if name == "timezone" else crontab.check(told[name])
            except errors.SpecError as error:
                yield problems.refuse((*path, name), *problems.said(error))
    if told.get("start") and told.get("start") == told.get("end"):
        yield problems.refuse((*path, "end"), "is the same as start", "write when it ends")


def _whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text[:12]) <= _MOST


def _replicas(text: str) -> str:
    return "" if _whole(text) else f"{problems.cap(text, 40)!r} is not a number of replicas"


def _float(low: float, *, beyond: bool) -> Callable[[str], str]:
    def check(text: str) -> str:
        try:
            value = float(text) if _NUMBER.fullmatch(text) else math.nan
        except ValueError:
            value = math.nan
        good = math.isfinite(value) and (value > low if beyond else value >= low)
        return "" if good else f"{problems.cap(text, 40)!r} is not a number {'above' if beyond else 'from'} {low:g}"

    return check


def _boolean(text: str) -> str:
    return "" if text.lower() in _TRUE_FALSE else f'{problems.cap(text, 40)!r} is not "true" or "false"'


def _url(text: str) -> str:
    good = re.match(r"https?://[^/\s]+", text) is not None
    return "" if good else f"{problems.cap(text, 80)!r} is not an address such as http://prometheus:9090"


def _address(text: str) -> str:
    return "" if _ADDRESS.fullmatch(text) else f"{problems.cap(text, 80)!r} is not an address such as scaler:9090"


def _pairs(text: str) -> str:
    good = all(part.partition("=")[0].strip() and "=" in part for part in text.split(","))
    return "" if good else "is not of the form name=value,name=value"


_SCALER = {"scalerAddress": _address, "enableTLS": _boolean, "unsafeSsl": _boolean}
# Values that are wrong whatever else is said: the reason, or empty.
_VALUES: Mapping[str, Mapping[str, Callable[[str], str]]] = {
    "prometheus": {
        "serverAddress": _url,
        "threshold": _float(0, beyond=True),
        "activationThreshold": _float(0, beyond=False),
        "ignoreNullValues": _boolean,
        "unsafeSsl": _boolean,
        "customHeaders": _pairs,
        "queryParameters": _pairs,
        "timeout": _float(0, beyond=True),
    },
    "cron": {"desiredReplicas": _replicas},
    "external": _SCALER,
    "external-push": _SCALER,
}
