"""Measures how much services are used: what ``Scaling.sources`` names, and only for services that need it.

Beside the loop. The loop says after each decision what to follow; the feeds read (Envoy's statistics, processes, model
servers, Prometheus, scalers), keep windows in memory, and answer the next look at once. Nothing is kept over a start:
what is not known shrinks nothing.

Reading Envoy takes one request for all services, however many. It is read twice a second while nothing presses and
four times a second while a load is near its target, but never for more than a tenth of the time. A service that asks
for much more than it has is told to the loop at once. Without a service to follow nothing is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Protocol

import httpx

from mlship import aio, errors
from mlship.control import followed, processes, queries, scalers, seams
from mlship.gateway import stats
from mlship.plan import observed, scaling
from mlship.scale import policy as policies

log = logging.getLogger("mlship.feeds")

_CALM, _PRESSED = 0.5, 0.25
_REPLICAS_EVERY = 1.0
# At most a tenth of the time is spent on reading, and no answer is so slow that a window runs out.
_SHARE, _LONGEST = 10.0, 4.0
_AT_ONCE = 16
_GLANCE, _GLANCE_EVERY, _GLANCE_LOOKS = 10.0, 0.1, 20


class Admin(Protocol):
    """Where Envoy's statistics come from: ``gateway.admin.Admin``."""

    async def stats(self, pattern: str) -> str:
        """The statistics whose names match. Raises NotReady."""
        ...


