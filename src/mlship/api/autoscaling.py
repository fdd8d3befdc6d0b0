"""The annotations that speak of scaling, read into one record: Knative's, KServe's and mlship's own. Pure.

One table: each row is a value with the names it goes by and the range it must be in. ``check`` says what is wrong with
what was written, ``read`` gives the values to whoever translates them; a value that is wrong counts as not written.
The ranges are those of Knative (autoscaling annotation validation).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mlship import errors
from mlship.api import component, durations, problems
from mlship.api.problems import Path, Problem

AUTOSCALER = "serving.kserve.io/autoscalerClass"
AUTOSCALERS = ("hpa", "external", "keda", "none")
KNATIVE = "autoscaling.knative.dev/"
OWN = "mlship.dev/"
SCALE_LATENCY = f"{OWN}scale-latency-p99"
SCALE_QUEUE = f"{OWN}scale-queue-depth"
HOLD_SECONDS = f"{OWN}hold-seconds"
HOLD_REQUESTS = f"{OWN}hold-requests"
METRICS = ("concurrency", "rps", "cpu", "memory")
HPA_CLASS, KPA_CLASS = "hpa.autoscaling.knative.dev", "kpa.autoscaling.knative.dev"
# The most replicas where Knative would know no limit.
UNBOUNDED = 10
_HOUR = 3600.0
_MANY = 10**6
# Python reads more as a number than Go does: 1_0, blanks around it.
_NUMBER = re.compile(r"[0-9.eE+-]{1,40}", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """What annotations say of scaling; None where they say nothing. Times in seconds, shares in percent."""

    autoscaler: str | None = None
    knative: str | None = None
    metric: str | None = None
    target: float | None = None
    utilization: float | None = None
    least: int | None = None
    most: int | None = None
    initial: int | None = None
    activation: int | None = None
    window: float | None = None
    panic_window: float | None = None
    panic_threshold: float | None = None
    delay: float | None = None
    retention: float | None = None
    hpa_metric: str | None = None
    hpa_utilization: int | None = None
    latency: float | None = None
    queue: float | None = None
    hold: float | None = None
    places: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Bounds:
    """What a service says of its replicas: ``most`` None when it does not bound them."""

    least: int
    most: int | None


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text) if _NUMBER.fullmatch(text) else math.nan
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise errors.SpecError(f"{problems.cap(text, 40)!r} is not a number from {low:g} to {high:g}.")
        return value

    return parse


def _whole(low: int, high: int = _MANY) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
        if not low <= value <= high:
            raise errors.SpecError(f"{problems.cap(text, 40)!r} is not a whole number from {low} to {high}.")
        return value

    return parse


def _time(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = durations.seconds(text)
        if not low <= value <= high:
            raise errors.SpecError(f"{problems.cap(text, 40)!r} is not from {low:g}s to {high:g}s.")
        return value

    return parse


def _one(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            reason = f"{problems.cap(text, 60)!r} is not one of {problems.one_of(allowed)}."
            raise errors.SpecError(reason, hint=problems.did_you_mean(text, allowed))
        return text

    return parse


def _knative(kebab: str) -> tuple[str, ...]:
    """A name as Knative writes it, and as it wrote it before."""
    head, *rest = kebab.split("-")
    camel = head + "".join(part.capitalize() for part in rest)
    return tuple(dict.fromkeys((KNATIVE + kebab, KNATIVE + camel)))


_TABLE: Mapping[str, tuple[tuple[str, ...], Callable[[str], Any]]] = {
    "autoscaler": ((AUTOSCALER,), _one(*AUTOSCALERS)),
    "knative": (_knative("class"), _one(KPA_CLASS, HPA_CLASS)),
    "metric": (_knative("metric"), _one(*METRICS)),
    "target": (_knative("target"), _number(0.01, 1e12)),
    "utilization": (_knative("target-utilization-percentage"), _number(1, 100)),
    "least": (_knative("min-scale"), _whole(0)),
    "most": (_knative("max-scale"), _whole(0)),
    "initial": (_knative("initial-scale"), _whole(0)),
    "activation": (_knative("activation-scale"), _whole(1)),
    "window": (_knative("window"), _time(6, _HOUR)),
    "panic_window": (_knative("panic-window-percentage"), _number(1, 100)),
    "panic_threshold": (_knative("panic-threshold-percentage"), _number(110, 1000)),
    "delay": (_knative("scale-down-delay"), _time(0, _HOUR)),
    "retention": (_knative("scale-to-zero-pod-retention-period"), _time(0, _HOUR)),
    "hpa_metric": (("serving.kserve.io/metrics",), _one("cpu", "memory")),
    "hpa_utilization": (("serving.kserve.io/targetUtilizationPercentage",), _whole(1, 100)),
    "latency": ((SCALE_LATENCY,), _time(0.001, _HOUR)),
    "queue": ((SCALE_QUEUE,), _number(0.01, 1e9)),
    "hold": ((HOLD_SECONDS,), _number(1, _HOUR)),
    "places": ((HOLD_REQUESTS,), _whole(1)),
}
KEYS = frozenset(key for keys, _ in _TABLE.values() for key in keys)


def keys(name: str) -> tuple[str, ...]:
    """The annotations that give a value of ``Written``."""
    return _TABLE[name][0]


def read(annotations: Mapping[str, str]) -> Written:
    """The values that are written and right."""
    found: dict[str, Any] = {}
    for name, (keys, parse) in _TABLE.items():
        for key in keys:
            if key in annotations and name not in found:
                try:
                    found[name] = parse(annotations[key])
                except errors.SpecError:
                    continue
    return Written(**found)


def check(annotations: Mapping[str, str], path: Path) -> Iterator[Problem]:
    """What is wrong with them, each at its own place below ``path``."""
    for keys, parse in _TABLE.values():
        there = [key for key in keys if key in annotations]
        for key in there:
            try:
                parse(annotations[key])
            except errors.SpecError as error:
                yield problems.refuse((*path, key), *problems.said(error))
        if len({annotations[key] for key in there}) > 1:
            yield problems.refuse((*path, there[1]), f"{there[0]} says otherwise", "keep one of them")


def bounds(part: component.Component, written: Written) -> Bounds:
    """How many replicas a component wants. A field holds against an annotation, as in KServe; 0 bounds nothing."""
    least = part.min_replicas if part.min_replicas is not None else written.least
    most = part.max_replicas if part.max_replicas is not None else written.most
    return Bounds(least=1 if least is None else least, most=most or None)


def metric(part: component.Component, written: Written) -> str | None:
    """The one metric that fields or annotations name; None when they name none."""
    share = "cpu" if written.hpa_utilization is not None else None
    return part.scale_metric or written.metric or written.hpa_metric or share


def queries(part: component.Component) -> tuple[component.MetricSpec, ...]:
    """``autoScaling.metrics``."""
    return (part.auto_scaling.metrics or ()) if part.auto_scaling else ()


def fixed(written: Written) -> bool:
    """Whether the autoscaler is somebody else, or nobody."""
    return written.autoscaler in ("none", "external")


def kubernetes(part: component.Component, written: Written) -> bool:
    """Whether it is scaled as a HorizontalPodAutoscaler does it, with its ``behavior``, rather than as Knative does."""
    if written.autoscaler in ("hpa", "keda") or written.knative == HPA_CLASS:
        return True
    if written.knative == KPA_CLASS:
        return False
    return part.auto_scaling is not None or metric(part, written) in ("cpu", "memory")


def asks(part: component.Component, written: Written) -> bool:
    """Whether something says by what to scale, beside the bounds."""
    told = (part.scale_target, metric(part, written), written.target, written.latency, written.queue)
    return any(one is not None for one in told) or bool(queries(part))


def unbounded(part: component.Component, written: Written) -> int:
    """The most replicas of a service that does not bound them; 0: as many as the fewest.

    Knative knows no bound then. A machine does: ``UNBOUNDED``. KServe's HorizontalPodAutoscaler takes minReplicas.
    """
    return UNBOUNDED if asks(part, written) and not kubernetes(part, written) else 0
