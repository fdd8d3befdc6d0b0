"""A service in virtual time: requests come, wait and are answered, replicas take a while to start, the scaler decides.

A discrete-event simulation with a resolution of one second. While a service rests, time jumps to its next request, so
a fleet of mostly idle services costs little. What is counted is what a change of the scaler's constants would trade:
replica-seconds against requests that waited, and the number of times it went to and fro.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable

from mlship.scale import decide, memory, policy, readings, window

START = 1_700_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """A replica answers ``slots`` requests at a time, each in ``takes`` seconds, and is ready after ``start`` seconds.

    A request that waited more than ``slo`` seconds is late; after ``patience`` it fails. At the seconds of
    ``restarts`` the control plane loses its windows, at those of ``losses`` the memory as well.
    """

    policy: policy.Policy
    arrivals: dict[int, int]
    takes: float = 0.1
    slots: int = 4
    start: int = 1
    slo: int = 1
    patience: int = 30
    restarts: tuple[int, ...] = ()
    losses: tuple[int, ...] = ()


@dataclasses.dataclass(slots=True)
class Report:
    """What came of it. ``history``: the second of each change and the number of replicas from then on."""

    seconds: int
    replica_seconds: int = 0
    requests: int = 0
    late: int = 0
    failed: int = 0
    flaps: int = 0
    wakes: int = 0
    decisions: int = 0
    most: int = 0
    history: list[tuple[int, int]] = dataclasses.field(default_factory=list)

    @property
    def mean(self) -> float:
        """Replicas on average."""
        return self.replica_seconds / self.seconds

    def replicas_at(self, second: int) -> int:
        """How many there were."""
        return next((many for at, many in reversed(self.history) if at <= second), 0)

    def __str__(self) -> str:
        return (
            f"{self.requests} requests, {self.late} late, {self.failed} failed; {self.mean:.2f} replicas on average, "
            f"{self.most} at most; {len(self.history)} changes, {self.flaps} flaps, {self.wakes} wake-ups, "
            f"{self.decisions} decisions"
        )


class _World:
    def __init__(self, service: Service, seconds: int) -> None:
        self.service, self.report = service, Report(seconds)
        self.concurrency, self.rate = window.Window(60), window.Window(60)
        self.memory: memory.Memory | None = None
        self.ready = 0
        self.starting: list[int] = []
        self.queue: collections.deque[list[int]] = collections.deque()
        self.wake_at: float | None = START
        self.seen = -1
        self.fell_at = -(10**9)

    @property
    def replicas(self) -> int:
        return self.ready + len(self.starting)

    def run(self) -> Report:
        coming = iter(sorted({*self.service.arrivals, *self.service.restarts, *self.service.losses}))
        following = next(coming, None)
        second = 0
        while second < self.report.seconds:
            self._step(second)
            while following is not None and following <= second:
                following = next(coming, None)
            second += 1
            if not self.replicas and not self.queue:
                later = [one for one in (following, self._due()) if one is not None]
                second = max(second, min(later, default=self.report.seconds))
        return self.report

    def _due(self) -> int | None:
        return None if self.wake_at is None else int(self.wake_at) - START

    def _step(self, second: int) -> None:
        self._forget(second)
        self.ready += sum(at <= second for at in self.starting)
        self.starting = [at for at in self.starting if at > second]
        come = self.service.arrivals.get(second, 0)
        self.report.requests += come
        if come:
            self.queue.append([second, come])
        working = self._serve(second)
        self._measure(second, working + sum(count for _, count in self.queue), come)
        stuck = bool(self.queue) and not self.replicas
        if stuck or (self.wake_at is not None and START + second >= self.wake_at):
            self._decide(second)
        self.report.replica_seconds += self.replicas

    def _forget(self, second: int) -> None:
        if second in self.service.losses or second in self.service.restarts:
            self.concurrency, self.rate, self.seen = window.Window(60), window.Window(60), second - 1
            self.wake_at = START + second
        if second in self.service.losses:
            self.memory = None
        elif second in self.service.restarts and self.memory is not None:
            stored = memory.read(self.memory.as_dict())
            assert stored is not None
            self.memory = memory.resumed(stored, START + second)

    def _serve(self, second: int) -> float:
        """Answer what the ready replicas can within a second, the oldest first; returns how many were in work."""
        left = able = int(self.ready * self.service.slots / self.service.takes)
        while self.queue and left:
            came, count = self.queue[0]
            done = min(count, left)
            left -= done
            self.report.late += done if second - came > self.service.slo else 0
            if done == count:
                self.queue.popleft()
            else:
                self.queue[0][1] -= done
        while self.queue and second - self.queue[0][0] >= self.service.patience:
            self.report.failed += self.queue.popleft()[1]
        return (able - left) * self.service.takes

    def _measure(self, second: int, concurrency: float, come: int) -> None:
        """What the gateway counted, also in the seconds that were jumped over."""
        for quiet in range(max(self.seen + 1, second - 70), second):
            self.concurrency.add(START + quiet, 0.0)
            self.rate.add(START + quiet, 0.0)
        self.concurrency.add(START + second, concurrency)
        self.rate.add(START + second, come)
        self.seen = second

    def _decide(self, second: int) -> None:
        now, made = float(START + second), self.service.policy
        stable, panic = int(made.stable), max(1, int(made.panic))
        found = {
            name: readings.of(measured.series(now, stable), panic=panic)
            for name, measured in (("concurrency", self.concurrency), ("rps", self.rate))
            if any(metric.name == name for metric in made.metrics)
        }
        waiting = 0 if self.ready else sum(count for _, count in self.queue)
        both = [measured.series(now, stable) for measured in (self.concurrency, self.rate)]
        whole = all(one.coverage >= 1.0 for one in both)
        busy = any((one.maximum or 0.0) > 0.0 for one in both) or (False if whole else None)
        seen = readings.Readings(self.replicas, self.ready, metrics=found, waiting=waiting, busy=busy)
        decision = decide.decide(made, seen, self.memory, now)
        self.memory, self.wake_at = decision.memory, decision.wake_at
        self.report.decisions += 1
        self._apply(second, decision.replicas)

    def _apply(self, second: int, wanted: int) -> None:
        before = self.replicas
        if wanted == before:
            return
        report = self.report
        if wanted > before:
            self.starting += [second + self.service.start] * (wanted - before)
            report.flaps += second - self.fell_at < 60
            self.fell_at = -(10**9)
            report.wakes += not before
        else:
            kept = max(0, wanted - self.ready)
            self.starting, self.ready = self.starting[:kept], min(self.ready, wanted)
            self.fell_at = second
        report.most = max(report.most, wanted)
        report.history.append((second, wanted))


def run(service: Service, *, seconds: int) -> Report:
    """The life of one service."""
    return _World(service, seconds).run()


def together(reports: Iterable[Report]) -> Report:
    """The sums over a fleet; ``seconds`` is that of one, so that the mean is of replicas of all."""
    total: Report | None = None
    for one in reports:
        total = total or Report(one.seconds)
        for name in ("replica_seconds", "requests", "late", "failed", "flaps", "wakes", "decisions"):
            setattr(total, name, getattr(total, name) + getattr(one, name))
    assert total is not None
    return total