class Feeds:
    """``seams.Feeds``.

    Args:
        waiting: how many callers wait at the gate for a service.
        clock: Unix seconds.
    """

    def __init__(
        self,
        admin: Admin,
        *,
        waiting: Callable[[observed.ServiceKey], int] = lambda service: 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._admin = admin
        self._waiting = waiting
        self._clock = clock
        self._services: dict[observed.ServiceKey, followed.Followed] = {}
        # Those of them that have something to read now.
        self._needy: dict[observed.ServiceKey, followed.Followed] = {}
        self._needs: dict[observed.ServiceKey, followed.Needs] = {}
        self._more: list[asyncio.Event] = []
        self._pressing: set[observed.ServiceKey] = set()
        self._pressed = asyncio.Event()
        self._processes = processes.Reader()
        self._servers: dict[str, httpx.AsyncClient] = {}
        # Others may take long to answer, or never do: the replicas' queues do not wait for them.
        self._at_once, self._queues_at_once = asyncio.Semaphore(_AT_ONCE), asyncio.Semaphore(_AT_ONCE)
        self._asking: dict[tuple[observed.ServiceKey, scaling.Source], asyncio.Task[None]] = {}
        self._prometheus = httpx.AsyncClient(trust_env=False)
        self._owner: aio.Tasks | None = None

    async def run(self) -> None:
        """Measure until cancelled."""
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._close_clients)
            self._owner = await stack.enter_async_context(aio.tasks(self._broken))
            for name, read in (
                ("traffic", self._read_traffic), ("processes", self._read_processes), ("queues", self._read_queues),
            ):  # fmt: skip
                self._owner.start(self._forever(read), name=f"read {name}")
            for key, one in self._services.items():
                self._ask(key, one)
            await asyncio.Event().wait()

    # What the loop asks.

    def follow(self, service: observed.ServiceKey, wanted: scaling.Scaling | None, seen: observed.Observed) -> None:
        """See ``seams.Feeds``."""
        one = self._services.get(service)
        if one is None and (wanted is None or not followed.is_decided(wanted)):
            return
        if wanted is None:
            self._forget(service)
            return
        one = one or self._services.setdefault(service, followed.Followed())
        changed = wanted != one.scaling
        one.follow(wanted, seen, self._clock())
        if changed:
            self._ask(service, one)
        self._look_at(service, one)

    def _look_at(self, service: observed.ServiceKey, one: followed.Followed) -> None:
        """Read of it what it needs now; one that needs nothing costs nothing."""
        before = self._needs.get(service)
        needs = one.needs(self._clock())
        if needs.any:
            self._needs[service] = needs
            self._needy[service] = one
            if needs != before:
                for more in self._more:
                    more.set()
            return
        self._needs.pop(service, None)
        self._needy.pop(service, None)
        if one.flow is not None:
            one.flow.pause()
        if not one.decided:
            self._forget(service)

    def _forget(self, service: observed.ServiceKey) -> None:
        self._services.pop(service, None)
        self._needy.pop(service, None)
        self._needs.pop(service, None)
        self._stop_asking(service, keep=())

    def of(self, service: observed.ServiceKey, *, now: float) -> observed.Demand:
        """See ``seams.Feeds``."""
        one = self._services.get(service)
        if one is None:
            return observed.Demand()
        if waiting := self._waiting(service):
            one.held(now, waiting)
        return one.demand(now)

    async def watch(self) -> AsyncIterator[observed.ServiceKey]:
        """See ``seams.Feeds``."""
        while True:
            await self._pressed.wait()
            self._pressed.clear()
            while self._pressing:
                yield self._pressing.pop()

    def _press(self, service: observed.ServiceKey) -> None:
        self._pressing.add(service)
        self._pressed.set()

    async def figures(
        self, services: Mapping[observed.ServiceKey, observed.Observed]
    ) -> Mapping[observed.ServiceKey, seams.Figures]:
        """See ``seams.Feeds``."""
        now = self._clock()
        for key, seen in services.items():
            one = self._services.setdefault(key, followed.Followed())
            if one.scaling is None:
                one.follow(None, seen, now)
            one.glanced_until = now + _GLANCE
        found = {key: self._services[key] for key in services}
        for key, one in found.items():
            self._look_at(key, one)
        for _ in range(_GLANCE_LOOKS):
            if not any(one.seen.replicas and _nothing_yet(one, self._clock()) for one in found.values()):
                break
            await asyncio.sleep(_GLANCE_EVERY)
        return {key: _figures(one, self._clock()) for key, one in found.items()}

    # Reading.

    async def _forever(self, read: Callable[[], Awaitable[float | None]]) -> None:
        """Read again after what was returned, None: when there is something to read; never for most of the time."""
        more = asyncio.Event()
        self._more.append(more)
        while True:
            more.clear()
            started = time.perf_counter()
            try:
                pause = await read()
            except Exception as error:
                log.error("reading failed: %s", error, exc_info=error)
                pause = _LONGEST
            if pause is None:
                await more.wait()
                continue
            await asyncio.sleep(_pause(pause, time.perf_counter() - started))

    async def _read_traffic(self) -> float | None:
        now = self._clock()
        for key, one in list(self._needy.items()):
            self._look_at(key, one)
        wanted = {key: one for key, one in self._needy.items() if one.needs(now).traffic}
        if not wanted:
            return None
        try:
            found = stats.parse(await self._admin.stats(stats.pattern(wanted)))
        except errors.NotReady as error:
            log.debug("the traffic is not known: %s", error)
            return _CALM
        now, pressed = self._clock(), False
        for key, one in wanted.items():
            clusters = found.get(key)
            if clusters is None:
                one.traffic().pause()
                continue
            one.traffic().add(now, clusters, waiting=self._waiting(key))
            before, one.pressing = one.pressing, one.presses()
            pressed = pressed or one.pressing
            # The beginning of a load, too: one that was calm is looked at seldom.
            if one.jumped(now) or (one.pressing and not before):
                self._press(key)
        return _PRESSED if pressed else _CALM

    async def _read_processes(self) -> float | None:
        now = self._clock()
        wanted = [
            measured
            for one in self._needy.values()
            if one.needs(now).usage
            for (_, pid), measured in one.live.items()
            if pid is not None
        ]
        if not wanted:
            return None
        pids = [one.replica.pid for one in wanted if one.replica.pid is not None]
        # The time at which they are read: a thread may begin late, and what passed meanwhile is work, not load.
        found = await asyncio.to_thread(lambda: self._processes.read(pids, self._clock()))
        for one in wanted:
            usage = found.get(one.replica.pid or 0)
            if usage is not None:
                one.add(policies.Kind.MEMORY, now, usage.memory)
                if usage.cores is not None:
                    one.add(policies.Kind.CPU, now, usage.cores)
        return _REPLICAS_EVERY

    async def _read_queues(self) -> float | None:
        now = self._clock()
        wanted = [measured for one in self._needy.values() if one.needs(now).queues for measured in one.live.values()]
        places = {one.replica.endpoint.http for one in wanted if one.replica.endpoint is not None}
        for place in [place for place in self._servers if place not in places]:
            await self._servers.pop(place).aclose()
        if not wanted:
            return None
        await asyncio.gather(*(self._read_queue(one) for one in wanted))
        return _REPLICAS_EVERY

    async def _read_queue(self, one: followed.Measured) -> None:
        if one.replica.endpoint is None:
            return
        place = one.replica.endpoint.http
        socket, url = queries.address(place)
        if place not in self._servers:
            transport = httpx.AsyncHTTPTransport(uds=socket)
            self._servers[place] = httpx.AsyncClient(transport=transport, trust_env=False)
        async with self._queues_at_once:
            try:
                depth = await queries.queue_depth(self._servers[place], url)
            except queries.Unanswered as error:
                log.debug("the queue of %s is not known: %s", one.replica.id, error)
            else:
                one.add(policies.Kind.QUEUE, self._clock(), depth)

    # Queries and scalers: one task for each, so that a slow answer holds up no other.

    def _ask(self, key: observed.ServiceKey, one: followed.Followed) -> None:
        wanted = tuple(source for origin in followed.ASKED for source in one.sources(origin))
        self._stop_asking(key, keep=wanted)
        for source in wanted:
            if self._owner is not None and (key, source) not in self._asking:
                asking = self._owner.start(self._asker(key, one, source), name=f"ask for {source.metric} of {key}")
                self._asking[key, source] = asking

    def _asker(
        self, key: observed.ServiceKey, one: followed.Followed, source: scaling.Source
    ) -> Coroutine[None, None, None]:
        if source.origin is scaling.Origin.PROMETHEUS:
            return self._query_forever(key, one, source)
        wake = functools.partial(self._press, key)
        return scalers.Follower(key, source, one, at_once=self._at_once, wake=wake).run()

    def _stop_asking(self, key: observed.ServiceKey, *, keep: tuple[scaling.Source, ...]) -> None:
        for known in [known for known in self._asking if known[0] == key and known[1] not in keep]:
            self._asking.pop(known).cancel()

    async def _query_forever(self, key: observed.ServiceKey, one: followed.Followed, source: scaling.Source) -> None:
        while True:
            async with self._at_once:
                before = one.answers.get(source.metric, followed.Answer())
                answer = one.answers[source.metric] = await self._query(source, before.failures)
            if (answer.value or 0.0) > (before.value or 0.0):
                # The next regular look may be an interval away, as the answer before this one was.
                self._press(key)
            await asyncio.sleep(source.interval)

    async def _query(self, source: scaling.Source, failures: int) -> followed.Answer:
        """The answer of Prometheus, after so many failures in a row."""
        try:
            value = await queries.prometheus(self._prometheus, source.address, source.query, dict(source.options))
        except queries.Unanswered as error:
            level = logging.DEBUG if failures else logging.WARNING
            log.log(level, "the query of metric %s has no answer: %s", source.metric, error)
        except Exception as error:
            # What it answered last would otherwise hold for ever.
            level = logging.DEBUG if failures else logging.ERROR
            log.log(level, "asking the query of metric %s failed", source.metric, exc_info=error)
        else:
            return followed.Answer(value)
        return followed.Answer(failures=failures + 1)

    async def _close_clients(self) -> None:
        for one in (*self._servers.values(), self._prometheus):
            await one.aclose()
        self._servers.clear()

    def _broken(self, name: str, error: BaseException) -> None:
        log.critical("%s ended: %s", name, error, exc_info=error)


def _pause(every: float, cost: float) -> float:
    """Seconds until the next reading: from beginning to beginning ``every``, ten times the cost, but not too long."""
    return max(max(every, min(_SHARE * cost, _LONGEST)) - cost, _PRESSED)


def _nothing_yet(one: followed.Followed, now: float) -> bool:
    return one.recent_traffic(policies.Kind.RPS, now) is None or one.recent(policies.Kind.CPU, now) is None


def _figures(one: followed.Followed, now: float) -> seams.Figures:
    return seams.Figures(
        rps=one.recent_traffic(policies.Kind.RPS, now),
        concurrency=one.recent_traffic(policies.Kind.CONCURRENCY, now),
        p99=one.recent_latency(now),
        cpu=one.recent(policies.Kind.CPU, now),
        memory=one.recent(policies.Kind.MEMORY, now),
    )
