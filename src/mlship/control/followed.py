"""What is measured of one service, and what follows from it: samples in, ``observed.Demand`` out. Pure.

The feeds put in what they read; nothing here knows where from. A replica is measured from the moment it is ready, so
that neither its loading nor a zero of its first seconds counts, and until it is gone. One that has never been measured
although it has been ready for some seconds makes the whole unknown: what it does may be the most.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection

from mlship.control import flow
from mlship.plan import observed, replicas, scaling
from mlship.scale import policy as policies
from mlship.scale import readings, window

Live = tuple[observed.ReplicaId, int | None]

_SILENT_AFTER = 5.0
_SHORT = 10
# What others are asked for, each in a task of its own.
ASKED = (scaling.Origin.PROMETHEUS, scaling.Origin.SCALER)
_CPU, _MEMORY, _QUEUE = policies.Kind.CPU, policies.Kind.MEMORY, policies.Kind.QUEUE


@dataclasses.dataclass(slots=True)
class Measured:
    """The samples of one replica by what is measured; ``since`` when."""

    replica: observed.Replica
    since: float
    windows: dict[policies.Kind, window.Window]

    def add(self, kind: policies.Kind, at: float, value: float) -> None:
        self.windows[kind].add(at, value)


@dataclasses.dataclass(slots=True)
class Answer:
    """The last answer to a query; ``value`` None: it had none. ``failures`` in a row since the last one.

    ``active``: whether there is work, of those who are asked for that, too.
    """

    value: float | None = None
    failures: int = 0
    active: bool | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Needs:
    """What shall be read of a service now."""

    traffic: bool
    usage: bool
    queues: bool

    @property
    def any(self) -> bool:
        return self.traffic or self.usage or self.queues


class Followed:
    """One service."""

    def __init__(self) -> None:
        self.scaling: scaling.Scaling | None = None
        self.seen = observed.Observed()
        self.flow: flow.Flow | None = None
        self.live: dict[Live, Measured] = {}
        self.gone: list[Measured] = []
        self.answers: dict[str, Answer] = {}
        self.glanced_until = 0.0
        self.pressing = False
        self._seconds = 60

    # What is needed.

    def follow(self, wanted: scaling.Scaling | None, seen: observed.Observed, now: float) -> None:
        """From now on it is scaled like this, and these are its replicas."""
        if wanted != self.scaling:
            before = {one for origin in ASKED for one in self.sources(origin)}
            self.scaling = wanted
            self._resize(before)
        self.seen = seen
        current = {
            (one.id, one.pid): one
            for one in seen.replicas
            if replicas.is_ready(one) or ((one.id, one.pid) in self.live and one.phase is observed.Phase.RUNNING)
        }
        for key in [key for key in self.live if key not in current]:
            ended = self.live.pop(key)
            for kept in ended.windows.values():
                kept.end(now)
            self.gone.append(ended)
        for key, replica in current.items():
            found = self.live.get(key)
            if found is None:
                windows = {kind: window.Window(self._seconds) for kind in (_CPU, _MEMORY, _QUEUE)}
                self.live[key] = Measured(replica, now, windows)
            else:
                found.replica = replica
        self.gone = [one for one in self.gone if not all(kept.expired(now) for kept in one.windows.values())]

    def _resize(self, before: Collection[scaling.Source]) -> None:
        seconds = 60 if self.scaling is None else max(1, math.ceil(self.scaling.policy.stable))
        if seconds != self._seconds:
            self._seconds, self.flow, self.live, self.gone = seconds, None, {}, []
        asked = [one for origin in ASKED for one in self.sources(origin)]
        known = self.answers
        self.answers = {one.metric: known.get(one.metric, Answer()) if one in before else Answer() for one in asked}

    def sources(self, origin: scaling.Origin) -> tuple[scaling.Source, ...]:
        """What shall be measured there."""
        if self.scaling is None or not self.decided:
            return ()
        return tuple(one for one in self.scaling.sources if one.origin is origin)

    @property
    def decided(self) -> bool:
        """Whether anything depends on what is measured."""
        return self.scaling is not None and is_decided(self.scaling)

    def needs(self, now: float) -> Needs:
        """What shall be read of it."""
        glanced = now < self.glanced_until
        return Needs(
            # One without replicas has no traffic: whoever comes waits at the gate.
            traffic=bool(self.seen.replicas) and (glanced or self._traffic_decides),
            usage=bool(self.live) and (glanced or bool(self.sources(scaling.Origin.PROCESSES))),
            queues=bool(self.live) and bool(self.sources(scaling.Origin.REPLICAS)),
        )

    @property
    def _traffic_decides(self) -> bool:
        if self.scaling is None or not self.decided:
            return False
        sleeps = self.scaling.policy.rest < self.scaling.policy.floor
        return sleeps or bool(self.sources(scaling.Origin.GATEWAY))

    def traffic(self) -> flow.Flow:
        """Where readings of its traffic go."""
        if self.flow is None:
            self.flow = flow.Flow(self._seconds)
        return self.flow

    def held(self, now: float, waiting: int) -> None:
        """Callers wait at the gate. While no replica is ready Envoy has no cluster that could be read, and only here
        they are counted.

        They are load like any other: without them a service that has just been woken would look unused, and who comes
        while its first replica loads a large model would be one more caller for that one.
        """
        if self._traffic_decides and not self.live:
            self.traffic().concurrency.add(now, float(waiting))

    # What follows.

    def demand(self, now: float) -> observed.Demand:
        """How much it is used."""
        if self.scaling is None:
            return observed.Demand()
        policy = self.scaling.policy
        sources = {one.metric: one for one in self.scaling.sources}
        metrics = {
            metric.name: self._reading(metric, sources[metric.name], now)
            for metric in policy.metrics
            if metric.name in sources
        }
        return observed.Demand(metrics=metrics, busy=self.busy(now), sources=self.scaling.sources)

    def busy(self, now: float) -> bool | None:
        """Whether requests came within the stable window."""
        if self.flow is None:
            return None
        both = [one.series(now, self._seconds) for one in (self.flow.rate, self.flow.concurrency)]
        if any((one.maximum or 0.0) > 0.0 for one in both):
            return True
        return False if all(one.coverage >= 1.0 for one in both) else None

    def _reading(self, metric: policies.Metric, source: scaling.Source, now: float) -> readings.Reading:
        if source.origin is scaling.Origin.GATEWAY:
            return self._of_traffic(metric, source, now)
        if source.origin in ASKED:
            return self._of_answer(metric.name)
        return self._of_replicas(metric, source, now)

    def _of_traffic(self, metric: policies.Metric, source: scaling.Source, now: float) -> readings.Reading:
        if self.flow is None:
            return readings.UNKNOWN
        if metric.kind is policies.Kind.LATENCY:
            value = self.flow.latency(now, quantile=source.quantile, seconds=self._seconds)
            return readings.Reading(stable=value, coverage=self.flow.rate.coverage(now, self._seconds))
        return readings.of(self._traffic(metric.kind).series(now, self._seconds), panic=self._panic)

    def _traffic(self, kind: policies.Kind) -> window.Window:
        return self.traffic().rate if kind is policies.Kind.RPS else self.traffic().concurrency

    @property
    def _panic(self) -> int:
        return 1 if self.scaling is None else max(1, round(self.scaling.policy.panic))

    def _of_answer(self, name: str) -> readings.Reading:
        answer = self.answers.get(name, Answer())
        known = 0.0 if answer.value is None else 1.0
        return readings.Reading(stable=answer.value, coverage=known, active=answer.active, failures=answer.failures)

    def _of_replicas(self, metric: policies.Metric, source: scaling.Source, now: float) -> readings.Reading:
        late = now - _SILENT_AFTER
        if any(one.since < late and not _known(one.windows[metric.kind], now) for one in self.live.values()):
            return readings.UNKNOWN
        parts = [
            one.windows[metric.kind].series(now, self._seconds)
            for one in (*self.live.values(), *self.gone)
            if metric.kind in one.windows
        ]
        joined = window.mean(parts) if metric.shape is policies.Form.VALUE else window.total(parts)
        found = readings.of(joined, panic=self._panic)
        if not source.request:
            return found
        return dataclasses.replace(found, stable=_share(found.stable, source), panic=_share(found.panic, source))

    # What cannot wait.

    def presses(self) -> bool:
        """Whether the load is near what its ready replicas shall have, or above: worth a closer look."""
        return any(self._pressure(metric) > 0.5 for metric in self._loads())

    def jumped(self, now: float) -> bool:
        """Whether the panic window asks for enough more replicas that nobody should wait for the next regular look."""
        if self.scaling is None:
            return False
        policy = self.scaling.policy
        for metric in self._loads():
            if self._pressure(metric) <= 1.0 or len(self.seen.replicas) >= policy.max_replicas:
                continue
            average = self._traffic(metric.kind).series(now, self._panic).average or 0.0
            asked = math.ceil(average / metric.aim - 1e-9)
            if asked >= policy.panic_threshold * max(1, len(self.live)) and asked > len(self.seen.replicas):
                return True
        return False

    def _loads(self) -> tuple[policies.Metric, ...]:
        if self.scaling is None or self.flow is None or not self.decided:
            return ()
        kinds = (policies.Kind.CONCURRENCY, policies.Kind.RPS)
        return tuple(one for one in self.scaling.policy.metrics if one.kind in kinds)

    def _pressure(self, metric: policies.Metric) -> float:
        if self.flow is None:
            return 0.0
        value = self.flow.newest_rate if metric.kind is policies.Kind.RPS else self.flow.instant
        return value / (metric.aim * max(1, len(self.live)))

    # What people want to see.

    def recent(self, kind: policies.Kind, now: float) -> float | None:
        """Cores, or bytes, of all replicas over the last seconds."""
        parts = [one.windows[kind].series(now, min(_SHORT, self._seconds)) for one in self.live.values()]
        return window.total(parts).last(3).average if parts else None

    def recent_traffic(self, kind: policies.Kind, now: float) -> float | None:
        """Requests/s, or requests at a time, over the last seconds."""
        return None if self.flow is None else self._traffic(kind).average(now, _SHORT)

    def recent_latency(self, now: float) -> float | None:
        """The 99th percentile of the last minute, in seconds."""
        return None if self.flow is None else self.flow.latency(now, quantile=0.99, seconds=self._seconds)


def is_decided(wanted: scaling.Scaling) -> bool:
    """Whether there is something to decide: a number that may change."""
    return wanted.paused is None and wanted.policy.rest < wanted.policy.max_replicas


def _known(kept: window.Window, now: float) -> bool:
    return kept.maximum(now, _SHORT) is not None


def _share(value: float | None, source: scaling.Source) -> float | None:
    return None if value is None else value / source.request
