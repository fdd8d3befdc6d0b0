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
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable

from mlship import aio, cores, errors
from mlship.backends import base
from mlship.control import (
    facts,
    journal,
    metrics,
    objects,
    orphans,
    planner,
    pools,
    resources,
    seams,
    starts,
    store,
    workqueue,
)
from mlship.plan import actions, observed, pool

log = logging.getLogger("mlship.loop")

WORKERS = 4
_RETRY = workqueue.Backoff(first=0.5, last=30.0)
_WATCH_SECONDS = 60.0
_AGAIN_SECONDS = 0.1
_PAGE = 500


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
        self._planned = facts.planned(catalog)
        self._facts = facts_of
        self._orphans = orphans.Orphans(clock)
        self._pools = pools.Pools(clock, cores=cores.available())
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
        if pool.is_pool(key):
            return await self._look_at_pool(key)
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
        await self._join(key, decision.membership)
        if decision.actions:
            await self._backend.apply(key, decision.actions)
            self._count(decision.actions)
        self._starts.look(key, seen, decision, now=self._clock())
        if decision.finished and await self._removed(key, world.service):
            await self._farewell(key)
            return None
        # Together, so that all are on disk after one flush.
        await aio.both(self._write(key, world.service, decision), self._enter(key, decision))
        if decision.route is not None and decision.route.pool is not None and self._pools.turned(key, seen):
            for model in await facts.models_of(self._store, self._catalog, key):
                await self._queue.add(model, urgent=False)
        return decision.wake_at

    def _sized(self, key: observed.ServiceKey, decision: seams.Decision, seen: observed.Observed) -> None:
        before, after = self._facts.past(key), decision.past
        self._metrics.scaled(before.memory if before else None, after.memory if after else None)
        self._facts.decided(key, decision)
        if self._feeds is not None:
            self._feeds.follow(key, decision.scaling, seen)

    # Pools: they have no object, and follow from what their members' plans say.

    async def _join(self, member: observed.ServiceKey, said: pool.Membership | None) -> None:
        for key in self._pools.note(member, said):
            if self._unseen:
                self._unseen.add(key)
            await self._queue.add(key)

    async def _look_at_pool(self, key: observed.ServiceKey) -> float | None:
        if self._members_unseen():
            # Whoever has not been heard yet may say that the pool is another.
            return self._clock() + _AGAIN_SECONDS
        self.known.add(key)
        seen = await self._facts.of(key)
        made = self._pools.plan(key, seen)
        self._gateway.want(key, made.route)
        if made.actions:
            await self._backend.apply(key, made.actions)
            self._count(made.actions)
        if self._pools.turned(key, seen) and not made.finished:
            for member in self._pools.members(key):
                await self._queue.add(member, urgent=False)
        summary, done = made.summary(), tuple(str(action) for action in made.actions)
        if done:
            log.info("pool %s: %s", key, summary, extra={"actions": list(done), "why": list(made.why)})
        if made.finished:
            self._forget(key)
        await self._journal.record(self._key(key), now=self._clock(), summary=summary, actions=done, why=made.why)
        return None if made.finished else made.wake_at

    def _members_unseen(self) -> bool:
        return self._unseen is None or any(not pool.is_pool(one) for one in self._unseen)

    async def _without_object(self, key: observed.ServiceKey) -> float | None:
        """A service without an object: usually long gone; else what it left running is ended after a grace."""
        self._gateway.want(key, None)
        await self._join(key, None)
        left = await facts.scalers_of(self._store, self._catalog, key)
        await self._tell(key.namespace, planner.told(left, key.name, read=planner.Reader(), there=False))
        seen = await self._facts.of(key)
        todo, wake_at = self._orphans.plan(key, seen)
        self._starts.forget(key)
        if todo:
            log.warning("ending what runs for %s: no such service is stored", key)
            await self._backend.apply(key, todo)
        if wake_at is None and not todo:
            self._forget(key)
        return wake_at

    async def _removed(self, planned: observed.ServiceKey, body: store.Object) -> bool:
        """Remove what has nothing left, unless a finalizer holds it; whether it is gone."""
        return await self._store.remove(self._key(planned), uid=body["metadata"]["uid"])

    async def _write(self, planned: observed.ServiceKey, body: store.Object, decision: seams.Decision) -> None:
        """Write the status where it has changed, and those of what scales it."""

        async def own() -> None:
            if decision.status is not None and decision.status != body.get("status"):
                await self._put(self._key(planned), body["metadata"]["uid"], decision.status)

        await aio.both(own(), self._tell(planned.namespace, decision.scalers))

    async def _tell(self, namespace: str, scalers: Iterable[seams.Told]) -> None:
        """Write into ScaledObjects what becomes of them."""
        for one in scalers:
            await self._put(store.Key(facts.scalers(self._catalog), namespace, one.name), one.uid, one.status)

    async def _put(self, key: store.Key, uid: str, status: store.Object) -> None:
        given = store.Precondition(uid=uid)
        try:
            await self._store.replace(key, {"status": status}, part=store.Part.STATUS, given=given)
        except errors.SpecError as error:
            # Deleted, or made anew, since it was read: its event is on the way and has the last word.
            if error.reason not in (errors.Reason.NOT_FOUND, errors.Reason.CONFLICT):
                raise

    async def _farewell(self, key: observed.ServiceKey) -> None:
        self._journal.forget(self._key(key))
        self._gateway.want(key, None)
        await self._join(key, None)
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

    def _count(self, done: Iterable[actions.Action]) -> None:
        for action in done:
            self._metrics.actions.labels(type(action).__name__).inc()

    def _failed(self, key: observed.ServiceKey, error: Exception, delay: float) -> None:
        expected = isinstance(error, errors.MlshipError)
        log.error("%s: %s; next try in %.1f s", key, error, delay, exc_info=None if expected else error)

    def _key(self, key: observed.ServiceKey) -> store.Key:
        return facts.stored_key(self._catalog, key)

    def _looked_at(self, key: observed.ServiceKey) -> None:
        if self._unseen and not (pool.is_pool(key) and self._members_unseen()):
            self._unseen.discard(key)
            if not self._unseen:
                self._gateway.begin()

    # News.

    async def _follow(self, name: str, source: Callable[[], Awaitable[None]]) -> None:
        """Follow a source for ever; when it fails, queue everything and follow it again."""
        failures = 0
        while True:
            try:
                if failures:
                    # In here: a store that fails for longer must not end this for good.
                    await self._queue_all()
                await source()
            except Exception as error:
                expected = isinstance(error, errors.MlshipError)
                log.error("lost the news of the %s: %s", name, error, exc_info=None if expected else error)
            else:
                log.warning("the %s has no more news", name)
            failures += 1
            await asyncio.sleep(_RETRY.after(min(failures, 4)))

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
        """Queue every stored object that is planned; the version from which on changes are to be followed."""
        found = [(one.kind, await self._store.names(one.id)) for one in self._planned]
        keys = {facts.key_of(kind, *pair) for kind, names in found for pair in names.pairs}
        if self._unseen is None:
            # A member may have been looked at before, by news of the backend, and have named its pool.
            self._unseen = keys | set(self._pools.keys())
            if not self._unseen:
                self._gateway.begin()
        for key in keys | self.known | await _untargeted(self._store, self._catalog, keys):
            await self._queue.add(key)
        return min(names.version for _, names in found)

    async def _concerned(self, event: store.Event) -> Iterable[observed.ServiceKey]:
        """The services that an event makes worth a look: not those whose status alone was written."""
        if not objects.asks_for_more(event):
            return ()
        kind = next((one.kind for one in self._planned if one.id == event.key.resource), "")
        if kind:
            key = facts.key_of(kind, event.key.namespace, event.key.name)
            return (key, *(await facts.models_of(self._store, self._catalog, key)))
        if event.key.resource == facts.scalers(self._catalog):
            return _targets(event)
        if event.key.resource not in facts.runtimes(self._catalog):
            return ()
        service = self._catalog.kind("InferenceService")
        found = await self._store.names(service.id, namespace=event.key.namespace or None)
        return [facts.key_of(service.kind, *pair) for pair in found.pairs]

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


async def _untargeted(
    kept: store.Store, catalog: resources.Catalog, there: Collection[observed.ServiceKey]
) -> set[observed.ServiceKey]:
    """What ScaledObjects target that is not ``there``: no look at a service would tell them so."""
    kind, found = facts.scalers(catalog), set()
    page = await kept.page(kind, limit=_PAGE)
    while page.items:
        for body in page.items:
            namespace = body["metadata"]["namespace"]
            if not any(observed.ServiceKey(namespace, name) in there for name in planner.may_target(body)):
                found.add(observed.ServiceKey(namespace, planner.target_of(body)))
        if page.last is None:
            break
        page = await kept.page(kind, after=page.last, limit=_PAGE)
    return {key for key in found if key.name}
