"""A ScaledObject in the words of the scaler: KEDA's triggers, its defaults, its pauses. Pure and total.

What a trigger's metadata may hold was judged by ``api.check_scaled``; a trigger that is not known here is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from mlship.api import quantity, scaledobject
from mlship.api import service as services
from mlship.plan import measures, scaling, speed
from mlship.scale import policy as policies

_HELD = policies.Rules(select=policies.Select.DISABLED)
_PROMETHEUS_OPTIONS = ("namespace", "customHeaders", "ignoreNullValues", "queryParameters", "timeout")


def scaling_of(found: scaledobject.ScaledObject, effective: services.Effective) -> scaling.Scaling:
    """The scaling of the service that it targets. Its gate is the service's own."""
    spec = found.spec
    least = scaledobject.MIN_REPLICAS if spec.min_replica_count is None else spec.min_replica_count
    most = max(spec.max_replica_count or scaledobject.MAX_REPLICAS, least, 1)
    behavior = _behavior(spec)
    interval = float(spec.polling_interval or scaledobject.POLLING_SECONDS)
    asked = (one for trigger in spec.triggers for one in _measure(trigger, effective, interval, found.name))
    made = measures.named(asked, tolerance=speed.tolerance(behavior))
    idle = spec.idle_replica_count
    policy = policies.Policy(
        min_replicas=least,
        max_replicas=most,
        metrics=tuple(one.metric for one in made),
        idle_replicas=idle if idle is not None and idle < least else None,
        cooldown=float(scaledobject.COOLDOWN_SECONDS if spec.cooldown_period is None else spec.cooldown_period),
        interval=interval,
        behavior=_paused(speed.of(behavior), found.annotations),
        down_rate=speed.UNLIMITED,
        fallback=_fallback(spec.fallback),
    )
    return scaling.Scaling(
        policy,
        sources=tuple(one.source for one in made),
        crons=tuple(_crons(spec)),
        by=f"ScaledObject {found.name}",
        paused=scaledobject.paused_replicas(found),
    )


def _behavior(spec: scaledobject.ScaledObjectSpec) -> Mapping[str, object] | None:
    config = spec.advanced.horizontal_pod_autoscaler_config if spec.advanced else None
    return config.behavior if config else None


def _paused(behavior: policies.Behavior, annotations: Mapping[str, str]) -> policies.Behavior:
    """A direction that is paused is one in which nothing may change."""
    both = annotations.get(scaledobject.PAUSED, "").lower() == "true"
    up = both or annotations.get(scaledobject.PAUSED_OUT, "").lower() == "true"
    down = both or annotations.get(scaledobject.PAUSED_IN, "").lower() == "true"
    return policies.Behavior(up=_HELD if up else behavior.up, down=_HELD if down else behavior.down)


def _fallback(written: scaledobject.Fallback | None) -> policies.Fallback | None:
    """So many failures are borne, and one more is too many (KEDA, pkg/fallback).

    ``currentReplicas`` is what happens anyway: on what is not known nothing shrinks.
    """
    if written is None or written.behavior == "currentReplicas":
        return None
    return policies.Fallback(failures=max(written.failure_threshold, 0) + 1, replicas=max(written.replicas, 0))


def _measure(
    trigger: scaledobject.Trigger, effective: services.Effective, interval: float, asker: str
) -> Iterator[measures.Measure]:
    told = trigger.metadata
    if trigger.type in ("cpu", "memory"):
        target = _quantity(told.get("value", ""))
        if scaledobject.metric_type(trigger) == "AverageValue":
            yield measures.amount(trigger.type, target)
        else:
            yield measures.utilization(trigger.type, target, effective)
    elif trigger.type == "prometheus":
        yield measures.prometheus(
            told.get("serverAddress", ""),
            told.get("query", ""),
            _positive(float(told.get("threshold") or 1)),
            value=trigger.metric_type == "Value",
            name=trigger.name or trigger.type,
            activation=float(told.get("activationThreshold") or 0.0),
            interval=interval,
            options={key: told[key] for key in _PROMETHEUS_OPTIONS if key in told},
        )
    elif trigger.type in scaledobject.SCALERS:
        yield measures.scaler(trigger, asker=asker, interval=interval)


def _crons(spec: scaledobject.ScaledObjectSpec) -> Iterator[scaling.Cron]:
    for index, trigger in enumerate(spec.triggers, start=1):
        told = trigger.metadata
        if trigger.type == "cron":
            yield scaling.Cron(
                name=trigger.name or f"cron {index}",
                start=told.get("start", ""),
                end=told.get("end", ""),
                timezone=told.get("timezone", ""),
                replicas=int(told.get("desiredReplicas") or 0),
            )


def _quantity(text: str) -> float:
    """Cores, bytes or percent."""
    return _positive(float(quantity.number(text or 1)))


def _positive(found: float) -> float:
    """What ``check`` knows to be a number above 0; anything else counts as 1."""
    return found if 0 < found < math.inf else 1.0
