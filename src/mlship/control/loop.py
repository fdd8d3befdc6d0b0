"""The control loop: observe -> plan -> apply -> write status -> journal -> sleep until ``wake_at`` or news.

Every service has its own serial queue, so one that fails backs off alone. News comes from four sides: the store (what
is wanted), the backend and the gateway (what is), and the plan's own ``wake_at``. Nothing depends on having seen every
event: each look reads everything anew, and a source that fails is followed again after all services were queued.

A service's route is handed to the gateway, which publishes what is newest. After a start it publishes no routes before
every service was looked at once, so that a restart never takes a route away from a healthy service.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from mlship import aio, errors
from mlship.backends import base
from mlship.control import (
    facts,
    journal,
    metrics,
    objects,
    orphans,
    planner,
    resources,
    seams,
    starts,
    store,
    workqueue,
)
from mlship.plan import observed

log = logging.getLogger("mlship.loop")

WORKERS = 4
_RETRY = workqueue.Backoff(first=0.5, last=30.0)
_WATCH_SECONDS = 60.0


class Loop:
    """Keeps every service as its object says.

    Args:
        watched: is shown every look, for the story of starts; without it the loop has one of its own.
        facts_of: reads ``backend`` and ``gateway``; it remembers what was read last.
        clock: Unix seconds.
    """

    def __init__(
        self,
        *,
        kept: store.Store,
        catalog: resources.Catalog,
        backend: base.Backend,
        gateway: seams.Gateway,
        facts_of: facts.Facts,
        planner: seams.Planner,
        book: journal.Journal,
        meter: metrics.Metrics,
        feeds: seams.Feeds | None = None,
        gate: seams.Gate | None = None,
        watched: starts.Starts | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = kept
        self._catalog = catalog
        self._backend = backend
        self._gateway = gateway
        self._planner = planner
        self._feeds = feeds
        self._gate = gate
        self._journal = book
        self._metrics = meter
        self._starts = watched or starts.Starts(meter, clock=clock)
        self._clock = clock
        self._service = catalog.kind("InferenceService")
        self._facts = facts_of
        self._orphans = orphans.Orphans(clock)
        self._queue: workqueue.Queue[observed.ServiceKey] = workqueue.Queue(self._look, on_error=self._failed)
        self._unseen: set[observed.ServiceKey] | None = None
        self.known: set[observed.ServiceKey] = set()

    async def run(self) -> None:
        """Run until cancelled or ``close``. Replicas and Envoy are left as they are."""
        owner = aio.Tasks(self._broken)
        try:
            owner.start(self._follow("store", self._follow_store), name="follow store")
            owner.start(self._follow("backend", self._follow_backend), name="follow backend")
            owner.start(self._follow("gateway", self._follow_gateway), name="follow gateway")
            if self._gate is not None:
                owner.start(self._follow("gate", self._urgent(self._gate.watch)), name="follow gate")
            if self._feeds is not None:
                owner.start(self._follow("feeds", self._urgent(self._feeds.watch)), name="follow feeds")
            await self._queue.run(workers=WORKERS)
        finally:
            await owner.close()

    async def close(self) -> None:
        """Take up no more services; ``run`` returns when those under way are done."""
        await self._queue.close()

    def depth(self) -> int:
        """How many services wait for a worker."""
        return self._queue.depth()

    def seen(self) -> Iterable[observed.Observed]:
        """The newest facts of every service, for the metrics."""
        return self._facts.newest.values()

    # One look at one service.

    async def _look(self, key: observed.ServiceKey) -> float | None:
        started = time.perf_counter()
        try:
            wake_at = await self._reconcile(key)
        except Exception as error:
            self._metrics.reconciles.labels("error").inc()
            await self._journal.record(
                self._key(key), now=self._clock(), summary="the plan could not be carried out", error=str(error)[:1000]
            )
            raise
        finally:
            self._metrics.reconcile_seconds.observe(time.perf_counter() - started)
            self._looked_at(key)
        self._metrics.reconciles.labels("ok").inc()
        return None if wake_at is None else asyncio.get_running_loop().time() + max(wake_at - self._clock(), 0.0)

    async def _reconcile(self, key: observed.ServiceKey) -> float | None:
        try:
            world = await facts.world(self._store, self._catalog, key)
        except errors.SpecError as error:
            if error.reason is not errors.Reason.NOT_FOUND:
                raise
            return await self._without_object(key)
        self.known.add(key)
        self._orphans.claimed(key)
        seen = await self._facts.of(key)
        world = dataclasses.replace(world, past=self._facts.past(key))
        decision = self._planner.decide(world, seen, now=self._clock())
        self._sized(key, decision, seen)
        self._gateway.want(key, decision.route)
        if decision.actions:
            await self._backend.apply(key, decision.actions)
            self._count(decision)
        self._starts.look(key, seen, decision, now=self._clock())
        if decision.finished and await self._removed(world.service):
            self._farewell(key)
            return None
        # Together, so that both are on disk after one flush.
        await aio.both(self._write(world.service, decision), self._enter(key, decision))
        return decision.wake_at

    def _sized(self, key: observed.ServiceKey, decision: seams.Decision, seen: observed.Observed) -> None:
        before, after = self._facts.past(key), decision.past
        self._metrics.scaled(before.memory if before else None, after.memory if after else None)
        self._facts.decided(key, decision)
        if self._feeds is not None:
            self._feeds.follow(key, decision.scaling, seen)

    async def _without_object(self, key: observed.ServiceKey) -> float | None:
        """A service without an object: usually long gone; else what it left running is ended after a grace."""
        self._gateway.want(key, None)
        seen = await self._facts.of(key)
        todo, wake_at = self._orphans.plan(key, seen)
        self._starts.forget(key)
        if todo:
            log.warning("ending what runs for %s: no such service is stored", key)
            await self._backend.apply(key, todo)
        if wake_at is None and not todo:
            self._forget(key)
        return wake_at

    async def _removed(self, service: store.Object) -> bool:
        """Remove what has nothing left, unless a finalizer holds it; whether it is gone."""
        key = store.key_of(self._service.id, service)
        return await self._store.remove(key, uid=service["metadata"]["uid"])

    async def _write(self, service: store.Object, decision: seams.Decision) -> None:
        """Write the status where it has changed."""
        if decision.status is None or decision.status == service.get("status"):
            return
        key, given = store.key_of(self._service.id, service), store.Precondition(uid=service["metadata"]["uid"])
        try:
            await self._store.replace(key, {"status": decision.status}, part=store.Part.STATUS, given=given)
        except errors.SpecError as error:
            # Deleted, or made anew, since it was read: its event is on the way and has the last word.
            if error.reason not in (errors.Reason.NOT_FOUND, errors.Reason.CONFLICT):
                raise

    def _farewell(self, key: observed.ServiceKey) -> None:
        self._journal.forget(self._key(key))
        self._gateway.want(key, None)
        self._forget(key)
        log.info("%s is gone", key)

    async def _enter(self, key: observed.ServiceKey, decision: seams.Decision) -> None:
        done = tuple(str(action) for action in decision.actions)
        if done:
            log.info("%s: %s", key, decision.summary, extra={"actions": list(done), "why": list(decision.why)})
        await self._journal.record(
            self._key(key), now=self._clock(), summary=decision.summary, actions=done, why=decision.why
        )

    def _forget(self, key: observed.ServiceKey) -> None:
        self._facts.forget(key)
        self._starts.forget(key)
        self.known.discard(key)
        if self._feeds is not None:
            self._feeds.follow(key, None, observed.Observed())

    def _count(self, decision: seams.Decision) -> None:
        for action in decision.actions:
            self._metrics.actions.labels(type(action).__name__).inc()

    def _failed(self, key: observed.ServiceKey, error: Exception, delay: float) -> None:
        expected = isinstance(error, errors.MlshipError)
        log.error("%s: %s; next try in %.1f s", key, error, delay, exc_info=None if expected else error)

    def _key(self, key: observed.ServiceKey) -> store.Key:
        return store.Key(self._service.id, key.namespace, key.name)

    def _looked_at(self, key: observed.ServiceKey) -> None:
        if self._unseen:
            self._unseen.discard(key)
            if not self._unseen:
                self._gateway.begin()

    # News.

    async def _follow(self, name: str, source: Callable[[], Awaitable[None]]) -> None:
        """Follow a source for ever; when it fails, queue everything and follow it again."""
        failures = 0
        while True:
            failures += 1
            try:
                await source()
            except Exception as error:
                expected = isinstance(error, errors.MlshipError)
                log.error("lost the news of the %s: %s", name, error, exc_info=None if expected else error)
            else:
                log.warning("the %s has no more news", name)
            await asyncio.sleep(_RETRY.after(min(failures, 4)))
            await self._queue_all()

    async def _follow_store(self) -> None:
        since = await self._queue_all()
        watcher = await self._store.watch(since=since)
        try:
            while True:
                for event in await watcher.next(_WATCH_SECONDS):
                    for key in await self._concerned(event):
                        await self._queue.add(key)
        finally:
            watcher.close()

    async def _queue_all(self) -> int:
        """Queue every stored service; the version they were listed at."""
        found = await self._store.names(self._service.id)
        keys = {observed.ServiceKey(*pair) for pair in found.pairs}
        if self._unseen is None:
            self._unseen = set(keys)
            if not keys:
                self._gateway.begin()
        for key in keys | self.known:
            await self._queue.add(key)
        return found.version

    async def _concerned(self, event: store.Event) -> Iterable[observed.ServiceKey]:
        """The services that an event makes worth a look: not those whose status alone was written."""
        if not objects.asks_for_more(event):
            return ()
        if event.key.resource == self._service.id:
            return (observed.ServiceKey(event.key.namespace, event.key.name),)
        if event.key.resource == facts.scalers(self._catalog):
            return _targets(event)
        if event.key.resource not in facts.runtimes(self._catalog):
            return ()
        found = await self._store.names(self._service.id, namespace=event.key.namespace or None)
        return [observed.ServiceKey(*pair) for pair in found.pairs]

    async def _follow_backend(self) -> None:
        async for key in self._backend.watch():
            self.known.add(key)
            await self._queue.add(key, urgent=False)

    async def _follow_gateway(self) -> None:
        async for among in self._gateway.watch():
            for key in self._facts.moved(among):
                await self._queue.add(key, urgent=False)

    def _urgent(self, news: Callable[[], AsyncIterator[observed.ServiceKey]]) -> Callable[[], Awaitable[None]]:
        """Follows a source whose services cannot wait for their next regular look."""

        async def follow() -> None:
            async for key in news():
                await self._queue.add(key)

        return follow

    def _broken(self, name: str, error: BaseException) -> None:
        log.critical("%s ended: %s", name, error, exc_info=error)


def _targets(event: store.Event) -> set[observed.ServiceKey]:
    """The services that a ScaledObject targets, or did before it changed."""
    found = set()
    for body in (event.object, event.previous):
        target = planner.target_of(body) if body is not None else ""
        if target:
            found.add(observed.ServiceKey(event.key.namespace, target))
    return found
